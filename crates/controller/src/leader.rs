//! Which of the controllers of a cluster writes: the holder of a Lease, as client-go's leader election has it.
//!
//! The others watch all the same, so that the next one has nothing to catch up with.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::watch::words;

/// The name of the Lease.
pub(crate) const NAME: &str = "tombolo-controller";
/// A Lease that was not renewed for this long is anybody's.
const DURATION: Duration = Duration::from_secs(15);
/// Who cannot renew it for this long gives up before it is another's.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed or looked at.
const PERIOD: Duration = Duration::from_secs(2);

struct Election {
    api: Api<Lease>,
    identity: String,
    /// What was last seen of another's Lease, and when by our own clock: theirs may be wrong.
    seen: Option<(LeaseSpec, Instant)>,
}

/// Says through `leads` whether we lead, until `stop`; then the Lease is given back.
pub(crate) async fn elect(
    client: Client,
    namespace: String,
    identity: String,
    leads: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut election = Election { api: Api::namespaced(client, &namespace), identity, seen: None };
    let mut renewed = Instant::now();
    let mut is_failing = false;
    while !stop.is_cancelled() {
        match tokio::time::timeout(DEADLINE / 2, election.attempt()).await {
            Ok(Ok(is_ours)) => {
                is_failing = false;
                if is_ours {
                    renewed = Instant::now();
                }
                if leads.send_if_modified(|leads| std::mem::replace(leads, is_ours) != is_ours) {
                    tracing::info!(leads = is_ours, lease = %format!("{namespace}/{NAME}"), "leadership");
                }
            }
            failed => {
                if !std::mem::replace(&mut is_failing, true) {
                    let error = match &failed {
                        Ok(Err(error)) => words(error),
                        _ => "the API server does not answer".to_owned(),
                    };
                    let next = "nothing is written without it; let this account get, create and update Leases there";
                    tracing::warn!(error, lease = %format!("{namespace}/{NAME}"), next, "cannot take part in the election");
                }
                if renewed.elapsed() > DEADLINE {
                    leads.send_if_modified(std::mem::take);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    if *leads.borrow() {
        leads.send_replace(false);
        // Another one may take it at once.
        let _ = tokio::time::timeout(PERIOD, election.give_back()).await;
    }
}

impl Election {
    /// One look at the Lease; returns whether it is ours now.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.ours(None)) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.is_expired(&spec) {
            return Ok(false);
        }
        let lease = Lease { spec: Some(self.ours(Some(&spec))), ..lease };
        // Its resourceVersion is in it, so that one of two comes too late.
        won(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn is_expired(&mut self, spec: &LeaseSpec) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                return false;
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        since.elapsed() > seconds.map_or(DURATION, Duration::from_secs)
    }

    fn ours(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let held = old.filter(|old| old.holder_identity.as_ref() == Some(&self.identity));
        let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: held.and_then(|old| old.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if held.is_some() || old.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    async fn give_back(&self) -> kube::Result<()> {
        let mut lease = self.api.get(NAME).await?;
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity)) {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.api.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// A write that came too late is no failure.
fn won(written: kube::Result<Lease>) -> kube::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
