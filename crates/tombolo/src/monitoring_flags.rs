//! Flags for those who record BGP: MRT dumps (RFC 6396) and a BMP feed (RFC 7854).

use std::path::PathBuf;
use std::time::Duration;

use tombolo_bgp::speaker::Monitoring;
use tombolo_bgp::{bmp, mrt};

/// The part of arguments that is about recording.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Recording BGP")]
pub(crate) struct MonitoringArgs {
    /// Folder for MRT files (RFC 6396): tables, and messages as they come
    #[arg(long, value_name = "FOLDER")]
    mrt_folder: Option<PathBuf>,

    /// How often the tables are written, in seconds; 0 is never
    #[arg(long, value_name = "SECONDS", default_value_t = 7200)]
    mrt_tables: u64,

    /// How long a file of messages is, in seconds; 0 writes none
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    mrt_updates: u64,

    /// How many files of each kind are kept [default: all]
    #[arg(long, value_name = "COUNT")]
    mrt_keep: Option<usize>,

    /// A monitoring station to tell everything (BMP, RFC 7854); may be given several times
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    bmp_station: Vec<String>,

    /// How often stations are told how many routes there are, in seconds; 0 is never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    bmp_statistics: u64,
}

impl MonitoringArgs {
    /// What they come to. `name` tells stations who this is.
    pub(crate) fn monitoring(&self, name: &str) -> Monitoring {
        let every = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        let mrt = self.mrt_folder.clone().map(|folder| mrt::Options {
            folder,
            tables: every(self.mrt_tables),
            updates: every(self.mrt_updates),
            keep: self.mrt_keep,
        });
        let station = |address: &String| bmp::Station {
            address: address.clone(),
            statistics: every(self.bmp_statistics),
            name: name.to_owned(),
            description: concat!("tombolo ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Monitoring { mrt, bmp: self.bmp_station.iter().map(station).collect() }
    }
}
