//! What a lab needs from the machine, checked before anything is made.

use std::path::{Path, PathBuf};

use crate::plan::{Interconnect, Plan, Reflector};
use crate::reflector::FRR_DIR;

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
pub fn check(plan: &Plan) -> Result<(), Missing> {
    check_root()?;
    missing_programs(plan.interconnect, |program| find(program).is_some())?;
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

/// What the route reflector is made of.
fn reflector_programs(interconnect: Interconnect) -> Vec<(String, &'static str)> {
    let programs: &[(&str, &str)] = match interconnect {
        Interconnect::Wireguard | Interconnect::Bgp(Reflector::Tombolo) => &[],
        Interconnect::Bgp(Reflector::Frr) => {
            return ["zebra", "bgpd"].map(|name| (format!("{FRR_DIR}/{name}"), "frr")).to_vec();
        }
        Interconnect::Bgp(Reflector::Bird) => &[("bird", "bird2")],
        Interconnect::Bgp(Reflector::Gobgp) => &[("gobgpd", "gobgpd"), ("gobgp", "gobgpd")],
    };
    programs.iter().map(|(program, package)| ((*program).to_owned(), *package)).collect()
}

fn missing_programs(interconnect: Interconnect, exists: impl Fn(&str) -> bool) -> Result<(), Missing> {
    let plugins = PLUGINS.map(|plugin| (format!("{CNI_DIR}/{plugin}"), PLUGINS_PACKAGE));
    let programs = PROGRAMS.map(|(program, package)| (program.to_owned(), package));
    let mut what = Vec::new();
    let mut packages: Vec<String> = Vec::new();
    for (program, package) in programs.into_iter().chain(plugins).chain(reflector_programs(interconnect)) {
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
        let exists = |program: &str| ["ip", "ping", "curl"].contains(&program);
        let error = missing_programs(Interconnect::Wireguard, exists).unwrap_err().to_string();
        assert_eq!(
            error,
            "missing nft, /usr/lib/cni/bridge, /usr/lib/cni/host-local, /usr/lib/cni/portmap: install with \
             `apt-get install nftables containernetworking-plugins`"
        );
        assert_eq!(missing_programs(Interconnect::Wireguard, |_| true), Ok(()));
    }

    #[test]
    fn a_reflector_is_looked_for_where_there_is_one() {
        for (reflector, text) in [
            (Reflector::Frr, "missing /usr/lib/frr/zebra, /usr/lib/frr/bgpd: install with `apt-get install frr`"),
            (Reflector::Bird, "missing bird: install with `apt-get install bird2`"),
            (Reflector::Gobgp, "missing gobgpd, gobgp: install with `apt-get install gobgpd`"),
        ] {
            let others = |program: &str| ["bgp", "bird", "frr"].iter().all(|part| !program.contains(part));
            assert_eq!(missing_programs(Interconnect::Wireguard, others), Ok(()));
            let error = missing_programs(Interconnect::Bgp(reflector), others).unwrap_err().to_string();
            assert_eq!(error, text);
        }
    }
}
