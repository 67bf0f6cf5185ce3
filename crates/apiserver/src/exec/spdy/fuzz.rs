//! The entry point for fuzzing: what a client sends over SPDY, frame by frame.

use bytes::{Bytes, BytesMut};

use super::frame::Frame;
use super::headers::{Reader, pairs};

/// Reads `bytes` as frames with their header blocks, as one compressed block, and as the pairs of a block. Panics where
/// a law does not hold; anything else is fine.
///
/// A cargo-fuzz target is `fuzz_target!(|data: &[u8]| tombolo_apiserver::exec::fuzz(data));`.
pub fn fuzz(bytes: &[u8]) {
    let (mut buffer, mut reader) = (BytesMut::from(bytes), Reader::new());
    while let Ok(Some(frame)) = Frame::take(&mut buffer) {
        if let Frame::SynStream { headers, .. } | Frame::SynReply { headers, .. } = &frame
            && reader.read(headers).is_err()
        {
            break;
        }
        let written = frame.encode();
        let again = Frame::take(&mut BytesMut::from(&written[..]));
        assert!(matches!(frame, Frame::Other(_)) || again == Ok(Some(frame)), "a frame is what is written of it");
    }
    let _ = Reader::new().read(bytes);
    for (name, value) in pairs(Bytes::copy_from_slice(bytes)).unwrap_or_default() {
        assert!(name.len() + value.len() <= bytes.len() * 3, "names and values are the block's");
    }
}
