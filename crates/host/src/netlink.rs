//! Requests to the kernel over one rtnetlink socket (rtnetlink(7)), in the network namespace in which it was opened.

use std::io;

use futures::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::AsyncSocket;

use crate::error::{HostError, Refusal};

/// Set on an answer when the table changed while it was being listed.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The extended acknowledgement's text (`NLMSGERR_ATTR_MSG` of linux/netlink.h).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// How often a listing that was disturbed is repeated before its last result is taken.
const LISTING_ATTEMPTS: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct Netlink(Handle);

impl Netlink {
    pub(crate) fn connect() -> Result<Self, HostError> {
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(HostError::Connect)?;
        let socket = connection.socket_mut().socket_mut();
        // Without these two the kernel still works, it only explains less.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Asks for a change and waits for the acknowledgement.
    pub(crate) async fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).await.map(|_| ())
    }

    /// Asks for one object.
    pub(crate) async fn get(&self, message: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, Refusal> {
        Ok(self.exchange(message, NLM_F_REQUEST).await?.0.pop())
    }

    /// Lists a table, again when it changed under way.
    pub(crate) async fn list(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let mut attempt = 1;
        loop {
            let (objects, disturbed) = self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP).await?;
            if !disturbed || attempt == LISTING_ATTEMPTS {
                return Ok(objects);
            }
            attempt += 1;
        }
    }

    async fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), Refusal> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        let mut answers = self.0.clone().request(request).map_err(|_| closed())?;
        let (mut objects, mut disturbed) = (Vec::new(), false);
        while let Some(answer) = answers.next().await {
            disturbed |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(object) => objects.push(object),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(refusal(&error)),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(Refusal { error: io::Error::from_raw_os_error(-done.code), words: None });
                }
                NetlinkPayload::Overrun(_) => disturbed = true,
                _ => {}
            }
        }
        Ok((objects, disturbed))
    }
}

fn closed() -> Refusal {
    Refusal { error: io::ErrorKind::NotConnected.into(), words: Some("the netlink connection was closed".into()) }
}

fn refusal(error: &ErrorMessage) -> Refusal {
    Refusal { error: error.to_io(), words: words(&error.header) }
}

/// The kernel's text in the attributes that follow the echoed 16-byte header (`NETLINK_CAP_ACK`).
fn words(echo: &[u8]) -> Option<String> {
    let mut rest = echo.get(16..)?;
    while let [l0, l1, k0, k1, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == NLMSGERR_ATTR_MSG {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()).filter(|t| !t.is_empty());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_words_are_found_behind_other_attributes() {
        let mut echo = vec![0; 16];
        echo.extend(8u16.to_ne_bytes());
        echo.extend(2u16.to_ne_bytes());
        echo.extend([9; 4]);
        echo.extend(10u16.to_ne_bytes());
        echo.extend(1u16.to_ne_bytes());
        echo.extend(b"no ip\0");
        assert_eq!(words(&echo).unwrap(), "no ip");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(echo in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = words(&echo);
        }
    }
}
