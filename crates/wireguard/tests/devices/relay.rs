//! Carries datagrams between the two ends as a bad path does: some are lost, doubled, late or damaged.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::headers::{Marks, hear_marks, receive, send};
use crate::support::{MIDDLE, Pair, endpoint};
use crate::traffic::Noise;

/// How late a held datagram is at most.
const LATE: Duration = Duration::from_millis(4);
/// How often the relay looks whether it is to end.
const ROUND: Duration = Duration::from_millis(20);
/// Bytes that a socket may hold: what is lost is lost on purpose.
const BUFFER: usize = 8 << 20;

/// Both bits of ECN.
pub(crate) const CONGESTED: u8 = 3;

/// Of a thousand datagrams, how many meet with it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Held back until later ones have passed.
    pub(crate) late: u64,
    /// One bit anywhere is another.
    pub(crate) damaged: u64,
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    A = 0,
    B = 1,
}

/// In the middle of a pair, with the second's port towards the first and the first's towards the second.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    endpoint: String,
}

struct Shared {
    sockets: [UdpSocket; 2],
    state: Mutex<State>,
}

struct State {
    ends: [Option<SocketAddr>; 2],
    faults: Faults,
    met: Faults,
    record: Option<Vec<(To, Vec<u8>)>>,
    /// Of each traffic class, how many datagrams went to the second.
    classes: BTreeMap<u8, usize>,
    is_congested: bool,
    is_over: bool,
}

impl Relay {
    /// Starts without faults, over one family outside.
    pub(crate) fn start(pair: &Pair, is_v6: bool) -> Self {
        let family = usize::from(is_v6);
        let addresses = [endpoint(MIDDLE[0][family], 51821), endpoint(MIDDLE[1][family], 51820)];
        let sockets = pair.middle.as_ref().unwrap().within(|| {
            addresses.each_ref().map(|address| {
                let socket = UdpSocket::bind(address).unwrap();
                socket.set_nonblocking(true).unwrap();
                hear_marks(&socket);
                setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
                setsockopt(&socket, sockopt::SndBuf, &BUFFER).unwrap();
                socket
            })
        });
        let ends = [None, Some(pair.endpoint(is_v6).parse().unwrap())];
        let state = State {
            ends,
            faults: Faults::default(),
            met: Faults::default(),
            record: None,
            classes: BTreeMap::new(),
            is_congested: false,
            is_over: false,
        };
        let shared = Arc::new(Shared { sockets, state: Mutex::new(state) });
        let other = Arc::clone(&shared);
        let [endpoint, _] = addresses;
        Self { shared, thread: Some(std::thread::spawn(move || other.run())), endpoint }
    }

    /// What is the second's endpoint for the first.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.shared.state.lock().unwrap().faults = faults;
    }

    /// How many datagrams met with what.
    pub(crate) fn met(&self) -> Faults {
        self.shared.state.lock().unwrap().met
    }

    /// Keeps a copy of everything from now on.
    pub(crate) fn record(&self) {
        self.shared.state.lock().unwrap().record = Some(Vec::new());
    }

    /// What was carried since [`Self::record`].
    pub(crate) fn recorded(&self) -> Vec<(To, Vec<u8>)> {
        self.shared.state.lock().unwrap().record.take().unwrap()
    }

    /// Of each traffic class, how many datagrams went to the second since this was asked last.
    pub(crate) fn classes(&self) -> BTreeMap<u8, usize> {
        std::mem::take(&mut self.shared.state.lock().unwrap().classes)
    }

    /// From now on datagrams whose sender understands it (RFC 3168, section 5) are marked as having met congestion.
    pub(crate) fn congest(&self) {
        self.shared.state.lock().unwrap().is_congested = true;
    }

    /// Sends a datagram as if it had come from the other end; from another port if it is a stranger's.
    pub(crate) fn send(&self, to: To, datagram: &[u8], stranger: Option<&UdpSocket>) {
        let address = self.shared.state.lock().unwrap().ends[to as usize].unwrap();
        let socket = stranger.unwrap_or(&self.shared.sockets[to as usize]);
        socket.send_to(datagram, address).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.is_over = true;
        }
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        assert!(ended.is_ok() || std::thread::panicking(), "the relay failed");
    }
}

impl Shared {
    fn run(&self) {
        let mut noise = Noise(7);
        let mut held: Vec<(Instant, To, Vec<u8>, Marks)> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let now = Instant::now();
            let due = held.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>();
            for (_, to, datagram, marks) in due {
                self.pass(to, &datagram, marks);
            }
            let next = held.iter().map(|(at, ..)| at.saturating_duration_since(now)).fold(ROUND, Duration::min);
            let mut ready = self.sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            poll(&mut ready, PollTimeout::from(next.as_millis() as u16 + 1)).unwrap();
            for to in [To::B, To::A] {
                let from = 1 - to as usize;
                for _ in 0..64 {
                    let Ok((len, source, marks)) = receive(&self.sockets[from], &mut buffer) else { break };
                    let mut state = self.state.lock().unwrap();
                    state.ends[from] = Some(source);
                    let marks = state.mark(to, marks);
                    let late = state.carry(&mut noise, to, &mut buffer[..len]);
                    drop(state);
                    let datagram = &buffer[..len];
                    for delay in late {
                        match delay {
                            Some(delay) => held.push((Instant::now() + delay, to, datagram.to_vec(), marks)),
                            None => self.pass(to, datagram, marks),
                        }
                    }
                }
            }
            if self.state.lock().unwrap().is_over {
                return;
            }
        }
    }

    fn pass(&self, to: To, datagram: &[u8], marks: Marks) {
        let address = self.state.lock().unwrap().ends[to as usize];
        if let Some(address) = address {
            // A full buffer or an end that is gone is one more fault of the path.
            let _ = send(&self.sockets[to as usize], Some(address), datagram, marks);
        }
    }
}

impl State {
    /// What the datagram is marked with from here on.
    fn mark(&mut self, to: To, marks: Marks) -> Marks {
        if to == To::B {
            *self.classes.entry(marks.class).or_default() += 1;
        }
        let is_met = self.is_congested && marks.class & CONGESTED != 0;
        Marks { class: marks.class | if is_met { CONGESTED } else { 0 }, ..marks }
    }

    /// When the datagram is to be passed on: not at all, now, after a while, or twice.
    fn carry(&mut self, noise: &mut Noise, to: To, datagram: &mut [u8]) -> Vec<Option<Duration>> {
        if let Some(record) = &mut self.record {
            record.push((to, datagram.to_vec()));
        }
        let Faults { lost, doubled, late, damaged } = self.faults;
        if noise.happens(lost) {
            self.met.lost += 1;
            return Vec::new();
        }
        if noise.happens(damaged) && !datagram.is_empty() {
            self.met.damaged += 1;
            let bit = noise.below(datagram.len() as u64 * 8) as usize;
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        let mut later = || Some(Duration::from_micros(noise.below(LATE.as_micros() as u64)));
        let mut times = vec![None];
        let (is_late, is_doubled) = (later(), later());
        if noise.happens(late) {
            self.met.late += 1;
            times = vec![is_late];
        }
        if noise.happens(doubled) {
            self.met.doubled += 1;
            times.push(is_doubled);
        }
        times
    }
}
