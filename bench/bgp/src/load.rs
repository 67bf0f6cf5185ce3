//! The run: all clients in one thread, on one epoll, so that the second core is the reflector's.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::ensure;
use mio::{Events, Poll};
use serde::{Deserialize, Serialize};

use crate::message;
use crate::session::{Health, Session};
use crate::usage::Process;
use crate::work::Work;

/// A third of the hold time that the OPEN offers, less some.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
/// After how long a client that was turned away tries again.
const RETRY: Duration = Duration::from_millis(100);
/// How often is looked whether a client has to try again.
const LOOK: Duration = Duration::from_millis(100);
/// How long the reflector may still say something wrong after it has said all that is right.
const SETTLE: Duration = Duration::from_millis(300);
/// Holds the longest message and much of what a socket has to give.
const BUFFER: usize = 1 << 18;

/// What one phase took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Seconds until the last client had all of it.
    pub seconds: f64,
    /// The reflector's CPU seconds in that time.
    pub cpu: f64,
    /// The load's own CPU seconds in that time.
    pub load_cpu: f64,
    /// The reflector's largest resident memory until then, in KiB.
    pub memory: u64,
}

/// What a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Until all sessions were established.
    pub up: Phase,
    /// From the first announcement until every client held what the others announced.
    pub announce: Phase,
    /// From the first withdrawal of everything of client 0 until every other client had it all.
    pub withdraw: Option<Phase>,
    /// From the end of client 0's connection until every other client had the withdrawal of everything of it.
    pub lost: Phase,
    /// Connections that were turned away, or not answered for five seconds, and tried again.
    pub retries: u64,
    /// Announcements of what a client had already.
    pub repeated: u64,
    /// Withdrawals of what a client did not have.
    pub needless: u64,
    /// Prefixes that came back to the client that they were from.
    pub returned: u64,
}

/// Runs the load.
///
/// # Errors
/// A session is lost, a client is told something wrong, or a phase takes longer than `patience`.
pub fn run(
    work: Work,
    target: SocketAddrV4,
    process: Process,
    withdraw: bool,
    patience: Duration,
) -> anyhow::Result<Measured> {
    let start = Mark::now(process)?;
    let mut load = Load::connect(work, target, patience)?;
    let at = load.until("all sessions are established", |s, _| s.established)?;
    let up = start.phase(at)?;
    load.is_up = true;

    let announcements: Vec<_> = (0..work.senders).map(|sender| message::announcements(&work, sender)).collect();
    let start = Mark::now(process)?;
    for (session, messages) in load.sessions.iter_mut().flatten().zip(announcements) {
        session.send(messages)?;
    }
    let announce = load.reach("every client has the others' prefixes", &start, |_| true)?;

    let mut withdrawn = None;
    if withdraw {
        let messages = message::withdrawals(&work, 0);
        let again = message::announcements(&work, 0);
        let start = Mark::now(process)?;
        load.send(0, messages)?;
        withdrawn = Some(load.reach("every client has the withdrawal", &start, |sender| sender != 0)?);
        let start = Mark::now(process)?;
        load.send(0, again)?;
        load.reach("every client has what was announced again", &start, |_| true)?;
    }

    let start = Mark::now(process)?;
    load.sessions[0] = None;
    let lost =
        load.reach("every client has the withdrawal of the lost one's prefixes", &start, |sender| sender != 0)?;
    let sum = |count: fn(&Session) -> u64| load.sessions.iter().flatten().map(count).sum();
    Ok(Measured {
        up,
        announce,
        withdraw: withdrawn,
        lost,
        retries: load.retries,
        repeated: sum(|s| s.table.repeated),
        needless: sum(|s| s.table.needless),
        returned: sum(|s| s.table.returned),
    })
}

/// The time and what was used until then.
struct Mark {
    process: Process,
    at: Instant,
    cpu: Duration,
    load_cpu: Duration,
}

impl Mark {
    fn now(process: Process) -> anyhow::Result<Mark> {
        Ok(Mark { process, at: Instant::now(), cpu: process.cpu()?, load_cpu: own_cpu()? })
    }

    fn phase(&self, end: Instant) -> anyhow::Result<Phase> {
        Ok(Phase {
            seconds: end.duration_since(self.at).as_secs_f64(),
            cpu: self.process.cpu()?.saturating_sub(self.cpu).as_secs_f64(),
            load_cpu: own_cpu()?.saturating_sub(self.load_cpu).as_secs_f64(),
            memory: self.process.peak_memory()?,
        })
    }
}

fn own_cpu() -> anyhow::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// All clients. One that is lost, or waits to try again, has no session.
struct Load {
    work: Work,
    target: SocketAddrV4,
    patience: Duration,
    poll: Poll,
    sessions: Vec<Option<Session>>,
    waiting: Vec<(Instant, u32)>,
    keepalive: Instant,
    buffer: Vec<u8>,
    retries: u64,
    /// All sessions are established, or were.
    is_up: bool,
}

impl Load {
    fn connect(work: Work, target: SocketAddrV4, patience: Duration) -> anyhow::Result<Load> {
        let poll = Poll::new()?;
        let sessions =
            (0..work.sessions).map(|client| Session::connect(&work, client, target, poll.registry()).map(Some));
        let sessions = sessions.collect::<anyhow::Result<_>>()?;
        let keepalive = Instant::now() + KEEPALIVE_EVERY;
        let buffer = vec![0; BUFFER];
        Ok(Load {
            work,
            target,
            patience,
            poll,
            sessions,
            waiting: Vec::new(),
            keepalive,
            buffer,
            retries: 0,
            is_up: false,
        })
    }

    fn send(&mut self, client: usize, messages: Vec<u8>) -> anyhow::Result<()> {
        self.sessions[client].as_mut().map_or(Ok(()), |session| session.send(messages))
    }

    /// Waits until every client holds the prefixes of these senders but its own; a little later, it must hold these
    /// and nothing else.
    fn reach(&mut self, what: &str, start: &Mark, senders: impl Fn(u32) -> bool) -> anyhow::Result<Phase> {
        let work = self.work;
        let all: u32 = (0..work.senders).filter(|&sender| senders(sender)).map(|_| work.prefixes).sum();
        let own: Vec<u32> = (0..work.sessions)
            .map(|client| if client < work.senders && senders(client) { work.prefixes } else { 0 })
            .collect();
        let at = self.until(what, |session, client| session.table.held() == all - own[client])?;
        let phase = start.phase(at)?;
        let settled = Instant::now() + SETTLE;
        while self.turn(settled)? {}
        for (client, session) in self.sessions.iter().enumerate() {
            let Some(session) = session else { continue };
            let exact = session.table.is_exactly(&work, &senders);
            ensure!(exact, "client {client} holds other prefixes than it should, {} in all", session.table.held());
        }
        Ok(phase)
    }

    /// Goes on until this is so of every client, and says when it was.
    fn until(&mut self, what: &str, done: impl Fn(&Session, usize) -> bool) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + self.patience;
        let missing = |load: &Load| {
            let sessions = load.sessions.iter().enumerate();
            let missing = sessions.filter(|(client, session)| session.as_ref().is_some_and(|s| !done(s, *client)));
            missing.count() + load.waiting.len()
        };
        while missing(self) > 0 {
            let clients = self.sessions.len();
            let left = self.turn(deadline)?;
            ensure!(
                left || missing(self) == 0,
                "after {:?} it is not so that {what}: {} of {clients} clients are behind",
                self.patience,
                missing(self)
            );
        }
        Ok(Instant::now())
    }

    /// Waits for something to do, at most until `deadline`, and does it; tells whether that is still to come.
    fn turn(&mut self, deadline: Instant) -> anyhow::Result<bool> {
        let mut next = self.keepalive.min(deadline);
        if !self.is_up {
            next = next.min(Instant::now() + LOOK);
        }
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(next.saturating_duration_since(Instant::now()))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let client = event.token().0;
            let Some(session) = &mut self.sessions[client] else { continue };
            if session.work(&self.work, &mut self.buffer)? == Health::TooEarly {
                self.sessions[client] = None;
                self.waiting.push((Instant::now() + RETRY, client as u32));
            }
        }
        let now = Instant::now();
        if !self.is_up {
            self.try_again(now)?;
        }
        if now >= self.keepalive {
            self.keepalive = now + KEEPALIVE_EVERY;
            for session in self.sessions.iter_mut().flatten().filter(|session| session.established) {
                session.keepalive()?;
            }
        }
        Ok(now < deadline)
    }

    /// Lets clients that were turned away, or were not answered, try again.
    fn try_again(&mut self, now: Instant) -> anyhow::Result<()> {
        let (again, waiting): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|(at, _)| *at <= now);
        self.waiting = waiting;
        let stale = self.sessions.iter().enumerate().filter(|(_, s)| s.as_ref().is_some_and(|s| s.is_stale(now)));
        let stale: Vec<u32> = stale.map(|(client, _)| client as u32).collect();
        for client in again.into_iter().map(|(_, client)| client).chain(stale) {
            self.retries += 1;
            let session = Session::connect(&self.work, client, self.target, self.poll.registry())?;
            self.sessions[client as usize] = Some(session);
        }
        Ok(())
    }
}
