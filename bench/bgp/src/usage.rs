//! What a process used.

use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// A process under test.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pid: Pid,
    clock: ClockId,
}

impl Process {
    /// The process with this ID.
    pub fn new(pid: i32) -> anyhow::Result<Process> {
        let pid = Pid::from_raw(pid);
        let clock = clock_getcpuclockid(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Process { pid, clock })
    }

    /// CPU time of all its threads, those that ended included.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(clock_gettime(self.clock).with_context(|| format!("process {} has ended", self.pid))?.into())
    }

    /// The most memory that it has had resident, in KiB.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid);
        let status = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("{path} says nothing of VmHWM"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_has_used_something() {
        let own = Process::new(std::process::id().cast_signed()).unwrap();
        assert!(own.cpu().unwrap() > Duration::ZERO);
        assert!(own.peak_memory().unwrap() > 100);
    }
}
