//! The few BGP messages (RFC 4271, section 4) that the load is made of.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::{Context, bail, ensure};

use crate::work::{Work, network};

/// The reflector's AS and the clients'.
pub const ASN: u16 = 64512;
/// Seconds; keepalives go out well within.
const HOLD_TIME: u16 = 90;
const HEADER: usize = 19;
const LARGEST: usize = 4096;

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;

/// Appends a message.
pub fn push(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend([0xff; 16]);
    out.extend(((HEADER + body.len()) as u16).to_be_bytes());
    out.push(kind);
    out.extend(body);
}

/// An OPEN with multiprotocol IPv4 unicast (RFC 4760) and four-octet AS numbers (RFC 6793).
pub fn open(id: Ipv4Addr) -> Vec<u8> {
    let asn = ASN.to_be_bytes();
    let mut body = vec![4];
    body.extend(asn);
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(id.octets());
    let capabilities = [1, 4, 0, 1, 0, 1, 65, 4, 0, 0, asn[0], asn[1]];
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    let mut out = Vec::new();
    push(&mut out, OPEN, &body);
    out
}

/// A sender's UPDATEs: each path in as few messages as it fits into.
pub fn announcements(work: &Work, sender: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for path in 0..work.paths() {
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4];
        attributes.extend(work.address(sender).octets());
        attributes.extend([0x80, 4, 4]);
        attributes.extend(path.to_be_bytes());
        attributes.extend([0x40, 5, 4, 0, 0, 0, 100]);
        let mut head = vec![0, 0];
        head.extend((attributes.len() as u16).to_be_bytes());
        head.extend(attributes);
        for part in parts(work.path(sender, path), LARGEST - HEADER - head.len()) {
            let mut body = head.clone();
            push_networks(&mut body, part);
            push(&mut out, UPDATE, &body);
        }
    }
    out
}

/// UPDATEs that withdraw everything that a sender announced.
pub fn withdrawals(work: &Work, sender: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts(work.owned(sender), LARGEST - HEADER - 4) {
        let mut body = (part.len() as u16 * 4).to_be_bytes().to_vec();
        push_networks(&mut body, part);
        body.extend([0, 0]);
        push(&mut out, UPDATE, &body);
    }
    out
}

/// Splits prefixes, at four bytes each, into what fits into `room` bytes.
fn parts(all: Range<u32>, room: usize) -> impl Iterator<Item = Range<u32>> {
    let most = room / 4;
    all.clone().step_by(most).map(move |start| start..all.end.min(start + most as u32))
}

fn push_networks(body: &mut Vec<u8>, indices: Range<u32>) {
    for index in indices {
        body.push(24);
        body.extend(&network(index).to_be_bytes()[..3]);
    }
}

/// The first message in `bytes`: its kind, its body, and how long it is in all; nothing while it is not all there.
pub fn first(bytes: &[u8]) -> anyhow::Result<Option<(u8, &[u8], usize)>> {
    if bytes.len() < HEADER {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    ensure!((HEADER..=LARGEST).contains(&length), "a message of {length} bytes");
    Ok((bytes.len() >= length).then(|| (bytes[18], &bytes[HEADER..length], length)))
}

/// What an UPDATE says, of IPv4 unicast.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update<'a> {
    /// Withdrawn prefixes, as on the wire: of the message itself, and of MP_UNREACH_NLRI.
    pub withdrawn: [&'a [u8]; 2],
    /// Announced prefixes, as on the wire: of the message itself, and of MP_REACH_NLRI.
    pub announced: [&'a [u8]; 2],
    /// NEXT_HOP.
    pub next_hop: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// ORIGINATOR_ID (RFC 4456, section 8).
    pub originator: Option<u32>,
    /// Whether there is a CLUSTER_LIST (RFC 4456, section 8).
    pub cluster_list: bool,
}

/// Reads an UPDATE's body.
pub fn update(body: &[u8]) -> anyhow::Result<Update<'_>> {
    let short = "an UPDATE that is too short for what it says of itself";
    let (withdrawn, rest) = counted(body).context(short)?;
    let (mut attributes, announced) = counted(rest).context(short)?;
    let mut update = Update { withdrawn: [withdrawn, &[]], announced: [announced, &[]], ..Update::default() };
    while let [flags, kind, rest @ ..] = attributes {
        let (value, rest) = if flags & 0x10 != 0 {
            counted(rest).context(short)?
        } else {
            let (&length, rest) = rest.split_first().context(short)?;
            rest.split_at_checked(length.into()).context(short)?
        };
        match (kind, value) {
            (3, _) => update.next_hop = number(value),
            (4, _) => update.med = number(value),
            (9, _) => update.originator = number(value),
            (10, _) => update.cluster_list = true,
            (14, [0, 1, 1, 4, a, b, c, d, _reserved, networks @ ..]) => {
                update.next_hop = Some(u32::from_be_bytes([*a, *b, *c, *d]));
                update.announced[1] = networks;
            }
            (15, [0, 1, 1, networks @ ..]) => update.withdrawn[1] = networks,
            _ => {}
        }
        attributes = rest;
    }
    ensure!(attributes.is_empty(), short);
    Ok(update)
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Walks prefixes as they are on the wire. All of ours are /24: any other is an error.
pub fn networks(mut bytes: &[u8], mut each: impl FnMut(u32) -> anyhow::Result<()>) -> anyhow::Result<()> {
    while let [length, rest @ ..] = bytes {
        let (24, [a, b, c, rest @ ..]) = (length, rest) else {
            bail!("a prefix of {length} bits, and all that were sent have 24");
        };
        each(u32::from_be_bytes([*a, *b, *c, 0]))?;
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::work::index;

    fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((kind, body, length)) = first(bytes).unwrap() {
            all.push((kind, body.to_vec()));
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty());
        all
    }

    #[test]
    fn announcements_are_read_as_they_were_made() {
        let work = Work { sessions: 2, senders: 2, prefixes: 2500, per_path: 1200 };
        let (mut seen, mut paths) = (Vec::new(), Vec::new());
        for (kind, body) in messages(&announcements(&work, 1)) {
            assert_eq!(kind, UPDATE);
            let update = update(&body).unwrap();
            assert_eq!(update.next_hop, Some(work.address(1).into()));
            paths.push(update.med.unwrap());
            networks(update.announced[0], |network| {
                seen.push(index(network).unwrap());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(seen, work.owned(1).collect::<Vec<_>>());
        assert_eq!(paths, [0, 0, 1, 1, 2]);
    }

    #[test]
    fn withdrawals_are_read_as_they_were_made() {
        let work = Work { sessions: 2, senders: 1, prefixes: 2500, per_path: 10 };
        let mut seen = Vec::new();
        for (_, body) in messages(&withdrawals(&work, 0)) {
            let update = update(&body).unwrap();
            assert!(update.announced.iter().all(|networks| networks.is_empty()));
            networks(update.withdrawn[0], |network| {
                seen.push(index(network).unwrap());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(seen, work.owned(0).collect::<Vec<_>>());
    }

    #[test]
    fn multiprotocol_attributes_say_the_same() {
        let reach = [0x80, 14, 13, 0, 1, 1, 4, 198, 18, 1, 1, 0, 24, 1, 0, 7];
        let unreach = [0x90, 15, 0, 7, 0, 1, 1, 24, 1, 0, 9];
        let mut body = vec![0, 0, 0, (reach.len() + unreach.len()) as u8];
        body.extend(reach);
        body.extend(unreach);
        let update = update(&body).unwrap();
        assert_eq!(update.next_hop, Some(u32::from_be_bytes([198, 18, 1, 1])));
        assert_eq!((update.announced[1], update.withdrawn[1]), (&[24, 1, 0, 7][..], &[24, 1, 0, 9][..]));
    }

    #[test]
    fn cut_off_and_foreign_things_are_errors() {
        assert!(update(&[0, 9, 0]).is_err());
        assert!(update(&[0, 0, 0, 3, 0x40, 3, 4]).is_err());
        assert!(update(&[0, 0, 0, 1, 0x40]).is_err());
        assert!(networks(&[16, 1, 0], |_| Ok(())).is_err());
        assert!(networks(&[24, 1, 0], |_| Ok(())).is_err());
        assert!(first(&[0xff; 19]).is_err());
        assert!(first(&open(Ipv4Addr::LOCALHOST)[..20]).unwrap().is_none());
    }
}
