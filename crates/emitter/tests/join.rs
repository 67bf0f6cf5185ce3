//! Invitations, certificates and their end, as they are kept in a cluster.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Cluster, NAMESPACE, PATIENCE, Serving, ask, client_of, get, service, until};
use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::{Event, Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tombolo_emitter::{Error, client, secrets};

const HOUR: Duration = Duration::from_secs(3600);
const LIST: &str = "/api/v1/services";

/// What a refused token is answered with, in words.
const REFUSED: &str = "the token has been used, has expired or is wrong";

fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_cluster_reads_and_keeps_its_credentials() {
    let (tokyo, paris) = (Serving::new().await, Cluster::new().await);
    let invitation = tokyo.invite("paris", HOUR).await;
    let joined = client::join(&invitation.to_string().parse().unwrap()).await.unwrap();
    assert_eq!((joined.cluster.as_str(), joined.url.as_str()), ("paris", tokyo.url().as_str()));
    assert!(tokyo.cluster.secrets().get("tombolo-cluster-paris").await.is_ok());

    secrets::store_source(paris.client.clone(), NAMESPACE, "tokyo", &joined.kubeconfig).await.unwrap();
    // Again, as after a second invitation.
    secrets::store_source(paris.client.clone(), NAMESPACE, "tokyo", &joined.kubeconfig).await.unwrap();
    let kept = paris.secrets().get("tombolo-source-tokyo").await.unwrap();
    assert_eq!(kept.metadata.labels.unwrap()[secrets::SOURCE], "tokyo");
    let kubeconfig = String::from_utf8(kept.data.unwrap()[secrets::KUBECONFIG].0.clone()).unwrap();
    let api: Api<Service> = Api::all(client_of(&kubeconfig).await);
    let services = api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].spec.as_ref().unwrap().selector, None);

    // What is not ours is not overwritten.
    let other = json!({"metadata": {"name": "tombolo-source-lima"}});
    let other: Secret = serde_json::from_value(other).unwrap();
    paris.secrets().create(&Default::default(), &other).await.unwrap();
    let refused = said(secrets::store_source(paris.client.clone(), NAMESPACE, "lima", &kubeconfig).await);
    assert!(refused.contains("is no source's"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_and_in_its_time_and_the_wire_does_not_say_which() {
    let tokyo = Serving::new().await;
    let used = tokyo.invite("paris", HOUR).await;
    client::join(&used).await.unwrap();
    let expired = tokyo.invite("paris", Duration::ZERO).await;
    let mut wrong = tokyo.invite("paris", HOUR).await;
    wrong.secret.replace_range(0..4, "AAAA");
    let mut unknown = tokyo.invite("paris", HOUR).await;
    unknown.id = "000000000000".into();
    let stranger = tokyo.stranger().await;
    let mut answers = BTreeSet::new();
    for invitation in [&used, &expired, &wrong, &unknown] {
        let refused = said(client::join(invitation).await);
        assert!(refused.contains(REFUSED) && refused.contains("tombolo invite"), "{refused}");
        let request = rcgen::CertificateParams::default()
            .serialize_request(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let body = json!({"id": invitation.id, "secret": invitation.secret, "request": request}).to_string();
        answers.insert(ask(&stranger, Method::POST, "/tombolo/v1/join", body.into_bytes()).await);
    }
    answers.insert(ask(&stranger, Method::POST, "/tombolo/v1/join", b"{}".to_vec()).await);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers.first().unwrap().0, 401);

    // Its own people are told.
    let events: Api<Event> = Api::namespaced(tokyo.cluster.client.clone(), NAMESPACE);
    let note = until("an Event", async || {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().find(|e| e.reason.as_deref() == Some("JoinRefused")).and_then(|e| e.message)
    });
    let note = note.await;
    assert!(note.contains("there is no such invitation"), "{note}");
    // A wrong secret did not use up the invitation.
    let left = tokyo.cluster.secrets().list(&ListParams::default().labels("tombolo.io/emitter=invite")).await.unwrap();
    assert_eq!(left.items.len(), 2, "the one with the wrong secret and the one with the wrong id");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_use_one_token_at_once_one_is_admitted() {
    let tokyo = Serving::new().await;
    let invitation = tokyo.invite("paris", HOUR).await;
    let attempts = (0..6).map(|_| client::join(&invitation));
    let results = futures::future::join_all(attempts).await;
    let (joined, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((joined.len(), refused.len()), (1, 5));
    assert!(refused.into_iter().all(|r| said(r).contains(REFUSED)));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_than_the_one_that_invited_is_not_trusted() {
    let (tokyo, lima) = (Serving::new().await, Serving::new().await);
    let mut invitation = tokyo.invite("paris", HOUR).await;
    invitation.urls = vec![lima.url()];
    let refused = said(client::join(&invitation).await);
    assert!(refused.contains("another CA") && refused.contains("still good"), "{refused}");
    // Those before it in the list cost nothing but time.
    invitation.urls = vec!["https://127.0.0.1:1".into(), lima.url(), tokyo.url()];
    client::join(&invitation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_cluster_is_shut_out_at_once_and_its_watches_end() {
    let tokyo = Serving::new().await;
    let (paris, lima) = (tokyo.joined("paris").await, tokyo.joined("lima").await);
    let (client, other) = (client_of(&paris).await, client_of(&lima).await);
    let api: Api<Service> = Api::all(client.clone());
    let mut watch = Box::pin(api.watch(&WatchParams::default(), "0").await.unwrap());
    let first = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Added(_)));

    tokyo.cluster.secrets().delete("tombolo-cluster-paris", &DeleteParams::default()).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch goes on");
    assert!(end.is_none(), "{end:?}");
    assert_eq!(get(&client, LIST).await.0, 403);
    assert_eq!(get(&client, "/version").await.0, 403);
    assert_eq!(get(&other, LIST).await.0, 200);
    let refused = said(client::renew(&paris).await);
    assert!(refused.contains("tombolo invite paris"), "{refused}");

    // A second invitation admits it anew; the first credentials stay dead.
    let again = tokyo.joined("paris").await;
    assert_eq!(get(&client_of(&again).await, LIST).await.0, 200);
    assert_eq!(get(&client, LIST).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_by_itself_and_the_lost_answer_costs_nothing() {
    let tokyo = Serving::new().await;
    let first = tokyo.joined("paris").await;
    assert_eq!(client::renew_if_due(&first).await.unwrap(), None);
    // The answer to this one is lost: the first is still good, and another can be had with it.
    let lost = client::renew(&first).await.unwrap();
    let second = client::renew(&first).await.unwrap();
    for (kubeconfig, expected) in [(&first, 200), (&second, 200), (&lost, 403)] {
        assert_eq!(get(&client_of(kubeconfig).await, LIST).await.0, expected);
    }
    // With the second in use, the first is no longer needed.
    let third = client::renew(&second).await.unwrap();
    for (kubeconfig, expected) in [(&first, 403), (&second, 200), (&third, 200)] {
        assert_eq!(get(&client_of(kubeconfig).await, LIST).await.0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_renewed_in_their_secrets_when_it_is_time() {
    let (tokyo, paris) = (Serving::new().await, Cluster::new().await);
    let kubeconfig = tokyo.joined("paris").await;
    secrets::store_source(paris.client.clone(), NAMESPACE, "tokyo", &kubeconfig).await.unwrap();
    // One that a person made is nobody's business.
    secrets::store_source(paris.client.clone(), NAMESPACE, "lima", &paris.kubeconfig).await.unwrap();
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let renew = async |days: i64| {
        let at = now + days * 86400;
        let renewed = secrets::renew_sources_at(paris.client.clone(), NAMESPACE, at).await.unwrap();
        let mut pairs: Vec<_> = renewed.into_iter().map(|r| (r.source, r.result.map_err(|e| e.to_string()))).collect();
        pairs.sort();
        pairs
    };
    let expected = |tokyo: bool| [("lima".to_owned(), Ok(false)), ("tokyo".to_owned(), Ok(tokyo))];
    assert_eq!(renew(240).await, expected(false));
    assert_eq!(renew(250).await, expected(true));
    let kept = async || {
        let kept = paris.secrets().get("tombolo-source-tokyo").await.unwrap();
        String::from_utf8(kept.data.unwrap()[secrets::KUBECONFIG].0.clone()).unwrap()
    };
    let renewed = kept().await;
    assert_ne!(renewed, kubeconfig);
    assert_eq!(get(&client_of(&renewed).await, LIST).await.0, 200);

    // What can't be renewed stays, and says what to do.
    tokyo.cluster.secrets().delete("tombolo-cluster-paris", &DeleteParams::default()).await.unwrap();
    let client = client_of(&renewed).await;
    until("it is revoked", async || (get(&client, LIST).await.0 == 403).then_some(())).await;
    let refused = renew(250).await.pop().unwrap().1.unwrap_err();
    assert!(refused.contains("tombolo invite paris"), "{refused}");
    assert_eq!(kept().await, renewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_none() {
    let cluster = Cluster::new().await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let opened = secrets::open(cluster.client.clone(), NAMESPACE, Vec::new(), shutdown.clone()).await;
    let (mut identity, admissions) = opened.unwrap();
    identity.client_life = Duration::ZERO;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let emitter = tombolo_emitter::Emitter::start(listener, identity, admissions.clone(), shutdown.clone());
    let emitter = emitter.await.unwrap();
    emitter.set_ready();
    let tokyo = Serving { cluster, emitter, admissions, shutdown };
    let kubeconfig = tokyo.joined("paris").await;
    assert_eq!(get(&client_of(&kubeconfig).await, LIST).await.0, 401);
    let refused = said(client::renew(&kubeconfig).await);
    assert!(refused.contains("no longer admits"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_start_at_the_same_time_share_one_authority() {
    let cluster = Cluster::new().await;
    let starts = (0..8).map(|_| secrets::load_or_create(cluster.client.clone(), NAMESPACE));
    let authorities = futures::future::join_all(starts).await;
    let prints: BTreeSet<String> = authorities.into_iter().map(|a| a.unwrap().fingerprint()).collect();
    assert_eq!(prints.len(), 1);

    let starts = (0..6).map(|_| secrets::next_revision(cluster.client.clone(), NAMESPACE));
    let mut revisions: Vec<u64> =
        futures::future::join_all(starts).await.into_iter().map(|revision| revision.unwrap()).collect();
    revisions.sort_unstable();
    assert!(revisions.windows(2).all(|pair| pair[1] - pair[0] >= 1 << 32), "{revisions:?}");

    assert!(secrets::announced(cluster.client.clone(), NAMESPACE).await.unwrap().is_empty());
    let urls = ["https://192.0.2.1:6444".to_owned(), "https://[2001:db8::1]:6444".to_owned()];
    secrets::announce(cluster.client.clone(), NAMESPACE, &urls).await.unwrap();
    assert_eq!(secrets::announced(cluster.client.clone(), NAMESPACE).await.unwrap(), urls);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_forgets_is_nothing() {
    let tokyo = Serving::new().await;
    let kubeconfig = tokyo.joined("paris").await;
    let address = tokyo.emitter.address().to_string();
    // As by kill -9: nothing is told to anybody.
    tokyo.shutdown.cancel();
    let cluster = Cluster {
        server: tombolo_apiserver::ApiServer::builder().without_controllers().build().unwrap(),
        client: tokyo.cluster.client.clone(),
        kubeconfig: tokyo.cluster.kubeconfig.clone(),
    };
    let again = Serving::unready(cluster, &address).await;
    again.emitter.set(service("shop", "web"));
    again.emitter.set_ready();
    let client = client_of(&kubeconfig).await;
    let list = until("it is admitted", async || {
        let (status, _, body) = get(&client, LIST).await;
        (status == 200).then_some(body)
    });
    let list: Value = serde_json::from_str(&list.await).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "web");
}
