//! FRR's bgpd, without zebra.

use std::process::Command;

use serde_json::Value;

use super::harness::*;

pub struct Frr<'a> {
    lab: &'a Lab,
    name: String,
    arguments: Vec<String>,
    daemon: Option<Daemon>,
}

impl<'a> Frr<'a> {
    /// It announces a prefix of each family, with communities of all kinds.
    pub fn start(lab: &'a Lab, plan: &Plan<'_>) -> Self {
        let Plan { n, asn, ours, session, family, more, .. } = plan;
        let (own, other) = plan.addresses();
        let family = family.replace("PEER", &other.to_string());
        let session = session.replace("PEER", &other.to_string());
        // Without zebra it does not know its addresses of the other family.
        let hop = if asn == ours { String::new() } else { format!("  neighbor {other} route-map hop out") };
        let config = format!(
            "hostname frr\nlog stdout debugging\ndebug bgp neighbor-events\n\
             route-map own permit 1\n set community 64512:{n}\n set large-community {BIG_AS}:{n}:{n}\n \
             set extcommunity rt 64512:{n}\n set metric {n}\n set ip next-hop {}\n set ipv6 next-hop global {}\n!\n\
             route-map hop permit 1\n set ip next-hop {}\n set ipv6 next-hop global {}\n!\n\
             router bgp {asn}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             no bgp default ipv4-unicast\n bgp log-neighbor-changes\n neighbor {other} remote-as {ours}\n \
             neighbor {other} disable-connected-check\n neighbor {other} update-source {own}\n \
             neighbor {other} timers connect 1\n \
             neighbor {other} advertisement-interval 0\n{session}\n \
             address-family ipv4 unicast\n  network {} route-map own\n  neighbor {other} activate\n{hop}\n{family}\n \
             exit-address-family\n address-family ipv6 unicast\n  network {} route-map own\n  \
             neighbor {other} activate\n{hop}\n{family}\n exit-address-family\n!\n{more}\n",
            v4(*n),
            v6(*n),
            v4(*n),
            v6(*n),
            v4(*n),
            prefix4(*n),
            prefix6(*n),
        );
        let name = format!("frr{n}");
        let file = lab.write(&format!("{name}.conf"), &config);
        let (pid, folder) = (lab.path(&format!("{name}.pid")), lab.path(&name));
        std::fs::create_dir(&folder).unwrap();
        let (own4, own6) = (v4(*n).to_string(), v6(*n).to_string());
        let arguments = ["-f", &file, "-l", &own4, "-l", &own6, "-S", "-i", &pid, "-n", "-Z", "--vty_socket", &folder];
        let arguments = arguments.into_iter().chain(["-P", "0"]).map(str::to_owned).collect();
        let mut frr = Self { lab, name, arguments, daemon: None };
        frr.restart();
        frr
    }

    pub fn restart(&mut self) {
        let mut command = Command::new("/usr/lib/frr/bgpd");
        command.args(&self.arguments);
        self.daemon = Some(self.lab.spawn(&self.name, &mut command));
    }

    pub fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub fn ask(&self, words: &str) -> String {
        self.lab.ask("/usr/bin/vtysh", &["--vty_socket", &self.lab.path(&self.name), "-c", words])
    }

    /// Changes its configuration.
    pub fn configure(&self, lines: &[&str]) {
        let folder = self.lab.path(&self.name);
        let commands = ["configure terminal"].iter().chain(lines).flat_map(|line| ["-c", line]);
        let arguments: Vec<&str> = ["--vty_socket", &folder].into_iter().chain(commands).collect();
        self.lab.ask("/usr/bin/vtysh", &arguments);
    }

    pub fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ask(words)).unwrap_or_default()
    }

    /// What it says of its neighbour.
    pub fn neighbor(&self, address: std::net::IpAddr) -> Value {
        self.json(&format!("show bgp neighbors {address} json"))[address.to_string()].take()
    }
}

fn words(value: &Value) -> Vec<String> {
    value["string"].as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| number.try_into().ok())
}

impl Peer for Frr<'_> {
    fn routes(&self) -> Vec<Seen> {
        let mut routes = Vec::new();
        for family in ["ipv4", "ipv6"] {
            let all = self.json(&format!("show bgp {family} unicast json"));
            for prefix in all["routes"].as_object().into_iter().flat_map(|routes| routes.keys()) {
                let found = self.json(&format!("show bgp {family} unicast {prefix} json"));
                for path in found["paths"].as_array().into_iter().flatten().filter(|path| path["sourced"].is_null()) {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let clusters = path["clusterList"]["list"].as_array().into_iter().flatten().map(text).collect();
                    routes.push(Seen {
                        prefix: prefix.clone(),
                        next_hop: text(&path["nexthops"][0]["ip"]),
                        as_path: text(&path["aspath"]["string"]).replace("Local", ""),
                        med: number(&path["metric"]),
                        local_pref: number(&path["locPrf"]),
                        communities: words(&path["community"]),
                        large: words(&path["largeCommunity"]),
                        extended: words(&path["extendedCommunity"]),
                        originator: text(&path["originatorId"]),
                        clusters,
                        text: path.to_string(),
                    });
                }
            }
        }
        routes
    }

    fn log(&self) -> String {
        self.ask("show bgp neighbors") + &self.lab.read(&format!("{}.out", self.name))
    }
}
