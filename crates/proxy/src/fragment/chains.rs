//! The chains that choose an endpoint.
//!
//! Where the endpoints are not very many, all have the same share and no client is remembered, one chain does it for
//! all services at once: it looks the endpoint up by frontend and number. Otherwise the service has chains of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Compiler, Fate, Port, reject};
use crate::choice::{Choices, is_even};
use crate::model::{Family, Owner, ServiceKey};
use crate::ruleset::{MOST, Split, from_inside, pick_name};
use crate::table::Value;

impl Compiler<'_> {
    /// Policy `Cluster`.
    pub(super) fn anywhere(&mut self, port: &Port<'_>) -> Fate {
        if port.anywhere.is_empty() {
            return Fate::refused(reject());
        }
        self.one_of("svc", port, &port.anywhere)
    }

    /// Policy `Local` for traffic inside the cluster.
    pub(super) fn only_here(&mut self, port: &Port<'_>) -> Fate {
        match (port.anywhere.is_empty(), port.here.is_empty()) {
            (true, true) => Fate::refused(reject()),
            (false, true) => Fate::refused(Value::Drop),
            (_, false) => self.one_of("loc", port, &port.here),
        }
    }

    /// Policy `Local` for traffic from outside; what comes from inside may go anywhere.
    pub(super) fn first_here(&mut self, port: &Port<'_>) -> Fate {
        if port.anywhere.is_empty() {
            return self.only_here(port);
        }
        let otherwise = port.here.is_empty().then_some(Value::Drop);
        if let (Some(anywhere), Some(here)) = (self.count(&port.anywhere), self.count(&port.here)) {
            let split = Split { family: port.family, anywhere, here };
            self.fragment.splits.insert(split);
            let slots = (port.anywhere.keys().copied().collect(), port.here.keys().copied().collect());
            return Fate { chain: Some(split.name().into()), slots, otherwise };
        }
        let anywhere = self.endpoints_chain("svc", port, &port.anywhere);
        let mut rules: Vec<String> =
            from_inside(port.family).into_iter().map(|source| format!("{source} goto {anywhere}")).collect();
        if !port.here.is_empty() {
            let here = self.endpoints_chain("loc", port, &port.here);
            rules.push(format!("goto {here}"));
        }
        let chain = self.name("ext", port);
        self.fragment.chains.insert(chain.clone(), rules);
        Fate { chain: Some(chain.into()), slots: (Vec::new(), Vec::new()), otherwise }
    }

    /// The chain that lets the load balancer's sources pass, where not all do.
    pub(super) fn firewall(&mut self, family: Family) -> Option<Arc<str>> {
        let ranges = self.service.source_ranges.as_ref()?;
        let own: Vec<IpNet> =
            ranges.iter().filter(|range| Family::of(range.addr()) == family).map(IpNet::trunc).collect();
        // Ranges of one family say nothing of the other, as with kube-proxy.
        if own.is_empty() && !ranges.is_empty() {
            return None;
        }
        let own: Vec<String> = IpNet::aggregate(&own).iter().map(ToString::to_string).collect();
        let chain = format!("{}{}/{}/{}", self.kind("fw"), family.digit(), self.key().namespace, self.key().name);
        let mut rules = Vec::new();
        if !own.is_empty() {
            rules.push(format!("{} saddr {{ {} }} return", family.ip(), own.join(", ")));
        }
        rules.push("drop".to_owned());
        self.fragment.chains.insert(chain.clone(), rules);
        Some(chain.into())
    }

    fn one_of(&mut self, kind: &str, port: &Port<'_>, choices: &Choices) -> Fate {
        if let Some(count) = self.count(choices) {
            let slots = choices.keys().copied().collect();
            return Fate {
                chain: Some(pick_name(port.family, count).into()),
                slots: (slots, Vec::new()),
                otherwise: None,
            };
        }
        let chain = self.endpoints_chain(kind, port, choices);
        Fate { chain: Some(chain.into()), slots: (Vec::new(), Vec::new()), otherwise: None }
    }

    /// How many endpoints there are, where they can be looked up by number.
    fn count(&self, choices: &Choices) -> Option<u32> {
        let count = u32::try_from(choices.len()).ok().filter(|count| *count <= MOST)?;
        (self.service.session_affinity.is_none() && is_even(choices)).then_some(count)
    }

    /// A chain of the port's own that chooses one of the endpoints.
    fn endpoints_chain(&mut self, kind: &str, port: &Port<'_>, choices: &Choices) -> String {
        let name = self.name(kind, port);
        if self.fragment.chains.contains_key(&name) {
            return name;
        }
        let rules = match self.service.session_affinity {
            Some(timeout) => self.affine(port, choices, timeout),
            None => vec![translation(port, choices)],
        };
        self.fragment.chains.insert(name.clone(), rules);
        name
    }

    /// A set an endpoint remembers the clients that it served. The timeout is part of the set's name, since a set's
    /// declaration can't be changed.
    fn affine(&mut self, port: &Port<'_>, choices: &Choices, timeout: u32) -> Vec<String> {
        let ip = port.family.ip();
        let mut rules = Vec::new();
        let mut verdicts = Vec::new();
        for (endpoint, share) in choices {
            let address = endpoint.ip().to_string().replace(':', ".");
            let tail = format!("{timeout}/{address}/{}", endpoint.port());
            let chain = format!("{}/{tail}", self.name("ep", port));
            let set = format!("{}/{tail}", self.name("aff", port));
            rules.push(format!("{ip} saddr @{set} goto {chain}"));
            verdicts.push((format!("goto {chain}"), *share));
            // A set that is full remembers no more clients, but they are served.
            let remember = format!("update @{set} {{ {ip} saddr }}");
            self.fragment.chains.insert(chain, vec![remember, translation(port, &BTreeMap::from([(*endpoint, 1)]))]);
            let declaration =
                format!("type {}; flags dynamic,timeout; timeout {timeout}s;", port.family.address_type());
            self.fragment.sets.insert(set, declaration);
        }
        rules.push(match verdicts.as_slice() {
            [(one, _)] => one.clone(),
            many => at_random("vmap", many),
        });
        rules
    }

    /// The name of a port's chain (or set) of one kind.
    fn name(&self, kind: &str, port: &Port<'_>) -> String {
        let ServiceKey { namespace, name } = self.key();
        let (kind, family) = (self.kind(kind), port.family.digit());
        format!("{kind}{family}/{namespace}/{name}/{}/{}", port.port.protocol, port.port.port)
    }

    /// A Service and a ServiceImport may have the same name.
    fn kind(&self, kind: &str) -> String {
        match self.owner {
            Owner::Service(_) => kind.to_owned(),
            Owner::Import(_) => format!("import-{kind}"),
        }
    }

    fn key(&self) -> &ServiceKey {
        self.owner.key()
    }
}

/// The rule that translates the destination to one of `choices`.
fn translation(port: &Port<'_>, choices: &Choices) -> String {
    let (ip, protocol) = (port.family.ip(), port.port.protocol);
    if let (1, Some(one)) = (choices.len(), choices.keys().next()) {
        return format!("meta l4proto {protocol} dnat {ip} to {one}");
    }
    let choices: Vec<(String, u32)> =
        choices.iter().map(|(endpoint, share)| (format!("{} . {}", endpoint.ip(), endpoint.port()), *share)).collect();
    format!("meta l4proto {protocol} dnat {ip} to {}", at_random("map", &choices))
}

fn at_random(kind: &str, choices: &[(String, u32)]) -> String {
    let mut next = 0;
    let mut ranges = Vec::new();
    for (choice, share) in choices {
        let last = next + share - 1;
        let range = if next == last { next.to_string() } else { format!("{next}-{last}") };
        ranges.push(format!("{range} : {choice}"));
        next = last + 1;
    }
    format!("numgen random mod {next} {kind} {{ {} }}", ranges.join(", "))
}
