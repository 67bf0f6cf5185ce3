//! What is joined, and what is not.

use tombolo_offload::{Coalescer, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Limits, MAX_TCP_SEGMENTS, VirtioHeader};

use crate::naive::{ACK, CWR, ECE, FIN, PSH, RST, SYN, Spec, URG, filler};
use crate::same::{assert_same, joined, parted};

const ALL: Limits = Limits { tcp: true, udp: true };

fn base(v6: bool, tcp: bool) -> Spec {
    Spec { v6, tcp, payload: filler(100, 1), ..Spec::default() }
}

/// The packet that continues a flow.
fn next(of: &Spec, len: usize) -> Spec {
    Spec {
        sequence: of.sequence.wrapping_add(of.payload.len() as u32),
        id: of.id.wrapping_add(1),
        flags: of.flags & !CWR,
        payload: filler(len, of.sequence.into()),
        ..of.clone()
    }
}

/// Packets of 100 bytes of payload in a row.
fn run(first: Spec, count: usize) -> Vec<Spec> {
    std::iter::successors(Some(first), |last| Some(next(last, 100))).take(count).collect()
}

fn bytes(specs: &[Spec]) -> Vec<Vec<u8>> {
    specs.iter().map(Spec::bytes).collect()
}

/// How many packets are in each write; that they come out as they went in.
fn writes(packets: &[Vec<u8>]) -> Vec<usize> {
    let writes = joined(ALL, packets);
    assert_same(packets, &parted(&writes));
    writes.iter().map(|(header, bytes)| parted(&[(*header, bytes.clone())]).len()).collect()
}

#[test]
fn packets_in_order_make_the_super_packet_that_the_kernel_would() {
    for v6 in [false, true] {
        for tcp in [false, true] {
            let first = base(v6, tcp);
            let mut specs = run(first.clone(), 5);
            specs.push(next(&specs[4], 33));
            specs[5].flags |= PSH;
            let payload = specs.iter().flat_map(|s| s.payload.clone()).collect();
            let whole = Spec { payload, flags: ACK | PSH, ..first };
            let kind = if !tcp {
                GSO_UDP_L4
            } else if v6 {
                GSO_TCPV6
            } else {
                GSO_TCPV4
            };
            assert_eq!(whole.header(100).gso_type, kind);
            assert_eq!(joined(ALL, &bytes(&specs)), [(whole.header(100), whole.partial())]);
        }
    }
}

#[test]
fn one_packet_is_written_as_it_is() {
    for v6 in [false, true] {
        for tcp in [false, true] {
            let packet = base(v6, tcp).bytes();
            assert_eq!(joined(ALL, std::slice::from_ref(&packet)), [(VirtioHeader::NONE, packet)]);
        }
    }
    assert_eq!(joined(ALL, &[]), []);
}

#[test]
fn what_the_tun_does_not_take_is_not_joined() {
    for (tcp, udp) in [(false, false), (true, false), (false, true)] {
        for is_tcp in [false, true] {
            let packets = bytes(&run(base(false, is_tcp), 4));
            let count = joined(Limits { tcp, udp }, &packets).len();
            assert_eq!(count, if if is_tcp { tcp } else { udp } { 1 } else { 4 });
        }
    }
}

#[test]
fn the_second_of_two_ends_the_group_where_it_differs() {
    type Change = fn(&mut Spec);
    // What is changed; joined over IPv4 with TCP, IPv6 with TCP, IPv4 with UDP, IPv6 with UDP.
    let (all, none) = ([true; 4], [false; 4]);
    let udp_only = [false, false, true, true];
    let table: &[(&str, Change, [bool; 4])] = &[
        ("nothing", |_| {}, all),
        ("shorter", |s| s.payload.truncate(9), all),
        ("longer", |s| s.payload.push(9), none),
        ("empty", |s| s.payload.clear(), none),
        ("type of service", |s| s.tos ^= 4, none),
        ("congestion", |s| s.tos ^= 3, none),
        ("time to live", |s| s.ttl -= 1, none),
        ("flow label", |s| s.label += 1, [true, false, true, false]),
        ("may be fragmented", |s| s.df = false, [false, true, false, true]),
        ("identification skips", |s| s.id = s.id.wrapping_add(1), [false, true, false, true]),
        ("identification goes back", |s| s.id = s.id.wrapping_sub(2), [false, true, false, true]),
        ("identification is the same", |s| s.id = s.id.wrapping_sub(1), all),
        ("host", |s| s.host += 1, none),
        ("port", |s| s.ports.1 += 1, none),
        ("a gap", |s| s.sequence = s.sequence.wrapping_add(1), udp_only),
        ("sent again", |s| s.sequence = s.sequence.wrapping_sub(100), udp_only),
        ("acknowledgement", |s| s.acknowledgement += 1, udp_only),
        ("window", |s| s.window -= 1, udp_only),
        ("urgent pointer", |s| s.urgent = 1, udp_only),
        ("timestamp", |s| s.options[7] += 1, udp_only),
        ("fewer options", |s| s.options.truncate(4), udp_only),
        ("more options", |s| s.options.extend([1; 4]), udp_only),
        ("PSH", |s| s.flags |= PSH, all),
        ("FIN", |s| s.flags |= FIN, all),
        ("ECE", |s| s.flags |= ECE, udp_only),
        ("CWR", |s| s.flags |= CWR, udp_only),
        ("SYN", |s| s.flags |= SYN, udp_only),
        ("RST", |s| s.flags |= RST, udp_only),
        ("URG", |s| s.flags |= URG, udp_only),
        ("no ACK", |s| s.flags = 0, udp_only),
        ("no checksum", |s| s.unsummed = true, [true, true, false, false]),
    ];
    for (what, change, expected) in table {
        let kinds = [(false, true), (true, true), (false, false), (true, false)];
        for ((v6, tcp), expected) in kinds.into_iter().zip(expected) {
            let first = base(v6, tcp);
            let mut second = next(&first, 100);
            change(&mut second);
            let count = joined(ALL, &bytes(&[first, second])).len();
            assert_eq!(count == 1, *expected, "{what}, IPv6 {v6}, TCP {tcp}");
        }
    }
}

#[test]
fn what_may_only_be_last_is_last() {
    for flag in [PSH, FIN, PSH | FIN] {
        let mut specs = run(base(false, true), 4);
        specs[1].flags |= flag;
        assert_eq!(writes(&bytes(&specs)), [2, 2], "{flag}");
        specs[1].flags = ACK;
        specs[0].flags |= flag;
        assert_eq!(writes(&bytes(&specs)), [1, 3], "{flag}");
    }
    for tcp in [false, true] {
        let mut specs = run(base(true, tcp), 2);
        specs.push(next(&specs[1], 60));
        specs.push(next(&specs[2], 60));
        specs.push(next(&specs[3], 60));
        assert_eq!(writes(&bytes(&specs)), [3, 2]);
    }
}

#[test]
fn the_window_reduced_is_said_first() {
    let mut first = base(false, true);
    first.flags |= CWR | ECE;
    let specs = run(first, 3);
    let packets = bytes(&specs);
    let joined = joined(ALL, &packets);
    assert_eq!(joined[0].0.gso_type, GSO_TCPV4 | GSO_ECN);
    assert_eq!(writes(&packets), [3]);
}

#[test]
fn a_wrong_checksum_is_passed_on_as_it_is() {
    for v6 in [false, true] {
        for tcp in [false, true] {
            let specs = run(base(v6, tcp), 5);
            for wrong in 0..5 {
                for at in [specs[0].header_len() + 3, specs[0].ip_len() + if tcp { 17 } else { 7 }, 11] {
                    let mut packets = bytes(&specs);
                    if v6 && at == 11 {
                        continue;
                    }
                    packets[wrong][at] ^= 0x55;
                    let expected = match wrong {
                        0 => vec![1, 4],
                        1 => vec![1, 1, 3],
                        2 => vec![2, 1, 2],
                        3 => vec![3, 1, 1],
                        _ => vec![4, 1],
                    };
                    assert_eq!(writes(&packets), expected, "IPv6 {v6}, TCP {tcp}, packet {wrong}, byte {at}");
                }
            }
        }
    }
}

#[test]
fn flows_between_each_other_are_joined_each() {
    let mut packets = Vec::new();
    let flows: Vec<Vec<Spec>> =
        [(false, true), (true, true), (false, false), (true, false)].map(|(v6, tcp)| run(base(v6, tcp), 11)).into();
    for i in 0..11 {
        packets.extend(flows.iter().map(|f| f[i].bytes()));
    }
    assert_eq!(writes(&packets), [11, 11, 11, 11]);
}

#[test]
fn nothing_overtakes_what_belongs_to_no_flow() {
    for tcp in [false, true] {
        let specs = run(base(false, tcp), 4);
        let mut packets = bytes(&specs);
        let fragment = {
            let mut fragment = base(false, false).bytes();
            fragment[6] = 0x20;
            fragment
        };
        packets.insert(2, fragment);
        assert_eq!(writes(&packets), [2, 1, 2]);
        // A ping is in no flow that is joined, and stops none.
        packets[2][9] = 1;
        packets[2][6] = 0;
        assert_eq!(writes(&packets), [4, 1]);
    }
}

#[test]
fn what_differs_closes_the_flow_and_not_the_others() {
    let (a, b) = (run(base(false, true), 4), run(base(true, false), 4));
    let mut pure = a[2].clone();
    pure.payload.clear();
    let packets = bytes(&[
        a[0].clone(),
        b[0].clone(),
        a[1].clone(),
        b[1].clone(),
        pure,
        a[2].clone(),
        b[2].clone(),
        a[3].clone(),
    ]);
    // In the order of their first packets: a0 a1, b0 b1 b2, the empty one, a2 a3.
    assert_eq!(writes(&packets), [2, 3, 1, 2]);
}

#[test]
fn identifications_that_stay_the_same_stay_joined() {
    let mut specs = run(Spec { id: 0, ..base(false, true) }, 6);
    specs.iter_mut().for_each(|s| s.id = 0);
    assert_eq!(joined(ALL, &bytes(&specs)).len(), 1);
    // From staying to counting and back: each change begins a group.
    specs[3].id = 3;
    assert_eq!(joined(ALL, &bytes(&specs)).len(), 3);
    for ids in [[5, 6, 5], [5, 5, 6], [5, 5, 7]] {
        let mut three = specs[..3].to_vec();
        three.iter_mut().zip(ids).for_each(|(spec, id)| spec.id = id);
        assert_eq!(joined(ALL, &bytes(&three)).len(), 2, "{ids:?}");
    }
    specs.iter_mut().for_each(|s| s.df = false);
    assert_eq!(joined(ALL, &bytes(&specs)).len(), 6);
}

#[test]
fn a_group_is_at_most_an_ip_packet_long() {
    for v6 in [false, true] {
        for tcp in [false, true] {
            let mut first = base(v6, tcp);
            first.options = Vec::new();
            let head = first.header_len();
            for (size, last) in [((65535 - head) / 45, 0), ((65535 - head) / 45, 1), (1400, 1400)] {
                first.payload = filler(size, 7);
                let mut specs: Vec<Spec> =
                    std::iter::successors(Some(first.clone()), |l| Some(next(l, size))).take(45).collect();
                let left = 65535 - head - 45 * size;
                assert!(left <= size || size == 1400);
                // Just fills it, is one byte too long for it, or is the 46th of many.
                let len = if size == 1400 { last } else { left + last };
                if len > 0 {
                    specs.push(next(&specs[44], len));
                }
                specs.push(next(specs.last().unwrap(), size));
                let writes = writes(&bytes(&specs));
                assert_eq!(writes.iter().sum::<usize>(), specs.len());
                let whole = size == 1400 || last == 0 && left > 0;
                let most = if whole { 46 } else { 45 };
                assert_eq!(writes[0], most, "IPv6 {v6}, TCP {tcp}, {size} and {len}");
            }
        }
    }
}

#[test]
fn a_group_has_at_most_so_many_segments() {
    let tiny = |tcp| {
        let first = Spec { payload: vec![1], ..base(false, tcp) };
        let specs: Vec<Spec> = std::iter::successors(Some(first), |l| Some(next(l, 1))).take(1100).collect();
        writes(&bytes(&specs))
    };
    assert_eq!(tiny(false)[..3], [64, 64, 64]);
    assert_eq!(tiny(true), [MAX_TCP_SEGMENTS, MAX_TCP_SEGMENTS, 1100 - 2 * MAX_TCP_SEGMENTS]);
}

#[test]
fn more_flows_than_are_remembered_keep_their_order() {
    let flows: Vec<Vec<Spec>> =
        (0..1000).map(|port| run(Spec { ports: (port, 80), ..base(port % 2 == 0, true) }, 3)).collect();
    let packets: Vec<_> = (0..3).flat_map(|i| flows.iter().map(move |f| f[i].bytes())).collect();
    let count = writes(&packets).len();
    assert!((1000..3000).contains(&count), "some are joined, some not: {count}");
}

#[test]
fn a_coalescer_is_good_for_many_batches() {
    let mut arena: Vec<u8> = Vec::new();
    let mut ranges = Vec::new();
    for spec in run(base(false, true), 9) {
        let start = arena.len();
        arena.extend(spec.bytes());
        ranges.push(start..arena.len());
    }
    let mut coalescer = Coalescer::new(ALL);
    for round in 0..3 {
        let mut arena = arena.clone();
        coalescer.begin();
        assert_eq!(coalescer.writes().len(), 0);
        for range in &ranges[round..] {
            coalescer.push(&arena, range.clone());
        }
        coalescer.finish(&mut arena);
        let writes: Vec<_> = coalescer.writes().collect();
        assert_eq!((writes.len(), writes[0].pieces.len()), (1, 9 - round));
        let first = &writes[0].pieces[0];
        assert_eq!(first.start as usize..first.end as usize, ranges[round]);
    }
    coalescer.begin();
    coalescer.finish(&mut arena);
    assert_eq!(coalescer.writes().len(), 0);
}
