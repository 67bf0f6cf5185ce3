//! How long a data message and a handshake take on one core:
//! `cargo run --release -p tombolo-noise --example speed`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tombolo_net::wireguard::Key;
use tombolo_noise::{Engine, Event, Now, OVERHEAD, Session};
use x25519_dalek::{PublicKey, StaticSecret};

/// A packet of a TUN with an MTU of 1420, padded.
const LENGTH: usize = 1424;
const MESSAGES: u64 = 400_000;
/// A batch, as one read of a socket with offloads gives.
const BATCH: usize = 64;
const HANDSHAKES: u32 = 500;

struct End {
    engine: Engine,
    key: Key,
}

fn main() {
    let mut now = Now::system();
    let (mut one, mut other) = (end(now), end(now));
    one.engine.add_peer(other.key, None, None, now);
    other.engine.add_peer(one.key, None, None, now);
    let began = Instant::now();
    let mut sessions = None;
    for _ in 0..HANDSHAKES {
        now = Now { instant: now.instant + Duration::from_secs(6), wall: now.wall + Duration::from_secs(6) };
        sessions = handshake(&mut one, &mut other, now);
    }
    let each = began.elapsed() / HANDSHAKES;
    println!("handshake, both ends: {each:?}");
    let Some((sealing, opening)) = sessions else {
        eprintln!("speed: there was no handshake, so there is nothing to measure");
        std::process::exit(1);
    };
    cipher_alone();
    measure(&sealing, &opening);
}

/// What no protocol can be faster than.
fn cipher_alone() {
    let Ok(key) = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).map(LessSafeKey::new) else { return };
    let mut buffers = vec![vec![0; LENGTH]; BATCH];
    let began = Instant::now();
    for counter in 0..MESSAGES {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        let buffer = &mut buffers[counter as usize % BATCH];
        let nonce = Nonce::assume_unique_for_key(nonce);
        std::hint::black_box(key.seal_in_place_separate_tag(nonce, Aad::empty(), buffer).is_ok());
    }
    report("the cipher alone", began.elapsed(), MESSAGES);
}

fn report(what: &str, time: Duration, messages: u64) {
    let each = time.as_nanos() as f64 / messages as f64;
    println!("{what}, {LENGTH} bytes: {each:.0} ns, {:.2} GB/s", LENGTH as f64 / each);
}

fn measure(sealing: &Session, opening: &Session) {
    let mut buffers = vec![vec![0; LENGTH + OVERHEAD]; BATCH];
    let (mut seal, mut open) = (Duration::ZERO, Duration::ZERO);
    let mut messages = 0;
    while messages < MESSAGES {
        let Some(counters) = sealing.reserve(BATCH as u64) else { break };
        let began = Instant::now();
        for (counter, buffer) in counters.zip(&mut buffers) {
            sealing.seal(counter, buffer);
        }
        seal += began.elapsed();
        let began = Instant::now();
        let opened = buffers.iter_mut().map(|buffer| opening.open(buffer));
        let counters: Vec<u64> = opened.filter_map(|opened| opened.ok().map(|opened| opened.counter)).collect();
        let mut window = opening.window();
        let accepted = counters.into_iter().filter(|counter| window.accept(*counter)).count();
        drop(window);
        open += began.elapsed();
        assert_eq!(accepted, BATCH, "what was sealed is opened");
        messages += accepted as u64;
    }
    report("seal", seal, messages);
    report("open and take into the window", open, messages);
}

fn end(now: Now) -> End {
    let private = StaticSecret::random();
    let mut engine = Engine::new(now);
    engine.set_private_key(Some(Key(private.to_bytes())), now);
    End { engine, key: Key(PublicKey::from(&private).to_bytes()) }
}

/// The sessions of the two ends.
fn handshake(one: &mut End, other: &mut End, now: Now) -> Option<(Arc<Session>, Arc<Session>)> {
    let address = SocketAddr::from(([192, 0, 2, 1], 51820));
    one.engine.initiate(&other.key, now);
    let (initiation, _) = events(&mut one.engine);
    other.engine.receive(&initiation?, address, false, now).ok()?;
    let (response, opening) = events(&mut other.engine);
    one.engine.receive(&response?, address, false, now).ok()?;
    let (_, sealing) = events(&mut one.engine);
    let (sealing, opening) = (sealing?, opening?);
    other.engine.confirm(&opening, now);
    while other.engine.poll().is_some() {}
    Some((sealing, opening))
}

fn events(engine: &mut Engine) -> (Option<Vec<u8>>, Option<Arc<Session>>) {
    let (mut sent, mut established) = (None, None);
    while let Some(event) = engine.poll() {
        match event {
            Event::Send { message, .. } | Event::Reply { message, .. } => sent = Some(message),
            Event::Established { session, .. } => established = Some(session),
            _ => {}
        }
    }
    (sent, established)
}
