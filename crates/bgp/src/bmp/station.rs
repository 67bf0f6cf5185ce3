//! The thread that writes to a station.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Station, encode};
use crate::speaker::monitor::{Desk, Item, Kind, Next};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a station may read nothing at all.
const STUCK: Duration = Duration::from_secs(30);
/// How long to wait before connecting again: at first, and at most (RFC 7854, section 3.2, wants it to grow).
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How often it is looked whether the station is still there, when there is nothing to tell it.
const LOOK: Duration = Duration::from_secs(1);

/// Why a station is told no more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the station closed the connection")]
    Closed,
    #[error("the station reads too slowly, and would get ever later what happens")]
    TooSlow,
}

/// Keeps the station told until the speaker ends.
pub(crate) fn run(station: &Station, desk: &Desk) {
    let address = &*station.address;
    let (mut wait, mut said) = (FIRST, None);
    loop {
        match connect(address) {
            Ok(stream) => {
                tracing::info!(station = address, "BMP: connected");
                said = None;
                let since = Instant::now();
                match tell(station, desk, stream) {
                    Ok(()) => return,
                    Err(why) => tracing::warn!(station = address, "BMP: {why}; it is connected to anew"),
                }
                if since.elapsed() > LONGEST {
                    wait = FIRST;
                }
            }
            Err(error) => {
                let words = error.to_string();
                if said.as_ref() != Some(&words) {
                    tracing::warn!(
                        station = address,
                        "BMP: no connection: {words}; is the station running? It is tried on"
                    );
                    said = Some(words);
                }
            }
        }
        if !desk.wait(wait) {
            return;
        }
        wait = (wait * 2).min(LONGEST);
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns when the speaker has ended.
fn tell(station: &Station, desk: &Desk, mut stream: TcpStream) -> Result<(), Lost> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STUCK))?;
    let mut out = Vec::new();
    encode::initiation(&mut out, &station.name, &station.description);
    stream.write_all(&out)?;
    let Some(mut subscription) = desk.subscribe(Kind::Station { statistics: station.statistics }) else {
        return Ok(());
    };
    loop {
        out.clear();
        match subscription.next(LOOK) {
            Next::Item(Item::Heard(batch)) => {
                batch.heard.iter().for_each(|heard| encode::heard(&mut out, heard, &batch.bytes));
                stream.write_all(&out)?;
            }
            Next::Item(Item::Bytes(messages)) => stream.write_all(&messages)?,
            Next::Item(Item::End) => {}
            Next::Nothing => look(&stream)?,
            Next::TooSlow => return Err(Lost::TooSlow),
            Next::Ended => {
                encode::termination(&mut out);
                return Ok(stream.write_all(&out)?);
            }
        }
    }
}

/// A station says nothing (RFC 7854, section 3.2): what there is to read is its end.
fn look(stream: &TcpStream) -> Result<(), Lost> {
    let mut ignored = [std::mem::MaybeUninit::uninit(); 512];
    match SockRef::from(stream).recv_with_flags(&mut ignored, libc::MSG_DONTWAIT) {
        Ok(0) => Err(Lost::Closed),
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Err(Lost::Io(error))
        }
        _ => Ok(()),
    }
}
