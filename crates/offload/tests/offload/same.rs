//! Whether what was joined and cut again is what it was. Used by the fuzzer, too.

use tombolo_offload::{Coalescer, GSO_NONE, Limits, VirtioHeader};

use crate::naive::cut;

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
        let bytes = pieces.collect::<Vec<_>>().concat();
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

/// The packets without what joining may change: the identification of those that can't be fragmented.
pub fn without_ids(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let without = |packet: &Vec<u8>| {
        let mut packet = packet.clone();
        if packet.len() >= 20 && packet[0] == 0x45 && packet[6] == 0x40 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        packet
    };
    packets.iter().map(without).collect()
}

/// In each flow the same packets in the same order, what is in none between the same.
pub fn assert_same(input: &[Vec<u8>], output: &[Vec<u8>]) {
    assert_eq!(input.len(), output.len());
    let with_flow = |packets: &'_ [Vec<u8>]| packets.iter().map(|p| flow(p)).collect::<Vec<_>>();
    let (before, after) = (with_flow(input), with_flow(output));
    let mut flows = before.clone();
    flows.sort();
    flows.dedup();
    for it in &flows {
        let of = |flow: &Option<Vec<u8>>| flow.is_none() || flow == it;
        let input = input.iter().zip(&before).filter(|(_, flow)| of(flow)).map(|(packet, _)| packet);
        let output = output.iter().zip(&after).filter(|(_, flow)| of(flow)).map(|(packet, _)| packet);
        assert!(input.eq(output), "flow {it:?}: what came out is not what went in");
    }
}
