//! The threads that carry traffic, both ways.
//!
//! One of them leads: it waits until there is something to carry and takes it. What is little it carries itself before it
//! waits again, so that a packet's answer finds it awake; with much to carry it first lets another one lead. So one flow
//! is worked on by as many cores as it needs, and a device with little to do is one thread.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pipeline::{Pipeline, lock};
use super::shared::Shared;
use super::sockets::Sockets;
use super::sys::udp::Socket;
use super::{inbound, outbound};

/// From so many bytes on, another thread leads meanwhile: waking it costs as much as some packets.
const MUCH: usize = 16 << 10;

/// What the threads of a device have in common.
pub(super) struct Team {
    /// Who has it leads. It is readable when there are other sockets, or the device is stopped.
    lead: Mutex<PipeReader>,
    outbound: Pipeline,
    inbound: Pipeline,
    size: usize,
}

/// One of the threads.
pub(super) struct Worker {
    shared: Arc<Shared>,
    team: Arc<Team>,
    outbound: outbound::Half,
    inbound: inbound::Half,
}

/// What there is to do.
struct Ready {
    notice: bool,
    tun: bool,
    v4: bool,
    v6: bool,
}

impl Team {
    pub(super) fn new(notices: PipeReader, size: usize) -> Self {
        Self { lead: Mutex::new(notices), outbound: Pipeline::default(), inbound: Pipeline::default(), size }
    }

    /// Whether who has so many bytes to carry goes on leading meanwhile.
    fn leads_on(&self, bytes: usize) -> bool {
        self.size == 1 || bytes < MUCH
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, team: Arc<Team>) -> Self {
        let (outbound, inbound) = (outbound::Half::new(Arc::clone(&shared)), inbound::Half::new(Arc::clone(&shared)));
        Self { shared, team, outbound, inbound }
    }

    /// Works until the device is stopped or the interface is gone.
    pub(super) fn run(mut self) {
        let (team, shared) = (Arc::clone(&self.team), Arc::clone(&self.shared));
        while !shared.is_stopped.load(Ordering::Acquire) {
            if let Err(error) = self.carry(&team) {
                if !shared.is_stopped.load(Ordering::Acquire) {
                    tracing::info!(%error, "the interface is not read any more");
                }
                return;
            }
        }
    }

    /// Waits for something to carry, and carries it.
    fn carry(&mut self, team: &Team) -> io::Result<()> {
        let mut lead = lock(&team.lead);
        let sockets = self.shared.sockets();
        let ready = wait(&self.shared, sockets.as_deref(), &lead)?;
        if self.shared.is_stopped.load(Ordering::Acquire) {
            // The notice stays for the others.
            return Ok(());
        }
        if ready.notice {
            let _ = lead.read(&mut [0; 64])?;
        }
        let mut lead = Some(lead);
        let mut had_some = false;
        for (is_ready, is_v6) in [(ready.v4, false), (ready.v6, true)] {
            let Some(socket) = sockets.as_ref().filter(|_| is_ready).and_then(|sockets| sockets.of(is_v6)) else {
                continue;
            };
            had_some = true;
            let (ticket, bytes) = team.inbound.take(|| self.inbound.receive(socket));
            lead = lead.filter(|_| team.leads_on(bytes));
            self.inbound.open();
            self.inbound.hand_on(&ticket);
            if lead.is_none() {
                return Ok(());
            }
        }
        // What was just handed on may have been answered already.
        if ready.tun || had_some {
            let (ticket, bytes) = team.outbound.take(|| self.outbound.read());
            let bytes = bytes?;
            let lead = lead.filter(|_| team.leads_on(bytes));
            self.outbound.seal();
            self.outbound.hand_on(&ticket);
            drop(lead);
        }
        Ok(())
    }
}

/// Waits until something is ready.
fn wait(shared: &Shared, sockets: Option<&Sockets>, notices: &PipeReader) -> io::Result<Ready> {
    let socket = |is_v6| sockets.and_then(|sockets| sockets.of(is_v6)).map(Socket::as_fd);
    // In the place of a socket that is not there the notices are asked for twice.
    let fds = [
        notices.as_fd(),
        shared.tun.as_fd(),
        socket(false).unwrap_or(notices.as_fd()),
        socket(true).unwrap_or(notices.as_fd()),
    ];
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [notice, tun, v4, v6] = fds.map(|fd| fd.any().unwrap_or(false));
    Ok(Ready { notice, tun, v4, v6 })
}
