//! Network namespaces by name, as ip-netns(8) keeps them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run;

const DIR: &str = "/run/netns";

/// The file that stands for the namespace.
pub fn path(namespace: &str) -> PathBuf {
    Path::new(DIR).join(namespace)
}

/// The namespaces whose names start with `prefix`.
pub fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIR) else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Makes namespaces, with the loopback link up.
///
/// # Errors
/// What `ip` said.
pub fn create(namespaces: &[String]) -> io::Result<()> {
    let add: String = namespaces.iter().map(|name| format!("netns add {name}\n")).collect();
    run::with_input(Command::new("ip").args(["-batch", "-"]), &add)?;
    for name in namespaces {
        run::with_input(Command::new("ip").args(["-n", name, "-batch", "-"]), "link set lo up\n")?;
    }
    Ok(())
}

/// Kills every process in the namespace and removes it, with the links and everything else in it.
///
/// # Errors
/// Processes that don't die, or what `ip` said.
pub fn destroy(namespace: &str) -> io::Result<()> {
    kill_all(|link| link == identity(namespace).as_deref(), "net")?;
    let mut delete = Command::new("ip");
    match run::with_input(delete.args(["netns", "del", namespace]), "") {
        Err(error) if path(namespace).exists() => Err(error),
        _ => Ok(()),
    }
}

/// Kills every process whose namespace of this kind (a name in `/proc/PID/ns`) is the one asked for, and waits until
/// they are gone. The process itself is spared.
///
/// # Errors
/// Some are still there after five seconds.
pub fn kill_all(wanted: impl Fn(Option<&str>) -> bool, kind: &str) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let pids = processes(&wanted, kind);
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("processes {pids:?} do not die")));
        }
        for pid in pids {
            // It may have ended since: that is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes(wanted: &impl Fn(Option<&str>) -> bool, kind: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let me = std::process::id().cast_signed();
    // The link of a zombie cannot be read, so zombies are not found.
    pids.filter(|pid| *pid != me && process_namespace(*pid, kind).is_some_and(|link| wanted(Some(&link)))).collect()
}

/// Which namespace of a kind (`net`, `mnt`, …) a process is in, as `/proc/PID/ns` names it.
pub fn process_namespace(pid: i32, kind: &str) -> Option<String> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.into_os_string().into_string().ok()
}

/// How `/proc/PID/ns/net` names the namespace.
fn identity(namespace: &str) -> Option<String> {
    Some(format!("net:[{}]", std::fs::metadata(path(namespace)).ok()?.ino()))
}

/// Runs `work` on a thread of its own inside the namespace; sockets that it opens stay there.
///
/// # Errors
/// The namespace is not there, or what `work` returns.
pub fn enter<T: Send>(namespace: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let file = File::open(path(namespace))?;
    let inside = move || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    std::thread::scope(|scope| {
        scope.spawn(inside).join().unwrap_or_else(|_| Err(io::Error::other("a thread in a namespace panicked")))
    })
}

/// [`enter`], away from the async workers.
///
/// # Errors
/// As [`enter`].
pub async fn enter_async<T: Send + 'static>(
    namespace: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(move || enter(&namespace, work)).await.map_err(io::Error::other)?
}

/// Writes a sysctl in the namespace.
///
/// # Errors
/// The name and the kernel's reason.
pub fn sysctl(namespace: &str, settings: &[(&str, &str)]) -> io::Result<()> {
    enter(namespace, || {
        for (name, value) in settings {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            match std::fs::write(&path, value) {
                // A kernel without the module (br_netfilter, IPv6) needs no setting for it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io::Error::other(format!("sysctl {name}={value} in {namespace}: {error}"))),
                Ok(()) => {}
            }
        }
        Ok(())
    })
}

/// Runs `nft -f -` in the namespace.
///
/// # Errors
/// What `nft` said.
pub fn nft(namespace: &str, ruleset: &str) -> io::Result<()> {
    let mut command = Command::new("ip");
    run::with_input(command.args(["netns", "exec", namespace, "nft", "-f", "-"]).stdout(Stdio::null()), ruleset)
}
