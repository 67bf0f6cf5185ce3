//! The streams over WebSocket: each message begins with its stream's number. In version 5 the message `255 N` closes
//! stream N.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, frame::coding::CloseCode};

use super::session::{self, Channel, FromClient, Start, Streams, ToClient};

/// The subprotocols, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    V5,
    V4,
    /// The same in text: the number as a digit, the rest in base64.
    V4Base64,
}

/// The number of the message that closes a stream.
const CLOSE: u8 = 255;
/// How long a client may take to say goodbye, too.
const GOODBYE: Duration = Duration::from_secs(5);
/// Messages under way between the connection and the command.
const QUEUE: usize = 16;

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::V5, Kind::V4, Kind::V4Base64];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::V5 => "v5.channel.k8s.io",
            Kind::V4 => "v4.channel.k8s.io",
            Kind::V4Base64 => "v4.base64.channel.k8s.io",
        }
    }

    fn encode(self, channel: Channel, bytes: &[u8]) -> Message {
        let number = channel as u8;
        if self == Kind::V4Base64 {
            return Message::text(format!("{number}{}", BASE64_STANDARD.encode(bytes)));
        }
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(number);
        message.put_slice(bytes);
        Message::binary(message.freeze())
    }

    /// What a message says; `None` for what says nothing to a command.
    fn decode(self, message: Message) -> Option<FromClient> {
        let (number, bytes) = match (self, message) {
            (Kind::V4Base64, Message::Text(text)) => {
                let number = text.as_bytes().first()?.checked_sub(b'0')?;
                (number, Bytes::from(BASE64_STANDARD.decode(text.as_bytes().get(1..)?).ok()?))
            }
            (Kind::V4 | Kind::V5, Message::Binary(bytes)) => (*bytes.first()?, bytes.slice(1..)),
            _ => return None,
        };
        match number {
            0 => Some(FromClient::Stdin(bytes)),
            4 => serde_json::from_slice(&bytes).ok().map(FromClient::Resize),
            CLOSE if self == Kind::V5 && *bytes == [Channel::Stdin as u8] => Some(FromClient::StdinEnd),
            _ => None,
        }
    }
}

/// Carries a command's streams over a connection that has been upgraded, until either side ends.
pub(super) async fn serve<S>(connection: S, kind: Kind, streams: Streams, start: Start)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
    let (mut sink, mut source) = socket.split();
    let (input, from_client) = mpsc::channel(QUEUE);
    let (output, mut to_client) = mpsc::channel::<ToClient>(QUEUE);
    let read = async move {
        while let Some(Ok(message)) = source.next().await {
            let Some(message) = kind.decode(message) else { continue };
            if !matches!(message, FromClient::Stdin(_)) || streams.stdin {
                // A command that has ended reads no more, and the connection is still to be listened to.
                let _ = input.send(message).await;
            }
        }
    };
    let write = async move {
        // An empty message tells the client that the streams are there.
        let first = [Channel::Stdout, Channel::Stderr, Channel::Error].into_iter().find(|c| streams.contain(*c));
        sink.send(kind.encode(first.unwrap_or(Channel::Error), &[])).await?;
        while let Some((channel, bytes)) = to_client.recv().await {
            if streams.contain(channel) {
                sink.send(kind.encode(channel, &bytes)).await?;
            }
        }
        sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await
    };
    let work = async { tokio::join!(session::run(start, from_client, output), write) };
    let mut read = std::pin::pin!(read);
    tokio::select! {
        () = &mut read => return,
        _ = work => {}
    }
    // What the client sent meanwhile is taken in, so that the end is not lost to a connection that is reset.
    let _ = tokio::time::timeout(GOODBYE, read).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::exec::TerminalSize;

    #[test]
    fn messages_say_which_stream_they_are_of() {
        let size = FromClient::Resize(TerminalSize { width: 80, height: 24 });
        let table = [
            (Kind::V5, Message::binary(b"\0abc".to_vec()), Some(FromClient::Stdin("abc".into()))),
            (Kind::V4, Message::binary(b"\0".to_vec()), Some(FromClient::Stdin("".into()))),
            (Kind::V4, Message::binary(b"\x04{\"Width\":80,\"Height\":24}".to_vec()), Some(size)),
            (Kind::V4, Message::binary(b"\x04nonsense".to_vec()), None),
            (Kind::V5, Message::binary(vec![255, 0]), Some(FromClient::StdinEnd)),
            (Kind::V4, Message::binary(vec![255, 0]), None),
            (Kind::V5, Message::binary(vec![255, 1]), None),
            (Kind::V5, Message::binary(Vec::new()), None),
            (Kind::V5, Message::binary(vec![1, 2]), None),
            (Kind::V5, Message::text("0abc"), None),
            (Kind::V4Base64, Message::text("0YWJj"), Some(FromClient::Stdin("abc".into()))),
            (Kind::V4Base64, Message::text("0!"), None),
            (Kind::V4Base64, Message::text("é"), None),
        ];
        for (kind, message, expected) in table {
            assert_eq!(kind.decode(message.clone()), expected, "{kind:?} {message:?}");
        }
        assert_eq!(Kind::V4.encode(Channel::Stderr, b"x"), Message::binary(vec![2, b'x']));
        assert_eq!(Kind::V4Base64.encode(Channel::Stdout, b"abc"), Message::text("1YWJj"));
    }
}
