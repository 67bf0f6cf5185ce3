//! How the sources are, said: in the ConfigMap `tombolo-sources` and in metrics.

use std::collections::BTreeMap;
use std::time::Instant;

use tombolo_services::Timestamp;
use tombolo_services::staleness::Standing;

use super::{Engine, RETRY};
use crate::metrics::{BySource, ByStanding};
use crate::remote::Remote;
use crate::status::{self, Row};

impl Engine {
    /// Writes how the sources are, where it has changed.
    pub(super) async fn write_status(&mut self) {
        if self.status_job.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            && let Some(job) = self.status_job.take()
            && !job.await.unwrap_or(false)
        {
            // Tried again when there is something new to say, or in a while.
            self.written.clear();
            self.status_due = Some(Instant::now() + RETRY.1);
        }
        if self.status_job.is_some() || self.status_due.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.status_due = None;
        let rows: BTreeMap<String, Row> =
            self.remotes.iter().map(|remote| (remote.name.clone(), self.row(remote))).collect();
        self.count(&rows);
        let is_said = rows == self.written && !self.is_confirmation_done;
        if !self.can_write() || is_said || (rows.is_empty() && self.own.status.is_none()) {
            return;
        }
        self.written = rows.clone();
        let is_done = std::mem::take(&mut self.is_confirmation_done);
        let (client, namespace) = (self.client.clone(), self.options.own_namespace.clone());
        self.status_job = Some(tokio::spawn(status::write(client, namespace, rows, is_done)));
    }

    pub(super) fn row(&self, remote: &Remote) -> Row {
        let standing = remote.source.standing;
        let mut problems: Vec<String> = Vec::new();
        if !matches!(standing, Standing::Live | Standing::Held { .. }) {
            problems.extend(remote.trouble());
        }
        if let Standing::Held { since } = standing {
            problems.push(held(&remote.name, since));
        }
        problems.extend(remote.id().err());
        problems.extend(remote.denied().cloned());
        problems.extend(remote.refused().take(10).map(ToString::to_string));
        let cluster = self.admitted.iter().find(|(_, name)| **name == remote.name).map(|(id, _)| id.to_string());
        if let (None, Ok(id), true) = (&cluster, remote.id(), self.id().is_some() && remote.is_heard()) {
            problems.push(format!("its id {id} is that of another cluster: nothing of it is imported"));
        }
        Row {
            standing: name_of(standing).to_owned(),
            cluster,
            services: remote.source.offered(&self.options.choice),
            exports: remote.source.exported(),
            problems,
        }
    }

    pub(super) fn count(&self, rows: &BTreeMap<String, Row>) {
        for (source, row) in rows {
            for standing in ["Waiting", "Live", "Held", "Stale", "Gone"] {
                let gauge = self.metrics.standing.get_or_create_owned(&ByStanding { source: source.clone(), standing });
                gauge.set(i64::from(row.standing == standing));
            }
            let gauge = self.metrics.offered.get_or_create_owned(&BySource { source: source.clone() });
            gauge.set((row.services + row.exports).try_into().unwrap_or(i64::MAX));
        }
        let number = |count: usize| count.try_into().unwrap_or(i64::MAX);
        self.metrics.refused.set(number(self.services.count() + self.sources.count()));
        self.metrics.mirrors.set(number(self.own.kept.mirrors().count()));
        self.metrics.imports.set(number(self.own.kept.all_imports().count()));
    }
}

pub(super) fn held(source: &str, since: Timestamp) -> String {
    format!(
        "nearly all that it offered is gone at once (since {} UTC), and is kept for now; if it is meant to be gone: kubectl \
         annotate configmap {} {}={source}",
        utc(since),
        status::NAME,
        tombolo_api::tombolo::CONFIRM_DELETION
    )
}

fn utc(time: Timestamp) -> String {
    k8s_openapi::jiff::Timestamp::from_second(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

fn name_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "Waiting",
        Standing::Live => "Live",
        Standing::Held { .. } => "Held",
        Standing::Stale { .. } => "Stale",
        Standing::Gone => "Gone",
    }
}
