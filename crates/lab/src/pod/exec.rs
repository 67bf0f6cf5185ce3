//! A command that a client runs in a container beside the main process.

use std::io::{self, ErrorKind};
use std::process::{Command, Stdio};

use futures::FutureExt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::mpsc;
use tombolo_apiserver::Status;
use tombolo_apiserver::exec::{Exec, ExecOptions, Input, Output, TerminalSize};

use super::container::exit_code;
use super::terminal::Terminal;
use crate::control::Place;

/// The exit codes of a shell for a program that is not there, or cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// Starts a command in the container. A program that cannot be run is told as a failed command, in the words of runc.
///
/// # Errors
/// The container has ended, or this machine has no more of what is needed.
pub fn start(place: &Place, container: &str, options: &ExecOptions) -> Result<Exec, Status> {
    // Its namespaces are opened here: without them it has ended.
    let command = place.session(&options.command, options.tty).map_err(|_| not_found(container))?;
    let started = if options.tty { with_terminal(command, options) } else { with_pipes(command, options) };
    match started {
        Ok(exec) => Ok(exec),
        Err(error) => match options.command.first() {
            Some(program) => Ok(refused(program, &error, options.tty)),
            None => Err(Status::internal(error)),
        },
    }
}

/// What a kubelet says of a container that does not run.
pub fn not_found(container: &str) -> Status {
    Status::internal(format!("unable to upgrade connection: container not found ({container:?})"))
}

fn with_pipes(mut command: Command, options: &ExecOptions) -> io::Result<Exec> {
    let pipe = |wanted| if wanted { Stdio::piped() } else { Stdio::null() };
    command.stdin(pipe(options.stdin)).stdout(pipe(options.stdout)).stderr(pipe(options.stderr));
    let mut session = Session::start(command)?;
    let child = &mut session.child;
    Ok(Exec {
        stdin: child.stdin.take().map(|end| Box::new(end) as Input),
        stdout: child.stdout.take().map(|end| Box::new(end) as Output),
        stderr: child.stderr.take().map(|end| Box::new(end) as Output),
        resize: None,
        exit: session.end().boxed(),
    })
}

fn with_terminal(mut command: Command, options: &ExecOptions) -> io::Result<Exec> {
    let (terminal, theirs) = Terminal::open()?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    if !command.get_envs().any(|(name, _)| name == "TERM") {
        command.env("TERM", "xterm");
    }
    let session = Session::start(command)?;
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(1);
    let screen = terminal.clone();
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            // A size that the kernel does not take leaves the window as it is.
            let _ = screen.resize(size.width, size.height);
        }
    });
    Ok(Exec {
        stdin: options.stdin.then(|| Box::new(terminal.clone()) as Input),
        stdout: Some(Box::new(terminal)),
        stderr: None,
        resize: Some(resize),
        exit: session.end().boxed(),
    })
}

/// What comes of a command that cannot be started.
fn refused(program: &str, error: &io::Error, tty: bool) -> Exec {
    let (code, why) = match error.kind() {
        ErrorKind::NotFound if program.contains('/') => {
            (NOT_FOUND, format!("stat {program}: no such file or directory"))
        }
        ErrorKind::NotFound => (NOT_FOUND, "executable file not found in $PATH".to_owned()),
        ErrorKind::PermissionDenied => (NOT_RUNNABLE, "permission denied".to_owned()),
        _ => (NOT_RUNNABLE, error.to_string()),
    };
    let end = if tty { "\r\n" } else { "\n" };
    let message = format!(
        "OCI runtime exec failed: exec failed: unable to start container process: exec: {program:?}: {why}: unknown{end}"
    );
    let said: Output = Box::new(io::Cursor::new(message.into_bytes()));
    let (stdout, stderr) = if tty { (Some(said), None) } else { (None, Some(said)) };
    Exec { stdin: None, stdout, stderr, resize: None, exit: async move { Ok(code) }.boxed() }
}

/// A command with its process group, which is killed when it is dropped before the command has ended.
struct Session {
    child: Child,
    /// `None` once the command has ended: its number may be another's then.
    group: Option<Pid>,
}

impl Session {
    fn start(command: Command) -> io::Result<Self> {
        // Our copies of the command's ends go with `command`.
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, group })
    }

    async fn end(mut self) -> Result<i32, Status> {
        let status = self.child.wait().await.map_err(Status::internal)?;
        self.group = None;
        Ok(exit_code(status))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended since: that is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
