//! A command and its streams, whatever carries them.

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Exec, Input, Output, TerminalSize};
use crate::status::Status;

/// The streams between client and command. The numbers are those of the WebSocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

/// Which streams there are beside [`Channel::Error`], which there always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) resize: bool,
}

/// What comes from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromClient {
    Stdin(Bytes),
    StdinEnd,
    Resize(TerminalSize),
}

/// What goes to the client.
pub(super) type ToClient = (Channel, Bytes);

/// Starts the command.
pub(super) type Start = BoxFuture<'static, Result<Exec, Status>>;

/// How much of an output is sent at once.
const CHUNK: usize = 32 << 10;

impl Streams {
    pub(super) fn of(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Self {
        Streams { stdin, stdout, stderr, resize: tty }
    }

    pub(super) fn contain(self, channel: Channel) -> bool {
        match channel {
            Channel::Stdin => self.stdin,
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr,
            Channel::Error => true,
            Channel::Resize => self.resize,
        }
    }
}

/// Starts the command and carries its streams until it has ended and everything has been sent, its end last. Gives up
/// as soon as nobody receives.
pub(super) async fn run(start: Start, input: mpsc::Receiver<FromClient>, output: mpsc::Sender<ToClient>) {
    let ended = match start.await {
        Ok(exec) => carry(exec, input, &output).await,
        Err(status) => Err(status),
    };
    let status = match ended {
        Ok(code) => exit_status(code),
        Err(status) => status.to_value(),
    };
    // Nobody there is nobody to tell.
    let _ = output.send((Channel::Error, status.to_string().into())).await;
}

/// The last word on a command: success, or its exit code.
pub(super) fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

async fn carry(exec: Exec, input: mpsc::Receiver<FromClient>, output: &mpsc::Sender<ToClient>) -> Result<i32, Status> {
    let Exec { stdin, stdout, stderr, resize, exit } = exec;
    let outputs = async {
        tokio::join!(forward(stdout, Channel::Stdout, output), forward(stderr, Channel::Stderr, output));
        exit.await
    };
    let inputs = async {
        feed(input, stdin, resize).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = outputs => ended,
        () = inputs => Err(Status::internal("the command's input ended before the command")),
        () = output.closed() => Err(Status::internal("the client is gone")),
    }
}

async fn forward(source: Option<Output>, channel: Channel, output: &mpsc::Sender<ToClient>) {
    let Some(mut source) = source else { return };
    let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
    loop {
        buffer.reserve(CHUNK);
        match source.read_buf(&mut buffer).await {
            // A terminal's other end closes with an error (EIO).
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if output.send((channel, buffer.split().freeze())).await.is_err() {
            return;
        }
    }
}

async fn feed(
    mut input: mpsc::Receiver<FromClient>,
    mut stdin: Option<Input>,
    resize: Option<mpsc::Sender<TerminalSize>>,
) {
    while let Some(message) = input.recv().await {
        match message {
            FromClient::Stdin(bytes) => {
                let Some(open) = &mut stdin else { continue };
                let written = async {
                    open.write_all(&bytes).await?;
                    open.flush().await
                };
                // The command has closed its input: it needs no more of it.
                if written.await.is_err() {
                    stdin = None;
                }
            }
            FromClient::StdinEnd => {
                if let Some(mut open) = stdin.take() {
                    let _ = open.shutdown().await;
                }
            }
            FromClient::Resize(size) => {
                if let Some(resize) = &resize {
                    // Without a reader the size is of no interest.
                    let _ = resize.send(size).await;
                }
            }
        }
    }
}
