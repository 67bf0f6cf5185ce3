//! SPDY frames.
//!
//! ```text
//! control: |1|   version 3   |   type 16   |      data: |0|       stream 31       |
//!          | flags 8 |      length 24      |            | flags 8 |    length 24   |
//!          |             data              |            |          data            |
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// The most bytes of a control frame that are read; ours are of some hundred.
const LARGEST_CONTROL: usize = 64 << 10;

/// One frame. Header blocks are as they are on the wire, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Opens a stream.
    SynStream {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    /// Accepts a stream.
    SynReply {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    /// Ends a stream for both sides.
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    /// Ends the connection; no stream after `last` is answered.
    GoAway {
        last: u32,
        status: u32,
    },
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// SETTINGS, HEADERS, WINDOW_UPDATE and whatever else there is.
    Other(u16),
}

/// Bytes that are no SPDY/3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a control frame of SPDY version {0}; only version 3 is spoken here")]
    Version(u16),
    #[error("a frame of type {kind} is {length} bytes long, which it cannot be")]
    Length { kind: u16, length: usize },
}

impl Frame {
    /// Takes one frame from the front of `buffer`; `None` if there isn't a whole one yet.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some((mut head, _)) = buffer.split_at_checked(8) else { return Ok(None) };
        let first = head.get_u32();
        let (flags, length) = (head.get_u8(), head.get_uint(3) as usize);
        let fin = flags & FIN != 0;
        if first >> 31 == 0 {
            return Ok(body(buffer, length).map(|bytes| Frame::Data { stream: first, fin, bytes }));
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let error = FrameError::Length { kind, length };
        let least = match kind {
            SYN_STREAM => 10,
            RST_STREAM | GOAWAY => 8,
            SYN_REPLY | PING => 4,
            _ => 0,
        };
        if length < least || length > LARGEST_CONTROL {
            return Err(error);
        }
        let Some(mut bytes) = body(buffer, length) else { return Ok(None) };
        let frame = match kind {
            SYN_STREAM => {
                let stream = bytes.get_u32() & STREAM;
                // The associated stream, priority and slot.
                bytes.advance(6);
                Frame::SynStream { stream, fin, headers: bytes }
            }
            SYN_REPLY => Frame::SynReply { stream: bytes.get_u32() & STREAM, fin, headers: bytes },
            RST_STREAM => Frame::RstStream { stream: bytes.get_u32() & STREAM, status: bytes.get_u32() },
            PING => Frame::Ping(bytes.get_u32()),
            GOAWAY => Frame::GoAway { last: bytes.get_u32() & STREAM, status: bytes.get_u32() },
            other => Frame::Other(other),
        };
        Ok(Some(frame))
    }

    /// The bytes on the wire. Frames that are only read have none.
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Frame::SynStream { stream, fin, headers } => {
                let mut body = BytesMut::new();
                body.put_u32(*stream);
                body.put_bytes(0, 6);
                body.put_slice(headers);
                control(SYN_STREAM, *fin, &body)
            }
            Frame::SynReply { stream, fin, headers } => {
                let mut body = BytesMut::new();
                body.put_u32(*stream);
                body.put_slice(headers);
                control(SYN_REPLY, *fin, &body)
            }
            Frame::RstStream { stream, status } => control(RST_STREAM, false, &pair(*stream, *status)),
            Frame::Ping(id) => control(PING, false, &id.to_be_bytes()),
            Frame::GoAway { last, status } => control(GOAWAY, false, &pair(*last, *status)),
            Frame::Data { stream, fin, bytes } => {
                let mut frame = BytesMut::with_capacity(8 + bytes.len());
                frame.put_u32(*stream & STREAM);
                frame.put_u8(if *fin { FIN } else { 0 });
                frame.put_uint(bytes.len() as u64, 3);
                frame.put_slice(bytes);
                frame.freeze()
            }
            Frame::Other(_) => Bytes::new(),
        }
    }
}

const STREAM: u32 = 0x7fff_ffff;

fn body(buffer: &mut BytesMut, length: usize) -> Option<Bytes> {
    if buffer.len() < 8 + length {
        return None;
    }
    buffer.advance(8);
    Some(buffer.split_to(length).freeze())
}

fn control(kind: u16, fin: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u8(if fin { FIN } else { 0 });
    frame.put_uint(body.len() as u64, 3);
    frame.put_slice(body);
    frame.freeze()
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    (u64::from(first) << 32 | u64::from(second)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_as_the_draft_draws_them() {
        let table: [(Frame, &[u8]); 6] = [
            (Frame::Ping(7), &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]),
            (Frame::GoAway { last: 5, status: 1 }, &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1]),
            (Frame::RstStream { stream: 3, status: 5 }, &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]),
            (
                Frame::SynReply { stream: 1, fin: false, headers: Bytes::from_static(b"h") },
                &[0x80, 3, 0, 2, 0, 0, 0, 5, 0, 0, 0, 1, b'h'],
            ),
            (
                Frame::SynStream { stream: 1, fin: true, headers: Bytes::from_static(b"h") },
                &[0x80, 3, 0, 1, 1, 0, 0, 11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, b'h'],
            ),
            (
                Frame::Data { stream: 9, fin: true, bytes: Bytes::from_static(b"ab") },
                &[0, 0, 0, 9, 1, 0, 0, 2, b'a', b'b'],
            ),
        ];
        for (frame, bytes) in table {
            assert_eq!(&frame.encode()[..], bytes);
            let mut buffer = BytesMut::from(bytes);
            buffer.put_u8(0xff);
            assert_eq!(Frame::take(&mut buffer).unwrap(), Some(frame));
            assert_eq!(&buffer[..], [0xff]);
            for length in 0..bytes.len() {
                assert_eq!(Frame::take(&mut BytesMut::from(&bytes[..length])), Ok(None));
            }
        }
        let settings: &[u8] = &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0];
        assert_eq!(Frame::take(&mut BytesMut::from(settings)), Ok(Some(Frame::Other(4))));
        let old: &[u8] = &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7];
        assert_eq!(Frame::take(&mut BytesMut::from(old)), Err(FrameError::Version(2)));
        let short: &[u8] = &[0x80, 3, 0, 6, 0, 0, 0, 3, 0, 0, 7];
        assert_eq!(Frame::take(&mut BytesMut::from(short)), Err(FrameError::Length { kind: 6, length: 3 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), control: bool) {
            let mut buffer = BytesMut::from(&bytes[..]);
            if control && buffer.len() > 6 {
                buffer[..2].copy_from_slice(&[0x80, 3]);
                buffer[4..7].fill(0);
            }
            while let Ok(Some(_)) = Frame::take(&mut buffer) {}
        }
    }
}
