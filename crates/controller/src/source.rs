//! The connection to another cluster: kept, watched over, and made anew.
//!
//! A link that is cut is not seen by a watch, which waits for events that may be rare. So the other API server is asked
//! for its version all the time, and when it does not answer, the watches are ended: they would wait for the link's
//! lost packets long after it is mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use tombolo_proxy::ServiceKey;

use crate::limit::{LINE, LISTS, Limit, PAGE_OBJECTS, TooLong};
use crate::options::Location;
use crate::remote::KINDS;
use crate::watch::{Scope, Seen, follow, words};

/// How often it is asked whether it is there, and how long the answer may take.
const BEAT: Duration = Duration::from_secs(5);
/// Pauses between attempts to reach it.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// This many answers in a row that do not come are no accident.
const MISSES: u32 = 2;

const BEGINS_ANEW: &str = "its API server has begun anew, and all is listed again";

/// What comes from a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// An event of its API.
    Seen(Seen),
    /// It cannot be reached, for this reason; or it can.
    Contact(Option<String>),
}

/// Keeps the connection until `stop`.
pub(crate) async fn run<T: Send + 'static>(
    location: Location,
    namespace: Option<String>,
    sender: mpsc::Sender<T>,
    make: impl Fn(Heard) -> T + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let mut pause = RETRY.0;
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            lost = once(&location, namespace.as_deref(), &sender, &make, &mut pause) => lost,
        };
        if sender.send(make(Heard::Contact(Some(lost)))).await.is_err() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY.1);
    }
}

/// One connection, from its beginning to its loss, which is said.
async fn once<T: Send + 'static>(
    location: &Location,
    namespace: Option<&str>,
    sender: &mpsc::Sender<T>,
    make: &(impl Fn(Heard) -> T + Clone + Send + Sync + 'static),
    pause: &mut Duration,
) -> String {
    let (said, mut too_long) = mpsc::unbounded_channel();
    let client = match client(location, said).await {
        Ok(client) => client,
        Err(error) => return error,
    };
    if let Err(error) = ask(&client).await {
        return error;
    }
    *pause = RETRY.0;
    if sender.send(make(Heard::Contact(None))).await.is_err() {
        return String::new();
    }
    let mut watches = JoinSet::new();
    let begins_anew = Arc::new(Notify::new());
    for kind in KINDS {
        let (make, begins_anew, has_listed) = (make.clone(), Arc::clone(&begins_anew), AtomicBool::new(false));
        let heard = move |seen: Seen| match seen {
            // What it had may be gone from each kind at another moment, so that all are listed together again.
            Seen::All(..) if has_listed.swap(true, Ordering::Relaxed) => {
                begins_anew.notify_one();
                make(Heard::Contact(Some(BEGINS_ANEW.to_owned())))
            }
            seen => make(Heard::Seen(seen)),
        };
        // ClusterProperties are in no namespace.
        let namespace = namespace.filter(|_| kind != crate::kinds::Kind::Property).map(str::to_owned);
        let scope = Scope { namespace, page: Some(PAGE_OBJECTS), ..Scope::default() };
        watches.spawn(follow(client.clone(), kind, scope, sender.clone(), heard));
    }
    let mut missed = 0;
    loop {
        tokio::select! {
            () = begins_anew.notified() => return BEGINS_ANEW.to_owned(),
            Some(what) = too_long.recv() => match what {
                TooLong::Lists => {
                    *pause = RETRY.1;
                    return format!(
                        "its lists have more than {} MiB, and it is not listened to; mirror less of it by --namespace",
                        LISTS >> 20
                    );
                }
                TooLong::Object(plural) => {
                    let Some(kind) = KINDS.into_iter().find(|kind| kind.name() == plural) else { continue };
                    let words = format!("one is larger than {} MiB and is left out", LINE >> 20);
                    let seen = Seen::Refused(kind, ServiceKey::new("?", "?"), words);
                    if sender.send(make(Heard::Seen(seen))).await.is_err() {
                        return String::new();
                    }
                    continue;
                }
            },
            () = tokio::time::sleep(BEAT) => {}
        }
        match ask(&client).await {
            Ok(()) => missed = 0,
            Err(error) => {
                missed += 1;
                if missed >= MISSES {
                    return error;
                }
            }
        }
    }
}

/// Whether it answers, be it by a refusal.
async fn ask(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(BEAT, client.apiserver_version()).await {
        Err(_) => Err(format!("its API server does not answer within {} s", BEAT.as_secs())),
        Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
            Err("its API server does not take the credentials (401): renew the kubeconfig, or accept a new invitation"
                .to_owned())
        }
        Ok(Ok(_) | Err(kube::Error::Api(_))) => Ok(()),
        Ok(Err(error)) => Err(words(&error)),
    }
}

async fn client(location: &Location, said: mpsc::UnboundedSender<TooLong>) -> Result<Client, String> {
    let mut config = match location {
        Location::File(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| format!("{}: {error}", file.display()))?;
            from(read).await?
        }
        Location::Text(text) => {
            let read =
                Kubeconfig::from_yaml(text).map_err(|error| format!("its Secret holds no kubeconfig: {error}"))?;
            self_contained(&read)?;
            from(read).await?
        }
        Location::Url(url) => {
            let url = url.parse().map_err(|error| format!("{url:?} is no URL of an API server: {error}"))?;
            Config::new(url)
        }
    };
    config.connect_timeout = Some(BEAT);
    let listed = Arc::new(AtomicUsize::new(0));
    let builder = ClientBuilder::try_from(config).map_err(|error| words(&error))?;
    let limited = tower::layer::layer_fn(|inner| Limit { inner, said: said.clone(), listed: Arc::clone(&listed) });
    Ok(builder.with_layer(&limited).build())
}

/// A kubeconfig that came from elsewhere must not make us run programs, or hand out files that are here.
fn self_contained(kubeconfig: &Kubeconfig) -> Result<(), String> {
    let mut found = Vec::new();
    for cluster in kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref()) {
        found.extend(cluster.certificate_authority.as_ref().map(|_| "certificate-authority"));
    }
    for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
        found.extend(user.exec.as_ref().map(|_| "exec"));
        found.extend(user.auth_provider.as_ref().map(|_| "auth-provider"));
        found.extend(user.token_file.as_ref().map(|_| "tokenFile"));
        found.extend(user.client_certificate.as_ref().map(|_| "client-certificate"));
        found.extend(user.client_key.as_ref().map(|_| "client-key"));
    }
    match found.first() {
        None => Ok(()),
        Some(field) => Err(format!(
            "the kubeconfig in its Secret has {field}, which refers to what is outside of it; put certificates, keys and \
             tokens in it (kubectl config view --flatten)"
        )),
    }
}

async fn from(kubeconfig: Kubeconfig) -> Result<Config, String> {
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error.to_string())
}
