//! A topology as a graph in Graphviz's DOT language.

use std::fmt::{self, Write as _};

use crate::Topology;
use crate::topology::{Member, Segment};

impl Topology {
    /// The segments with their nodes, and the peers: what `kgctl graph` prints, less its last empty line.
    pub fn graph(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write_graph(&mut text);
        text
    }

    fn write_graph(&self, out: &mut String) -> fmt::Result {
        let subnets: Vec<String> = self.wireguard_subnets.iter().map(ToString::to_string).collect();
        writeln!(out, "digraph kilo {{")?;
        writeln!(out, "\tlabel={};", quote(&subnets.join("\\n")))?;
        writeln!(out, "\tlabelloc=t;\n\toutputorder=nodesfirst;\n\toverlap=false;")?;
        self.write_edges(out)?;
        for segment in &self.segments {
            write_segment(out, segment)?;
        }
        self.write_peers(out)?;
        // The graph's closing brace stands after an empty line.
        writeln!(out, "\n}}")
    }

    fn write_edges(&self, out: &mut String) -> fmt::Result {
        for segment in &self.segments {
            let leader = quote(&segment.leader().name);
            for (i, member) in segment.members.iter().enumerate() {
                if i != segment.leader {
                    writeln!(out, "\t{leader}->{}[ dir=both ];", quote(&member.name))?;
                }
            }
        }
        let leaders: Vec<String> = self.segments.iter().map(|segment| quote(&segment.leader().name)).collect();
        for (i, leader) in leaders.iter().enumerate() {
            for other in &leaders[i + 1..] {
                writeln!(out, "\t{leader}->{other}[ dir=both ];")?;
            }
        }
        for leader in &leaders {
            for peer in &self.peers {
                writeln!(out, "\t{leader}->{}[ dir=both, style=dashed ];", quote(&peer.name))?;
            }
        }
        Ok(())
    }

    fn write_peers(&self, out: &mut String) -> fmt::Result {
        open_cluster(out, "cluster_peers", "peers")?;
        for peer in &self.peers {
            let endpoint = peer.endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
            // The line break inside the quotes is Kilo's.
            let label = format!("{}\\n{endpoint}\n", peer.name);
            writeln!(out, "\t{} [ label={}, shape=ellipse ];", quote(&peer.name), quote(&label))?;
        }
        close_cluster(out)
    }
}

fn write_segment(out: &mut String, segment: &Segment) -> fmt::Result {
    open_cluster(out, &format!("cluster_location_{}", segment.location), &segment.location)?;
    for (i, member) in segment.members.iter().enumerate() {
        let leads = i == segment.leader;
        let rank = if leads { ", rank=1" } else { "" };
        let label = quote(&label(segment, member, leads));
        writeln!(out, "\t{} [ label={label}{rank}, shape=ellipse ];", quote(&member.name))?;
    }
    close_cluster(out)
}

fn label(segment: &Segment, member: &Member, leads: bool) -> String {
    let mut lines = vec![segment.location.clone(), member.name.clone()];
    lines.extend(member.subnets.iter().map(ToString::to_string));
    lines.extend(member.internal_ips.iter().map(ToString::to_string));
    if leads {
        lines.extend(segment.wireguard_ips.iter().map(ToString::to_string));
        lines.push(segment.endpoint.to_string());
    }
    lines.join("\\n")
}

fn open_cluster(out: &mut String, name: &str, label: &str) -> fmt::Result {
    writeln!(out, "\tsubgraph {} {{", quote(name))?;
    writeln!(out, "\tlabel={};\n\tstyle=\"dashed,rounded\";", quote(label))
}

fn close_cluster(out: &mut String) -> fmt::Result {
    writeln!(out, "\n}}\n;")
}

/// A location is free text: a quote in it must not end the string.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\\\""))
}
