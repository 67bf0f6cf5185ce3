//! What this host lets us do, asked once at the start, so that what is missing is named before it is missed.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::rule::RuleMessage;

use crate::netlink::Netlink;
use crate::nft::{self, NftError};
use crate::routes::family;

/// One thing that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for.
    pub what: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// Whether something fails without it; what is not needed has a substitute.
    pub needed: bool,
    /// What it is for.
    pub why_it_matters: &'static str,
    /// What to do when it is missing, with what was seen.
    pub how_to_fix: String,
}

/// Bits of a capability set (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// A transaction that uses what we need of nftables; it is only checked.
const NAT_TRIAL: &str =
    "table inet tombolo-trial {\n chain nat { type nat hook postrouting priority 100; masquerade; }\n}\n";

/// Looks for everything that the agent may need, in the caller's network namespace. Nothing is changed.
pub async fn check() -> Vec<Finding> {
    let netlink = Netlink::connect().ok();
    let netlink = netlink.as_ref();
    let in_kernel = knows(netlink, InfoKind::Wireguard).await;
    let tun_device = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let mut findings = vec![
        capability("CAP_NET_ADMIN", CAP_NET_ADMIN, "links, addresses, routes and rules are set with it"),
        capability("CAP_NET_RAW", CAP_NET_RAW, "peers are probed with ICMP echoes over raw sockets"),
        tun(tun_device.err().as_ref(), in_kernel),
        ipv6(),
        settings(),
    ];
    findings.extend(nftables().await);
    findings.extend(kernel(netlink, in_kernel).await);
    findings
}

fn capability(what: &'static str, bit: u32, why_it_matters: &'static str) -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Finding {
        what,
        ok: effective_capabilities(&status) & 1 << bit != 0,
        needed: true,
        why_it_matters,
        how_to_fix: format!(
            "run as root, or in a container with securityContext.capabilities.add: [\"{}\"]",
            what.trim_start_matches("CAP_")
        ),
    }
}

fn effective_capabilities(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default()
}

/// `in_kernel`: whether the kernel has WireGuard, so that the embedded one is a choice and no necessity.
fn tun(error: Option<&io::Error>, in_kernel: bool) -> Finding {
    let seen = error.map(|error| format!(" ({error})")).unwrap_or_default();
    Finding {
        what: "/dev/net/tun",
        ok: error.is_none(),
        needed: !in_kernel,
        why_it_matters: "the embedded WireGuard, which stands in for the kernel's, reads and writes packets through it",
        how_to_fix: format!("load the module tun (modprobe tun) and mount /dev/net/tun into the container{seen}"),
    }
}

fn ipv6() -> Finding {
    let disabled = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let fix = match &disabled {
        Ok(value) if value.trim() != "0" => "sysctl -w net.ipv6.conf.all.disable_ipv6=0",
        _ => "boot a kernel with IPv6, without ipv6.disable=1",
    };
    Finding {
        what: "IPv6",
        ok: disabled.is_ok_and(|value| value.trim() == "0"),
        needed: false,
        why_it_matters: "IPv6 and dual-stack clusters need it; IPv4 clusters do not",
        how_to_fix: fix.into(),
    }
}

fn settings() -> Finding {
    let file = Path::new("/proc/sys/net/ipv4/ip_forward");
    let opened = OpenOptions::new().write(true).open(file);
    let seen = opened.as_ref().err().map(|error| format!(" ({}: {error})", file.display())).unwrap_or_default();
    Finding {
        what: "writable /proc/sys/net",
        ok: opened.is_ok(),
        needed: true,
        why_it_matters: "forwarding is switched on there",
        how_to_fix: format!("run the container privileged, or mount the host's /proc/sys/net into it writable{seen}"),
    }
}

async fn nftables() -> [Finding; 2] {
    let trial = nft::check(NAT_TRIAL).await;
    let program = Finding {
        what: "the program nft",
        ok: !matches!(trial, Err(NftError::Missing | NftError::Run(_))),
        needed: true,
        why_it_matters: "Services and masquerading are nftables rules, which it sets",
        how_to_fix: "install the Debian package nftables".into(),
    };
    let seen = trial.as_ref().err().map(|error| format!(" ({error})")).unwrap_or_default();
    let nat = Finding {
        what: "nftables NAT in the kernel",
        ok: trial.is_ok(),
        needed: true,
        why_it_matters: "a Service's address is translated to its endpoints by it",
        how_to_fix: format!("load the modules nf_tables, nft_chain_nat and nft_masq, with CAP_NET_ADMIN{seen}"),
    };
    [program, nat]
}

async fn kernel(netlink: Option<&Netlink>, wireguard: bool) -> Vec<Finding> {
    vec![
        Finding {
            what: "VXLAN",
            ok: knows(netlink, InfoKind::Vxlan).await,
            needed: false,
            why_it_matters: "nodes of one location reach each other through it where --encapsulate asks for it",
            how_to_fix: "load the module vxlan (modprobe vxlan), or run with --encapsulate=never".into(),
        },
        Finding {
            what: "WireGuard in the kernel",
            ok: wireguard,
            needed: false,
            why_it_matters: "it is faster than the embedded WireGuard, which is used without it",
            how_to_fix: "load the module wireguard (modprobe wireguard); Linux 5.6 and later have it".into(),
        },
        Finding {
            what: "policy routing",
            ok: policy_routing(netlink).await,
            needed: true,
            why_it_matters: "encrypted packets are kept out of their own tunnel by a rule (ip rule)",
            how_to_fix: "boot a kernel with CONFIG_IP_MULTIPLE_TABLES, as Debian's are".into(),
        },
    ]
}

/// Whether the kernel can make such links. It is asked for one with an impossible number of queues: a kernel that knows
/// the kind (or loads its module) answers "invalid", any other "not supported", and nothing is made.
async fn knows(netlink: Option<&Netlink>, kind: InfoKind) -> bool {
    const IMPOSSIBLE_QUEUES: u32 = 1 << 20;
    let Some(netlink) = netlink else { return false };
    let mut message = LinkMessage::default();
    message
        .attributes
        .extend([LinkAttribute::NumTxQueues(IMPOSSIBLE_QUEUES), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])]);
    let answer = netlink.ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await;
    matches!(answer, Err(refusal) if refusal.is(libc::EINVAL))
}

async fn policy_routing(netlink: Option<&Netlink>) -> bool {
    let Some(netlink) = netlink else { return false };
    let mut message = RuleMessage::default();
    message.header.family = family(false);
    netlink.list(RouteNetlinkMessage::GetRule(message)).await.is_ok_and(|rules| !rules.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000003000\n";
        assert_eq!(effective_capabilities(status), 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW);
        assert_eq!(effective_capabilities(""), 0);
    }

    #[test]
    fn a_tun_device_is_needed_only_where_the_kernel_has_no_wireguard() {
        let absent = io::Error::from_raw_os_error(libc::ENOENT);
        for (error, in_kernel, ok, needed) in [
            (None, true, true, false),
            (None, false, true, true),
            (Some(&absent), true, false, false),
            (Some(&absent), false, false, true),
        ] {
            let finding = tun(error, in_kernel);
            assert_eq!((finding.ok, finding.needed), (ok, needed), "{error:?} {in_kernel}");
            assert_eq!(finding.how_to_fix.contains("No such file"), error.is_some());
        }
    }
}
