//! Running a program to its end and saying what it said.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Runs the command with `input` on its standard input.
///
/// # Errors
/// It doesn't start, or fails: with what it wrote to standard error.
pub(crate) fn with_input(command: &mut Command, input: &str) -> io::Result<()> {
    let name = format!("{command:?}").replace('"', "");
    let failed = |why: String| io::Error::other(format!("`{name}`: {why}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on standard error, which tells more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
}
