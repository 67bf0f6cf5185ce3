//! `kgctl`, Kilo's command line: the same flags, the same output.
//!
//! The answers are functions of what was listed ([`tombolo_mesh::kgctl`]); here are the arguments, the listing and the
//! printing.

mod graph;
mod list;
mod showconf;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use tombolo_mesh::Granularity;
use tombolo_mesh::kgctl::{Output, View};

pub use graph::Graph;
pub use showconf::Showconf;

use list::Listed;

/// The arguments of a binary that is called as `kgctl`.
#[derive(Debug, Parser)]
#[command(name = "kgctl", version, about = "Inspect the WireGuard mesh of a cluster", long_about = None)]
struct Kgctl {
    #[command(flatten)]
    mesh: MeshArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the WireGuard configuration of a node or a peer
    Showconf(showconf::Args),
    /// Print the mesh as a graph in Graphviz's DOT language
    Graph,
    /// Print the version
    Version,
}

/// Which mesh, and how to look at it: the flags that all of kgctl's commands have.
#[derive(Debug, Clone, Args)]
pub struct MeshArgs {
    /// Where the mesh is described
    #[arg(long, global = true, default_value = "kubernetes", value_parser = ["kubernetes"])]
    backend: String,

    /// Path of the kubeconfig [default: $KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Between what the mesh is woven: location, full, or auto for what the nodes say
    #[arg(long, global = true, default_value = "auto", value_parser = granularity)]
    mesh_granularity: Auto,

    /// UDP port over which the nodes communicate
    #[arg(long, global = true, default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Node label that names a node's location
    #[arg(long, global = true, default_value = tombolo_api::kilo::REGION_LABEL, value_name = "LABEL")]
    topology_label: String,
}

/// A granularity, or `None` for what the nodes say.
#[derive(Debug, Clone, Copy)]
struct Auto(Option<Granularity>);

/// What `kgctl` does, from the arguments of the process to its exit code.
///
/// As with Kilo's, all errors are exit code 1, wrong arguments too.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

impl MeshArgs {
    /// Lists, answers and prints.
    async fn run(&self, answer: impl FnOnce(&View<'_>) -> Output) -> ExitCode {
        match list::list(self.kubeconfig.as_deref(), &self.topology_label).await {
            Ok(listed) => print(&answer(&self.view(&listed, now()))),
            Err(error) => {
                eprintln!("error: {}", list::reasons(error.as_ref()));
                ExitCode::FAILURE
            }
        }
    }

    fn view<'a>(&self, listed: &'a Listed, now: i64) -> View<'a> {
        View {
            nodes: &listed.nodes,
            peers: &listed.peers,
            refusals: &listed.refusals,
            granularity: self.mesh_granularity.0,
            port: self.port,
            now,
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Kgctl, clap::Error> {
    Kgctl::try_parse_from(args)
}

fn usage(error: &clap::Error) -> ExitCode {
    // Where not even that can be printed, the exit code is left.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn run(cli: Kgctl) -> ExitCode {
    match cli.command {
        Command::Showconf(args) => cli.mesh.run(|view| args.answer(view)).await,
        Command::Graph => cli.mesh.run(graph::answer).await,
        Command::Version => {
            println!("kgctl version {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

fn print(output: &Output) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(output.stdout.as_bytes()).and_then(|()| stdout.flush());
    eprint!("{}", output.stderr);
    match written {
        Ok(()) => ExitCode::from(output.exit),
        Err(error) => {
            eprintln!("error: standard output cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn granularity(text: &str) -> Result<Auto, String> {
    match text {
        "auto" => Ok(Auto(None)),
        text => text.parse().map(|g| Auto(Some(g))).map_err(|_| "write auto, location or full".to_owned()),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
