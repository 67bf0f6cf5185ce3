//! Joins a client to a container of a pod: `exec`, `attach` and `log`.
//!
//! What runs the containers is a [`PodRuntime`]; this module speaks with the client. `exec` and `attach` upgrade the
//! connection and then carry several streams over it, in one of two ways:
//!
//! - WebSocket with the subprotocols `v5.channel.k8s.io` and `v4.channel.k8s.io` (kubectl since 1.30, kube-rs, browsers):
//!   the first byte of a message names its stream (<https://kep.k8s.io/4006>);
//! - SPDY/3.1 with `X-Stream-Protocol-Version: v4.channel.k8s.io` (kubectl before that): a SPDY stream each.
//!
//! Either way the last thing that the client hears is a `metav1.Status` with the command's exit code.

mod options;
mod session;
mod spdy;
mod upgrade;
mod websocket;

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::{HeaderValue, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

pub use options::{AttachOptions, ExecOptions, LogOptions, TerminalSize};
pub use spdy::fuzz;

use crate::status::Status;
use session::{Start, Streams};
use upgrade::{Protocol, Upgrade};

/// What a container writes.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;
/// What a container reads.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// Runs the containers of pods.
#[async_trait]
pub trait PodRuntime: Send + Sync + 'static {
    /// Starts a command in a container of a running pod.
    ///
    /// # Errors
    /// When it cannot be started; the client is told.
    async fn exec(&self, pod: &Value, container: &str, options: ExecOptions) -> Result<Exec, Status>;

    /// Joins the main process of a container. Not every runtime can.
    ///
    /// # Errors
    /// When it cannot be joined; 501 from a runtime that never can.
    async fn attach(&self, _pod: &Value, _container: &str, _options: AttachOptions) -> Result<Exec, Status> {
        let message = "this pod runtime cannot attach to running containers; use exec or logs";
        Err(Status::new(501, "NotImplemented", message))
    }

    /// Gives what a container wrote, and with `follow` what it writes.
    ///
    /// # Errors
    /// When nothing is known of it.
    async fn logs(&self, pod: &Value, container: &str, options: LogOptions) -> Result<Output, Status>;
}

/// A command that runs in a container. Dropping it is giving up on it: the client is gone.
pub struct Exec {
    /// Where the client's input goes; closed by being dropped.
    pub stdin: Option<Input>,
    /// What the command writes; with a terminal, everything.
    pub stdout: Option<Output>,
    /// What the command writes to its standard error; `None` with a terminal.
    pub stderr: Option<Output>,
    /// Where sizes of the client's terminal go.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// The exit code, once the command has ended. Not before `stdout` and `stderr` have ended is it told to the client.
    pub exit: BoxFuture<'static, Result<i32, Status>>,
}

/// Answers `pods/NAME/exec`. The options are in the request's query; `pod` is the stored Pod.
pub async fn handle(request: Request, pod: Arc<Value>, runtime: Arc<dyn PodRuntime>) -> Response {
    begin_exec(request, pod, runtime).unwrap_or_else(IntoResponse::into_response)
}

/// Answers `pods/NAME/attach`.
pub async fn attach(request: Request, pod: Arc<Value>, runtime: Arc<dyn PodRuntime>) -> Response {
    begin_attach(request, pod, runtime).await.unwrap_or_else(IntoResponse::into_response)
}

/// Answers `pods/NAME/log`. `query` is what follows the `?` of the request.
pub async fn logs(query: &str, pod: Arc<Value>, runtime: Arc<dyn PodRuntime>) -> Response {
    begin_logs(query, pod, runtime).await.unwrap_or_else(IntoResponse::into_response)
}

fn begin_exec(request: Request, pod: Arc<Value>, runtime: Arc<dyn PodRuntime>) -> Result<Response, Status> {
    let (container, options) = options::exec(request.uri().query().unwrap_or_default(), &pod)?;
    let streams = Streams::of(options.stdin, options.stdout, options.stderr, options.tty);
    join(request, streams, Box::pin(async move { runtime.exec(&pod, &container, options).await }))
}

async fn begin_attach(request: Request, pod: Arc<Value>, runtime: Arc<dyn PodRuntime>) -> Result<Response, Status> {
    let (container, options) = options::attach(request.uri().query().unwrap_or_default(), &pod)?;
    let streams = Streams::of(options.stdin, options.stdout, options.stderr, options.tty);
    // Before the upgrade, so that "cannot" is an answer that every client understands.
    let exec = runtime.attach(&pod, &container, options).await?;
    join(request, streams, Box::pin(async move { Ok(exec) }))
}

async fn begin_logs(query: &str, pod: Arc<Value>, runtime: Arc<dyn PodRuntime>) -> Result<Response, Status> {
    let (container, options) = options::logs(query, &pod)?;
    let log = runtime.logs(&pod, &container, options).await?;
    let mut response = Response::new(Body::from_stream(ReaderStream::new(log)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Upgrades the connection, and runs the session on it.
fn join(mut request: Request, streams: Streams, start: Start) -> Result<Response, Status> {
    let upgrade = Upgrade::negotiate(request.headers())?;
    let upgraded = hyper::upgrade::on(&mut request);
    let response = upgrade.response();
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => match upgrade.protocol {
                Protocol::WebSocket(kind) => websocket::serve(TokioIo::new(connection), kind, streams, start).await,
                Protocol::Spdy => spdy::serve(TokioIo::new(connection), streams, start).await,
            },
            Err(error) => tracing::debug!(%error, "a client asked for streams and went away"),
        }
    });
    Ok(response)
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("stdin", &self.stdin.is_some()).finish_non_exhaustive()
    }
}
