//! Word from the kernel that links, addresses, routes or rules of the namespace changed (multicast groups, rtnetlink(7)).

use std::pin::Pin;
use std::task::{Context, Poll};

use rtnetlink::MulticastGroup;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::HostError;

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// A stream with an item whenever something changed since the last item was taken, however much it was. It says that,
/// not what: whoever hears it looks. Our own changes are heard too.
#[derive(Debug)]
pub struct Watch {
    changed: mpsc::Receiver<()>,
    reader: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start() -> Result<Self, HostError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(HostError::Connect)?;
        let groups = GROUPS.iter().fold(0, |set, group| set | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups)).map_err(HostError::Connect)?;
        let (sender, changed) = mpsc::channel(1);
        Ok(Self { changed, reader: tokio::spawn(read(socket, sender)) })
    }

    /// Waits for a change; nothing when the kernel's side was closed.
    pub async fn next(&mut self) -> Option<()> {
        self.changed.recv().await
    }
}

impl futures::Stream for Watch {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.changed.poll_recv(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The messages are not read into: that one came is the news. One place in the channel makes many into one.
async fn read(socket: TokioSocket, sender: mpsc::Sender<()>) {
    let mut buffer = Vec::with_capacity(1 << 16);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer).await {
            Ok(()) => {}
            // Messages were lost, so there were some.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::warn!(%error, "the kernel no longer says when links and routes change");
                return;
            }
        }
        if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
            return;
        }
    }
}
