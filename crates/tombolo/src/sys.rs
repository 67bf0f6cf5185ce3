//! System calls that the standard library has no safe words for.

use nix::sys::signal::{SigHandler, Signal, signal};

/// A program that prints ends quietly when its reader is gone (`… | head`), as others do; Rust has it ignore SIGPIPE.
pub(crate) fn end_with_the_reader() {
    // SAFETY: the default action runs no code of ours, and nothing in this process relies on another one.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
