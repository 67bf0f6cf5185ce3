//! Questions that are for others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::answer::Transport;
use crate::cache::Cache;
use crate::message::{CLASS_IN, HEADER, Query, RecordType, expand_name, records, u16_at};
use crate::name::Name;

/// How long one server has to answer; a client waits for 5 s.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How many questions may be open at once.
const MAX_OPEN: usize = 1000;
const FLAG_TRUNCATED: u16 = 0x0200;

/// Passes queries on to other servers, and keeps their answers for a while.
#[derive(Debug)]
pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
    cache: Mutex<Cache>,
    open: Semaphore,
}

impl Forwarder {
    /// A forwarder to `upstreams`, which are asked in this order; none when there are none.
    pub fn new(upstreams: Vec<SocketAddr>) -> Option<Self> {
        (!upstreams.is_empty()).then(|| Self { upstreams, cache: Mutex::default(), open: Semaphore::new(MAX_OPEN) })
    }

    /// The servers that are asked.
    pub fn upstreams(&self) -> &[SocketAddr] {
        &self.upstreams
    }

    /// The response to `packet`; none when no server gave one in time.
    pub async fn resolve(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = Query::parse(packet).ok()?;
        let limit = match transport {
            Transport::Udp => query.udp_limit(),
            Transport::Tcp => usize::from(u16::MAX),
        };
        let known = self.cache().get(&query, limit, Instant::now());
        if known.is_some() {
            return known;
        }
        let _slot = self.open.try_acquire().ok()?;
        for &upstream in &self.upstreams {
            let asked = tokio::time::timeout(PATIENCE, ask(upstream, packet, &query, transport));
            let response = match asked.await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    tracing::debug!(%upstream, %error, "the name server did not answer");
                    continue;
                }
                Err(_) => {
                    tracing::debug!(%upstream, "the name server did not answer in time");
                    continue;
                }
            };
            self.cache().put(&query, &response, Instant::now());
            return Some(response);
        }
        None
    }

    /// Appends to `response`, which ends with an alias for `target`, what `target` stands for.
    /// Whether that could be found out.
    pub async fn follow(&self, response: &mut Vec<u8>, target: &Name, record_type: RecordType, limit: usize) -> bool {
        let packet = question(target, record_type);
        let Some(mut found) = self.resolve(&packet, Transport::Udp).await else {
            return false;
        };
        if is_truncated(&found) {
            let Some(whole) = self.resolve(&packet, Transport::Tcp).await else {
                return false;
            };
            found = whole;
        }
        append_answers(response, &found, limit).is_some()
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name servers of a resolver configuration such as `/etc/resolv.conf`.
pub fn nameservers(resolv_conf: &str) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next() != Some("nameserver") {
                return None;
            }
            // A link-local address may carry a zone, which only the interface's index could replace.
            let address: IpAddr = words.next()?.parse().ok()?;
            Some(SocketAddr::new(address, 53))
        })
        .collect()
}

async fn ask(upstream: SocketAddr, packet: &[u8], query: &Query<'_>, transport: Transport) -> io::Result<Vec<u8>> {
    // An id of our own, from a port of our own: what a forger would have to guess.
    let id: u16 = rand::random();
    let mut sent = packet.to_vec();
    sent[..2].copy_from_slice(&id.to_be_bytes());
    let mut response = match transport {
        Transport::Udp => ask_udp(upstream, &sent, query).await?,
        Transport::Tcp => ask_tcp(upstream, &sent, query).await?,
    };
    response[..2].copy_from_slice(&query.id.to_be_bytes());
    Ok(response)
}

async fn ask_udp(upstream: SocketAddr, sent: &[u8], query: &Query<'_>) -> io::Result<Vec<u8>> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(sent).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if is_response(&buffer[..len], sent, query) {
            buffer.truncate(len);
            buffer.shrink_to_fit();
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, sent: &[u8], query: &Query<'_>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let len = u16::try_from(sent.len()).map_err(io::Error::other)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(sent);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut response = vec![0; usize::from(len)];
    stream.read_exact(&mut response).await?;
    if !is_response(&response, sent, query) {
        return Err(io::Error::other("the response is not to our query"));
    }
    Ok(response)
}

fn is_response(response: &[u8], sent: &[u8], query: &Query<'_>) -> bool {
    let question = response.get(HEADER..HEADER + query.question.len());
    response.get(..2) == sent.get(..2)
        && u16_at(response, 2).is_some_and(|flags| flags & 0x8000 != 0)
        && question.is_some_and(|question| question.eq_ignore_ascii_case(query.question))
}

fn is_truncated(response: &[u8]) -> bool {
    u16_at(response, 2).is_some_and(|flags| flags & FLAG_TRUNCATED != 0)
}

/// A query of our own, with EDNS.
fn question(name: &Name, record_type: RecordType) -> Vec<u8> {
    let mut packet = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(name.as_bytes());
    packet.extend_from_slice(&record_type.0.to_be_bytes());
    packet.extend_from_slice(&CLASS_IN.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    packet
}

/// Copies the answers of `found` behind those of `response`, and its code. Only types whose data
/// holds no compressed name, and CNAME, can be copied.
fn append_answers(response: &mut Vec<u8>, found: &[u8], limit: usize) -> Option<()> {
    let count = usize::from(u16_at(found, 6)?);
    let mut answers = u16_at(response, 6)?;
    // The OPT record comes last, and has to stay there.
    let own = records(response)?;
    let opt = own.iter().find(|r| r.record_type == RecordType::OPT);
    let tail = opt.map_or(Vec::new(), |opt| response.split_off(opt.owner));
    for record in records(found)?.into_iter().take(count) {
        let data = match record.record_type {
            RecordType::A | RecordType::AAAA | RecordType::TXT => found.get(record.data..record.end)?.to_vec(),
            RecordType::CNAME => expand_name(found, record.data)?.as_bytes().to_vec(),
            _ => continue,
        };
        let owner = expand_name(found, record.owner)?;
        let size = owner.as_bytes().len() + 10 + data.len();
        if response.len() + size + tail.len() > limit {
            response[2] |= (FLAG_TRUNCATED >> 8) as u8;
            break;
        }
        response.extend_from_slice(owner.as_bytes());
        response.extend_from_slice(&record.record_type.0.to_be_bytes());
        response.extend_from_slice(&CLASS_IN.to_be_bytes());
        response.extend_from_slice(&record.ttl.to_be_bytes());
        response.extend_from_slice(&(data.len() as u16).to_be_bytes());
        response.extend_from_slice(&data);
        answers += 1;
    }
    response[6..8].copy_from_slice(&answers.to_be_bytes());
    response[3] = response[3] & 0xf0 | found.get(3)? & 0xf;
    response.extend_from_slice(&tail);
    Some(())
}
