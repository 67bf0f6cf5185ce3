//! A terminal for a command: the side that a terminal emulator has. `unsafe` here is the kernel's interface to terminals,
//! as far as it has no safe one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of a pseudo-terminal. What is read is what the command shows; what is written is what is typed. Reading
/// fails with `EIO` once nobody has the other end any more.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<AsyncFd<PtyMaster>>);

impl Terminal {
    /// A new terminal, and the end that is for the command.
    ///
    /// # Errors
    /// The kernel has none, or `/dev/pts` is not there.
    pub fn open() -> io::Result<(Self, File)> {
        // Never inherited: a process that holds an end keeps the terminal from ending.
        let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let no_control = OFlag::O_NOCTTY.bits();
        let theirs = OpenOptions::new().read(true).write(true).custom_flags(no_control).open(ptsname_r(&ours)?)?;
        // SAFETY: a `PtyMaster` owns its descriptor and closes it only when it is dropped, which is after it has been
        // deregistered.
        let ours = unsafe { AsyncFd::register(ours) }?;
        Ok((Self(Arc::new(ours)), theirs))
    }

    /// Says how large the window is, in characters.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        set_window_size(self.0.get_ref(), columns, rows)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            if let Ok(read) = ready.try_io(|end| end.get_ref().read(buffer.initialize_unfilled())) {
                return Poll::Ready(read.map(|count| buffer.advance(count)));
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = ready.try_io(|end| end.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn set_window_size(terminal: &PtyMaster, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads a `winsize`, which lives until the call returns, and `terminal` keeps the descriptor open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_typed_is_shown_and_the_end_is_an_error() {
        let (mut terminal, theirs) = Terminal::open().unwrap();
        terminal.resize(91, 17).unwrap();
        // The command keeps its end open for as long as it is there itself.
        let size = std::process::Command::new("stty").arg("size").stdin(theirs.try_clone().unwrap()).output().unwrap();
        assert_eq!(size.stdout, b"17 91\n");
        terminal.write_all(b"ls\n").await.unwrap();
        let mut echo = [0; 4];
        terminal.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ls\r\n");
        drop(theirs);
        assert!(terminal.read(&mut echo).await.is_err());
    }
}
