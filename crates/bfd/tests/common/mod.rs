//! A runtime with its events, and waiting for what they tell.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tombolo_bfd::runtime::Status;
use tombolo_bfd::{Bfd, Event, Options, Peer, State, Timers};

/// Not the standard's: a daemon of the machine may have that.
pub(crate) const PORT: u16 = 33784;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Side {
    pub(crate) bfd: Bfd,
    events: Receiver<Event>,
}

impl Side {
    /// At one address and an own port, or as it is by default.
    pub(crate) fn new(listen: Option<IpAddr>) -> Self {
        let options = match listen {
            Some(address) => Options { listen: vec![address], single_hop_port: PORT, multihop_port: PORT + 1000 },
            None => Options::default(),
        };
        let (sender, events) = channel();
        let tell = move |event| {
            // The receiver goes with the runtime.
            let _ = sender.send(event);
        };
        let bfd = Bfd::start(options, tell).unwrap();
        Self { bfd, events }
    }

    pub(crate) fn set(&self, peers: &[(Peer, Timers)]) {
        self.bfd.set(BTreeMap::from_iter(peers.iter().copied()));
    }

    /// The status of the only session.
    pub(crate) fn only(&self) -> Status {
        let [status] = self.bfd.status().sessions.try_into().unwrap();
        status
    }

    pub(crate) fn wait_for(&self, state: State) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event.state == state => return event,
                Ok(_) => {}
                Err(_) => panic!("not {state} within {PATIENCE:?}: {:#?}", self.bfd.status()),
            }
        }
    }

    /// The events until now that nobody has waited for.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn peer(remote: IpAddr, local: Option<IpAddr>, multihop: bool) -> Peer {
    Peer { remote, local, multihop }
}

pub(crate) fn timers(milliseconds: u64, multiplier: u8) -> Timers {
    Timers { tx: ms(milliseconds), rx: ms(milliseconds), multiplier }
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn random() -> u8 {
    RandomState::new().build_hasher().finish() as u8
}
