//! Events: what is wrong, said on the object that it is wrong with.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tombolo_proxy::ServiceKey;

use crate::kinds::Kind;
use crate::watch::words;

/// An Event to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Word {
    /// What it is on.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: ServiceKey,
    /// Its UID, where it is known.
    pub uid: Option<String>,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// The rest.
    pub message: String,
}

/// How long to wait before each further attempt: the namespace may be about to be made, the API server about to start.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Writes an Event, and goes on if it cannot.
pub(crate) fn write(client: &Client, word: &Word) {
    let now = Timestamp::now();
    let resource = word.kind.resources().into_iter().next();
    let Some(resource) = resource else { return };
    let namespace = if word.key.namespace.is_empty() { "default" } else { &word.key.namespace };
    let event = core::Event {
        // As client-go names them.
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", word.key.name, now.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: core::ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(word.key.name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: word.uid.clone(),
            ..core::ObjectReference::default()
        },
        reason: Some(word.reason.to_owned()),
        // An API server takes no longer ones.
        message: Some(word.message.chars().take(1000).collect()),
        type_: Some("Warning".to_owned()),
        action: Some(word.reason.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        event_time: Some(MicroTime(now)),
        reporting_component: Some("tombolo.io/controller".to_owned()),
        reporting_instance: Some("tombolo-controller".to_owned()),
        source: Some(core::EventSource { component: Some("tombolo-controller".to_owned()), host: None }),
        ..core::Event::default()
    };
    let api: Api<core::Event> = Api::namespaced(client.clone(), namespace);
    tokio::spawn(create(api, event));
}

async fn create(api: Api<core::Event>, event: core::Event) {
    let mut pauses = AGAIN.into_iter();
    while let Err(error) = api.create(&PostParams::default(), &event).await {
        let is_final = matches!(&error, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 409 | 422));
        let Some(pause) = pauses.next().filter(|_| !is_final) else {
            tracing::debug!(
                error = words(&error),
                next = "let the controller create Events: see deploy/",
                "cannot write an Event"
            );
            return;
        };
        tokio::time::sleep(pause).await;
    }
}
