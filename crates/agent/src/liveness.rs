//! Who answers: echo requests to Peers that share an address with others, and to nodes that lead the location.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::sync::watch;
use tombolo_host::HostError;
use tombolo_host::probe::{Prober, Settings, State, Target};
use tombolo_mesh::claims::Liveness;
use tombolo_mesh::plan::Probe;
use tombolo_net::wireguard::{DeviceStatus, Key};

/// Half a second between requests, and five of them unanswered: silence is noticed within three seconds.
const SETTINGS: Settings = Settings { interval: Duration::from_millis(500), threshold: 5 };
/// A handshake is renewed every two minutes while there is traffic, and a session is dead after three.
const SESSION: Duration = Duration::from_secs(180);

pub(crate) struct Watchers {
    prober: Prober,
    /// The WireGuard interface. What asks a Peer goes through it or nowhere, also while there is no route yet.
    interface: String,
    probes: BTreeSet<Probe>,
    ids: BTreeMap<Probe, u64>,
    next_id: u64,
}

impl Watchers {
    /// # Errors
    /// No raw sockets may be opened.
    pub(crate) fn new(interface: &str) -> Result<Self, HostError> {
        let (prober, interface) = (Prober::new(SETTINGS)?, interface.to_owned());
        Ok(Self { prober, interface, probes: BTreeSet::new(), ids: BTreeMap::new(), next_id: 0 })
    }

    /// Counts up whenever somebody begins or ceases to answer.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.prober.changes()
    }

    /// Asks these from now on. `internal_ips` are the sources: addresses that the others know the way back to.
    pub(crate) fn ask(&mut self, probes: &BTreeSet<Probe>, internal_ips: &[IpNet]) {
        if *probes == self.probes {
            return;
        }
        self.probes = probes.clone();
        self.ids.retain(|probe, _| probes.contains(probe));
        let mut targets = Vec::new();
        for probe in probes {
            let next = &mut self.next_id;
            let id = *self.ids.entry(probe.clone()).or_insert_with(|| {
                *next += 1;
                *next
            });
            let address = address(probe);
            let source = internal_ips.iter().map(IpNet::addr).find(|ip| ip.is_ipv6() == address.is_ipv6());
            let device = matches!(probe, Probe::Peer(..)).then(|| self.interface.clone());
            targets.push(Target { id, address, source, mark: None, device });
        }
        self.prober.set_targets(targets);
    }

    /// Who of the Peers answers. One that never answered an echo request is judged by its handshakes, too: a firewall
    /// may keep echoes from it.
    pub(crate) fn peers(&self, status: &DeviceStatus, keys: &BTreeMap<String, Key>) -> BTreeMap<String, Liveness> {
        let mut answers: BTreeMap<&str, Vec<State>> = BTreeMap::new();
        for (probe, id) in &self.ids {
            if let Probe::Peer(name, _) = probe {
                answers.entry(name).or_default().extend(self.prober.state(*id));
            }
        }
        let handshake = |name: &str| {
            let peer = status.peers.iter().find(|p| Some(&p.peer.public_key) == keys.get(name))?;
            SystemTime::now().duration_since(peer.last_handshake?).ok()
        };
        answers.into_iter().map(|(name, answers)| (name.to_owned(), judge(&answers, handshake(name)))).collect()
    }

    /// The nodes that do not answer.
    pub(crate) fn silent_nodes(&self) -> BTreeSet<String> {
        let silent = |id: &u64| self.prober.state(*id).is_some_and(|s| s.answering == Some(false));
        let nodes = self.ids.iter().filter(|(_, id)| silent(id)).filter_map(|(probe, _)| match probe {
            Probe::Node(name, _) => Some(name.clone()),
            Probe::Peer(..) => None,
        });
        nodes.collect()
    }
}

fn address(probe: &Probe) -> IpAddr {
    match probe {
        Probe::Peer(_, address) | Probe::Node(_, address) => *address,
    }
}

/// `handshake` is how long ago the last one was.
fn judge(answers: &[State], handshake: Option<Duration>) -> Liveness {
    let is = |answering: bool| answers.iter().any(|state| state.answering == Some(answering));
    let has_answered = answers.iter().any(|state| state.last_reply.is_some());
    let has_handshakes = handshake.is_some_and(|age| age < SESSION);
    if is(true) || (!has_answered && has_handshakes) {
        Liveness::Alive
    } else if is(false) {
        Liveness::Dead
    } else {
        Liveness::Unknown
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_answers_lives_and_who_never_did_is_judged_by_handshakes() {
        let state = |answering, has_answered: bool| State {
            answering,
            last_reply: has_answered.then(Instant::now),
            ..State::default()
        };
        let (unknown, silent, lost) = (state(None, false), state(Some(false), false), state(Some(false), true));
        let answers = state(Some(true), true);
        let (fresh, old) = (Some(Duration::from_secs(179)), Some(Duration::from_secs(180)));
        for (answers, handshake, liveness) in [
            (vec![answers], None, Liveness::Alive),
            (vec![lost, answers, silent], old, Liveness::Alive),
            (vec![unknown], fresh, Liveness::Alive),
            (vec![unknown], old, Liveness::Unknown),
            (vec![unknown, unknown], None, Liveness::Unknown),
            // A firewall may keep echoes from it.
            (vec![silent, unknown], fresh, Liveness::Alive),
            // Sending them began a handshake, and nobody took part in it.
            (vec![silent, unknown], old, Liveness::Dead),
            (vec![silent], None, Liveness::Dead),
            (vec![lost, unknown], fresh, Liveness::Dead),
            (vec![lost, silent], fresh, Liveness::Dead),
        ] {
            assert_eq!(judge(&answers, handshake), liveness, "{answers:?}, {handshake:?}");
        }
    }
}
