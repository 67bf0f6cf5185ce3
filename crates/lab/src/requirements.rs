//! What a lab needs from the machine, checked before anything is made.

use std::path::{Path, PathBuf};

/// Where Debian's `containernetworking-plugins` puts its programs.
pub const CNI_DIR: &str = "/usr/lib/cni";

/// Program and the Debian package that has it. The last two are what one tries a lab with.
const PROGRAMS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("ping", "iputils-ping"), ("curl", "curl")];
/// CNI plugins that the agent's configuration names.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "portmap"];
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";

/// Something is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Not root.
    #[error("a lab makes network namespaces, which only root may: run this as root (sudo)")]
    Root,
    /// Programs.
    #[error("missing {}: install with `apt-get install {}`", .what.join(", "), .packages.join(" "))]
    Programs {
        /// Their names.
        what: Vec<String>,
        /// The Debian packages that have them.
        packages: Vec<String>,
    },
    /// A file that pods get their own version of.
    #[error("{0} does not exist, so pods cannot be given their own: create it (empty will do)")]
    File(&'static str),
}

/// Checks privilege and programs.
///
/// # Errors
/// What is missing, and what to install.
pub fn check() -> Result<(), Missing> {
    check_root()?;
    missing_programs(|program| find(program).is_some())?;
    match ["/etc/resolv.conf", "/etc/hosts"].into_iter().find(|file| std::fs::canonicalize(file).is_err()) {
        Some(file) => Err(Missing::File(file)),
        None => Ok(()),
    }
}

/// Checks privilege.
///
/// # Errors
/// [`Missing::Root`].
pub fn check_root() -> Result<(), Missing> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(Missing::Root) }
}

fn missing_programs(exists: impl Fn(&str) -> bool) -> Result<(), Missing> {
    let plugins = PLUGINS.map(|plugin| (format!("{CNI_DIR}/{plugin}"), PLUGINS_PACKAGE));
    let programs = PROGRAMS.map(|(program, package)| (program.to_owned(), package));
    let mut what = Vec::new();
    let mut packages: Vec<String> = Vec::new();
    for (program, package) in programs.into_iter().chain(plugins) {
        if exists(&program) {
            continue;
        }
        what.push(program);
        if !packages.iter().any(|p| p == package) {
            packages.push(package.to_owned());
        }
    }
    if what.is_empty() { Ok(()) } else { Err(Missing::Programs { what, packages }) }
}

/// The program's path: in `$PATH`, and where root's programs are even if `$PATH` leaves that out.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| p.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir: PathBuf| dir.join(Path::new(program))).find(|p| p.exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package_once() {
        let error = missing_programs(|program| ["ip", "ping", "curl"].contains(&program)).unwrap_err().to_string();
        assert_eq!(
            error,
            "missing nft, /usr/lib/cni/bridge, /usr/lib/cni/host-local, /usr/lib/cni/portmap: install with \
             `apt-get install nftables containernetworking-plugins`"
        );
        assert_eq!(missing_programs(|_| true), Ok(()));
    }
}
