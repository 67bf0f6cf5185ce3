//! Elements of sets and maps, changed in one transaction over netlink (linux/netfilter/nf_tables.h).
//!
//! Starting `nft` takes some 15 ms; most changes of a big table are a few elements, which the kernel takes in well under
//! one.

use std::io;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};
use rtnetlink::sys::{
    AsyncSocket, AsyncSocketExt, SocketAddr as NetlinkAddr, TokioSocket, protocols::NETLINK_NETFILTER,
};
use tombolo_net::nft::{Data, ElementChange};

use crate::error::HostError;

const NLMSG_ERROR: u16 = 2;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFPROTO_INET: u8 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_GOTO: i32 = -4;
const NF_DROP: i32 = 0;
/// nft's own: a comment in an element's user data is a kind, a length and a text with a zero at its end.
const COMMENT: u8 = 0;
const NLA_F_NESTED: u16 = 0x8000;
/// The elements of one message; an attribute holds less than 64 KiB.
const MESSAGE: usize = 32 << 10;
/// What one transaction may hold: it goes to the kernel as one datagram, for which the socket has some 200 KiB.
const BATCH: usize = 96 << 10;
const HEADER: usize = 16;

/// A socket to the kernel's nftables, in the network namespace in which it was opened.
///
/// It is kept: closing one waits for all that the kernel still has to free of earlier transactions.
pub struct ElementSocket {
    socket: TokioSocket,
    sequence: u32,
}

impl ElementSocket {
    /// Opens a socket.
    ///
    /// # Errors
    /// The process may not have netlink sockets.
    pub fn open() -> Result<Self, HostError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind_auto()?;
            // Without this an error echoes the whole message.
            socket.socket_mut().set_cap_ack(true)?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(HostError::Connect)
    }

    /// Makes the changes in this table of family `inet`, all of them or none. Gives false, and makes none, when they are
    /// too many for one transaction: then a script of `nft` is the way.
    ///
    /// # Errors
    /// What the kernel refuses: a set or a chain that is not there, an element that is there already, or not there.
    pub async fn apply(&mut self, table: &str, changes: &[ElementChange<'_>]) -> Result<bool, HostError> {
        if changes.is_empty() {
            return Ok(true);
        }
        let first = self.sequence.wrapping_add(1);
        let (batch, last) = batch(table, changes, first);
        self.sequence = last.wrapping_add(1);
        if batch.len() > BATCH {
            return Ok(false);
        }
        let what = || HostError::io(format!("change elements of the nftables table {table}"));
        self.socket.send_to(&batch, &NetlinkAddr::new(0, 0)).await.map_err(what())?;
        self.answer(first, last).await.map_err(what())?;
        Ok(true)
    }

    /// Waits for the answer to message `last`, which comes after those to all before it.
    async fn answer(&mut self, first: u32, last: u32) -> io::Result<()> {
        let mut refusal = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full().await?;
            for (sequence, code) in answers(&datagram) {
                // Those to earlier transactions have been given up.
                if sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                if code != 0 && refusal.is_none() {
                    refusal = Some(io::Error::from_raw_os_error(-code));
                }
                if sequence == last {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }
}

/// Sequence number and error code of each answer.
fn answers(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    let mut answers = Vec::new();
    while bytes.len() >= HEADER {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
        let (Some(length), Some(sequence)) = (word(0).map(u32::from_ne_bytes), word(8).map(u32::from_ne_bytes)) else {
            break;
        };
        let length = length as usize;
        if length < HEADER {
            break;
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        if let (NLMSG_ERROR, Some(code)) = (kind, word(HEADER)) {
            answers.push((sequence, i32::from_ne_bytes(code)));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

/// The transaction, whose messages are numbered from `first`, and the number of its last one with elements, which asks
/// for an answer.
fn batch(table: &str, changes: &[ElementChange<'_>], first: u32) -> (Vec<u8>, u32) {
    let mut bytes = Vec::new();
    let mut sequence = first;
    frame(&mut bytes, NFNL_MSG_BATCH_BEGIN, 0, sequence, 0, NFNL_SUBSYS_NFTABLES);
    let mut rest = changes;
    while let Some(one) = rest.first() {
        let mut elements = Vec::new();
        let mut count = 0;
        for change in rest.iter().take_while(|change| change.set == one.set && change.is_added == one.is_added) {
            let element = element(change);
            if count > 0 && elements.len() + element.len() > MESSAGE {
                break;
            }
            attribute(&mut elements, NFTA_LIST_ELEM | NLA_F_NESTED, &element);
            count += 1;
        }
        rest = &rest[count..];
        let mut body = Vec::new();
        attribute(&mut body, NFTA_SET_ELEM_LIST_TABLE, &text(table));
        attribute(&mut body, NFTA_SET_ELEM_LIST_SET, &text(one.set));
        attribute(&mut body, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, &elements);
        let (kind, flags) = if one.is_added { (NFT_MSG_NEWSETELEM, NLM_F_CREATE) } else { (NFT_MSG_DELSETELEM, 0) };
        let flags = if rest.is_empty() { flags | NLM_F_ACK } else { flags };
        sequence = sequence.wrapping_add(1);
        let start = bytes.len();
        frame(&mut bytes, NFNL_SUBSYS_NFTABLES << 8 | kind, flags, sequence, NFPROTO_INET, 0);
        bytes.extend(body);
        let length = (bytes.len() - start) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
    frame(&mut bytes, NFNL_MSG_BATCH_END, 0, sequence.wrapping_add(1), 0, NFNL_SUBSYS_NFTABLES);
    (bytes, sequence)
}

/// `struct nlmsghdr` and `struct nfgenmsg`.
fn frame(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) {
    bytes.extend(20u32.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
}

fn element(change: &ElementChange<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    attribute(&mut bytes, NFTA_SET_ELEM_KEY | NLA_F_NESTED, &value(&change.key));
    if let Some(data) = &change.data {
        attribute(&mut bytes, NFTA_SET_ELEM_DATA | NLA_F_NESTED, &encoded(data));
    }
    if let Some(comment) = &change.comment {
        let text = text(comment);
        if let Ok(length) = u8::try_from(text.len()) {
            attribute(&mut bytes, NFTA_SET_ELEM_USERDATA, &[&[COMMENT, length][..], &text].concat());
        }
    }
    bytes
}

fn encoded(data: &Data<'_>) -> Vec<u8> {
    let verdict = |code: i32, chain: Option<&str>| {
        let mut verdict = Vec::new();
        attribute(&mut verdict, NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            attribute(&mut verdict, NFTA_VERDICT_CHAIN, &text(chain));
        }
        let mut bytes = Vec::new();
        attribute(&mut bytes, NFTA_DATA_VERDICT | NLA_F_NESTED, &verdict);
        bytes
    };
    match data {
        Data::Value(bytes) => value(bytes),
        Data::Goto(chain) => verdict(NFT_GOTO, Some(chain)),
        Data::Drop => verdict(NF_DROP, None),
    }
}

fn value(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    attribute(&mut whole, NFTA_DATA_VALUE, bytes);
    whole
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Length and kind (two bytes each), value, padded to four bytes.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn change(set: &str, is_added: bool) -> ElementChange<'_> {
        let data = is_added.then(|| Data::Value(vec![7; 8]));
        ElementChange { set, is_added, key: vec![1; 16], data, comment: None }
    }

    /// Kind, flags and length of each message.
    fn messages(mut bytes: &[u8]) -> Vec<(u16, u16, usize)> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
            let half = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
            messages.push((half(4), half(6), length));
            bytes = &bytes[length..];
        }
        messages
    }

    #[test]
    fn a_transaction_has_a_message_a_set_and_direction_and_asks_for_one_answer() {
        let changes = [change("a", false), change("a", true), change("a", true), change("b", true)];
        let (bytes, last) = batch("t", &changes, 5);
        let kinds: Vec<(u16, bool)> =
            messages(&bytes).iter().map(|(kind, flags, _)| (*kind, flags & NLM_F_ACK != 0)).collect();
        let (new, gone) =
            (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELSETELEM);
        assert_eq!(
            kinds,
            [(NFNL_MSG_BATCH_BEGIN, false), (gone, false), (new, false), (new, true), (NFNL_MSG_BATCH_END, false)]
        );
        assert_eq!(last, 8);
    }

    #[test]
    fn no_message_outgrows_what_an_attribute_can_hold() {
        let changes = vec![change("a", true); 5000];
        let (bytes, _) = batch("t", &changes, 0);
        let messages = messages(&bytes);
        assert!(messages.len() > 3);
        assert!(messages.iter().all(|(_, _, length)| *length < usize::from(u16::MAX)));
        assert!(bytes.len() > BATCH);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = answers(&bytes);
        }
    }
}
