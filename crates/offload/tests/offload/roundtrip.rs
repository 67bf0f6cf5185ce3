//! Streams of several flows, joined and cut again: the same packets, in an order that changes no flow's.

use proptest::prelude::*;
use tombolo_offload::Limits;

use crate::naive::{CWR, ECE, FIN, PSH, RST, SYN, Spec, URG, filler};
use crate::same::{assert_same, joined, parted, without_ids};

/// How a packet differs from one that continues its flow.
#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    Shorter(usize),
    Longer(usize),
    Empty,
    Flags(u8),
    Gap,
    Again,
    Tos(u8),
    Ttl,
    Label,
    Fragmentable,
    IdSkips,
    Acknowledges,
    Window,
    Urgent,
    Option,
    NoOptions,
    IpOptions,
    Unsummed,
    BadSum,
    OtherZero,
    BadIpSum,
    Fragment,
    Reserved,
    Tail,
    UdpLength,
    Icmp,
    Garbage,
}

fn change() -> impl Strategy<Value = Change> {
    use Change::*;
    let odd = prop::sample::select(vec![
        Empty,
        Gap,
        Again,
        Ttl,
        Label,
        Fragmentable,
        IdSkips,
        Acknowledges,
        Window,
        Urgent,
        Option,
        NoOptions,
        IpOptions,
        Unsummed,
        BadSum,
        OtherZero,
        BadIpSum,
        Fragment,
        Reserved,
        Tail,
        UdpLength,
        Icmp,
        Garbage,
    ]);
    let flags = prop::sample::select(vec![FIN, SYN, RST, PSH, PSH | FIN, URG, ECE, CWR, CWR | PSH, ECE | CWR]);
    prop_oneof![
        60 => Just(None),
        4 => (1_usize..100).prop_map(Shorter),
        2 => (1_usize..100).prop_map(Longer),
        6 => flags.prop_map(Flags),
        2 => (0_u8..8).prop_map(Tos),
        8 => odd,
    ]
}

/// A flow as it goes on.
#[derive(Clone, Debug)]
struct Flow {
    spec: Spec,
    size: usize,
    same_ids: bool,
}

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    let flow = (any::<(bool, bool, bool, bool)>(), 1_u8..3, 0_u16..2, 100_usize..400, any::<(u16, u32, u8)>());
    let flow = flow.prop_map(|((v6, tcp, df, same_ids), host, port, size, (id, sequence, tos))| Flow {
        spec: Spec {
            v6,
            tcp,
            df: df || same_ids,
            host,
            ports: (1000 + port, 2000),
            id,
            sequence,
            tos,
            ..Spec::default()
        },
        size,
        same_ids,
    });
    prop::collection::vec(flow, 1..6)
}

fn packet(flow: &mut Flow, change: Change, n: usize) -> Vec<u8> {
    let mut spec = flow.spec.clone();
    let payload = |len| filler(len, n as u64);
    spec.payload = payload(flow.size);
    let kept = spec.clone();
    match change {
        Change::Shorter(by) => spec.payload = payload(flow.size - by.min(flow.size - 1)),
        Change::Longer(by) => spec.payload = payload(flow.size + by),
        Change::Empty => spec.payload = Vec::new(),
        Change::Flags(flags) => spec.flags |= flags,
        Change::Gap => spec.sequence = spec.sequence.wrapping_add(1),
        Change::Again => spec.sequence = spec.sequence.wrapping_sub(flow.size as u32),
        Change::Tos(bits) => spec.tos ^= bits,
        Change::Ttl => spec.ttl = 3,
        Change::Label => spec.label = 9,
        Change::Fragmentable => spec.df = false,
        Change::IdSkips => spec.id = spec.id.wrapping_add(1),
        Change::Acknowledges => spec.acknowledgement += 1,
        Change::Window => spec.window += 1,
        Change::Urgent => spec.urgent = 1,
        Change::Option => spec.options[11] = 99,
        Change::NoOptions => spec.options = Vec::new(),
        Change::IpOptions => spec.ip_options = vec![1, 0, 1, 4, 0, 0, 0, 0],
        Change::Unsummed => spec.unsummed = true,
        _ => {}
    }
    let mut bytes = spec.bytes();
    let ip = spec.ip_len();
    let amend = |bytes: &mut Vec<u8>| {
        if !spec.v6 {
            bytes[10..12].fill(0);
            let sum = crate::naive::checksum(&bytes[..20]);
            bytes[10..12].copy_from_slice(&sum);
        }
    };
    match change {
        Change::BadSum => *bytes.last_mut().unwrap() ^= 1,
        Change::OtherZero => {
            // A TCP sum of zero in the form that a sum never comes out as.
            let field = ip + if spec.tcp { 16 } else { 6 };
            spec.payload[..2].fill(0);
            let plain = spec.bytes();
            spec.payload[..2].copy_from_slice(&plain[field..field + 2]);
            bytes = spec.bytes();
            bytes[field..field + 2].fill(if spec.tcp { 0xff } else { 0 });
        }
        Change::BadIpSum if !spec.v6 => bytes[10] ^= 1,
        Change::Fragment if spec.v6 => bytes[6] = 44,
        Change::Fragment => {
            bytes[6] = 0x20;
            amend(&mut bytes);
        }
        Change::Reserved if !spec.v6 => {
            bytes[6] |= 0x80;
            amend(&mut bytes);
        }
        Change::Tail => bytes.extend([0; 3]),
        Change::UdpLength if !spec.tcp => bytes[ip + 5] ^= 4,
        Change::Icmp if spec.v6 => bytes[6] = 58,
        Change::Icmp => {
            bytes[9] = 1;
            amend(&mut bytes);
        }
        Change::Garbage => bytes = filler(n % 90, n as u64),
        _ => {}
    }
    let sent = if matches!(change, Change::Icmp | Change::Garbage) { 0 } else { spec.payload.len() };
    flow.spec = Spec {
        sequence: spec.sequence.wrapping_add(sent as u32),
        acknowledgement: spec.acknowledgement,
        id: if flow.same_ids { kept.id } else { spec.id.wrapping_add(1) },
        payload: Vec::new(),
        ..kept
    };
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_goes_in_comes_out(
        mut flows in flows(),
        steps in prop::collection::vec((0_usize..6, 1_usize..6, change()), 1..60),
        (tcp, udp) in prop_oneof![6 => Just((true, true)), 1 => any::<(bool, bool)>()],
    ) {
        let mut packets = Vec::new();
        for (of, burst, change) in steps {
            let of = of % flows.len();
            for i in 0..burst {
                let change = if i + 1 == burst { change } else { Change::None };
                packets.push(packet(&mut flows[of], change, packets.len()));
            }
        }
        let writes = joined(Limits { tcp, udp }, &packets);
        let output = parted(&writes);
        if flows.iter().any(|f| f.same_ids) {
            assert_same(&without_ids(&packets), &without_ids(&output));
        } else {
            assert_same(&packets, &output);
        }
    }

    #[test]
    fn flows_in_order_are_joined_whole(
        mut flows in flows(),
        order in prop::collection::vec(0_usize..6, 1..80),
    ) {
        // Flows that happen to be alike would be one.
        let key = |f: &Flow| (f.spec.v6, f.spec.tcp, f.spec.host, f.spec.ports);
        flows.sort_by_key(key);
        flows.dedup_by_key(|f| key(f));
        let mut used = vec![false; flows.len()];
        let mut packets = Vec::new();
        for of in order {
            let of = of % flows.len();
            used[of] = true;
            packets.push(packet(&mut flows[of], Change::None, packets.len()));
        }
        let writes = joined(Limits { tcp: true, udp: true }, &packets);
        if packets.len() <= 64 {
            prop_assert_eq!(writes.len(), used.iter().filter(|u| **u).count());
        }
        prop_assert_eq!(parted(&writes).len(), packets.len());
    }
}
