//! Questions that are for others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::cache::{Cache, key};
use crate::foreign::Foreign;
use crate::message::{HEADER, Query, is_response, upstream_query};
use crate::name::Name;

/// How long one server has to answer; a client waits for 5 s.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How many times a server is asked, over all servers.
const MAX_ATTEMPTS: usize = 3;
/// For how long a server that did not answer is asked after the others.
const SULK: Duration = Duration::from_secs(10);
/// How many questions may be open at once.
const MAX_OPEN: usize = 1000;
/// Longer than any datagram that we ask for.
const MAX_DATAGRAM: usize = 4096;
/// The memory for answers, in bytes, where nothing else is said.
pub const CACHE_SIZE: usize = 16 << 20;

const NO_ERROR: u16 = 0;
const FORMAT_ERROR: u16 = 1;
const NAME_ERROR: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;

/// Passes queries on to other servers, and keeps their answers for a while.
#[derive(Debug)]
pub struct Forwarder {
    upstreams: Vec<Upstream>,
    /// Whose questions are passed on.
    allowed: Vec<IpNet>,
    cache: Mutex<Cache>,
    open: Semaphore,
    started: Instant,
}

#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    /// Until when it is asked last, in milliseconds since the start.
    sulks_until: AtomicU64,
}

/// The networks that nobody on the Internet sends from: loopback (RFC 1122), private (RFC 1918),
/// shared (RFC 6598), link-local (RFC 3927, RFC 4291) and unique local addresses (RFC 4193).
pub fn private_networks() -> Vec<IpNet> {
    let v4 = [
        ([127, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        ([100, 64, 0, 0], 10),
        ([169, 254, 0, 0], 16),
    ];
    let v6 = [([0, 0, 0, 0, 0, 0, 0, 1], 128), ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)];
    let v4 = v4.into_iter().map(|(address, length)| IpNet::new_assert(IpAddr::from(address), length));
    let v6 = v6.into_iter().map(|(address, length): ([u16; 8], _)| IpNet::new_assert(IpAddr::from(address), length));
    v4.chain(v6).collect()
}

impl Forwarder {
    /// A forwarder to `upstreams`, which are asked in this order; none when there are none. It works
    /// for [`private_networks`] and keeps [`CACHE_SIZE`] bytes.
    pub fn new(upstreams: Vec<SocketAddr>) -> Option<Self> {
        let upstreams: Vec<Upstream> =
            upstreams.into_iter().map(|address| Upstream { address, sulks_until: AtomicU64::new(0) }).collect();
        (!upstreams.is_empty()).then(|| Self {
            upstreams,
            allowed: private_networks(),
            cache: Mutex::new(Cache::new(CACHE_SIZE)),
            open: Semaphore::new(MAX_OPEN),
            started: Instant::now(),
        })
    }

    /// Works for these networks instead.
    pub fn allowing(mut self, networks: Vec<IpNet>) -> Self {
        self.allowed = networks;
        self
    }

    /// Keeps so many bytes of answers instead.
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.cache = Mutex::new(Cache::new(bytes));
        self
    }

    /// Whether a client's questions are passed on.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(&client))
    }

    /// Writes the response, if it is known, in at most `limit` bytes.
    pub(crate) fn cached(&self, query: &Query<'_>, limit: usize, out: &mut Vec<u8>) -> bool {
        let mut question = Vec::with_capacity(64);
        key(query, &mut question);
        let Some((response, age)) = self.cache().get(&question, Instant::now()) else {
            return false;
        };
        response.write(query, age, limit, out);
        true
    }

    /// Writes the response to a query that is for others, in at most `limit` bytes; false when no
    /// server gave one in time.
    pub(crate) async fn resolve(&self, query: &Query<'_>, limit: usize, out: &mut Vec<u8>) -> bool {
        let Some((response, age)) = self.look_up(query).await else {
            return false;
        };
        response.write(query, age, limit, out);
        true
    }

    /// Appends to `out`, a response to `query` that ends with an alias for `target`, what `target`
    /// stands for. Whether that could be found out.
    pub(crate) async fn follow(&self, query: &Query<'_>, target: &Name, limit: usize, out: &mut Vec<u8>) -> bool {
        let packet = query.about(target);
        let Ok(about_target) = Query::parse(&packet) else {
            return false;
        };
        let Some((response, age)) = self.look_up(&about_target).await else {
            return false;
        };
        response.append(age, limit, out).is_some()
    }

    /// The whole response to a query, and its age in seconds.
    async fn look_up(&self, query: &Query<'_>) -> Option<(Arc<Foreign>, u32)> {
        let mut question = Vec::with_capacity(64);
        key(query, &mut question);
        if let Some(known) = self.cache().get(&question, Instant::now()) {
            return Some(known);
        }
        let _slot = self.open.try_acquire().ok()?;
        let response = Arc::new(self.ask_all(query).await?);
        self.cache().put(question.into(), Arc::clone(&response), Instant::now());
        Some((response, 0))
    }

    /// The first response that says something about the name; else any, if there is one.
    async fn ask_all(&self, query: &Query<'_>) -> Option<Foreign> {
        let mut failure = None;
        let mut open: Vec<&Upstream> = self.in_order();
        let mut attempts = 0;
        while !open.is_empty() && attempts < MAX_ATTEMPTS.max(self.upstreams.len()) {
            let upstream = open.remove(0);
            attempts += 1;
            match tokio::time::timeout(PATIENCE, ask(upstream.address, query)).await {
                Ok(Ok(response)) => {
                    upstream.sulks_until.store(0, Ordering::Relaxed);
                    if matches!(response.code(), NO_ERROR | NAME_ERROR) {
                        return Some(response);
                    }
                    failure = Some(response);
                }
                // Nobody is there: that will not be otherwise in a moment.
                Ok(Err(error)) => {
                    tracing::debug!(upstream = %upstream.address, %error, "the name server did not answer");
                    self.sulk(upstream);
                }
                // Datagrams are lost now and then.
                Err(_) => {
                    tracing::debug!(upstream = %upstream.address, "the name server did not answer in time");
                    self.sulk(upstream);
                    open.push(upstream);
                }
            }
        }
        failure
    }

    /// All servers, those that did not answer lately last.
    fn in_order(&self) -> Vec<&Upstream> {
        let now = self.started.elapsed().as_millis() as u64;
        let mut all: Vec<&Upstream> = self.upstreams.iter().collect();
        all.sort_by_key(|upstream| upstream.sulks_until.load(Ordering::Relaxed) > now);
        all
    }

    fn sulk(&self, upstream: &Upstream) {
        let until = (self.started.elapsed() + SULK).as_millis() as u64;
        upstream.sulks_until.store(until, Ordering::Relaxed);
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

/// Asks one server: over UDP, over TCP what does not fit, and without EDNS one that does not know it.
async fn ask(upstream: SocketAddr, query: &Query<'_>) -> io::Result<Foreign> {
    let mut response = ask_udp(upstream, &new_query(query, true), query).await?;
    let mut has_edns = true;
    if matches!(response.code(), FORMAT_ERROR | NOT_IMPLEMENTED) {
        has_edns = false;
        response = ask_udp(upstream, &new_query(query, false), query).await?;
    }
    if response.is_truncated() {
        response = ask_tcp(upstream, &new_query(query, has_edns), query).await?;
    }
    Ok(response)
}

/// With a number of its own, and sent from a port of its own: what a forger would have to guess.
fn new_query(query: &Query<'_>, has_edns: bool) -> Vec<u8> {
    upstream_query(query, rand::random(), has_edns)
}

async fn ask_udp(upstream: SocketAddr, sent: &[u8], query: &Query<'_>) -> io::Result<Foreign> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(sent).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Some(response) = read(&buffer[..len], sent, query) {
            return Ok(response);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, sent: &[u8], query: &Query<'_>) -> io::Result<Foreign> {
    let mut stream = TcpStream::connect(upstream).await?;
    let len = u16::try_from(sent.len()).map_err(io::Error::other)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(sent);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut response = vec![0; usize::from(len)];
    stream.read_exact(&mut response).await?;
    read(&response, sent, query).ok_or_else(|| io::Error::other("the response is not to our query"))
}

/// None for what is no response to `sent`, which may come from anybody.
fn read(response: &[u8], sent: &[u8], query: &Query<'_>) -> Option<Foreign> {
    if !is_response(response, sent) {
        return None;
    }
    // A server that could not read the question may leave it out.
    if response.len() == HEADER {
        let mut whole = response.to_vec();
        whole[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        whole.extend_from_slice(query.question);
        return Foreign::parse(whole, query.question);
    }
    Foreign::parse(response.to_vec(), query.question)
}
