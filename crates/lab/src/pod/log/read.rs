//! From the file to whoever asks for a log.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use futures::stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio_util::io::StreamReader;

use super::{Growth, STAMP_LENGTH};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Which part of a log is wanted, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Only what was written at this time ([`super::stamp`]) or later.
    pub since: Option<String>,
    /// Whether each line begins with its time.
    pub timestamps: bool,
    /// Only so many bytes.
    pub limit: Option<u64>,
}

/// Reads a log; with `growth` until the run of the container that writes it now has ended.
///
/// # Errors
/// The file's.
pub fn read(
    path: &Path,
    selection: Selection,
    growth: Option<watch::Receiver<Growth>>,
) -> io::Result<impl AsyncRead + Send + Unpin + use<>> {
    // Asked before opening: if the container is started anew in between, the new file is read as far as it is there.
    let run = growth.as_ref().map_or(0, |growth| growth.borrow().run);
    let mut file = File::open(path)?;
    if let Some(lines) = selection.tail {
        let start = tail(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    let lines = Lines { since: selection.since, timestamps: selection.timestamps, carry: Vec::new(), inside: false };
    let reading = Reading { file: file.into(), growth, run, lines, left: selection.limit };
    Ok(StreamReader::new(Box::pin(stream::try_unfold(reading, Reading::next))))
}

struct Reading {
    file: tokio::fs::File,
    growth: Option<watch::Receiver<Growth>>,
    run: u32,
    lines: Lines,
    /// How many bytes may still be said.
    left: Option<u64>,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Cursor<Vec<u8>>, Self)>> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while self.left != Some(0) {
            // Asked before reading: what is written between the two is read in the next round.
            let ended = self.growth.as_mut().is_none_or(|growth| {
                let now = growth.borrow_and_update();
                now.ended || now.run != self.run
            });
            chunk.clear();
            if self.file.read_buf(&mut chunk).await? == 0 {
                let Some(growth) = self.growth.as_mut().filter(|_| !ended) else { return Ok(None) };
                if growth.changed().await.is_err() {
                    self.growth = None;
                }
                continue;
            }
            let mut text = self.lines.render(&chunk);
            if let Some(left) = &mut self.left {
                text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= text.len() as u64;
            }
            if !text.is_empty() {
                return Ok(Some((Cursor::new(text), self)));
            }
        }
        Ok(None)
    }
}

/// Turns records back into lines, however they are cut into chunks.
#[derive(Debug, Default)]
struct Lines {
    since: Option<String>,
    timestamps: bool,
    /// The beginning of a record.
    carry: Vec<u8>,
    /// The record before was a part of a line.
    inside: bool,
}

impl Lines {
    fn render(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.carry.extend_from_slice(chunk);
        let carry = std::mem::take(&mut self.carry);
        let mut text = Vec::with_capacity(carry.len());
        let mut rest = carry.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.record(&rest[..end], &mut text);
            rest = &rest[end + 1..];
        }
        self.carry = rest.to_vec();
        text
    }

    fn record(&mut self, record: &[u8], text: &mut Vec<u8>) {
        let Some((stamp, rest)) = record.split_at_checked(STAMP_LENGTH) else { return };
        let (Some(kind), Some(line)) = (rest.get(1), rest.get(3..)) else { return };
        if self.since.as_ref().is_some_and(|since| stamp < since.as_bytes()) {
            return;
        }
        if self.timestamps && !self.inside {
            text.extend_from_slice(stamp);
            text.push(b' ');
        }
        text.extend_from_slice(line);
        self.inside = *kind == b'P';
        if !self.inside {
            text.push(b'\n');
        }
    }
}

/// Where the last `lines` records begin.
fn tail(file: &mut (impl Read + Seek), lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let (mut start, mut left) = (end, lines);
    let mut chunk = vec![0; CHUNK];
    while start > 0 {
        let size = start.min(CHUNK as u64);
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        let chunk = &mut chunk[..usize::try_from(size).unwrap_or(CHUNK)];
        file.read_exact(chunk)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if left == 0 {
                return Ok(start + at as u64 + 1);
            }
            left -= 1;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::{Writer, stamp};
    use super::*;

    /// A log with a line a second: `line 0` at the epoch, and so on.
    fn log(lines: i64) -> Vec<u8> {
        let time = |n| stamp(time::OffsetDateTime::from_unix_timestamp(n).unwrap());
        (0..lines).flat_map(|n| format!("{} F line {n}\n", time(n)).into_bytes()).collect()
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let whole = log(5000);
        for lines in [0, 1, 2, 4999, 5000, 5001] {
            let start = tail(&mut Cursor::new(&whole), lines).unwrap();
            let found = whole[usize::try_from(start).unwrap()..].iter().filter(|b| **b == b'\n').count() as u64;
            assert_eq!(found, lines.min(5000), "{lines}");
            assert!(start == 0 || whole[usize::try_from(start).unwrap() - 1] == b'\n');
        }
        assert_eq!(tail(&mut Cursor::new(b""), 3).unwrap(), 0);
    }

    #[test]
    fn lines_are_chosen_by_their_time() {
        let render = |lines: Lines| String::from_utf8({ lines }.render(&log(3))).unwrap();
        assert_eq!(render(Lines::default()), "line 0\nline 1\nline 2\n");
        let second = log(2)[log(1).len()..][..STAMP_LENGTH].to_vec();
        let since = Some(String::from_utf8(second).unwrap());
        assert_eq!(render(Lines { since, ..Lines::default() }), "line 1\nline 2\n");
        let stamped = render(Lines { timestamps: true, ..Lines::default() });
        assert!(stamped.starts_with("1970-01-01T00:00:00.000000000Z line 0\n1970-01-01T00:00:01"), "{stamped}");
    }

    #[test]
    fn a_long_line_has_one_time() {
        let records = b"1970-01-01T00:00:00.000000000Z P ab\n1970-01-01T00:00:09.000000000Z F c\n";
        let text = Lines { timestamps: true, ..Lines::default() }.render(records);
        assert_eq!(String::from_utf8(text).unwrap(), "1970-01-01T00:00:00.000000000Z abc\n");
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes_and_the_end() {
        let path = std::env::temp_dir().join(format!("tombolo-follow-{}", std::process::id()));
        let (sender, receiver) = watch::channel(Growth::default());
        let writer = Writer::create(&path, sender).unwrap();
        let mut follower = read(&path, Selection::default(), Some(receiver)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (mut container, output) = tokio::io::duplex(64);
        let writing = tokio::spawn(writer.copy(output));
        let mut buffer = [0; 4];
        for line in [b"one\n", b"two\n"] {
            tokio::io::AsyncWriteExt::write_all(&mut container, line).await.unwrap();
            follower.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, line);
        }
        drop(container);
        writing.await.unwrap().unwrap();
        assert_eq!(follower.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn no_more_bytes_than_asked_for_are_said() {
        let path = std::env::temp_dir().join(format!("tombolo-limit-{}", std::process::id()));
        std::fs::write(&path, log(3)).unwrap();
        let selection = Selection { tail: Some(2), limit: Some(9), ..Selection::default() };
        let mut reader = read(&path, selection, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "line 1\nli");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_log_is_cut(cuts in prop::collection::vec(1..200_usize, 1..20)) {
            let whole = log(20);
            let expected = Lines::default().render(&whole);
            let (mut lines, mut rest, mut text) = (Lines::default(), whole.as_slice(), Vec::new());
            for size in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, others) = rest.split_at(size.min(rest.len()));
                text.extend(lines.render(chunk));
                rest = others;
            }
            prop_assert_eq!(text, expected);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Lines::default().render(&bytes);
        }
    }
}
