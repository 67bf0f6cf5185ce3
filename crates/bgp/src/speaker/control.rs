//! The control socket: `tombolo bgp` asks here.
//!
//! A client writes one line, a [`Request`] in JSON, and gets one [`Answer`] in JSON; then the connection ends. Long
//! answers are written by a thread of the client's own, so that the speaker goes on.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Speaker;
use crate::router::show::{NeighborStatus, Route};

/// Where it is unless told otherwise.
pub const DEFAULT_PATH: &str = "/run/tombolo/bgp.sock";

/// How long a client and the speaker wait for each other.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest request.
const LONGEST: u64 = 1024;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "request", content = "neighbor")]
pub enum Request {
    /// [`NeighborStatus`] of all neighbours.
    Neighbors,
    /// [`Route`]s: all paths.
    Routes,
    /// [`Route`]s: what a neighbour announced.
    Received(IpAddr),
    /// [`Route`]s: what a neighbour was told.
    Advertised(IpAddr),
    /// Begin a session anew. Nothing is answered.
    Reset(IpAddr),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer<T> {
    /// What was asked for.
    Done(T),
    /// Why not, in words.
    Failed(String),
}

/// Why nothing was answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error(
        "no BGP speaker answers at {path}: {source}; is `tombolo agent` (with BGP peers) or `tombolo route-reflector` \
         running here? Another socket is given with --socket"
    )]
    Absent {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It answers something else.
    #[error("what the BGP speaker at {path} answers cannot be read: {why}; is it of the same version?")]
    Garbled {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It says why not.
    #[error("{0}")]
    Refused(String),
}

/// Serves requests at `path` until the process ends. What is there from a process that is gone is replaced.
///
/// # Errors
/// The socket cannot be made there.
pub fn serve(speaker: Speaker, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if UnixStream::connect(path).is_ok() {
        let why = format!("another BGP speaker answers at {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("bgp-control".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let speaker = speaker.clone();
            let answering = std::thread::Builder::new().name("bgp-answer".to_owned());
            let started = answering.spawn(move || {
                if let Err(error) = answer(&speaker, &stream) {
                    tracing::debug!(%error, "a client of the control socket went away");
                }
            });
            if let Err(error) = started {
                tracing::warn!(%error, "a client of the control socket gets no answer");
            }
        }
    })?;
    Ok(())
}

/// Asks the speaker at `path`.
///
/// # Errors
/// Nobody answers there, or not what was asked for, with words for people.
pub fn ask<T: DeserializeOwned>(path: &Path, request: Request) -> Result<T, Error> {
    let absent = |source| Error::Absent { path: path.to_owned(), source };
    let garbled = |why: String| Error::Garbled { path: path.to_owned(), why };
    let mut stream = UnixStream::connect(path).map_err(absent)?;
    stream.set_read_timeout(Some(PATIENCE * 2)).map_err(absent)?;
    let mut line = serde_json::to_vec(&request).map_err(|error| garbled(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(absent)?;
    let answer = serde_json::from_reader(BufReader::new(stream)).map_err(|error| garbled(error.to_string()))?;
    match answer {
        Answer::Done(done) => Ok(done),
        Answer::Failed(why) => Err(Error::Refused(why)),
    }
}

fn answer(speaker: &Speaker, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return write(stream, &Answer::<()>::Failed(format!("this cannot be asked: {error}"))),
    };
    match request {
        Request::Neighbors => {
            write(stream, &wait::<Vec<NeighborStatus>>(|reply| speaker.neighbors(move |n| reply(Ok(n)))))
        }
        Request::Routes => write(stream, &wait::<Vec<Route>>(|reply| speaker.routes(move |r| reply(Ok(r))))),
        Request::Received(neighbor) => write(stream, &wait(|reply| speaker.received(neighbor, reply))),
        Request::Advertised(neighbor) => write(stream, &wait(|reply| speaker.advertised(neighbor, reply))),
        Request::Reset(neighbor) => write(stream, &wait(|reply| speaker.reset(neighbor, reply))),
    }
}

type Given<T> = Box<dyn FnOnce(Result<T, String>) + Send>;

fn wait<T: Send + 'static>(ask: impl FnOnce(Given<T>)) -> Answer<T> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| {
        let _ = sender.send(answer);
    }));
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(answer)) => Answer::Done(answer),
        Ok(Err(why)) => Answer::Failed(why),
        Err(_) => Answer::Failed("the BGP speaker does not answer; it has ended, or is very busy".to_owned()),
    }
}

fn write<T: Serialize>(mut stream: &UnixStream, answer: &Answer<T>) -> io::Result<()> {
    let mut out = io::BufWriter::new(&mut stream);
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    out.flush()
}
