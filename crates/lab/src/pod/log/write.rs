//! From a container's pipe to the file.

use std::io;
use std::path::Path;

use time::OffsetDateTime;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::{Growth, stamp};

/// The longest part of a line in one record.
const LONGEST: usize = 16 << 10;
/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Writes the log of one run of a container. The run is over when it is dropped.
#[derive(Debug)]
pub struct Writer {
    file: File,
    growth: watch::Sender<Growth>,
    /// The beginning of a line.
    pending: Vec<u8>,
}

impl Writer {
    /// Begins the log of the next run.
    ///
    /// # Errors
    /// The file's.
    pub fn create(path: &Path, growth: watch::Sender<Growth>) -> io::Result<Self> {
        let file = File::from_std(std::fs::File::create(path)?);
        growth.send_modify(|now| *now = Growth { run: now.run + 1, size: 0, ended: false });
        Ok(Self { file, growth, pending: Vec::new() })
    }

    /// Writes everything that comes, until its end.
    ///
    /// # Errors
    /// The file's, or the pipe's.
    pub async fn copy(mut self, mut output: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            chunk.clear();
            let last = output.read_buf(&mut chunk).await? == 0;
            self.pending.extend_from_slice(&chunk);
            let records = records(&mut self.pending, &stamp(OffsetDateTime::now_utc()), last);
            self.file.write_all(&records).await?;
            self.file.flush().await?;
            self.growth.send_modify(|now| now.size += records.len() as u64);
            if last {
                return Ok(());
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.growth.send_modify(|now| now.ended = true);
    }
}

/// Takes from `pending` the lines that are whole and those that are too long to wait for their end; with `last`
/// everything.
fn records(pending: &mut Vec<u8>, stamp: &str, last: bool) -> Vec<u8> {
    let mut records = Vec::with_capacity(pending.len());
    let mut rest = pending.as_slice();
    let mut write = |kind: &str, text: &[u8]| {
        for part in [stamp.as_bytes(), b" ", kind.as_bytes(), b" ", text, b"\n"] {
            records.extend_from_slice(part);
        }
    };
    loop {
        let end = rest.iter().take(LONGEST).position(|byte| *byte == b'\n');
        if let Some(end) = end {
            write("F", &rest[..end]);
            rest = &rest[end + 1..];
        } else if rest.len() > LONGEST || (last && !rest.is_empty()) {
            let (part, others) = rest.split_at(rest.len().min(LONGEST));
            write("P", part);
            rest = others;
        } else {
            break;
        }
    }
    let taken = pending.len() - rest.len();
    pending.drain(..taken);
    records
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_record_is_a_line_or_a_part_of_one() {
        type Bytes = &'static [u8];
        let table: [(Bytes, bool, Bytes, Bytes); 4] = [
            (b"a\n\nb", false, b"T F a\nT F \n", b"b"),
            (b"a\nb", true, b"T F a\nT P b\n", b""),
            (b"", true, b"", b""),
            (b"\xff\r\n", false, b"T F \xff\r\n", b""),
        ];
        for (text, last, expected, left) in table {
            let mut pending = text.to_vec();
            assert_eq!(records(&mut pending, "T", last), expected);
            assert_eq!(pending, left);
        }
        let mut long = vec![b'x'; LONGEST + 1];
        assert_eq!(records(&mut long, "T", false), [b"T P ", &vec![b'x'; LONGEST][..], b"\n"].concat());
        assert_eq!(long, b"x");
    }

    #[tokio::test]
    async fn followers_hear_of_what_is_written_and_of_the_end() {
        let path = std::env::temp_dir().join(format!("tombolo-log-{}", std::process::id()));
        let (sender, receiver) = watch::channel(Growth::default());
        let writer = Writer::create(&path, sender).unwrap();
        assert_eq!(*receiver.borrow(), Growth { run: 1, size: 0, ended: false });
        writer.copy(&b"one\ntwo"[..]).await.unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*receiver.borrow(), Growth { run: 1, size: written.len() as u64, ended: true });
        assert!(written.contains("Z F one\n") && written.ends_with("Z P two\n"), "{written}");
    }
}
