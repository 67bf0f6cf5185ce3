//! `tombolo bgp`: what the BGP speaker of this machine (an agent's, or a route reflector) knows.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use tombolo_bgp::router::show::{NeighborStatus, Route};
use tombolo_bgp::speaker::control::{self, Request};

/// Arguments of `tombolo bgp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    /// Where the speaker answers
    #[arg(long, global = true, value_name = "PATH", default_value = control::DEFAULT_PATH, env = "TOMBOLO_BGP_SOCKET")]
    socket: PathBuf,

    /// For people, or for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The neighbours: state, since when, prefixes received and sent, and what is wrong
    #[command(visible_alias = "peers")]
    Neighbors,
    /// All routes: each path to each prefix
    Routes,
    /// What a neighbour announced, and why what of it is not used
    Received {
        /// Its address
        neighbor: IpAddr,
    },
    /// What a neighbour was told
    Advertised {
        /// Its address
        neighbor: IpAddr,
    },
    /// End the session with a neighbour, so that it begins anew
    Reset {
        /// Its address
        neighbor: IpAddr,
    },
}

/// Asks, and prints.
///
/// # Errors
/// No speaker answers, or it knows no such neighbour.
pub(crate) fn run(args: &Args) -> Result<()> {
    let socket = args.socket.as_path();
    match args.command {
        Command::Neighbors => {
            let neighbors: Vec<NeighborStatus> = control::ask(socket, Request::Neighbors)?;
            print(args.output, &neighbors, || neighbors_table(&neighbors, args.output))
        }
        Command::Routes => routes(args, Request::Routes),
        Command::Received { neighbor } => routes(args, Request::Received(neighbor)),
        Command::Advertised { neighbor } => routes(args, Request::Advertised(neighbor)),
        Command::Reset { neighbor } => {
            let () = control::ask(socket, Request::Reset(neighbor))?;
            println!("the session with {neighbor} begins anew");
            Ok(())
        }
    }
}

fn routes(args: &Args, request: Request) -> Result<()> {
    let routes: Vec<Route> = control::ask(&args.socket, request)?;
    print(args.output, &routes, || routes_table(&routes, args.output))
}

fn print<T: Serialize>(output: Output, value: &T, table: impl FnOnce() -> String) -> Result<()> {
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(value)?),
        Output::Yaml => print!("{}", serde_yaml_ng::to_string(value)?),
        Output::Table | Output::Wide => print!("{}", table()),
    }
    Ok(())
}

fn neighbors_table(neighbors: &[NeighborStatus], output: Output) -> String {
    if neighbors.is_empty() {
        return "no neighbours\n".to_owned();
    }
    let mut rows = vec![row(["NEIGHBOR", "AS", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "SENT", "DESCRIPTION"])];
    for neighbor in neighbors {
        let sum = |count: fn(&tombolo_bgp::router::show::FamilyStatus) -> usize| {
            neighbor.families.iter().map(count).sum::<usize>().to_string()
        };
        let mut description = neighbor.description.clone();
        if output == Output::Wide {
            description = format!("{description} [{}]", neighbor.capabilities.join(" "));
        }
        rows.push(vec![
            neighbor.address.to_string(),
            neighbor.asn.map_or_else(|| "any".to_owned(), |asn| asn.to_string()),
            neighbor.state.clone(),
            since(neighbor.seconds),
            sum(|f| f.received as usize),
            sum(|f| f.accepted as usize),
            sum(|f| f.sent),
            description,
        ]);
    }
    let mut text = align(&rows);
    for neighbor in neighbors {
        let established = neighbor.state == "Established";
        if let Some(error) = neighbor.last_error.as_ref().filter(|_| !established) {
            text += &format!("\n{}: {error}\n", neighbor.address);
        }
        let other = neighbor.last_end.as_ref().filter(|end| neighbor.last_error.as_ref() != Some(end));
        if let Some(end) = other.filter(|_| !established) {
            text += &format!("{}: the last session ended: {end}\n", neighbor.address);
        }
        if let Some(flaw) = &neighbor.last_flaw {
            text +=
                &format!("\n{}: {} updates with flaws, the last: {flaw}\n", neighbor.address, neighbor.flawed_updates);
        }
        if neighbor.restarting {
            text += &format!("\n{}: gone, its routes are kept until it is back (graceful restart)\n", neighbor.address);
        }
    }
    text
}

fn routes_table(routes: &[Route], output: Output) -> String {
    if routes.is_empty() {
        return "no routes\n".to_owned();
    }
    let mut heading = row(["", "PREFIX", "NEXT HOP", "FROM", "PREF", "AS PATH", "ORIGIN"]);
    if output == Output::Wide {
        heading.extend(row(["MED", "COMMUNITIES", "ORIGINATOR", "CLUSTERS"]));
    }
    heading.push("NOT USED BECAUSE".to_owned());
    let mut rows = vec![heading];
    for route in routes {
        let mark = match (route.refused.is_some(), route.best, route.stale) {
            (true, ..) => "x",
            (_, true, true) => "S>",
            (_, true, false) => ">",
            (_, false, true) => "S",
            _ => "",
        };
        let own = || "self".to_owned();
        let mut cells = vec![
            mark.to_owned(),
            match route.path_id {
                Some(id) => format!("{} ({id})", route.prefix),
                None => route.prefix.to_string(),
            },
            route.next_hop.map_or_else(own, |hop| hop.to_string()),
            route.from.map_or_else(own, |from| from.to_string()),
            route.local_pref.to_string(),
            route.as_path.clone(),
            route.origin.clone(),
        ];
        if output == Output::Wide {
            let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(" ");
            let plain = route.communities.iter().map(ToString::to_string);
            cells.extend([
                route.med.map(|med| med.to_string()).unwrap_or_default(),
                list(&mut plain.chain(route.large_communities.iter().cloned())),
                route.originator.map(|id| id.to_string()).unwrap_or_default(),
                list(&mut route.cluster_list.iter().map(ToString::to_string)),
            ]);
        }
        cells.push(route.refused.clone().unwrap_or_default());
        rows.push(cells);
    }
    align(&rows)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns, each as wide as its widest cell.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A time as `kubectl` writes it: `42s`, `5m3s`, `2h5m`, `3d4h`.
fn since(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}
