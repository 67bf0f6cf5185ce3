//! What can go wrong on the host, in words that say what to do next.

use std::io;

/// Why a step on the host was not done.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No socket to the kernel.
    #[error(
        "cannot open a netlink socket: {0}; the process needs a Linux kernel and no seccomp filter against AF_NETLINK"
    )]
    Connect(#[source] io::Error),
    /// The kernel said no.
    #[error("cannot {what}: {refusal}")]
    Kernel {
        /// The step, as the rest of "cannot …".
        what: String,
        /// What the kernel answered.
        #[source]
        refusal: Refusal,
    },
    /// A link that a step needs is not there.
    #[error("there is no link {link}: whoever makes it has not done so yet, or somebody removed it")]
    NoLink {
        /// Its name.
        link: String,
    },
    /// A link has the name that ours shall have, but is of another kind.
    #[error("the link {link} exists already and is {kind}, not a VXLAN: it is left alone; rename or remove it")]
    ForeignLink {
        /// Its name.
        link: String,
        /// What it is.
        kind: String,
    },
    /// Somebody else's route stands where ours shall.
    #[error("{what} exists already and is not ours ({owner}): it is left alone; remove it, or stop what makes it")]
    Occupied {
        /// The route.
        what: String,
        /// What is known of its owner, such as `protocol 4`.
        owner: String,
    },
    /// A file under /proc, a socket option or a record file.
    #[error("cannot {what}: {source}")]
    Io {
        /// The step, as the rest of "cannot …".
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl HostError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(Refusal) -> Self {
        let what = what.into();
        move |refusal| Self::Kernel { what, refusal }
    }

    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { refusal, .. } => refusal.error.raw_os_error(),
            Self::Connect(error) | Self::Io { source: error, .. } => error.raw_os_error(),
            Self::NoLink { .. } | Self::ForeignLink { .. } | Self::Occupied { .. } => None,
        }
    }
}

/// The kernel's answer to a request that it did not carry out.
#[derive(Debug)]
pub struct Refusal {
    /// The error number.
    pub error: io::Error,
    /// The kernel's own words (extended acknowledgement), where it gave some.
    pub words: Option<String>,
}

impl Refusal {
    pub(crate) fn is(&self, errno: i32) -> bool {
        self.error.raw_os_error() == Some(errno)
    }

    /// What a person can do about it, by error number.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.error.raw_os_error()? {
            libc::EPERM | libc::EACCES => "the process needs CAP_NET_ADMIN in this network namespace",
            libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => {
                "this kernel lacks the feature, or its module is not loaded"
            }
            libc::ENODEV | libc::ENXIO => "the link is gone",
            libc::ENETDOWN => "the link is down",
            libc::ENETUNREACH => "the gateway is not reachable on that link, or the link is down",
            _ => return None,
        })
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.error)?;
        if let Some(words) = &self.words {
            write!(f, ", the kernel says \"{words}\"")?;
        }
        self.advice().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for Refusal {}
