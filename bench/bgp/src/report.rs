//! The Markdown table of many runs.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::load::{Measured, Phase};

/// The column that the others are compared with.
const OURS: &str = "tombolo";

/// One line of a file of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The reflector.
    pub peer: String,
    /// The work, in words.
    pub row: String,
    /// What came of it; an error in words otherwise.
    pub result: Result<Measured, String>,
}

type Figure = (&'static str, fn(&Measured) -> Option<f64>);

const FIGURES: &[Figure] = &[
    ("sessions up, s", |m| Some(m.up.seconds)),
    ("converged, s", |m| Some(m.announce.seconds)),
    ("… CPU, s", |m| Some(m.announce.cpu)),
    ("… peak memory, MiB", |m| Some(memory(&m.announce))),
    ("all withdrawn, s", |m| m.withdraw.map(|phase| phase.seconds)),
    ("… CPU, s", |m| m.withdraw.map(|phase| phase.cpu)),
    ("client lost, s", |m| Some(m.lost.seconds)),
    ("… CPU, s", |m| Some(m.lost.cpu)),
    ("peak memory at the end, MiB", |m| Some(memory(&m.lost))),
];

fn memory(phase: &Phase) -> f64 {
    phase.memory as f64 / 1024.
}

/// The table: a line for each figure, a column for each reflector, medians of its runs, and the ratio of ours to the
/// best of the others.
pub fn table(runs: &[Run]) -> String {
    let mut peers: Vec<&str> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        if !peers.contains(&run.peer.as_str()) {
            peers.push(&run.peer);
        }
        if !rows.contains(&run.row.as_str()) {
            rows.push(&run.row);
        }
        cells.entry((&run.row, &run.peer)).or_default().push(run);
    }
    let compare = peers.contains(&OURS) && peers.len() > 1;
    let mut out = String::from("| work | figure |");
    let mut line = String::from("| --- | --- |");
    for peer in &peers {
        let _ = write!(out, " {peer} |");
        line.push_str(" ---: |");
    }
    if compare {
        let _ = write!(out, " {OURS} / best |");
        line.push_str(" ---: |");
    }
    let _ = writeln!(out, "\n{line}");
    for row in rows {
        let counts: Vec<String> = peers
            .iter()
            .filter_map(|peer| cells.get(&(row, *peer)).map(|runs| format!("{peer} {}", runs.len())))
            .collect();
        let mut work = format!("{row} (runs: {})", counts.join(", "));
        for (name, figure) in FIGURES {
            let values: Vec<Option<f64>> = peers
                .iter()
                .map(|peer| {
                    let runs = cells.get(&(row, *peer))?;
                    let measured: Option<Vec<&Measured>> = runs.iter().map(|run| run.result.as_ref().ok()).collect();
                    median(measured?.into_iter().filter_map(figure).collect())
                })
                .collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(out, "| {work} | {name} |");
            work.clear();
            for (peer, value) in peers.iter().zip(&values) {
                let failed = cells.get(&(row, *peer)).is_some_and(|runs| runs.iter().any(|run| run.result.is_err()));
                let text = value.map_or(if failed { "failed".to_owned() } else { "–".to_owned() }, number);
                let _ = write!(out, " {text} |");
            }
            if compare {
                let (mut ours, mut best) = (None, None::<f64>);
                for (peer, value) in peers.iter().zip(&values) {
                    match value {
                        Some(value) if *peer == OURS => ours = Some(*value),
                        Some(value) => best = Some(best.map_or(*value, |best| best.min(*value))),
                        None => {}
                    }
                }
                let ratio = ours.zip(best).filter(|(_, best)| *best > 0.).map(|(ours, best)| ours / best);
                let _ = write!(out, " {} |", ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")));
            }
            out.push('\n');
        }
    }
    for run in runs {
        match &run.result {
            Err(error) => drop(writeln!(out, "\n{}, {}: {error}", run.peer, run.row)),
            Ok(m) => {
                let remarks = [
                    (m.retries, "connections had to be tried again"),
                    (m.repeated, "announcements repeated"),
                    (m.needless, "withdrawals of what a client did not have"),
                    (m.returned, "prefixes sent back to the client that they were from"),
                ];
                let said =
                    remarks.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
                let said: Vec<String> = said.collect();
                if !said.is_empty() {
                    let _ = writeln!(out, "\n{}, {}: {}", run.peer, run.row, said.join(", "));
                }
            }
        }
    }
    out
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.is_empty() {
        None
    } else if values.len() % 2 == 1 {
        Some(values[middle])
    } else {
        Some((values[middle - 1] + values[middle]) / 2.)
    }
}

fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(peer: &str, seconds: f64) -> Run {
        let phase = Phase { seconds, cpu: seconds / 2., load_cpu: 0., memory: 2048 };
        let measured = Measured {
            up: phase,
            announce: phase,
            withdraw: None,
            lost: phase,
            retries: 0,
            repeated: 0,
            needless: 0,
            returned: 0,
        };
        Run { peer: peer.into(), row: "2 × 5".into(), result: Ok(measured) }
    }

    #[test]
    fn medians_stand_beside_each_other() {
        let runs = [run("BIRD", 4.), run("BIRD", 1.), run("BIRD", 2.), run("FRR", 20.), run("tombolo", 0.5)];
        let table = table(&runs);
        let line = table.lines().find(|line| line.contains("converged")).unwrap_or_default();
        assert_eq!(line, "|  | converged, s | 2.00 | 20.0 | 0.50 | 0.25 |");
        assert!(table.contains("(runs: BIRD 3, FRR 1, tombolo 1)"), "{table}");
        assert!(!table.contains("all withdrawn"), "{table}");
    }

    #[test]
    fn without_ours_there_is_no_ratio() {
        let table = table(&[run("BIRD", 4.), run("FRR", 2.)]);
        assert!(!table.contains("best"), "{table}");
    }

    #[test]
    fn a_failure_is_a_failure_of_all_runs() {
        let broken = Run { result: Err("a client is behind".into()), ..run("FRR", 0.) };
        let table = table(&[run("BIRD", 4.), run("FRR", 2.), broken]);
        assert!(table.contains("| converged, s | 4.00 | failed |"), "{table}");
        assert!(table.ends_with("FRR, 2 × 5: a client is behind\n"), "{table}");
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!((median(vec![3., 1.]), median(vec![])), (Some(2.), None));
    }
}
