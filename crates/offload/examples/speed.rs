//! How long a packet takes to be cut and to be joined: `cargo run --release -p tombolo-offload --example speed`.
//!
//! Prints nanoseconds a packet (the best of several rounds), copy and checksum included.

use std::hint::black_box;
use std::time::Instant;

use tombolo_offload::checksum::{self, sum, sum_portable};
use tombolo_offload::{Coalescer, F_NEEDS_CSUM, GSO_TCPV4, GSO_UDP_L4, Limits, Segmenter, VirtioHeader};

/// Bytes of TCP payload in a packet of 1420 with a timestamp option.
const TCP_PAYLOAD: usize = 1420 - 52;
const UDP_PAYLOAD: usize = 1300;
const BATCH: usize = 45;

fn main() {
    let data: Vec<u8> = (0..65536_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let packet = &data[3..1423];
    measure("sum of 1420 bytes, any x86-64", 1, || black_box(sum_portable(black_box(packet))));
    measure("sum of 1420 bytes", 1, || black_box(sum(black_box(packet))));
    let mut out = vec![0; 65536];
    measure("copy of 45 times 1420 bytes", BATCH, || {
        for i in 0..BATCH {
            out[..1420].copy_from_slice(black_box(&data[i * 1420..][..1420]));
            black_box(&mut out);
        }
    });

    let tcp = tcp(BATCH * TCP_PAYLOAD, 1, 0);
    let header = VirtioHeader {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 52,
        gso_size: TCP_PAYLOAD as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    split("split TCP", header, &tcp);
    let udp = udp(BATCH * UDP_PAYLOAD);
    let header =
        VirtioHeader { gso_type: GSO_UDP_L4, gso_size: UDP_PAYLOAD as u16, hdr_len: 28, csum_offset: 6, ..header };
    split("split UDP", header, &udp);
    for flows in [1, 4, 45] {
        join(flows);
    }
}

fn split(what: &str, header: VirtioHeader, packet: &[u8]) {
    let mut out = vec![0; 65536];
    measure(&format!("{what} into {BATCH}"), BATCH, || {
        let segmenter = Segmenter::new(header, black_box(packet)).expect("a packet that is right");
        assert_eq!(segmenter.count(), BATCH);
        for i in 0..BATCH {
            // Each to a place of its own, as a device that encrypts them in place would have it.
            let out = &mut out[i * 1424..][..segmenter.segment_len(i)];
            segmenter.write(i, out);
        }
        black_box(&mut out);
    });
}

fn join(flows: usize) {
    let mut arena = Vec::new();
    let mut ranges = Vec::new();
    for i in 0..BATCH {
        let start = arena.len();
        arena.extend(tcp(TCP_PAYLOAD, (i % flows) as u16, (i / flows) as u32));
        ranges.push(start..arena.len());
    }
    let clean = arena.clone();
    let mut coalescer = Coalescer::new(Limits { tcp: true, udp: true });
    measure(&format!("join {BATCH} of {flows} flows"), BATCH, || {
        coalescer.begin();
        for range in &ranges {
            coalescer.push(black_box(&arena), range.clone());
        }
        coalescer.finish(&mut arena);
        assert_eq!(coalescer.writes().len(), flows);
        // The heads that were amended: made as before for the next round.
        for range in &ranges[..flows] {
            arena[range.start..][..52].copy_from_slice(&clean[range.start..][..52]);
        }
    });
}

fn measure<T>(what: &str, packets: usize, mut work: impl FnMut() -> T) {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let rounds = 100_000 / packets;
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(work());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (rounds * packets) as f64);
    }
    println!("{what:40} {best:7.1} ns a packet");
}

fn v4(protocol: u8, len: usize, id: u16) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6] = 0x40;
    packet[8..10].copy_from_slice(&[64, protocol]);
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum::complement(sum(&packet));
    packet[10..12].copy_from_slice(&sum);
    packet
}

/// A packet of a flow, number `n` in it. One that is to be cut has its sum completed by whoever cuts it; then only the
/// speed is of interest.
fn tcp(payload: usize, flow: u16, n: u32) -> Vec<u8> {
    let mut packet = v4(6, 52 + payload, n as u16);
    packet.resize(52 + payload, 0xa5);
    packet[20..52].fill(0);
    packet[20..22].copy_from_slice(&(40000 + flow).to_be_bytes());
    packet[22..24].copy_from_slice(&5201_u16.to_be_bytes());
    packet[24..28].copy_from_slice(&(n * payload as u32).to_be_bytes());
    packet[32..34].copy_from_slice(&[0x80, 0x10]);
    packet[40..44].copy_from_slice(&[1, 1, 8, 10]);
    let len = (packet.len() - 20) as u16;
    let sum = sum(&packet[20..]) + checksum::pseudo_header(&packet[12..20], 6, len);
    packet[36..38].copy_from_slice(&checksum::complement(sum));
    packet
}

fn udp(payload: usize) -> Vec<u8> {
    let mut packet = v4(17, 28 + payload, 0);
    packet.extend([0x9c, 0x40, 0x14, 0x51]);
    packet.extend(((8 + payload) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.resize(28 + payload, 0xa5);
    packet
}
