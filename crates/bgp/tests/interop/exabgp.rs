//! ExaBGP: what it hears it writes into one file, what it shall say it reads from another.

use std::process::Command;

use serde_json::Value;

use super::harness::*;

pub struct Exabgp<'a> {
    lab: &'a Lab,
    name: String,
    daemon: Option<Daemon>,
}

/// Its standard input is what ExaBGP heard, its output is what ExaBGP shall do.
const PROCESS: &str = "#!/bin/sh\nexec 3<&0\ncat <&3 >>\"$1.heard\" &\nexec tail -n +1 -f --pid=$PPID \"$1.say\"\n";

impl<'a> Exabgp<'a> {
    /// It announces a prefix of each family, with communities of all kinds.
    pub fn start(lab: &'a Lab, plan: &Plan<'_>) -> Self {
        let Plan { n, asn, ours, session, family, more, .. } = plan;
        let (own, other) = plan.addresses();
        let name = format!("exabgp{n}");
        let script = lab.write(&format!("{name}.sh"), PROCESS);
        lab.write(&format!("{name}.say"), "");
        let (base, marks) = (lab.path(&name), marks(*n));
        let config = format!(
            "process api {{ run /bin/sh {script} {base}; encoder json; }}\n\
             neighbor {other} {{\n  router-id {}; local-address {own}; local-as {asn}; peer-as {ours};\n{session}\n  \
             family {{ ipv4 unicast; ipv6 unicast; }}\n{family}\n  api {{ processes [ api ]; neighbor-changes; \
             receive {{ parsed; update; notification; open; }} }}\n  \
             static {{ route {} next-hop {} {marks}; route {} next-hop {} {marks}; {more} }}\n}}\n",
            v4(*n),
            prefix4(*n),
            v4(*n),
            prefix6(*n),
            v6(*n),
        );
        lab.write(&format!("{name}.conf"), &config);
        let mut exabgp = Self { lab, name, daemon: None };
        exabgp.restart();
        exabgp
    }

    pub fn restart(&mut self) {
        let mut command = Command::new("/usr/sbin/exabgp");
        command.env("exabgp.daemon.user", "root").env("exabgp.api.cli", "false").env("exabgp.tcp.delay", "0");
        command.env("exabgp.api.ack", "false");
        command.arg(self.lab.path(&format!("{}.conf", self.name)));
        self.daemon = Some(self.lab.spawn(&self.name, &mut command));
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Has it say something.
    pub fn say(&self, line: &str) {
        append(&self.lab.path(&format!("{}.say", self.name)), line);
    }

    /// All that it heard, a message a line.
    pub fn heard(&self) -> Vec<Value> {
        let text = self.lab.read(&format!("{}.heard", self.name));
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

pub fn marks(n: u8) -> String {
    format!(
        "med {n} community [ 64512:{n} ] large-community [ {BIG_AS}:{n}:{n} ] extended-community [ target:64512:{n} ]"
    )
}

impl Peer for Exabgp<'_> {
    fn routes(&self) -> Vec<Seen> {
        let mut routes: Vec<(String, Seen)> = Vec::new();
        for message in self.heard() {
            if message["type"] == "state" && message["neighbor"]["state"] == "down" {
                routes.clear();
            }
            let update = &message["neighbor"]["message"]["update"];
            for family in ["ipv4 unicast", "ipv6 unicast"] {
                for gone in update["withdraw"][family].as_array().into_iter().flatten() {
                    routes.retain(|(key, _)| *key != key_of(gone));
                }
                for (hop, all) in update["announce"][family].as_object().into_iter().flatten() {
                    for nlri in all.as_array().into_iter().flatten() {
                        routes.retain(|(key, _)| *key != key_of(nlri));
                        routes.push((key_of(nlri), seen(nlri, hop, &update["attribute"])));
                    }
                }
            }
        }
        routes.into_iter().map(|(_, route)| route).collect()
    }

    fn log(&self) -> String {
        self.lab.read(&format!("{}.out", self.name)) + &self.lab.read(&format!("{}.heard", self.name))
    }
}

fn key_of(nlri: &Value) -> String {
    format!("{} {}", nlri["nlri"], nlri["path-information"])
}

fn seen(nlri: &Value, hop: &str, attributes: &Value) -> Seen {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let colons = |value: &Value| -> Vec<String> {
        list(value).iter().map(|c| list(c).iter().map(text).collect::<Vec<_>>().join(":")).collect()
    };
    Seen {
        prefix: text(&nlri["nlri"]),
        next_hop: hop.to_owned(),
        as_path: list(&attributes["as-path"]).iter().map(text).collect::<Vec<_>>().join(" "),
        med: number(&attributes["med"]),
        local_pref: number(&attributes["local-preference"]),
        communities: colons(&attributes["community"]),
        large: colons(&attributes["large-community"]),
        extended: list(&attributes["extended-community"]).iter().map(|c| text(&c["string"])).collect(),
        originator: attributes["originator-id"].as_str().unwrap_or_default().to_owned(),
        clusters: list(&attributes["cluster-list"]).iter().map(text).collect(),
        text: format!("{nlri} {attributes}"),
    }
}
