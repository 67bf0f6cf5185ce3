//! A SPDY connection that carries one command's streams.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::frame::Frame;
use super::headers::{Reader, Writer};
use crate::exec::session::{self, Channel, FromClient, Start, Streams, ToClient};

/// How long a client may take to open its streams, as a kubelet has it.
const OPENING: Duration = Duration::from_secs(30);
/// How long a client may take to say goodbye, too.
const GOODBYE: Duration = Duration::from_secs(5);
/// Frames under way between the connection and the command.
const QUEUE: usize = 16;

/// RST_STREAM: this stream cannot be.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;

/// Carries a command's streams over a connection that has been upgraded, until either side ends.
pub(in crate::exec) async fn serve<S>(connection: S, streams: Streams, start: Start)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (source, sink) = tokio::io::split(connection);
    let (frames, queued) = mpsc::channel(QUEUE);
    let Some(writer) = Writer::new().ok() else { return };
    let mut client = Client {
        source,
        buffer: BytesMut::new(),
        reader: Reader::new(),
        writer,
        frames: frames.clone(),
        wanted: streams,
        channels: HashMap::new(),
        last: 0,
        sizes: Vec::new(),
    };
    let work = async move {
        let Ok(Some(ids)) = tokio::time::timeout(OPENING, client.open()).await else {
            tracing::debug!("a client did not open the streams that it asked for");
            return;
        };
        let (input, from_client) = mpsc::channel(QUEUE);
        let (output, to_client) = mpsc::channel(QUEUE);
        let last = client.last;
        let read = client.read(input);
        let mut read = std::pin::pin!(read);
        let run =
            async { tokio::join!(session::run(start, from_client, output), answer(&ids, last, to_client, frames)) };
        tokio::select! {
            () = &mut read => return,
            _ = run => {}
        }
        // What the client sent meanwhile is taken in, so that the end is not lost to a connection that is reset.
        let _ = tokio::time::timeout(GOODBYE, read).await;
    };
    tokio::join!(work, write(queued, sink));
}

type Ids = HashMap<Channel, u32>;

struct Client<S> {
    source: ReadHalf<S>,
    buffer: BytesMut,
    reader: Reader,
    writer: Writer,
    frames: mpsc::Sender<Frame>,
    wanted: Streams,
    channels: HashMap<u32, Channel>,
    last: u32,
    /// What came of a terminal's sizes and isn't a whole one yet.
    sizes: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    /// Waits until all streams are open, and gives their numbers; `None` if the client goes away before.
    async fn open(&mut self) -> Option<Ids> {
        let all = [Channel::Error, Channel::Stdin, Channel::Stdout, Channel::Stderr, Channel::Resize];
        let wanted = all.into_iter().filter(|channel| self.wanted.contain(*channel)).count();
        while self.channels.len() < wanted {
            // Nothing is sent before all streams are open, except the end of an input that is empty.
            match self.next().await? {
                Frame::SynStream { stream, headers, .. } => self.accept(stream, &headers).await?,
                frame => drop(self.control(&frame).await?),
            }
        }
        Some(self.channels.iter().map(|(id, channel)| (*channel, *id)).collect())
    }

    /// Passes on what the client sends, until it ends the connection.
    async fn read(mut self, input: mpsc::Sender<FromClient>) {
        while let Some(frame) = self.next().await {
            match frame {
                Frame::Data { stream, fin, bytes } => {
                    let Some(channel) = self.channels.get(&stream).copied() else { continue };
                    for message in self.messages(channel, fin, bytes) {
                        // A command that has ended reads no more, and the connection is still to be listened to.
                        let _ = input.send(message).await;
                    }
                }
                Frame::RstStream { stream, .. } => {
                    if self.channels.get(&stream) == Some(&Channel::Stdin) {
                        let _ = input.send(FromClient::StdinEnd).await;
                    }
                }
                Frame::SynStream { stream, .. } => {
                    let refusal = Frame::RstStream { stream, status: REFUSED_STREAM };
                    if self.frames.send(refusal).await.is_err() {
                        return;
                    }
                }
                frame => {
                    if self.control(&frame).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn messages(&mut self, channel: Channel, fin: bool, bytes: Bytes) -> Vec<FromClient> {
        match channel {
            Channel::Stdin => {
                let data = (!bytes.is_empty()).then_some(FromClient::Stdin(bytes));
                data.into_iter().chain(fin.then_some(FromClient::StdinEnd)).collect()
            }
            Channel::Resize => {
                self.sizes.extend_from_slice(&bytes);
                let mut sizes = serde_json::Deserializer::from_slice(&self.sizes).into_iter();
                let found: Vec<_> = sizes.by_ref().map_while(Result::ok).map(FromClient::Resize).collect();
                let read = sizes.byte_offset();
                self.sizes.drain(..read);
                // Sizes are short: this is something else.
                if self.sizes.len() > 1024 {
                    self.sizes.clear();
                }
                found
            }
            Channel::Stdout | Channel::Stderr | Channel::Error => Vec::new(),
        }
    }

    /// Takes a stream that the client opens, if it is one of those that it asked for.
    async fn accept(&mut self, stream: u32, block: &[u8]) -> Option<()> {
        let headers = self.reader.read(block).ok()?;
        self.last = self.last.max(stream);
        let kind = headers.iter().find(|(name, _)| name == "streamtype").map(|(_, value)| value.as_str());
        let channel = match kind {
            Some("error") => Some(Channel::Error),
            Some("stdin") => Some(Channel::Stdin),
            Some("stdout") => Some(Channel::Stdout),
            Some("stderr") => Some(Channel::Stderr),
            Some("resize") => Some(Channel::Resize),
            _ => None,
        };
        let channel = channel.filter(|channel| {
            self.wanted.contain(*channel) && !self.channels.values().any(|present| present == channel)
        });
        let answer = match channel {
            Some(channel) => {
                self.channels.insert(stream, channel);
                Frame::SynReply { stream, fin: false, headers: self.writer.write(&[]).ok()? }
            }
            None => Frame::RstStream { stream, status: PROTOCOL_ERROR },
        };
        self.frames.send(answer).await.ok()
    }

    /// Answers what concerns the connection; `None` if that ends.
    async fn control(&mut self, frame: &Frame) -> Option<()> {
        match frame {
            Frame::Ping(id) => self.frames.send(Frame::Ping(*id)).await.ok(),
            Frame::GoAway { .. } => None,
            _ => Some(()),
        }
    }

    /// The next frame; `None` at the end, or after bytes that are no SPDY.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match Frame::take(&mut self.buffer) {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a client's streams end");
                    return None;
                }
            }
            self.buffer.reserve(16 << 10);
            if self.source.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Sends what the command says, then the end of every stream and of the connection.
async fn answer(ids: &Ids, last: u32, mut output: mpsc::Receiver<ToClient>, frames: mpsc::Sender<Frame>) {
    while let Some((channel, bytes)) = output.recv().await {
        let Some(stream) = ids.get(&channel).copied() else { continue };
        if frames.send(Frame::Data { stream, fin: false, bytes }).await.is_err() {
            return;
        }
    }
    for stream in ids.values().copied() {
        let _ = frames.send(Frame::Data { stream, fin: true, bytes: Bytes::new() }).await;
    }
    let _ = frames.send(Frame::GoAway { last, status: 0 }).await;
}

async fn write<S: AsyncRead + AsyncWrite>(mut frames: mpsc::Receiver<Frame>, mut sink: WriteHalf<S>) {
    while let Some(frame) = frames.recv().await {
        if sink.write_all(&frame.encode()).await.is_err() {
            return;
        }
    }
    let _ = sink.shutdown().await;
}
