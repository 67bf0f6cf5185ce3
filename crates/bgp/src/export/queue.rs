//! What is still to be sent to one neighbour: pieces of bytes that it may share with others.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// A neighbour that has more than this before it is taken off its groups' streams: the most that a slow reader costs,
/// beside a bit a prefix, and nothing if another in its group reads no faster. Small in tests, so that they get there.
pub const LIMIT: usize = if cfg!(test) { 1 << 9 } else { 16 << 20 };

/// Bytes to be sent.
#[derive(Debug, Default)]
pub struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    bytes: Arc<Vec<u8>>,
    /// Where the piece began: at the start of a message.
    begin: usize,
    start: usize,
    end: usize,
    epoch: u64,
}

impl Queue {
    /// Appends a part of shared bytes, whole messages. `epoch` tells when they were made.
    pub fn push(&mut self, bytes: &Arc<Vec<u8>>, start: usize, end: usize, epoch: u64) {
        if start == end {
            return;
        }
        self.bytes += end - start;
        if let Some(last) = self.pieces.back_mut()
            && Arc::ptr_eq(&last.bytes, bytes)
            && last.end == start
        {
            last.end = end;
            return;
        }
        self.pieces.push_back(Piece { bytes: bytes.clone(), begin: start, start, end, epoch });
    }

    /// Appends whole messages that only this neighbour gets.
    pub fn push_own(&mut self, bytes: Vec<u8>, epoch: u64) {
        let end = bytes.len();
        self.push(&Arc::new(bytes), 0, end, epoch);
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// When the oldest of them were made.
    pub fn oldest(&self) -> Option<u64> {
        self.pieces.front().map(|piece| piece.epoch)
    }

    /// The next bytes, in up to `N` parts.
    pub fn slices<const N: usize>(&self) -> ([IoSlice<'_>; N], usize) {
        let mut slices = [IoSlice::new(&[]); N];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece.bytes[piece.start..piece.end]);
            count += 1;
        }
        (slices, count)
    }

    /// So many bytes were sent.
    pub fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while sent > 0 {
            let Some(piece) = self.pieces.front_mut() else { return };
            let now = sent.min(piece.end - piece.start);
            piece.start += now;
            sent -= now;
            if piece.start == piece.end {
                self.pieces.pop_front();
            }
        }
    }

    /// Gives up the messages that were not begun to be sent and that `gives_up` says; it sees each of them, with its
    /// header. The rest stays.
    pub fn prune(&mut self, mut gives_up: impl FnMut(&[u8]) -> bool) {
        let pieces = std::mem::take(&mut self.pieces);
        self.bytes = 0;
        for piece in pieces {
            let mut at = piece.begin;
            while at < piece.end {
                let message = &piece.bytes[at..piece.end];
                let length = message.get(16..18).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                let end = at + length.clamp(1, message.len());
                let begun = at < piece.start;
                if end > piece.start && (begun || !gives_up(&piece.bytes[at..end])) {
                    let start = at.max(piece.start);
                    // Its beginning is where the message's is, so that it is still known where the next begins.
                    self.bytes += end - start;
                    let bytes = piece.bytes.clone();
                    self.pieces.push_back(Piece { bytes, begin: at, start, end, epoch: piece.epoch });
                }
                at = end;
            }
        }
    }

    /// Gives up everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
