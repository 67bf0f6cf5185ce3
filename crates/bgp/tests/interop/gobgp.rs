//! GoBGP.

use std::process::Command;

use serde_json::Value;

use super::harness::*;

pub struct Gobgp<'a> {
    lab: &'a Lab,
    name: String,
    n: u8,
    daemon: Option<Daemon>,
}

impl<'a> Gobgp<'a> {
    /// It announces nothing by itself; see [`Gobgp::announce`].
    pub fn start(lab: &'a Lab, plan: &Plan<'_>) -> Self {
        let Plan { n, asn, ours, session, family, more, .. } = plan;
        let (own, other) = plan.addresses();
        // A password stands among the settings that it has anyway.
        let (password, session) = if session.contains("auth-password") { (*session, "") } else { ("", *session) };
        let mut config = format!(
            "[global.config]\n  as = {asn}\n  router-id = \"{}\"\n  port = 179\n  \
             local-address-list = [\"{}\", \"{}\"]\n\
             {more}\n[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{other}\"\n    peer-as = {ours}\n\
             {password}\n  \
             [neighbors.transport.config]\n    local-address = \"{own}\"\n  [neighbors.timers.config]\n    \
             connect-retry = 1\n    \
             idle-hold-time-after-reset = 1\n{session}\n",
            v4(*n),
            v4(*n),
            v6(*n),
        );
        for name in ["ipv4-unicast", "ipv6-unicast"] {
            config += &format!(
                "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      \
                 afi-safi-name = \"{name}\"\n{family}\n"
            );
        }
        let name = format!("gobgp{n}");
        lab.write(&format!("{name}.conf"), &config);
        let mut gobgp = Self { lab, name, n: *n, daemon: None };
        gobgp.restart();
        gobgp
    }

    pub fn restart(&mut self) {
        let mut command = Command::new("/usr/bin/gobgpd");
        let config = self.lab.path(&format!("{}.conf", self.name));
        command.args(["-t", "toml", "-f", &config, "--api-hosts", "127.0.0.1:50051", "--pprof-disable"]);
        self.daemon = Some(self.lab.spawn(&self.name, &mut command));
        let listens = || Some(self.ask(&["global"])).filter(|text| text.contains("AS:")).ok_or_else(|| self.log());
        until("GoBGP answers", listens);
    }

    pub fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub fn ask(&self, words: &[&str]) -> String {
        self.lab.ask("/usr/bin/gobgp", words)
    }

    /// Has it announce a prefix of each family, with communities of all kinds.
    pub fn announce(&self) {
        let n = self.n;
        for (family, prefix, hop) in [("ipv4", prefix4(n), v4(n)), ("ipv6", prefix6(n), v6(n))] {
            let line = format!(
                "global rib add -a {family} {prefix} nexthop {hop} origin igp med {n} community 64512:{n} \
                 large-community {BIG_AS}:{n}:{n} rt 64512:{n}"
            );
            let answer = self.ask(&line.split_whitespace().collect::<Vec<_>>());
            assert_eq!(answer, "", "GoBGP takes a route");
        }
    }
}

impl Peer for Gobgp<'_> {
    fn routes(&self) -> Vec<Seen> {
        let mut routes = Vec::new();
        for family in ["ipv4", "ipv6"] {
            let all: Value =
                serde_json::from_str(&self.ask(&["-j", "global", "rib", "-a", family])).unwrap_or_default();
            for (prefix, paths) in all.as_object().into_iter().flatten() {
                for path in paths.as_array().into_iter().flatten() {
                    let local = path["neighbor-ip"].as_str().is_none_or(|from| from == "<nil>" || from.is_empty());
                    if !local {
                        routes.push(seen(prefix, path));
                    }
                }
            }
        }
        routes
    }

    fn log(&self) -> String {
        self.ask(&["neighbor"]) + &self.lab.read(&format!("{}.out", self.name))
    }
}

fn seen(prefix: &str, path: &Value) -> Seen {
    let mut route = Seen { prefix: prefix.to_owned(), text: path.to_string(), ..Seen::default() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    for attribute in list(&path["attrs"]) {
        let value = &attribute["value"];
        match attribute["type"].as_u64() {
            Some(2) => {
                let asns = list(&attribute["as_paths"]).into_iter().flat_map(|segment| list(&segment["asns"]));
                route.as_path = asns.map(|asn| text(&asn)).collect::<Vec<_>>().join(" ");
            }
            Some(3 | 14) => route.next_hop = text(&attribute["nexthop"]),
            Some(4) => route.med = number(&attribute["metric"]),
            Some(5) => route.local_pref = number(value),
            Some(8) => {
                let all = list(&attribute["communities"]);
                route.communities =
                    all.iter().filter_map(number).map(|c| format!("{}:{}", c >> 16, c & 0xffff)).collect();
            }
            Some(9) => route.originator = text(value),
            Some(10) => route.clusters = list(value).iter().map(text).collect(),
            Some(16) => route.extended = list(value).iter().map(|c| text(&c["value"])).collect(),
            Some(32) => {
                let part = |c: &Value, name: &str| text(&c[name]);
                let all = list(value);
                route.large = all
                    .iter()
                    .map(|c| format!("{}:{}:{}", part(c, "ASN"), part(c, "LocalData1"), part(c, "LocalData2")))
                    .collect();
            }
            _ => {}
        }
    }
    route
}
