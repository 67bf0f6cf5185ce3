//! Nanoseconds a packet: `ring`, ours, and ours two at a time.
//!
//! ```sh
//! cargo run --release -p tombolo-aead --example speed
//! ```

use std::hint::black_box;
use std::time::Instant;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tombolo_aead::{Key, is_wide};

/// Packets of one measurement.
const PACKETS: u64 = 100_000;

/// Measurements; the least is printed, as other work only adds to it.
const ROUNDS: usize = 9;

fn main() {
    println!("AVX-512: {}", if is_wide() { "yes" } else { "no: all is ring's" });
    let Ok(ring) = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).map(LessSafeKey::new) else { return };
    let ours = Key::new(&[7; 32]);
    println!("bytes   ring   ours  two at a time");
    for length in [1424, 1344, 576, 96] {
        let (mut one, mut other) = (vec![1; length], vec![2; length]);
        let by_ring = least(|| {
            for counter in 0..PACKETS {
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&counter.to_le_bytes());
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = ring.seal_in_place_separate_tag(nonce, Aad::empty(), &mut one);
                black_box(tag.is_ok());
            }
        });
        let alone = least(|| {
            for counter in 0..PACKETS {
                black_box(ours.seal(counter, &mut one).is_ok());
            }
        });
        let paired = least(|| {
            for counter in (0..PACKETS).step_by(2) {
                black_box(ours.seal_two([counter, counter + 1], [&mut one, &mut other]).is_ok());
            }
        });
        println!("{length:5}  {by_ring:5.0}  {alone:5.0}  {paired:5.0}");
    }
}

fn least(mut work: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos() as f64 / PACKETS as f64
    });
    times.fold(f64::INFINITY, f64::min)
}
