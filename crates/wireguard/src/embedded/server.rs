//! The control socket: made safely, and the requests that come through it.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use super::tunnel::Tunnel;
use crate::device::DeviceError;
use crate::uapi::{Request, render_errno, render_status};
use crate::userspace::socket_path;

/// The longest request that is read: some hundred thousand peers.
const LONGEST_REQUEST: u64 = 64 << 20;

/// The longest path of a Unix socket (`sun_path`, unix(7)).
const LONGEST_PATH: usize = 107;

/// A listening control socket; its file goes when this is dropped.
pub(super) struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Server {
    /// Listens on `FOLDER/IFACE.sock` (mode 0600; the folder, if it has to be made, 0755). The socket of a process
    /// that has died is replaced.
    pub(super) fn bind(socket_dir: &Path, iface: &str) -> Result<Self, DeviceError> {
        let path = socket_path(socket_dir, iface);
        let error = |reason: String| DeviceError::Socket { path: path.clone(), reason };
        // The name that it has until it is ready is a little longer.
        if path.as_os_str().len() + 16 > LONGEST_PATH {
            return Err(error(format!("the path is longer than a socket's may be ({LONGEST_PATH} bytes)")));
        }
        Self::listen(socket_dir, iface, &path).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => error(format!(
                "a device named {iface} is running there already: end it, choose another name, or give each network \
                 namespace a socket folder of its own"
            )),
            io::ErrorKind::PermissionDenied => error("permission denied: run as root".to_owned()),
            _ => error(e.to_string()),
        })
    }

    /// Where it listens.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    fn listen(socket_dir: &Path, iface: &str, path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o755).create(socket_dir)?;
        // Held until the socket is in place: of two that start at once, one finds the other.
        let folder = File::open(socket_dir)?;
        folder.lock()?;
        match StdStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // Replaced below; `wg`, too, deletes one that nobody answers at.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(e) => return Err(e),
        }
        // Under its name it appears only when it listens and is closed to others.
        let unready = socket_dir.join(format!(".{iface}.{}", std::process::id()));
        let _ = std::fs::remove_file(&unready);
        let listener = StdListener::bind(&unready)?;
        std::fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
        std::fs::rename(&unready, path)?;
        listener.set_nonblocking(true)?;
        let metadata = std::fs::symlink_metadata(path)?;
        let inode = (metadata.dev(), metadata.ino());
        Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned(), inode })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Another's that has taken the name stays.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Answers one client until it closes.
pub(super) async fn serve(stream: UnixStream, tunnel: &Mutex<Tunnel>) {
    if let Err(error) = converse(stream, tunnel).await {
        tracing::debug!(%error, "a client of the control socket went");
    }
}

async fn converse(stream: UnixStream, tunnel: &Mutex<Tunnel>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await? {
        let answer = answer(&request, tunnel).await;
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// The lines up to an empty one; `None` at the end of the stream.
async fn read_request(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Vec<u8>>> {
    let mut request = Vec::new();
    let mut lines = stream.take(LONGEST_REQUEST);
    loop {
        let before = request.len();
        if lines.read_until(b'\n', &mut request).await? == 0 {
            return if lines.limit() == 0 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        }
        if &request[before..] == b"\n" {
            request.truncate(before);
            return Ok(Some(request));
        }
    }
}

async fn answer(request: &[u8], tunnel: &Mutex<Tunnel>) -> String {
    let request = match str::from_utf8(request).map_err(|e| e.to_string()) {
        Ok(text) => Request::parse(text).map_err(|e| e.to_string()),
        Err(error) => Err(error),
    };
    match request {
        Ok(Request::Get) => render_status(&tunnel.lock().await.status()) + &render_errno(0),
        Ok(Request::Set(set)) => match tunnel.lock().await.set(&set) {
            Ok(()) => render_errno(0),
            Err(errno) => render_errno(errno as i32),
        },
        Err(error) => {
            tracing::warn!(%error, "a request through the control socket is not understood");
            render_errno(Errno::EINVAL as i32)
        }
    }
}
