//! `showconf`: the WireGuard configuration of a node or a peer.

use std::process::ExitCode;

use clap::{ArgAction, Subcommand};
use ipnet::IpNet;
use tombolo_mesh::kgctl::{self, Format, Output, View};

use super::MeshArgs;

/// The arguments of `tombolo showconf`.
#[derive(Debug, clap::Args)]
pub struct Showconf {
    #[command(flatten)]
    mesh: MeshArgs,
    #[command(flatten)]
    args: Args,
}

impl Showconf {
    /// Prints the configuration.
    pub async fn run(self) -> ExitCode {
        self.mesh.run(|view| self.args.answer(view)).await
    }
}

/// The arguments that are showconf's own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what other devices need to reach it, instead of what it needs itself
    #[arg(long, global = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_default_value = true,
          hide_possible_values = true, value_name = "BOOL")]
    as_peer: bool,

    /// Form of a peer: wireguard, yaml or json; with --as-peer
    #[arg(long, short, global = true, default_value = "wireguard", value_parser = format)]
    output: Format,

    /// CIDRs to be reached through it besides its own, separated by commas; with --as-peer
    #[arg(long, global = true, action = ArgAction::Append, value_name = "CIDRS", value_parser = cidrs)]
    allowed_ips: Vec<Cidrs>,

    #[command(subcommand)]
    of: Of,
}

#[derive(Debug, Subcommand)]
enum Of {
    /// The configuration of a node that leads a location
    Node {
        /// Name of the node
        name: String,
    },
    /// The configuration of a peer
    Peer {
        /// Name of the peer
        name: String,
    },
}

#[derive(Debug, Clone)]
struct Cidrs(Vec<IpNet>);

impl Args {
    pub(super) fn answer(&self, view: &View<'_>) -> Output {
        let args = |name: &String| kgctl::Showconf {
            name: name.clone(),
            as_peer: self.as_peer,
            format: self.output,
            allowed_ips: self.allowed_ips.iter().flat_map(|cidrs| &cidrs.0).copied().collect(),
        };
        match &self.of {
            Of::Node { name } => kgctl::showconf_node(view, &args(name)),
            Of::Peer { name } => kgctl::showconf_peer(view, &args(name)),
        }
    }
}

fn format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|_| "write wireguard, yaml or json".to_owned())
}

/// Empty ones do not count: a script's variable may be empty.
fn cidrs(text: &str) -> Result<Cidrs, String> {
    let cidr = |text: &str| {
        text.parse().map_err(|_| format!("{text:?} is no CIDR; write ADDRESS/LENGTH, like 10.43.0.0/16 or fd43::/112"))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(cidr).collect::<Result<_, _>>().map(Cidrs)
}
