//! Streams of several flows, joined and cut again: the same packets, in an order that changes no flow's.

use proptest::prelude::*;
use tombolo_offload::{Coalescer, GSO_NONE, Limits, VirtioHeader};

use crate::naive::{CWR, ECE, FIN, PSH, RST, SYN, Spec, URG, cut, filler};

/// What is written to the TUN for these packets.
pub fn joined(limits: Limits, packets: &[Vec<u8>]) -> Vec<(VirtioHeader, Vec<u8>)> {
    let mut coalescer = Coalescer::new(limits);
    // A batch before must leave nothing behind.
    batch(&mut coalescer, &packets[packets.len() / 2..]);
    batch(&mut coalescer, packets)
}

fn batch(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VirtioHeader, Vec<u8>)> {
    // Between the packets lies what isn't theirs, as after decryption in place.
    let (mut arena, mut ranges) = (vec![0xaa; 16], Vec::new());
    for packet in packets {
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend(packet);
        arena.extend([0xaa; 19]);
    }
    coalescer.begin();
    for range in ranges {
        coalescer.push(&arena, range);
    }
    coalescer.finish(&mut arena);
    let write = |write: tombolo_offload::Write<'_>| {
        let pieces = write.pieces.iter().map(|p| &arena[p.start as usize..p.end as usize]);
        let bytes: Vec<u8> = pieces.flatten().copied().collect();
        assert_eq!(write.header == VirtioHeader::NONE, write.pieces.len() == 1);
        (write.header, bytes)
    };
    coalescer.writes().map(write).collect()
}

/// Cuts all again, as the kernel would.
pub fn parted(writes: &[(VirtioHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
    let one = |(header, bytes): &(VirtioHeader, Vec<u8>)| {
        assert!(bytes.len() <= 65535);
        let packets = cut(*header, bytes);
        assert!(header.gso_type == GSO_NONE || packets.len() > 1);
        packets
    };
    writes.iter().flat_map(one).collect()
}

/// Protocol, addresses and ports of a packet without options that is no fragment.
fn flow(packet: &[u8]) -> Option<Vec<u8>> {
    let whole = tombolo_offload::ip_len(packet) == Some(packet.len());
    match packet.first()? >> 4 {
        4 if whole && packet[0] == 0x45 && packet[6] & 0xbf == 0 && packet[7] == 0 => {
            let ports = if matches!(packet[9], 6 | 17) { packet.get(20..24)? } else { &[] };
            Some([&[4, packet[9]], &packet[12..20], ports].concat())
        }
        6 if whole && matches!(packet[6], 6 | 17) => {
            Some([&[6, packet[6]], &packet[8..40], packet.get(40..44)?].concat())
        }
        6 if whole && packet[6] == 58 => Some([&[6, 58], &packet[8..40]].concat()),
        _ => None,
    }
}

/// Without what joining may change: the identification of packets that can't be fragmented.
fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] == 0x45 && packet[6] == 0x40 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// In each flow the same packets in the same order, what is in none between the same.
pub fn assert_same(input: &[Vec<u8>], output: &[Vec<u8>]) {
    assert_eq!(input.len(), output.len());
    let mut flows: Vec<_> = input.iter().map(|p| flow(p)).collect();
    flows.sort();
    flows.dedup();
    for it in flows {
        let of = |packets: &[Vec<u8>]| -> Vec<Vec<u8>> {
            packets.iter().filter(|p| flow(p).is_none_or(|f| Some(f) == it)).cloned().collect()
        };
        assert_eq!(of(input), of(output), "flow {it:?}");
    }
}

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
            let without_id = |packets: &[Vec<u8>]| -> Vec<Vec<u8>> {
                packets.iter().map(|p| if p.len() < 20 { p.clone() } else { without_id(p.clone()) }).collect()
            };
            assert_same(&without_id(&packets), &without_id(&output));
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
