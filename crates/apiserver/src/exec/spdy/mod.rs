//! The streams over SPDY/3.1 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>), as kubectl speaks
//! it: the client opens one SPDY stream for each of ours and says in the header `streamtype` which it is.
//!
//! Windows are not kept, as the Go clients keep none either: neither side waits for a WINDOW_UPDATE.

mod connection;
mod frame;
mod fuzz;
mod headers;

pub(super) use connection::serve;
pub use fuzz::fuzz;
