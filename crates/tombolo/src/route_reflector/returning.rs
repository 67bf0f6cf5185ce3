//! The clients that a restarted reflector waits for.
//!
//! Clients that know graceful restart keep a lost reflector's routes until it has told them all again. It may only say
//! so when it knows them all, that is when the clients of before are back. Who they were is in a file beside the control
//! socket, which is touched as long as the reflector lives: an old one says nothing about a restart.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// How often the file is written though nothing has changed.
const EVERY: Duration = Duration::from_secs(2);

pub(super) struct Returning {
    file: PathBuf,
    clients: BTreeSet<IpAddr>,
}

impl Returning {
    /// The clients of a reflector that ended no longer than `within` ago.
    pub(super) fn load(socket: &Path, within: Duration) -> Self {
        let file = socket.with_extension("clients");
        let written = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).ok();
        let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
        let text = match age.filter(|age| *age <= within + EVERY) {
            Some(_) => std::fs::read_to_string(&file).unwrap_or_default(),
            None => String::new(),
        };
        Self { file, clients: text.lines().filter_map(|line| line.parse().ok()).collect() }
    }

    /// Who is waited for.
    pub(super) fn clients(&self) -> &BTreeSet<IpAddr> {
        &self.clients
    }

    /// Keeps the file, out of who comes (`true`) and goes.
    pub(super) async fn keep(&self, mut said: mpsc::UnboundedReceiver<(IpAddr, bool)>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = false;
        let mut present = BTreeSet::new();
        loop {
            tokio::select! {
                Some(first) = said.recv() => {
                    let mut next = Some(first);
                    while let Some((client, comes)) = next {
                        if comes {
                            present.insert(client);
                        } else {
                            present.remove(&client);
                        }
                        next = said.try_recv().ok();
                    }
                }
                // As long as it lives, so that the file's time tells when it ended.
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.write(&present)
                && !std::mem::replace(&mut silent, true)
            {
                tracing::warn!(file = %self.file.display(), %error, "a restart of the reflector will not know its clients");
            }
        }
    }

    fn write(&self, present: &BTreeSet<IpAddr>) -> std::io::Result<()> {
        let text: String = present.iter().map(|client| format!("{client}\n")).collect();
        let new = self.file.with_extension("clients.new");
        match std::fs::write(&new, text) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(self.file.parent().unwrap_or(Path::new("/")))
            }
            done => done.and_then(|()| std::fs::rename(&new, &self.file)),
        }
    }
}
