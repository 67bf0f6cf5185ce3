//! The UDP sockets of a device: one for each family, on the same port.

use std::io;

use super::sys::udp::{Socket, Transmit};

/// Bytes of each direction of a socket: some 10 ms of 3 Gbit/s, and room for what arrives while a core is busy.
pub(super) const BUFFER: usize = 4 << 20;

/// The sockets. IPv6 may be switched off, IPv4 too; not both.
pub(super) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    port: u16,
}

impl Sockets {
    /// Listens on the port; 0 lets the kernel choose.
    pub(super) fn open(port: u16, fwmark: u32) -> io::Result<Self> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::try_open(port, fwmark) {
                // The port that is free for IPv4 may be taken for IPv6.
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempts < 20 => {}
                result => return result,
            }
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn of(&self, is_v6: bool) -> Option<&Socket> {
        if is_v6 { self.v6.as_ref() } else { self.v4.as_ref() }
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    pub(super) fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        self.each().try_for_each(|socket| socket.set_fwmark(fwmark))
    }

    /// Sends each to where it goes; in order for one family. Like a network, it loses what can't be sent.
    pub(super) fn send(&self, arena: &[u8], transmits: &[Transmit]) {
        let mut rest = transmits;
        while let Some(first) = rest.first() {
            let is_v6 = first.endpoint.to.is_ipv6();
            let same = rest.iter().take_while(|transmit| transmit.endpoint.to.is_ipv6() == is_v6).count();
            let (now, later) = rest.split_at(same);
            rest = later;
            let Some(socket) = self.of(is_v6) else { continue };
            if let Err(error) = socket.send(arena, now) {
                tracing::debug!(%error, to = %first.endpoint.to, "encrypted packets could not be sent");
            }
        }
    }

    fn try_open(port: u16, fwmark: u32) -> io::Result<Self> {
        let open = |is_v6, port| match Socket::bind(is_v6, port, fwmark, BUFFER) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => Ok(None),
            result => result.map(Some),
        };
        let v4 = open(false, port)?;
        let port = v4.as_ref().map_or(Ok(port), Socket::port)?;
        let v6 = open(true, port)?;
        let port = v6.as_ref().map_or(Ok(port), Socket::port)?;
        if v4.is_none() && v6.is_none() {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        let sockets = Self { v4, v6, port };
        if let Some(given) = sockets.each().next().and_then(|socket| socket.buffer().ok()).filter(|b| *b < BUFFER) {
            tracing::warn!(
                given,
                wanted = BUFFER,
                "the UDP receive buffer is smaller than wanted: bursts may be lost; raise net.core.rmem_max"
            );
        }
        Ok(sockets)
    }
}
