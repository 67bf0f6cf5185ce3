//! Rules of ours of the routing policy (`RTM_*RULE`, ip-rule(8)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tombolo_net::network::{PROTOCOL, Rule};

use crate::error::HostError;
use crate::netlink::Netlink;
use crate::routes::family;

/// All our rules of both families.
pub(crate) async fn observe(netlink: &Netlink) -> Result<Vec<Rule>, HostError> {
    let mut rules = Vec::new();
    for ipv6 in [false, true] {
        rules.extend(list(netlink, ipv6).await?.iter().filter(|m| protocol(m) == PROTOCOL).filter_map(read));
    }
    Ok(rules)
}

/// Adds the rule; one that is there already is fine if it is ours.
pub(crate) async fn add(netlink: &Netlink, rule: &Rule) -> Result<(), HostError> {
    let refusal = match netlink.ask(RouteNetlinkMessage::NewRule(write(rule)), NLM_F_CREATE | NLM_F_EXCL).await {
        Err(refusal) if refusal.is(libc::EEXIST) => refusal,
        other => return other.map_err(HostError::kernel(format!("add the rule {}", describe(rule)))),
    };
    // The kernel takes rules that differ in `not` alone for the same.
    let listed = list(netlink, rule.ipv6).await?;
    if listed.iter().any(|m| protocol(m) == PROTOCOL && read(m).as_ref() == Some(&canonical(rule))) {
        return Ok(());
    }
    Err(HostError::Kernel { what: format!("add the rule {}", describe(rule)), refusal })
}

/// Removes the rule; one that is not there is removed already.
pub(crate) async fn remove(netlink: &Netlink, rule: &Rule) -> Result<(), HostError> {
    match netlink.ask(RouteNetlinkMessage::DelRule(write(rule)), 0).await {
        Err(refusal) if refusal.is(libc::ENOENT) => Ok(()),
        other => other.map_err(HostError::kernel(format!("remove the rule {}", describe(rule)))),
    }
}

async fn list(netlink: &Netlink, ipv6: bool) -> Result<Vec<RuleMessage>, HostError> {
    let mut message = RuleMessage::default();
    message.header.family = family(ipv6);
    let listed = match netlink.list(RouteNetlinkMessage::GetRule(message)).await {
        Err(refusal) if ipv6 && [libc::EAFNOSUPPORT, libc::EOPNOTSUPP].iter().any(|e| refusal.is(*e)) => vec![],
        other => other.map_err(HostError::kernel("list the rules"))?,
    };
    let rules = listed.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRule(rule) => Some(rule),
        _ => None,
    });
    Ok(rules.filter(|m| m.header.family == family(ipv6)).collect())
}

fn protocol(message: &RuleMessage) -> u8 {
    let given = message.attributes.iter().find_map(|a| match a {
        RuleAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
        _ => None,
    });
    given.unwrap_or_default()
}

fn write(rule: &Rule) -> RuleMessage {
    let rule = canonical(rule);
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = family(rule.ipv6);
    header.action = RuleAction::ToTable;
    header.flags = if rule.invert { RuleFlags::Invert } else { RuleFlags::empty() };
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    if let Some(from) = rule.from {
        header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.addr()));
    }
    attributes.extend(rule.input.map(RuleAttribute::Iifname));
    if let Some((mark, mask)) = rule.fwmark {
        attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
    }
    message
}

fn read(message: &RuleMessage) -> Option<Rule> {
    let ipv6 = match message.header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    if message.header.action != RuleAction::ToTable {
        return None;
    }
    let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let net = |address: IpAddr, length| IpNet::new(address, length).ok();
    let mut rule = Rule {
        ipv6,
        priority: 0,
        from: net(any, message.header.src_len),
        to: net(any, message.header.dst_len),
        input: None,
        fwmark: None,
        invert: message.header.flags.contains(RuleFlags::Invert),
        table: u32::from(message.header.table),
    };
    let (mut mark, mut mask) = (0, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Source(address) => rule.from = net(*address, message.header.src_len),
            RuleAttribute::Destination(address) => rule.to = net(*address, message.header.dst_len),
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::FwMark(value) => mark = *value,
            RuleAttribute::FwMask(value) => mask = Some(*value),
            _ => {}
        }
    }
    rule.fwmark = mask.map(|mask| (mark, mask));
    Some(canonical(&rule))
}

/// As the kernel keeps it: prefixes without host bits, and a prefix that holds everything is no condition.
fn canonical(rule: &Rule) -> Rule {
    let condition = |net: Option<IpNet>| net.map(|n| n.trunc()).filter(|n| n.prefix_len() > 0);
    Rule {
        from: condition(rule.from),
        to: condition(rule.to),
        fwmark: rule.fwmark.filter(|f| *f != (0, 0)),
        ..rule.clone()
    }
}

fn describe(rule: &Rule) -> String {
    let mut text = format!("{}:", rule.priority);
    if rule.invert {
        text += " not";
    }
    text += &rule.from.map_or(" from all".to_owned(), |net| format!(" from {net}"));
    if let Some(to) = rule.to {
        text += &format!(" to {to}");
    }
    if let Some(input) = &rule.input {
        text += &format!(" iif {input}");
    }
    if let Some((mark, mask)) = rule.fwmark {
        text += &format!(" fwmark {mark:#x}/{mask:#x}");
    }
    format!("{text} lookup {}{}", rule.table, if rule.ipv6 { " (IPv6)" } else { "" })
}
