//! An embedded device as a process that outlives the one that starts it.

use std::fs::{File, OpenOptions as FileOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::device::{DeviceError, OpenOptions};
use crate::userspace::{UserspaceDevice, is_live, socket_path};

/// Starts `EXE wireguard IFACE …` in a session of its own and waits until its control socket answers.
///
/// # Errors
/// [`DeviceError::Start`] with the last words of its log, if it ends or does not answer within `patience`.
pub async fn spawn(iface: &str, options: &OpenOptions, patience: Duration) -> Result<(), DeviceError> {
    let error = |reason: String| DeviceError::Start { iface: iface.to_owned(), reason };
    let folder = std::path::absolute(&options.socket_dir).map_err(|e| error(e.to_string()))?;
    let mut command = Command::new(&options.exe);
    command.args(["wireguard", iface, "--own-session", "--socket-dir"]).arg(&folder);
    if let Some(mtu) = options.mtu {
        command.arg("--mtu").arg(mtu.to_string());
    }
    let mut log = match &options.log {
        Some(path) => Some(open_log(path).map_err(|e| error(format!("log file {}: {e}", path.display())))?),
        None => None,
    };
    let output = || log.as_ref().map_or(Ok(Stdio::null()), |log| log.try_clone().map(Stdio::from));
    command.stdin(Stdio::null());
    command.stdout(output().map_err(|e| error(e.to_string()))?);
    command.stderr(output().map_err(|e| error(e.to_string()))?);
    let start = log.as_mut().and_then(|log| log.seek(SeekFrom::End(0)).ok()).unwrap_or(0);
    let mut child = command.spawn().map_err(|e| error(format!("{}: {e}", options.exe.display())))?;
    let reason = match tokio::time::timeout(patience, ready(&mut child, &socket_path(&folder, iface))).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(reason)) => reason,
        Err(_) => {
            let _ = child.start_kill();
            format!("its control socket did not answer within {} s", patience.as_secs())
        }
    };
    let words = log.and_then(|log| last_words(log, start)).unwrap_or_default();
    Err(error(if words.is_empty() { reason } else { words }))
}

/// The device `iface`, if a live process has its control socket.
pub async fn find(iface: &str, socket_dir: &Path) -> Option<UserspaceDevice> {
    is_live(&socket_path(socket_dir, iface)).await.then(|| UserspaceDevice::new(iface, socket_dir))
}

/// A terminal or an agent that goes does not take this process with it, and no folder is kept busy.
pub(super) fn leave_session() {
    // Fails only for the leader of a session, who has left already.
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
}

/// Waits until the socket answers, or the process ends.
async fn ready(child: &mut Child, socket: &Path) -> Result<(), String> {
    loop {
        if is_live(socket).await {
            return Ok(());
        }
        tokio::select! {
            status = child.wait() => {
                return Err(status.map_or_else(|e| e.to_string(), |status| format!("it ended ({status})")));
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    FileOptions::new().create(true).append(true).read(true).mode(0o640).open(path)
}

fn last_words(mut log: File, start: u64) -> Option<String> {
    log.seek(SeekFrom::Start(start)).ok()?;
    let mut text = String::new();
    log.take(64 << 10).read_to_string(&mut text).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?.trim();
    Some(line.to_owned())
}
