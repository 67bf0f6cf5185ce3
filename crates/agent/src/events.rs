//! Refusals, said where the people are who can mend them: an Event and a condition on the object, one line in the log.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tombolo_api::kilo;
use tombolo_mesh::Refusal;

/// The name under which we write.
pub(crate) const MANAGER: &str = "tombolo";

/// What is to be said of an object.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// `Peer/x`, `Node/x` or `Service/namespace/x`.
    pub object: String,
    pub uid: Option<String>,
    pub generation: Option<i64>,
}

/// Says each refusal once, and again when it changed.
pub(crate) struct Reporter {
    client: Client,
    hostname: String,
    said: BTreeSet<Refusal>,
    conditions: BTreeMap<String, (String, Option<i64>)>,
}

impl Reporter {
    pub(crate) fn new(client: Client, hostname: String) -> Self {
        Self { client, hostname, said: BTreeSet::new(), conditions: BTreeMap::new() }
    }

    /// Logs what is new among `refusals`. With `speaks`, Events and conditions are written, too: one node of the
    /// cluster does so for Peers, and each for itself.
    pub(crate) fn report(&mut self, refusals: &[Refusal], subjects: &[Subject], speaks: impl Fn(&str) -> bool) {
        let now: BTreeSet<Refusal> = refusals.iter().cloned().collect();
        for refusal in now.difference(&self.said) {
            let Refusal { object, field, value, reason } = refusal;
            tracing::warn!(%object, %field, %value, %reason, "refused");
            let subject = subjects.iter().find(|s| s.object == *object);
            if let Some(subject) = subject.filter(|s| speaks(&s.object)) {
                self.event(subject, refusal);
            }
        }
        for refusal in self.said.difference(&now) {
            tracing::info!(object = %refusal.object, field = %refusal.field, "no longer refused");
        }
        self.said = now;
        for subject in subjects.iter().filter(|s| s.object.starts_with("Peer/") && speaks(&s.object)) {
            self.condition(subject, refusals);
        }
        self.conditions.retain(|object, _| subjects.iter().any(|s| s.object == *object));
    }

    fn event(&self, subject: &Subject, refusal: &Refusal) {
        let Some((kind, name)) = subject.object.split_once('/') else { return };
        let (namespace, name) = name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace), name));
        let api_version = if kind == "Peer" { "kilo.squat.ai/v1alpha1" } else { "v1" };
        let now = Timestamp::now();
        let event = core::Event {
            // As client-go names them: a generated name may not end in a dot.
            metadata: ObjectMeta { name: Some(format!("{name}.{:x}", now.as_nanosecond())), ..ObjectMeta::default() },
            involved_object: core::ObjectReference {
                api_version: Some(api_version.into()),
                kind: Some(kind.into()),
                name: Some(name.into()),
                namespace: namespace.map(Into::into),
                // Events on Nodes are looked up by their name in place of the UID (kubectl describe node).
                uid: if kind == "Node" { Some(name.into()) } else { subject.uid.clone() },
                ..core::ObjectReference::default()
            },
            reason: Some("Refused".into()),
            message: Some(format!("{} {:?}: {}", refusal.field, refusal.value, refusal.reason)),
            type_: Some("Warning".into()),
            action: Some("Refuse".into()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            event_time: Some(MicroTime(now)),
            reporting_component: Some("tombolo.io/agent".into()),
            reporting_instance: Some(self.hostname.clone()),
            source: Some(core::EventSource { component: Some("tombolo".into()), host: Some(self.hostname.clone()) }),
            ..core::Event::default()
        };
        let api: Api<core::Event> = Api::namespaced(self.client.clone(), namespace.unwrap_or("default"));
        let object = subject.object.clone();
        tokio::spawn(async move {
            if let Err(error) = api.create(&PostParams::default(), &event).await {
                tracing::warn!(%object, error = words(&error), next = "let the agent create events: see deploy/", "cannot write an Event");
            }
        });
    }

    /// The condition `Ready` of a Peer, written when it changed.
    fn condition(&mut self, subject: &Subject, refusals: &[Refusal]) {
        let Some((_, name)) = subject.object.split_once('/') else { return };
        let of_peer: Vec<&Refusal> = refusals.iter().filter(|r| r.object == subject.object).collect();
        let message =
            of_peer.iter().map(|r| format!("{} {:?}: {}", r.field, r.value, r.reason)).collect::<Vec<_>>().join("; ");
        let state = (message.clone(), subject.generation);
        if self.conditions.get(&subject.object) == Some(&state) {
            return;
        }
        self.conditions.insert(subject.object.clone(), state);
        let whole = of_peer.iter().any(|r| r.field == "spec.publicKey");
        let (status, reason) = match (of_peer.is_empty(), whole) {
            (true, _) => ("True", "Accepted"),
            (false, false) => ("True", "PartlyRefused"),
            (false, true) => ("False", "Refused"),
        };
        let message = if message.is_empty() { "The Peer is in the mesh.".to_owned() } else { message };
        let patch = json!({
            "apiVersion": "kilo.squat.ai/v1alpha1",
            "kind": "Peer",
            "metadata": { "name": name },
            "status": { "conditions": [{
                "type": "Ready",
                "status": status,
                "reason": reason,
                "message": message,
                "observedGeneration": subject.generation,
                "lastTransitionTime": Time(Timestamp::now()),
            }]},
        });
        let api: Api<kilo::Peer> = Api::all(self.client.clone());
        let name = name.to_owned();
        tokio::spawn(async move {
            let params = PatchParams::apply(MANAGER).force();
            match api.patch_status(&name, &params, &Patch::Apply(patch)).await {
                // Kilo's own CRD has no status, and a Peer may be gone by now: neither is a fault.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => tracing::warn!(peer = %name, error = words(&error), "cannot write the Peer's condition"),
                Ok(_) => {}
            }
        });
    }
}

/// An error of the API server in its own words, without the whole Status object.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => other.to_string(),
    }
}
