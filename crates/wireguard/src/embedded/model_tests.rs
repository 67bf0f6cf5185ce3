#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::uapi::SetPeer;

fn key(n: u8) -> Key {
    Key([n; 32])
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn add(n: u8, ips: &[&str]) -> SetPeer {
    SetPeer { allowed_ips: ips.iter().map(|ip| AllowedIp::Add(net(ip))).collect(), ..SetPeer::new(key(n)) }
}

fn with(peers: Vec<SetPeer>) -> Model {
    Model::default().plan(&Set { peers, ..Set::default() }).0
}

fn peers(peers: Vec<SetPeer>) -> Set {
    Set { peers, ..Set::default() }
}

#[test]
fn an_allowed_ip_moves_to_who_claimed_it_last() {
    let before = with(vec![add(1, &["10.0.0.0/8", "10.1.0.0/16"]), add(2, &[])]);
    let (after, steps) = before.plan(&peers(vec![add(2, &["10.0.0.0/8"])]));
    assert_eq!(after.peers[&key(1)].allowed_ips, [net("10.1.0.0/16")].into());
    assert_eq!(after.peers[&key(2)].allowed_ips, [net("10.0.0.0/8")].into());
    let patch = |ip| Patch { allowed_ips: Some([net(ip)].into()), ..Patch::default() };
    assert_eq!(steps, [Step::Modify(key(1), patch("10.1.0.0/16")), Step::Modify(key(2), patch("10.0.0.0/8"))]);
}

#[test]
fn peers_that_stay_the_same_are_not_touched() {
    let before = with(vec![add(1, &["10.0.0.0/8"]), add(2, &["fd00::/8"])]);
    let again = Set { replace_peers: true, ..peers(vec![add(1, &["10.0.0.0/8"]), add(3, &[])]) };
    let (_, steps) = before.plan(&again);
    assert_eq!(steps, [Step::Remove(key(2)), Step::Add(key(3), PeerModel::default(), None)]);
}

#[test]
fn removed_and_named_again_is_made_anew() {
    let before = with(vec![add(1, &["10.0.0.0/8"])]);
    let remove = SetPeer { remove: true, ..SetPeer::new(key(1)) };
    let (after, steps) = before.plan(&peers(vec![remove, add(1, &[])]));
    assert_eq!(steps, [Step::Remove(key(1)), Step::Add(key(1), PeerModel::default(), None)]);
    assert_eq!(after.peers[&key(1)], PeerModel::default());
}

#[test]
fn update_only_does_not_make_a_peer() {
    let (after, steps) = Model::default().plan(&peers(vec![SetPeer { update_only: true, ..add(1, &["10.0.0.0/8"]) }]));
    assert_eq!((after, steps), (Model::default(), vec![]));
}

#[test]
fn allowed_ips_are_added_replaced_and_taken() {
    let before = with(vec![add(1, &["10.0.0.0/8", "fd00::/8"])]);
    let ips = |set: SetPeer| before.plan(&peers(vec![set])).0.peers[&key(1)].allowed_ips.clone();
    assert_eq!(ips(add(1, &["::/0"])), [net("10.0.0.0/8"), net("fd00::/8"), net("::/0")].into());
    assert_eq!(ips(SetPeer { replace_allowed_ips: true, ..add(1, &["::/0"]) }), [net("::/0")].into());
    let take = SetPeer { allowed_ips: vec![AllowedIp::Remove(net("fd00::/8"))], ..SetPeer::new(key(1)) };
    assert_eq!(ips(take), [net("10.0.0.0/8")].into());
}

#[test]
fn zero_takes_away() {
    let full = SetPeer { preshared_key: Some(key(9)), persistent_keepalive: Some(25), ..SetPeer::new(key(1)) };
    let before = Model::default().plan(&Set { private_key: Some(key(8)), ..peers(vec![full]) }).0;
    let zero = SetPeer { preshared_key: Some(key(0)), persistent_keepalive: Some(0), ..SetPeer::new(key(1)) };
    let (after, steps) = before.plan(&Set { private_key: Some(key(0)), ..peers(vec![zero]) });
    assert_eq!((after.private_key, &after.peers[&key(1)]), (None, &PeerModel::default()));
    let patch = Patch { preshared_key: Some(None), persistent_keepalive: Some(None), ..Patch::default() };
    assert_eq!(steps, [Step::Modify(key(1), patch)]);
}

#[test]
fn the_device_is_not_its_own_peer() {
    let private = keys::generate_private();
    let own = SetPeer::new(keys::public(&private));
    let before = with(vec![own.clone()]);
    assert_eq!(before.peers.len(), 1);
    let (after, steps) = before.plan(&Set { private_key: Some(private), ..Set::default() });
    assert_eq!((after.peers.len(), steps), (0, vec![Step::Remove(own.public_key)]));
    assert_eq!(after.plan(&peers(vec![own])).1, []);
}

#[test]
fn an_endpoint_alone_is_a_change() {
    let before = with(vec![add(1, &["10.0.0.0/8"])]);
    let endpoint = Some("192.0.2.1:1".parse().unwrap());
    let (after, steps) = before.plan(&peers(vec![SetPeer { endpoint, ..SetPeer::new(key(1)) }]));
    assert_eq!(after, before);
    assert_eq!(steps, [Step::Modify(key(1), Patch { endpoint, ..Patch::default() })]);
}

fn set_peer() -> impl Strategy<Value = SetPeer> {
    let ip = (any::<bool>(), 0..6_u8).prop_map(|(add, n)| {
        let net = net(&format!("10.{n}.0.0/16"));
        if add { AllowedIp::Add(net) } else { AllowedIp::Remove(net) }
    });
    (1..5_u8, any::<(bool, bool, bool)>(), prop::collection::vec(ip, 0..4)).prop_map(
        |(n, (remove, update_only, replace_allowed_ips), allowed_ips)| SetPeer {
            remove,
            update_only,
            replace_allowed_ips,
            allowed_ips,
            ..SetPeer::new(key(n))
        },
    )
}

proptest! {
    /// The steps, made one by one as the device makes them, lead to the model; and no address has two owners.
    #[test]
    fn the_steps_lead_to_the_model(
        requests in prop::collection::vec((any::<bool>(), prop::collection::vec(set_peer(), 0..5)), 1..6),
    ) {
        let mut model = Model::default();
        let mut device: BTreeMap<Key, PeerModel> = BTreeMap::new();
        for (replace_peers, peers) in requests {
            let (after, steps) = model.plan(&Set { replace_peers, ..self::peers(peers) });
            for step in steps {
                match step {
                    Step::Remove(key) => prop_assert!(device.remove(&key).is_some()),
                    Step::Add(key, peer, _) => prop_assert!(device.insert(key, peer).is_none()),
                    Step::Modify(key, patch) => {
                        device.get_mut(&key).unwrap().allowed_ips = patch.allowed_ips.unwrap();
                    }
                }
            }
            prop_assert_eq!(&device, &after.peers);
            let all: Vec<&IpNet> = device.values().flat_map(|peer| &peer.allowed_ips).collect();
            let distinct: BTreeSet<&IpNet> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len());
            model = after;
        }
    }
}
