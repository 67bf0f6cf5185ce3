//! The client of a userspace device's control socket, `FOLDER/IFACE.sock`: ours or another program's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tombolo_net::wireguard::{Change, DeviceStatus};

use crate::device::{Device, DeviceError, Kind};
use crate::uapi::{Request, Set, parse_status, split_answer};

/// How long a device may take to answer: it works on one request at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read: some hundred thousand peers.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A device behind a control socket. Each request is a connection of its own, as `wg` does it.
#[derive(Debug, Clone)]
pub struct UserspaceDevice {
    iface: String,
    socket: PathBuf,
}

impl UserspaceDevice {
    /// The device `iface` whose socket is in `socket_dir`; nothing is opened yet.
    pub fn new(iface: &str, socket_dir: &Path) -> Self {
        Self { iface: iface.to_owned(), socket: socket_path(socket_dir, iface) }
    }

    async fn ask(&self, request: &Request) -> Result<String, DeviceError> {
        let error = |reason: String| DeviceError::Socket { path: self.socket.clone(), reason };
        let late = || error(format!("no answer within {} s: is the device's process stopped?", PATIENCE.as_secs()));
        let failed = |e: std::io::Error| error(explain(&e));
        tokio::time::timeout(PATIENCE, exchange(&self.socket, &request.to_string()))
            .await
            .map_err(|_| late())?
            .map_err(failed)
    }

    fn check<'a>(&self, answer: &'a str, what: &str) -> Result<&'a str, DeviceError> {
        let (lines, errno) =
            split_answer(answer).map_err(|error| DeviceError::Answer { path: self.socket.clone(), error })?;
        if errno == 0 {
            return Ok(lines);
        }
        let (iface, what) = (self.iface.clone(), what.to_owned());
        Err(DeviceError::Refused { iface, what, errno: Errno::from_raw(errno) })
    }
}

#[async_trait]
impl Device for UserspaceDevice {
    async fn status(&self) -> Result<DeviceStatus, DeviceError> {
        let answer = self.ask(&Request::Get).await?;
        let lines = self.check(&answer, "to say its status")?;
        parse_status(lines).map_err(|error| DeviceError::Answer { path: self.socket.clone(), error })
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), DeviceError> {
        if changes.is_empty() {
            return Ok(());
        }
        let answer = self.ask(&Request::Set(Set::from_changes(changes))).await?;
        self.check(&answer, &format!("{} changes", changes.len())).map(|_| ())
    }

    fn kind(&self) -> Kind {
        Kind::Userspace
    }
}

/// The control socket of `iface`.
pub fn socket_path(socket_dir: &Path, iface: &str) -> PathBuf {
    socket_dir.join(format!("{iface}.sock"))
}

/// Whether somebody accepts connections on the socket.
pub async fn is_live(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

async fn exchange(socket: &Path, request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(request.as_bytes()).await?;
    // wireguard-go waits for more requests: the empty line ends the answer, not the end of the stream.
    let mut answer = Vec::new();
    let mut stream = stream.take(LONGEST_ANSWER);
    while !answer.ends_with(b"\n\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    String::from_utf8(answer).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
}

fn explain(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, UnexpectedEof};
    match error.kind() {
        NotFound => "it does not exist: no device of this name runs, or its sockets are in another folder".to_owned(),
        ConnectionRefused => "nobody listens: the device's process has died; start it again".to_owned(),
        PermissionDenied => "permission denied: only root may speak to a device".to_owned(),
        UnexpectedEof => "the device closed the connection before its answer was complete".to_owned(),
        _ => error.to_string(),
    }
}
