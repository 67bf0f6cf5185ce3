//! BIRD.

use std::process::Command;

use super::harness::*;

pub struct Bird<'a> {
    lab: &'a Lab,
    name: String,
    daemon: Option<Daemon>,
}

impl<'a> Bird<'a> {
    /// It announces a prefix of each family, with communities of all kinds.
    pub fn start(lab: &'a Lab, plan: &Plan<'_>) -> Self {
        let Plan { n, asn, ours, session, family, more, .. } = plan;
        let (own, other) = plan.addresses();
        let marks = format!(
            "bgp_community.add((64512,{n})); bgp_large_community.add(({BIG_AS},{n},{n})); \
             bgp_ext_community.add((rt,64512,{n})); bgp_med = {n};"
        );
        let config = format!(
            "router id {};\nprotocol device {{}}\n\
             protocol static {{ ipv4; route {} unreachable {{ {marks} }}; }}\n\
             protocol static {{ ipv6; route {} unreachable {{ {marks} }}; }}\n\
             template bgp t {{\n  local {own} port 179 as {asn}; strict bind yes;\n  connect delay time 1; \
             connect retry time 1; error wait time 1,2;\n  \
             ipv4 {{ import all; export all; next hop address {}; {family} }};\n  \
             ipv6 {{ import all; export all; next hop address {}; {family} }};\n}}\n\
             protocol bgp x from t {{ neighbor {other} as {ours};\n{session}\n}}\n{more}\n",
            v4(*n),
            prefix4(*n),
            prefix6(*n),
            v4(*n),
            v6(*n),
        );
        let name = format!("bird{n}");
        lab.write(&format!("{name}.conf"), &config);
        let mut bird = Self { lab, name, daemon: None };
        bird.restart();
        bird
    }

    pub fn restart(&mut self) {
        let [config, control, pid] = ["conf", "ctl", "pid"].map(|end| self.lab.path(&format!("{}.{end}", self.name)));
        let mut command = Command::new("/usr/sbin/bird");
        command.args(["-f", "-c", &config, "-s", &control, "-P", &pid]);
        self.daemon = Some(self.lab.spawn(&self.name, &mut command));
    }

    pub fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub fn ask(&self, words: &str) -> String {
        let control = self.lab.path(&format!("{}.ctl", self.name));
        self.lab.ask("/usr/sbin/birdc", &["-s", &control, words])
    }
}

impl Peer for Bird<'_> {
    fn routes(&self) -> Vec<Seen> {
        let mut routes: Vec<Seen> = Vec::new();
        let mut prefix = String::new();
        for line in self.ask("show route where source = RTS_BGP all").lines() {
            if !line.starts_with('\t') {
                let Some(first) = line.split_whitespace().next().filter(|_| line.contains(" [")) else { continue };
                if !line.starts_with(' ') {
                    first.clone_into(&mut prefix);
                }
                routes.push(Seen { prefix: prefix.clone(), text: line.to_owned(), ..Seen::default() });
                continue;
            }
            let Some(route) = routes.last_mut() else { continue };
            route.text += line;
            let Some((name, value)) = line.trim().split_once(':') else { continue };
            let value = value.trim().to_owned();
            let numbers = || {
                value
                    .split(')')
                    .filter(|c| c.contains('('))
                    .map(|c| c.trim_start_matches([' ', '(']).replace(", ", ":").replace(',', ":"))
                    .collect()
            };
            match name {
                "BGP.next_hop" => route.next_hop = value,
                "BGP.as_path" => route.as_path = value,
                "BGP.med" => route.med = value.parse().ok(),
                "BGP.local_pref" => route.local_pref = value.parse().ok(),
                "BGP.community" => route.communities = numbers(),
                "BGP.large_community" => route.large = numbers(),
                "BGP.ext_community" => route.extended = numbers(),
                "BGP.originator_id" => route.originator = value,
                "BGP.cluster_list" => route.clusters = value.split_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        routes
    }

    fn log(&self) -> String {
        format!("{}\n{}", self.ask("show protocols all x"), self.lab.read(&format!("{}.out", self.name)))
    }
}
