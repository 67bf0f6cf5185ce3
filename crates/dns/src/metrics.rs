//! What Prometheus is told.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::Transport;
use crate::message::HEADER;

/// The response codes that have a name of their own; others are the last.
const CODES: [&str; 7] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"];
const TRANSPORTS: [&str; 2] = ["udp", "tcp"];

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    responses: [[AtomicU64; CODES.len()]; TRANSPORTS.len()],
    ignored: AtomicU64,
    forwarded: AtomicU64,
    from_cache: AtomicU64,
    unanswered: AtomicU64,
}

/// Counts of one transport that are not added yet, so that threads seldom write to the same memory.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    responses: [u32; CODES.len()],
    ignored: u32,
    forwarded: u32,
    from_cache: u32,
}

impl Tally {
    /// This response is sent.
    pub(crate) fn response(&mut self, response: &[u8]) {
        let code = response.get(..HEADER).map_or(0, |header| usize::from(header[3] & 0xf));
        self.responses[code.min(CODES.len() - 1)] += 1;
    }

    /// Nothing is sent.
    pub(crate) fn ignored(&mut self) {
        self.ignored += 1;
    }

    /// Others are asked.
    pub(crate) fn forwarded(&mut self) {
        self.forwarded += 1;
    }

    /// What others said is known.
    pub(crate) fn cache_hit(&mut self) {
        self.from_cache += 1;
    }
}

impl Metrics {
    /// Adds a tally, which is empty then.
    pub(crate) fn add(&self, transport: Transport, tally: &mut Tally) {
        let tally = std::mem::take(tally);
        let add = |counter: &AtomicU64, count: u32| {
            if count > 0 {
                counter.fetch_add(count.into(), Ordering::Relaxed);
            }
        };
        for (counter, count) in self.responses[transport as usize].iter().zip(tally.responses) {
            add(counter, count);
        }
        add(&self.ignored, tally.ignored);
        add(&self.forwarded, tally.forwarded);
        add(&self.from_cache, tally.from_cache);
    }

    /// Others were asked and nobody answered.
    pub(crate) fn unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    /// All counts in the text format of OpenMetrics 1.0.
    pub(crate) fn render(&self, zones: &[(String, usize)]) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            // Writing into a String does not fail.
            let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
            let suffix = if kind == "counter" { "_total" } else { "" };
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{suffix}{labels} {value}");
            }
        };
        let mut responses = Vec::new();
        for (transport, counters) in TRANSPORTS.iter().zip(&self.responses) {
            for (code, counter) in CODES.iter().zip(counters) {
                let labels = format!("{{transport=\"{transport}\",rcode=\"{code}\"}}");
                responses.push((labels, counter.load(Ordering::Relaxed)));
            }
        }
        let one = |counter: &AtomicU64| [(String::new(), counter.load(Ordering::Relaxed))];
        family("tombolo_dns_responses", "counter", "Responses sent, by transport and code", &responses);
        let help = "Messages that are no queries, and get no response";
        family("tombolo_dns_ignored", "counter", help, &one(&self.ignored));
        family("tombolo_dns_forwarded", "counter", "Queries that other servers were asked", &one(&self.forwarded));
        let help = "Queries that other servers were not asked again";
        family("tombolo_dns_cache_hits", "counter", help, &one(&self.from_cache));
        let help = "Queries that no other server answered in time";
        family("tombolo_dns_unanswered", "counter", help, &one(&self.unanswered));
        let names: Vec<(String, u64)> =
            zones.iter().map(|(zone, names)| (format!("{{zone=\"{zone}\"}}"), *names as u64)).collect();
        family("tombolo_dns_names", "gauge", "Names that exist below a zone's origin", &names);
        text.push_str("# EOF\n");
        text
    }
}
