//! How much of a source's words is listened to.
//!
//! A source is somebody else's, and everything that it sends is held in memory for a while. So a page of a list, all
//! pages of one connection, and a line of a watch each have a limit. A line that is too long is left out and said; a
//! list that is too long ends the connection, as it cannot be known what was cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::{Body, DynBody};
use tokio::sync::mpsc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Frames = futures::stream::BoxStream<'static, Result<Frame<Bytes>, BoxError>>;

/// The longest line of a watch, in bytes: an object. An API server takes none of half of that.
pub(crate) const LINE: usize = 4 << 20;
/// The longest answer to anything else: a page of a list.
pub(crate) const PAGE: usize = 32 << 20;
/// So many objects are asked for in one page.
pub(crate) const PAGE_OBJECTS: u32 = 100;
/// The longest lists of one connection, together.
pub(crate) const LISTS: usize = 128 << 20;

/// What was too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TooLong {
    /// One object of a watch, of the resource of this plural name.
    Object(String),
    /// All lists together.
    Lists,
}

/// A client's lower part, with limits to what comes in. The request's path says whether it is a watch.
pub(crate) struct Limit<S> {
    pub inner: S,
    pub said: mpsc::UnboundedSender<TooLong>,
    pub listed: Arc<AtomicUsize>,
}

impl<S> tower::Service<Request<Body>> for Limit<S>
where
    S: tower::Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<StreamBody<Frames>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let plural = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let (said, listed) = (self.said.clone(), Arc::clone(&self.listed));
        let answer = self.inner.call(request);
        async move {
            Ok(answer.await?.map(|body| {
                let frames = BodyStream::new(body);
                let frames: Frames = if is_watch {
                    let mut lines = Lines::default();
                    let watched = frames.map(move |frame| {
                        frame.map(|frame| match frame.into_data() {
                            Ok(data) => {
                                let (kept, cut) = lines.take(&data);
                                if cut {
                                    // Nobody hears it who has ended the connection.
                                    let _ = said.send(TooLong::Object(plural.clone()));
                                }
                                Frame::data(kept)
                            }
                            Err(frame) => frame,
                        })
                    });
                    watched.boxed()
                } else {
                    let mut left = PAGE;
                    let listing = frames.map(move |frame| {
                        let frame = frame?;
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        left =
                            left.checked_sub(length).ok_or_else(|| format!("an answer has more than {PAGE} bytes"))?;
                        if listed.fetch_add(length, Ordering::Relaxed) + length > LISTS {
                            let _ = said.send(TooLong::Lists);
                            return Err(format!("its lists have more than {LISTS} bytes").into());
                        }
                        Ok(frame)
                    });
                    listing.boxed()
                };
                StreamBody::new(frames)
            }))
        }
        .boxed()
    }
}

/// Lines, of which those are left out that are too long.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line of which the end has not come.
    begun: Vec<u8>,
    /// The line is too long: the rest of it is left out.
    is_cut: bool,
}

impl Lines {
    /// The lines that end here, and whether one became too long.
    fn take(&mut self, data: &[u8]) -> (Bytes, bool) {
        let (mut whole, mut has_cut) = (Vec::new(), false);
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_cut {
                self.begun.extend_from_slice(part);
                self.is_cut = self.begun.len() > LINE;
                has_cut |= self.is_cut;
            }
            if self.is_cut {
                self.begun = Vec::new();
            }
            if part.ends_with(b"\n") {
                whole.append(&mut self.begun);
                self.is_cut = false;
            }
        }
        (whole.into(), has_cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_left_out_wherever_it_is_cut() {
        let long = vec![b'x'; LINE];
        let text: Vec<u8> = [b"one\n".as_slice(), b"two\n", &long, b"\nthree\n", b"fo"].concat();
        for size in [3, 1000, LINE + 7, text.len()] {
            let (mut lines, mut got, mut cuts) = (Lines::default(), Vec::new(), 0);
            for part in text.chunks(size) {
                let (whole, has_cut) = lines.take(part);
                got.extend_from_slice(&whole);
                cuts += usize::from(has_cut);
                assert!(lines.begun.len() <= LINE);
            }
            assert_eq!((String::from_utf8_lossy(&got).as_ref(), cuts), ("one\ntwo\nthree\n", 1), "in parts of {size}");
            assert_eq!(lines.take(b"ur\n").0.as_ref(), b"four\n");
        }
    }
}
