//! Work that is taken in order, done by several threads at once, and handed on in the order in which it was taken.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// One stream of work.
#[derive(Default)]
pub(super) struct Pipeline {
    taken: Mutex<u64>,
    handed_on: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Default)]
struct Turn {
    next: u64,
    waiting: usize,
}

/// A piece of work that was taken. When it is dropped it is the next one's turn: nothing stops where one fails.
pub(super) struct Ticket<'a> {
    pipeline: &'a Pipeline,
    number: u64,
}

impl Pipeline {
    /// Takes the next piece: one thread at a time.
    pub(super) fn take<T>(&self, take: impl FnOnce() -> T) -> (Ticket<'_>, T) {
        let mut taken = lock(&self.taken);
        let piece = take();
        let number = *taken;
        *taken += 1;
        (Ticket { pipeline: self, number }, piece)
    }
}

impl Ticket<'_> {
    /// Waits until all that was taken before has been handed on.
    pub(super) fn wait(&self) {
        let mut turn = lock(&self.pipeline.handed_on);
        while turn.next != self.number {
            turn.waiting += 1;
            turn = self.pipeline.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
            turn.waiting -= 1;
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.wait();
        let mut turn = lock(&self.pipeline.handed_on);
        turn.next += 1;
        // To wake nobody is a system call, too.
        if turn.waiting > 0 {
            self.pipeline.changed.notify_all();
        }
    }
}

/// What a thread that panicked has left is whole: no guard is held while code of others runs.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn pieces_are_handed_on_as_they_were_taken() {
        let (pipeline, source, seen) = (Pipeline::default(), AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (pipeline, source, seen) = (&pipeline, &source, &seen);
                scope.spawn(move || {
                    loop {
                        let (ticket, piece) = pipeline.take(|| source.fetch_add(1, Ordering::Relaxed));
                        if piece >= 2000 {
                            break;
                        }
                        if piece % 4 == worker {
                            std::thread::yield_now();
                        }
                        // One that is not handed on does not hold up the others.
                        if piece % 7 != 0 {
                            ticket.wait();
                            seen.lock().unwrap().push(piece);
                        }
                    }
                });
            }
        });
        let expected: Vec<usize> = (0..2000).filter(|piece| piece % 7 != 0).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
