//! Who answers: echo requests to Peers that share an address with others, and to nodes that lead the location.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::sync::watch;
use tombolo_host::HostError;
use tombolo_host::probe::{Prober, Settings, State, Target};
use tombolo_mesh::Peer;
use tombolo_mesh::claims::Liveness;
use tombolo_mesh::plan::Probe;
use tombolo_net::wireguard::DeviceStatus;

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
    started: SystemTime,
    /// The networks that an agent before this one found silent.
    silent_before: BTreeSet<IpNet>,
}

impl Watchers {
    /// # Errors
    /// No raw sockets may be opened.
    pub(crate) fn new(interface: &str) -> Result<Self, HostError> {
        let (prober, interface) = (Prober::new(SETTINGS)?, interface.to_owned());
        Ok(Self {
            prober,
            interface,
            probes: BTreeSet::new(),
            ids: BTreeMap::new(),
            next_id: 0,
            started: SystemTime::now(),
            silent_before: BTreeSet::new(),
        })
    }

    /// What an agent before this one said to be silent, counts until the Peer is heard of.
    pub(crate) fn believe(&mut self, silent: &BTreeSet<IpNet>) {
        self.silent_before.clone_from(silent);
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
    pub(crate) fn peers(&self, status: &DeviceStatus, peers: &BTreeMap<String, Peer>) -> BTreeMap<String, Liveness> {
        let mut asked: BTreeMap<&str, Vec<State>> = BTreeMap::new();
        for (probe, id) in &self.ids {
            if let Probe::Peer(name, _) = probe {
                asked.entry(name).or_default().extend(self.prober.state(*id));
            }
        }
        let mut liveness = BTreeMap::new();
        for (name, peer) in peers {
            let was_silent = peer.allowed_ips.iter().any(|net| self.silent_before.contains(&net.trunc()));
            let answers = asked.remove(name.as_str());
            if answers.is_none() && !was_silent {
                continue;
            }
            let answers = answers.unwrap_or_default();
            let in_status = status.peers.iter().find(|p| p.peer.public_key == peer.public_key);
            let has_session = in_status
                .and_then(|p| p.last_handshake)
                .is_some_and(|at| at.elapsed().is_ok_and(|age| age < SESSION) && (at >= self.started || !was_silent));
            let is_unknown = answers.iter().all(|state| state.answering.is_none());
            liveness.insert(name.clone(), judge(&answers, has_session, was_silent && is_unknown));
        }
        liveness
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

/// `has_session` says whether there was a handshake lately, `was_silent` whether nothing else is known but that.
fn judge(answers: &[State], has_session: bool, was_silent: bool) -> Liveness {
    let is = |answering: bool| answers.iter().any(|state| state.answering == Some(answering));
    let has_answered = answers.iter().any(|state| state.last_reply.is_some());
    if is(true) || (!has_answered && has_session) {
        Liveness::Alive
    } else if is(false) || was_silent {
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
        for (answers, has_session, liveness) in [
            (vec![answers], false, Liveness::Alive),
            (vec![lost, answers, silent], false, Liveness::Alive),
            (vec![unknown], true, Liveness::Alive),
            (vec![unknown], false, Liveness::Unknown),
            (vec![unknown, unknown], false, Liveness::Unknown),
            // A firewall may keep echoes from it.
            (vec![silent, unknown], true, Liveness::Alive),
            // Sending them began a handshake, and nobody took part in it.
            (vec![silent, unknown], false, Liveness::Dead),
            (vec![silent], false, Liveness::Dead),
            (vec![lost, unknown], true, Liveness::Dead),
            (vec![lost, silent], true, Liveness::Dead),
        ] {
            assert_eq!(judge(&answers, has_session, false), liveness, "{answers:?}, {has_session}");
        }
        // After a restart of the agent, until the Peer is heard of.
        assert_eq!(judge(&[], false, true), Liveness::Dead);
        assert_eq!(judge(&[unknown], false, true), Liveness::Dead);
        assert_eq!(judge(&[unknown], true, true), Liveness::Alive);
        assert_eq!(judge(&[answers], false, true), Liveness::Alive);
    }
}
