//! Traffic that runs while something happens, and packets that are looked at on their way.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::lab::Lab;

/// A ping every 100 ms from a pod, until it is ended.
pub struct Pings {
    child: Option<Child>,
    started: f64,
}

/// What came of [`Pings`].
#[derive(Debug)]
pub struct Heard {
    /// Packets sent.
    pub sent: u32,
    /// Of which were answered.
    pub answered: u32,
    /// The longest time without an answer, from the start to the end.
    pub longest_stop: Duration,
}

impl Pings {
    /// Starts.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(lab: &Lab, cluster: usize, pod: &str, address: &str) -> Self {
        let mut command = lab.in_pod(cluster, pod, &["ping", "-n", "-D", "-i", "0.1", "-W", "1", address]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        Self { child: Some(child), started: unix_now() }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When ping printed something else than ping prints.
    pub fn end(mut self) -> Heard {
        let child = self.child.take().unwrap();
        // SIGINT has ping print its summary, as Ctrl-C does; it is sent to the command in the pod, which is below.
        let kill = format!("pkill -INT -P {0} || kill -INT {0}", child.id());
        Command::new("sh").args(["-c", &kill]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        heard(&String::from_utf8_lossy(&output.stdout), self.started, unix_now())
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn heard(text: &str, started: f64, ended: f64) -> Heard {
    let mut times: Vec<f64> = text
        .lines()
        .filter(|line| line.contains("bytes from"))
        .filter_map(|line| line.strip_prefix('[')?.split_once(']')?.0.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let answered = times.len();
    // The time before the first answer and after the last one counts, too.
    times.insert(0, started);
    times.push(ended.max(started));
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let summary = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    let sent = summary.split_whitespace().next().and_then(|n| n.parse().ok());
    let sent = sent.unwrap_or_else(|| panic!("ping printed no summary: {text}"));
    Heard { sent, answered: answered.try_into().unwrap(), longest_stop: Duration::from_secs_f64(longest) }
}

/// Packets captured in the router between the clusters.
pub struct Capture {
    child: Child,
    started: Instant,
}

impl Capture {
    /// Captures what goes between the networks of cluster 1 and those of cluster 2 (of nodes, pods and services), on
    /// all links of the lab's router, until it is ended. Returns once tcpdump listens.
    ///
    /// # Panics
    /// When tcpdump does not start.
    pub fn start(lab: &Lab, networks: [&[String]; 2]) -> Self {
        use std::io::{BufRead as _, BufReader};
        let of = |nets: &[String], side: &str| {
            nets.iter().map(|net| format!("{side} net {net}")).collect::<Vec<_>>().join(" or ")
        };
        let [one, two] = networks;
        let filter = format!(
            "(({}) and ({})) or (({}) and ({}))",
            of(one, "src"),
            of(two, "dst"),
            of(two, "src"),
            of(one, "dst")
        );
        let router = format!("tl-{}-router", lab.name);
        let mut child = Command::new("ip")
            .args(["netns", "exec", &router, "tcpdump", "-i", "any", "-n", "-l", "-q", "-Z", "root", &filter])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "tcpdump ended before it listened");
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { child, started: Instant::now() }
    }

    /// Ends it: the number of WireGuard's packets, and every other packet as tcpdump prints it.
    ///
    /// # Panics
    /// When tcpdump cannot be ended.
    pub fn end(self, port: u16) -> (usize, Vec<String>) {
        let Self { child, started } = self;
        Command::new("sh").args(["-c", &format!("pkill -INT -P {0}; kill -INT {0}", child.id())]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (ours, others): (Vec<String>, Vec<String>) = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .partition(|line| line.contains("UDP") && line.contains(&format!(".{port}: ")));
        println!("captured {} packets of WireGuard and {} others in {:?}", ours.len(), others.len(), started.elapsed());
        (ours.len(), others)
    }
}
