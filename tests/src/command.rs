//! Commands, and what they print.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The binary under test, which cargo put beside (or above) the test's own.
///
/// # Panics
/// When it was not built.
pub fn tombolo() -> PathBuf {
    if let Some(path) = std::env::var_os("TOMBOLO") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().map(|folder| folder.join("tombolo")).find(|path| path.is_file());
    found.expect("the tombolo binary is not built: run `make test`, or cargo build -p tombolo")
}

/// A command with arguments.
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs it and gives back all that there is.
///
/// # Panics
/// When it cannot be started.
pub fn output(command: &mut Command, input: &str) -> Output {
    let stdio = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let started = command.stdin(stdio).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A program that exits early has said why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().unwrap()
}

/// Runs it and gives back its standard output, or both outputs as the error.
///
/// # Errors
/// It failed.
pub fn attempt(command: &mut Command, input: &str) -> Result<String, String> {
    let output = output(command, input);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status))
}

/// Runs it and gives back its standard output.
///
/// # Panics
/// It failed.
pub fn run(command: &mut Command, input: &str) -> String {
    attempt(command, input).unwrap_or_else(|words| panic!("{words}"))
}
