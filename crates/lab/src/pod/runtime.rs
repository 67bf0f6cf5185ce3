//! `kubectl exec`, `attach` and `logs` into the lab's pods.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tombolo_apiserver::Status;
use tombolo_apiserver::exec::{AttachOptions, Exec, ExecOptions, LogOptions, Output, PodRuntime};

use super::directory::{ContainerEntry, Directory};
use super::exec;
use super::log::{self, Selection};
use crate::control::Place;

/// What runs the pods of a cluster of the lab, for its API server.
#[derive(Debug)]
pub struct Runtime(pub Arc<Directory>);

#[async_trait]
impl PodRuntime for Runtime {
    async fn exec(&self, pod: &Value, container: &str, options: ExecOptions) -> Result<Exec, Status> {
        exec::start(&self.place(pod, container)?, container, &options)
    }

    /// What the container writes from now on. Containers here have no input.
    async fn attach(&self, pod: &Value, container: &str, _: AttachOptions) -> Result<Exec, Status> {
        self.place(pod, container)?;
        let options = LogOptions { follow: true, tail_lines: Some(0), ..LogOptions::default() };
        let log = self.logs(pod, container, options).await?;
        Ok(Exec { stdin: None, stdout: Some(log), stderr: None, resize: None, exit: async { Ok(0) }.boxed() })
    }

    async fn logs(&self, pod: &Value, container: &str, options: LogOptions) -> Result<Output, Status> {
        let name = meta(pod, "name");
        let Some(entry) = self.container(pod, container) else { return Err(waiting(pod, container)) };
        let selection = selection(&options, OffsetDateTime::now_utc());
        let (path, missing) = if options.previous {
            let why = format!("previous terminated container {container:?} in pod {name:?} not found");
            (entry.previous_log(), Status::bad_request(why))
        } else {
            (entry.log, waiting(pod, container))
        };
        let growth = (options.follow && !options.previous).then_some(entry.growth);
        let open = move || log::read(&path, selection, growth);
        match tokio::task::spawn_blocking(open).await.map_err(Status::internal)? {
            Ok(log) => Ok(Box::new(log)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing),
            Err(error) => Err(Status::internal(error)),
        }
    }
}

impl Runtime {
    fn container(&self, pod: &Value, container: &str) -> Option<ContainerEntry> {
        let entry = self.0.get(meta(pod, "namespace"), meta(pod, "name"))?;
        // Another pod may have had the name before.
        let entry = Some(entry).filter(|entry| entry.uid == meta(pod, "uid"))?;
        entry.container(Some(container)).cloned()
    }

    fn place(&self, pod: &Value, container: &str) -> Result<Place, Status> {
        let entry = self.container(pod, container).ok_or_else(|| exec::not_found(container))?;
        let pid = entry.pid.ok_or_else(|| exec::not_found(container))?;
        Ok(Place { pid, env: entry.env, working_dir: entry.working_dir })
    }
}

fn meta<'a>(pod: &'a Value, field: &str) -> &'a str {
    pod["metadata"][field].as_str().unwrap_or_default()
}

/// What a kubelet says of a container that has written nothing because it has not begun.
fn waiting(pod: &Value, container: &str) -> Status {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let reasons = statuses.filter(|status| status["name"] == container).map(|s| &s["state"]["waiting"]["reason"]);
    let reason = reasons.filter_map(Value::as_str).next().unwrap_or("ContainerCreating");
    let pod = meta(pod, "name");
    Status::bad_request(format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"))
}

fn selection(options: &LogOptions, now: OffsetDateTime) -> Selection {
    let seconds = options.since_seconds.map(|seconds| Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX)));
    // Before all times is without a beginning.
    let ago = seconds.and_then(|seconds| now.checked_sub(seconds));
    Selection {
        tail: options.tail_lines,
        since: options.since_time.or(ago).map(log::stamp),
        timestamps: options.timestamps,
        limit: options.limit_bytes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_can_be_asked_for_from_a_time_on() {
        let now = OffsetDateTime::from_unix_timestamp(100).unwrap();
        let since = |options| selection(&options, now).since;
        let seconds = |n| LogOptions { since_seconds: Some(n), ..LogOptions::default() };
        assert_eq!(since(LogOptions::default()), None);
        assert_eq!(since(seconds(99)).unwrap(), "1970-01-01T00:00:01.000000000Z");
        assert_eq!(since(seconds(u64::MAX)), None);
        let time = LogOptions { since_time: Some(now), ..LogOptions::default() };
        assert_eq!(since(time).unwrap(), "1970-01-01T00:01:40.000000000Z");
    }

    #[tokio::test]
    async fn a_container_that_does_not_run_is_named() {
        let runtime = Runtime(Arc::default());
        let waiting = json!({"name": "c", "state": {"waiting": {"reason": "CreateContainerConfigError"}}});
        let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [waiting]}});
        let refused = runtime.logs(&pod, "c", LogOptions::default()).await.err().unwrap();
        assert_eq!(refused.message, "container \"c\" in pod \"p\" is waiting to start: CreateContainerConfigError");
        let refused = runtime.exec(&pod, "c", ExecOptions::default()).await.err().unwrap();
        assert!(refused.message.ends_with("container not found (\"c\")"), "{}", refused.message);
    }
}
