//! Joins independent Kubernetes clusters into one network.
//!
//! One binary: each subcommand has a file of its own that takes the arguments in and wires the crates together. Called
//! as `kgctl` it is Kilo's `kgctl`.

mod accept;
mod agent;
mod apiserver;
mod bgp;
mod bgp_flags;
mod client;
mod controller;
mod dns;
mod invite;
mod kgctl;
mod lab;
mod log;
mod monitoring_flags;
mod route_reflector;
mod sys;
mod wireguard;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "tombolo", version, about, long_about = None, arg_required_else_help = true)]
struct Tombolo {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of a node: the mesh, its routes and firewall, the service proxy
    Agent(Box<agent::Args>),
    /// Run the controller of a cluster: it mirrors and imports the Services of others
    Controller(Box<controller::Args>),
    /// Invite another cluster to read the services that this one exports
    Invite(invite::Args),
    /// Accept an invitation of another cluster: its services become a source of this one's
    Accept(accept::Args),
    /// Answer DNS queries for the services of a cluster
    Dns(dns::Args),
    /// Run a BGP route reflector
    RouteReflector(Box<route_reflector::Args>),
    /// Show what the BGP speaker of this machine knows: neighbours and routes
    Bgp(bgp::Args),
    /// Run an embedded WireGuard device, configured by wg(8)
    Wireguard(wireguard::Args),
    /// Run an API server, for labs and tests
    Apiserver(apiserver::Args),
    /// Bring up whole clusters in network namespaces, to try it all on
    Lab(lab::Args),
    /// Print the WireGuard configuration of a node or a peer
    Showconf(kgctl::Showconf),
    /// Print the mesh as a graph in Graphviz's DOT language
    Graph(kgctl::Graph),
}

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "kgctl") {
        sys::end_with_the_reader();
        return kgctl::main();
    }
    let Tombolo { command } = Tombolo::parse();
    let prints = match &command {
        Command::Showconf(_) | Command::Graph(_) | Command::Bgp(_) => true,
        Command::Lab(lab) => !lab.serves(),
        _ => false,
    };
    if prints {
        sys::end_with_the_reader();
    }
    let runtime = match &command {
        // One thread is enough for what waits most of the time, and takes less memory.
        Command::Agent(_)
        | Command::Controller(_)
        | Command::Invite(_)
        | Command::Accept(_)
        | Command::Dns(_)
        | Command::RouteReflector(_)
        | Command::Bgp(_)
        | Command::Wireguard(_)
        | Command::Showconf(_)
        | Command::Graph(_) => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Command::Apiserver(_) | Command::Lab(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = match command {
        Command::Agent(args) => runtime.block_on(agent::run(*args)),
        Command::Controller(args) => runtime.block_on(controller::run(*args)),
        Command::Invite(args) => runtime.block_on(invite::run(args)),
        Command::Accept(args) => runtime.block_on(accept::run(args)),
        Command::Dns(args) => runtime.block_on(dns::run(args)),
        Command::RouteReflector(args) => runtime.block_on(route_reflector::run(*args)),
        Command::Bgp(args) => bgp::run(&args),
        Command::Wireguard(args) => runtime.block_on(wireguard::run(args)),
        Command::Apiserver(args) => runtime.block_on(apiserver::run(args)),
        Command::Lab(args) => runtime.block_on(lab::run(args)),
        Command::Showconf(command) => return runtime.block_on(command.run()),
        Command::Graph(command) => return runtime.block_on(command.run()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
