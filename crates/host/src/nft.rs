//! nftables through the `nft` program, one transaction a script (nft(8)), in the caller's network namespace; and
//! elements of sets without it.

mod elements;

use std::io;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::programs;

pub use elements::ElementSocket;

/// Why a script was not carried out. Nothing of it was, then: a script is one transaction.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no `nft` on this host.
    #[error("the program nft is not in PATH nor in /usr/sbin: install the Debian package nftables")]
    Missing,
    /// The program could not be run.
    #[error("cannot run nft: {0}")]
    Run(#[source] io::Error),
    /// The program refused.
    #[error("nft refuses the rules{}: {message}", .line.as_ref().map(|(n, text)| format!(" at line {n} (`{text}`)")).unwrap_or_default())]
    Rejected {
        /// Number (from 1) and text of the first line that it complains of.
        line: Option<(usize, String)>,
        /// Its own words.
        message: String,
    },
}

/// Runs the script as one transaction (`nft -f -`).
pub async fn run(script: &str) -> Result<(), NftError> {
    feed(&["-f", "-"], script).await
}

/// Whether the script would run: parsed and asked of the kernel, but not carried out (`nft -c -f -`).
pub async fn check(script: &str) -> Result<(), NftError> {
    feed(&["-c", "-f", "-"], script).await
}

/// Whether the table is there, such as `("inet", "tombolo")`.
pub async fn table_exists(family: &str, name: &str) -> Result<bool, NftError> {
    let listed = query(&["list", "tables"]).await?;
    Ok(listed.lines().any(|line| line.split_whitespace().eq(["table", family, name])))
}

/// Removes the table with all that is in it; one that is not there is removed already.
pub async fn delete_table(family: &str, name: &str) -> Result<(), NftError> {
    // Declaring it first makes the removal hold in either case, in one transaction.
    run(&format!("table {family} {name}\ndelete table {family} {name}\n")).await
}

/// The table as JSON (libnftables-json(5)).
pub async fn list_table(family: &str, name: &str) -> Result<String, NftError> {
    query(&["-j", "list", "table", family, name]).await
}

async fn feed(arguments: &[&str], script: &str) -> Result<(), NftError> {
    let mut child = command(arguments)?.stdin(Stdio::piped()).spawn().map_err(NftError::Run)?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(script.as_bytes()).await {
            // It stopped reading: what it has to say comes with its exit.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(NftError::Run)?,
        }
    }
    let output = child.wait_with_output().await.map_err(NftError::Run)?;
    judge(&output, script)
}

async fn query(arguments: &[&str]) -> Result<String, NftError> {
    let output = command(arguments)?.stdin(Stdio::null()).output().await.map_err(NftError::Run)?;
    judge(&output, "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(arguments: &[&str]) -> Result<Command, NftError> {
    let mut command = Command::new(programs::find("nft").ok_or(NftError::Missing)?);
    command.args(arguments).env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

fn judge(output: &Output, script: &str) -> Result<(), NftError> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(rejected(&said, script)
        .unwrap_or_else(|| NftError::Rejected { line: None, message: output.status.to_string() }))
}

/// The first complaint of the form `/dev/stdin:3:5-9: Error: words`, or all of the text when none has it.
fn rejected(said: &str, script: &str) -> Option<NftError> {
    let said = said.trim();
    if said.is_empty() {
        return None;
    }
    let place = said.lines().find_map(|line| {
        let (file, rest) = line.split_once(':')?;
        let (number, rest) = rest.split_once(':')?;
        let words = rest.split_once("Error: ").map(|(_, words)| words)?;
        (file == "/dev/stdin" || file == "-").then_some((number.parse::<usize>().ok()?, words))
    });
    let Some((number, words)) = place else {
        return Some(NftError::Rejected { line: None, message: said.to_owned() });
    };
    let text = script.lines().nth(number.saturating_sub(1)).unwrap_or_default().trim().to_owned();
    Some(NftError::Rejected { line: Some((number, text)), message: words.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_complaint_names_the_line_and_keeps_the_words() {
        let said =
            "/dev/stdin:2:15-19: Error: Could not process rule: No such file or directory\nadd rule …\n   ^^^^^\n";
        let error = rejected(said, "table inet a\nadd rule inet b c accept\n").unwrap().to_string();
        assert_eq!(
            error,
            "nft refuses the rules at line 2 (`add rule inet b c accept`): \
             Could not process rule: No such file or directory"
        );
    }

    #[test]
    fn a_complaint_without_a_place_is_given_whole() {
        let error = rejected("netlink: Error: cache initialization failed: Operation not permitted\n", "x").unwrap();
        assert!(error.to_string().ends_with("cache initialization failed: Operation not permitted"), "{error}");
    }
}
