//! Neutral load for BGP route reflectors: clients (iBGP, AS 64512, 198.18.1.1 and on) connect, announce prefixes, and
//! check that each is told of exactly the others'. `bgp-load run` measures one reflector once and appends a line of
//! JSON to a file; `bgp-load table` makes a Markdown table of such a file. `run.sh` calls both.

mod load;
mod message;
mod report;
mod session;
mod table;
mod usage;
mod work;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;

use crate::report::Run;
use crate::usage::Process;
use crate::work::Work;

/// Prefixes that the address plan has room for.
const MOST_PREFIXES: u32 = 1 << 22;

#[derive(Parser)]
#[command(about, version)]
enum Command {
    /// Put one reflector under load, once
    Run(RunArgs),
    /// Print the table of results
    Table {
        /// The file that `run` appended to
        results: PathBuf,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// Where the reflector listens
    #[arg(long)]
    target: SocketAddrV4,
    /// Its process
    #[arg(long)]
    pid: i32,
    /// Its name in the table
    #[arg(long)]
    peer: String,
    /// Clients
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=60_000))]
    sessions: u32,
    /// The first so many of them announce [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    senders: Option<u32>,
    /// Prefixes of each sender
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    prefixes: u32,
    /// Consecutive prefixes with the same attributes; 0: all of a sender's
    #[arg(long, default_value_t = 0)]
    per_path: u32,
    /// Also let client 0 withdraw all, and announce it again, before it is lost
    #[arg(long)]
    withdraw: bool,
    /// Seconds that each phase may take
    #[arg(long, default_value_t = 180)]
    patience: u64,
    /// The file that the result is appended to
    #[arg(long)]
    results: PathBuf,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(args) => measure(&args),
        Command::Table { results } => print_table(&results),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &RunArgs) -> anyhow::Result<()> {
    let senders = args.senders.unwrap_or(args.sessions);
    ensure!(senders <= args.sessions, "--senders {senders} is more than --sessions {}", args.sessions);
    let total = senders.checked_mul(args.prefixes).filter(|&total| total <= MOST_PREFIXES);
    ensure!(total.is_some(), "--senders times --prefixes is more than {MOST_PREFIXES}: take fewer");
    let work = Work { sessions: args.sessions, senders, prefixes: args.prefixes, per_path: args.per_path };
    let measured =
        load::run(work, args.target, Process::new(args.pid)?, args.withdraw, Duration::from_secs(args.patience));
    let paths = if args.per_path == 0 { String::new() } else { format!(", {} a path", args.per_path) };
    let row = format!("{} clients, {senders} announce {} prefixes each{paths}", args.sessions, args.prefixes);
    match &measured {
        Ok(m) => eprintln!(
            "{}: up {:.3} s; converged {:.3} s, {:.3} CPU-s (load {:.3}), {} MiB; {}lost {:.4} s",
            args.peer,
            m.up.seconds,
            m.announce.seconds,
            m.announce.cpu,
            m.announce.load_cpu,
            m.announce.memory / 1024,
            m.withdraw.map_or(String::new(), |phase| format!("withdrawn {:.3} s; ", phase.seconds)),
            m.lost.seconds
        ),
        Err(error) => eprintln!("{}: {error:#}", args.peer),
    }
    let run = Run { peer: args.peer.clone(), row, result: measured.map_err(|error| format!("{error:#}")) };
    let mut file = OpenOptions::new().append(true).create(true).open(&args.results)?;
    writeln!(file, "{}", serde_json::to_string(&run)?)?;
    Ok(())
}

fn print_table(results: &PathBuf) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(results).with_context(|| format!("{} cannot be read", results.display()))?;
    let runs = text.lines().map(serde_json::from_str).collect::<Result<Vec<Run>, _>>()?;
    print!("{}", report::table(&runs));
    Ok(())
}
