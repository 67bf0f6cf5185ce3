//! Packets of eight flows, most of which go on as they should: joined and cut again they are what they were.
//!
//! A record begins with a byte that says which flow (the lower three bits) and what is done to its next packet (see
//! [`packet`]), and one with the bytes of payload: for the latter four flows eight times as many.

#![no_main]

#[allow(dead_code)]
#[path = "../../crates/offload/tests/offload/naive.rs"]
mod naive;
#[path = "../../crates/offload/tests/offload/same.rs"]
mod same;

use libfuzzer_sys::fuzz_target;
use naive::{Spec, filler};
use tombolo_offload::Limits;

fuzz_target!(|bytes: &[u8]| {
    let mut flows: Vec<Spec> = (0..8)
        .map(|i| Spec { v6: i & 1 != 0, tcp: i & 2 == 0, ports: (1000 + (i >> 2), 53), ..Spec::default() })
        .collect();
    let Some((limits, mut rest)) = bytes.split_first() else { return };
    let mut packets = Vec::new();
    while let Some((record, after)) = rest.split_first_chunk::<2>()
        && packets.len() < 150
    {
        rest = after;
        packets.push(packet(&mut flows[usize::from(record[0] & 7)], *record, &mut rest));
    }
    let writes = same::joined(Limits { tcp: limits & 1 == 0, udp: limits & 2 == 0 }, &packets);
    same::assert_same(&same::without_ids(&packets), &same::without_ids(&same::parted(&writes)));
});

/// The flow's next packet; what a change needs is taken from `rest`.
fn packet(flow: &mut Spec, [what, len]: [u8; 2], rest: &mut &[u8]) -> Vec<u8> {
    let mut take = || {
        let Some((first, after)) = rest.split_first() else { return 0 };
        *rest = after;
        *first
    };
    let scale = if what & 4 == 0 { 1 } else { 8 };
    let mut spec = Spec { payload: filler(usize::from(len) * scale, flow.sequence.into()), ..flow.clone() };
    let mut kept = spec.clone();
    let mut xor = None;
    match what >> 3 {
        0..16 => {}
        16 => spec.flags ^= take(),
        17 => spec.tos ^= take(),
        18 => spec.sequence = spec.sequence.wrapping_add(u32::from(take())),
        19 => spec.id = spec.id.wrapping_add(u16::from(take())),
        // From here on the flow's packets have one identification.
        20 => kept.id = kept.id.wrapping_sub(1),
        21 => (spec.df, kept.df) = (!spec.df, !spec.df),
        22 => spec.unsummed = true,
        23 => spec.ip_options = vec![1, 0, 1, 4, 0, 0, 0, 0],
        24 => (spec.window, spec.urgent) = (u16::from(take()), u16::from(take())),
        25 => spec.options = filler(usize::from(take() % 11) * 4, 1),
        26 => kept.options = filler(usize::from(take() % 11) * 4, 1),
        27 => spec.payload.push(take()),
        // Any bytes.
        28 => return (0..len).map(|_| take()).collect(),
        // Any byte, which the sums then don't cover.
        _ => xor = Some((usize::from(take()), take())),
    }
    let mut bytes = spec.bytes();
    if let Some((at, with)) = xor
        && let Some(byte) = bytes.get_mut(at)
    {
        *byte ^= with;
    }
    let sent = spec.payload.len() as u32;
    *flow =
        Spec { sequence: kept.sequence.wrapping_add(sent), id: kept.id.wrapping_add(1), payload: Vec::new(), ..kept };
    bytes
}
