//! The thread that does handshakes and timers.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::pipeline::lock;
use super::shared::{Order, Shared};

/// How often the timers are looked at while there is traffic, which sets timers that are due 10 s later or more.
const ROUND: Duration = Duration::from_secs(1);

/// Does what is ordered and what is due until the device is stopped. Without traffic it sleeps until something is due.
pub(super) fn run(shared: &Shared, orders: &Receiver<Order>) {
    let mut outbox = Outbox::new();
    let mut has_traffic = true;
    let mut round = Instant::now();
    while !shared.is_stopped.load(Ordering::Acquire) {
        let now = Instant::now();
        let due = lock(&shared.engine).next_timeout(now);
        let look = if has_traffic { Some(round + ROUND) } else { None };
        match [due, look].into_iter().flatten().min() {
            Some(at) if at <= now => {
                round = now;
                has_traffic = shared.had_traffic();
                shared.drive(&mut outbox, None, |engine, now| engine.handle_timeout(now));
            }
            at => match wait(orders, at, now) {
                Ok(Order::Look) => has_traffic = true,
                Ok(order) => obey(shared, order, &mut outbox),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            },
        }
    }
}

fn wait(orders: &Receiver<Order>, until: Option<Instant>, now: Instant) -> Result<Order, RecvTimeoutError> {
    match until {
        Some(until) => orders.recv_timeout(until.saturating_duration_since(now)),
        None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

fn obey(shared: &Shared, order: Order, outbox: &mut Outbox) {
    match order {
        Order::Handshake(message, from) => {
            let under_load = shared.take_handshake();
            let result =
                shared.drive(outbox, Some(from), |engine, now| engine.receive(&message, from.to, under_load, now));
            if let Err(reason) = result {
                tracing::debug!(from = %from.to, %reason, "a handshake message was refused");
            }
        }
        Order::Initiate(peer) => shared.drive(outbox, None, |engine, now| engine.initiate(&peer, now)),
        Order::Look => {}
    }
}
