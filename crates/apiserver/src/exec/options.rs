//! What a request asks for: the container, the command, the streams.

use serde_json::Value;
use time::OffsetDateTime;

use crate::clock;
use crate::http::Query;
use crate::object::{self, at, str_at};
use crate::status::{Cause, Status};

/// What to run, and which of its streams the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOptions {
    /// The program and its arguments; at least the program.
    pub command: Vec<String>,
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client wants the output.
    pub stdout: bool,
    /// Whether the client wants the standard error; never with a terminal.
    pub stderr: bool,
    /// Whether the command gets a terminal. Its size is the first that comes through [`super::Exec::resize`].
    pub tty: bool,
}

/// Which streams of a container's main process the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachOptions {
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client wants the output.
    pub stdout: bool,
    /// Whether the client wants the standard error; never with a terminal.
    pub stderr: bool,
    /// Whether the container has a terminal.
    pub tty: bool,
}

/// Which part of a container's log the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Whether to go on with what the container writes from now on.
    pub follow: bool,
    /// Only so many of the last lines; `None` for all.
    pub tail_lines: Option<u64>,
    /// Only the last seconds.
    pub since_seconds: Option<u64>,
    /// Only what was written at this time or later.
    pub since_time: Option<OffsetDateTime>,
    /// Whether each line begins with the time (RFC 3339) at which it was written.
    pub timestamps: bool,
    /// Whether the log of the container's last run before this one is wanted.
    pub previous: bool,
    /// Only so many bytes.
    pub limit_bytes: Option<u64>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The container and the options of an `exec`.
pub(super) fn exec(query: &str, pod: &Value) -> Result<(String, ExecOptions), Status> {
    let query = Query::parse(query)?;
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    }
    let AttachOptions { stdin, stdout, stderr, tty } = streams(&query)?;
    let container = running_container(pod, query.get("container"))?;
    Ok((container, ExecOptions { command, stdin, stdout, stderr, tty }))
}

/// The container and the options of an `attach`.
pub(super) fn attach(query: &str, pod: &Value) -> Result<(String, AttachOptions), Status> {
    let query = Query::parse(query)?;
    let options = streams(&query)?;
    Ok((running_container(pod, query.get("container"))?, options))
}

/// The container and the options of a `log`.
pub(super) fn logs(query: &str, pod: &Value) -> Result<(String, LogOptions), Status> {
    let query = Query::parse(query)?;
    let options = LogOptions {
        follow: query.flag("follow"),
        tail_lines: count(&query, "tailLines", 0)?,
        since_seconds: count(&query, "sinceSeconds", 1)?,
        since_time: match query.get("sinceTime") {
            "" => None,
            text => Some(clock::parse(text).ok_or_else(|| {
                Status::bad_request(format!("sinceTime {text:?} is not a time as RFC 3339 writes it"))
            })?),
        },
        timestamps: query.flag("timestamps"),
        previous: query.flag("previous"),
        limit_bytes: count(&query, "limitBytes", 1)?,
    };
    if options.since_seconds.is_some() && options.since_time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        return Err(invalid_log_options(Cause::forbidden("", why)));
    }
    let container = container(pod, query.get("container"))?;
    Ok((container, options))
}

fn streams(query: &Query) -> Result<AttachOptions, Status> {
    let (stdin, stdout, tty) = (query.flag("stdin"), query.flag("stdout"), query.flag("tty"));
    let stderr = query.flag("stderr");
    if !stdin && !stdout && !stderr {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    // A terminal has one output.
    Ok(AttachOptions { stdin, stdout, stderr: stderr && !tty, tty })
}

fn count(query: &Query, name: &str, least: i64) -> Result<Option<u64>, Status> {
    let text = query.get(name);
    if text.is_empty() {
        return Ok(None);
    }
    let number: i64 =
        text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
    if number < least {
        let why = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
        return Err(invalid_log_options(Cause::invalid(name, &number.into(), why)));
    }
    Ok(u64::try_from(number).ok())
}

fn invalid_log_options(cause: Cause) -> Status {
    Status::invalid("", "PodLogOptions", "", vec![cause])
}

/// The container to run something in; the pod must be on a node and not have ended.
fn running_container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = object::name(pod);
    if str_at(pod, &["spec", "nodeName"]).is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    if let phase @ ("Succeeded" | "Failed") = str_at(pod, &["status", "phase"]) {
        let why = format!("cannot run anything in a container of a completed pod; current phase is {phase}");
        return Err(Status::bad_request(why));
    }
    container(pod, asked)
}

/// The container that was asked for, or the only one.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |field| {
        let containers = at(pod, &["spec", field]).and_then(Value::as_array).into_iter().flatten();
        containers.map(|container| str_at(container, &["name"])).collect::<Vec<_>>()
    };
    let containers = names("containers");
    let all = [names("initContainers"), containers.clone(), names("ephemeralContainers")].concat();
    let pod = object::name(pod);
    match (asked, containers.as_slice()) {
        ("", [only]) => Ok((*only).to_owned()),
        ("", _) => {
            let choice = containers.join(" ");
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod}, choose one of: [{choice}]"
            )))
        }
        (asked, _) if all.contains(&asked) => Ok(asked.to_owned()),
        (asked, _) => Err(Status::bad_request(format!("container {asked} is not valid for pod {pod}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str], node: &str) -> Value {
        let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": containers}})
    }

    #[test]
    fn an_exec_names_a_command_and_streams() {
        let (container, options) =
            exec("command=sh&command=-c&command=a%20b&stdout=true&stderr=1&stdin=false", &pod(&["a"], "n")).unwrap();
        assert_eq!(container, "a");
        let command = vec!["sh".to_owned(), "-c".to_owned(), "a b".to_owned()];
        assert_eq!(options, ExecOptions { command, stdout: true, stderr: true, ..ExecOptions::default() });
        assert!(!exec("command=sh&stdout=1&stderr=1&tty=1", &pod(&["a"], "n")).unwrap().1.stderr);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let table = [
            ("stdout=1", pod(&["a"], "n"), "you must specify at least one command for the container"),
            ("command=a", pod(&["a"], "n"), "you must specify at least 1 of stdin, stdout, stderr"),
            ("command=a&stdout=1", pod(&["a"], ""), "pod p does not have a host assigned"),
            (
                "command=a&stdout=1",
                pod(&["a", "b"], "n"),
                "a container name must be specified for pod p, choose one of: [a b]",
            ),
            ("command=a&stdout=1&container=c", pod(&["a"], "n"), "container c is not valid for pod p"),
        ];
        for (query, pod, expected) in table {
            let status = exec(query, &pod).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (400, expected), "{query}");
        }
        assert_eq!(logs("tailLines=-1", &pod(&["a"], "n")).unwrap_err().code, 422);
        assert_eq!(logs("tailLines=x", &pod(&["a"], "n")).unwrap_err().code, 400);
        assert_eq!(logs("tailLines=0&follow=true", &pod(&["a"], "n")).unwrap().1.tail_lines, Some(0));
    }
}
