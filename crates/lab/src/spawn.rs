//! Starting programs inside namespaces: here is `unsafe`, because what happens between fork(2) and execve(2)
//! may only use what is async-signal-safe.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, setsid};

use crate::netns;

/// Where a program runs.
#[derive(Debug, Default)]
pub struct Sandbox {
    /// Namespaces that exist already.
    join: Vec<(File, CloneFlags)>,
    /// A mount namespace of its own, with these files and folders over others: `(what, over what)`.
    mounts: Option<Vec<(CString, CString)>>,
    hostname: Option<CString>,
    session: bool,
    /// The standard input is a terminal, which becomes the session's.
    terminal: bool,
    /// Where the program starts, in the namespaces that it joins: joining a mount namespace leads to its root.
    directory: Option<CString>,
}

impl Sandbox {
    /// In the network namespace with this name, where `/sys` shows that network, as `ip netns exec` does.
    ///
    /// # Errors
    /// There is no such namespace.
    pub fn network(namespace: &str) -> io::Result<Self> {
        let path = netns::path(namespace);
        let file = File::open(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        Ok(Self { join: vec![(file, CloneFlags::CLONE_NEWNET)], mounts: Some(Vec::new()), ..Self::default() })
    }

    /// In the namespaces (network, host name, mounts) that the process `pid` is in.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        let open = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
        let join = vec![
            (open("net")?, CloneFlags::CLONE_NEWNET),
            (open("uts")?, CloneFlags::CLONE_NEWUTS),
            (open("mnt")?, CloneFlags::CLONE_NEWNS),
        ];
        Ok(Self { join, ..Self::default() })
    }

    /// Shows `source` in the place of `target`, to this program alone. Both exist.
    ///
    /// # Errors
    /// A path with a NUL byte.
    pub fn bind(mut self, source: &Path, target: &Path) -> io::Result<Self> {
        let pair = (c_string(source.as_os_str())?, c_string(target.as_os_str())?);
        self.mounts.get_or_insert_default().push(pair);
        Ok(self)
    }

    /// With this host name.
    ///
    /// # Errors
    /// A name with a NUL byte.
    pub fn hostname(mut self, name: &str) -> io::Result<Self> {
        self.hostname = Some(c_string(OsStr::new(name))?);
        Ok(self)
    }

    /// In a session of its own: no terminal, and signals to its group reach nothing else.
    pub fn session(mut self) -> Self {
        self.session = true;
        self
    }

    /// In a session of its own, whose terminal is the program's standard input.
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self.session()
    }

    /// Starting in this folder, after everything else has been done.
    ///
    /// # Errors
    /// A path with a NUL byte.
    pub fn directory(mut self, path: &str) -> io::Result<Self> {
        self.directory = Some(c_string(OsStr::new(path))?);
        Ok(self)
    }

    /// The program in this sandbox. `$PATH` is that of the caller.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // SAFETY: `enter` only makes system calls on what was opened and allocated before the fork; it neither
        // allocates nor locks, and no Rust destructor runs in it.
        unsafe { command.pre_exec(move || self.enter()) };
        command
    }

    fn enter(&self) -> io::Result<()> {
        if self.session {
            setsid()?;
        }
        if self.terminal {
            take_terminal()?;
        }
        for (namespace, kind) in &self.join {
            setns(namespace, *kind)?;
        }
        if let Some(name) = &self.hostname {
            unshare(CloneFlags::CLONE_NEWUTS)?;
            set_hostname(name)?;
        }
        if let Some(mounts) = &self.mounts {
            own_mounts(mounts)?;
        }
        if let Some(directory) = &self.directory {
            chdir(directory.as_c_str())?;
        }
        Ok(())
    }
}

/// Makes the standard input the terminal of this process's session.
fn take_terminal() -> io::Result<()> {
    // SAFETY: the request takes a number, and a descriptor that is not open is an error like another.
    let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn own_mounts(mounts: &[(CString, CString)]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Nothing that is mounted here is seen outside, and namespaces that go outside go here too.
    mount(None::<&CStr>, c"/", None::<&CStr>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&CStr>)?;
    // /sys shows the network namespace of whoever mounted it.
    let _ = umount2(c"/sys", MntFlags::MNT_DETACH);
    mount(Some(c"sysfs"), c"/sys", Some(c"sysfs"), MsFlags::empty(), None::<&CStr>)?;
    for (source, target) in mounts {
        mount(Some(source.as_c_str()), target.as_c_str(), None::<&CStr>, MsFlags::MS_BIND, None::<&CStr>)?;
    }
    Ok(())
}

fn set_hostname(name: &CStr) -> io::Result<()> {
    // SAFETY: the pointer is to as many bytes as are said, and they live until the call returns.
    let result = unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}
