//! The connection to another cluster: kept, watched over, and made anew.
//!
//! A link that is cut is not seen by a watch, which waits for events that may be rare. So the other API server is asked
//! for its version all the time, and when it does not answer, the watches are ended: they would wait for the link's
//! lost packets long after it is mended.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::options::Location;
use crate::remote::KINDS;
use crate::watch::{Scope, Seen, follow, words};

/// How often it is asked whether it is there, and how long the answer may take.
const BEAT: Duration = Duration::from_secs(5);
/// Pauses between attempts to reach it.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// This many answers in a row that do not come are no accident.
const MISSES: u32 = 2;

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
    let client = match client(location).await {
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
    for kind in KINDS {
        let make = make.clone();
        // ClusterProperties are in no namespace.
        let namespace = namespace.filter(|_| kind != crate::kinds::Kind::Property).map(str::to_owned);
        let scope = Scope { namespace, ..Scope::default() };
        watches.spawn(follow(client.clone(), kind, scope, sender.clone(), move |seen| make(Heard::Seen(seen))));
    }
    let mut missed = 0;
    loop {
        tokio::time::sleep(BEAT).await;
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

async fn client(location: &Location) -> Result<Client, String> {
    let mut config = match location {
        Location::File(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| format!("{}: {error}", file.display()))?;
            from(read).await?
        }
        Location::Text(text) => {
            from(Kubeconfig::from_yaml(text).map_err(|error| format!("its Secret holds no kubeconfig: {error}"))?)
                .await?
        }
        Location::Url(url) => {
            let url = url.parse().map_err(|error| format!("{url:?} is no URL of an API server: {error}"))?;
            Config::new(url)
        }
    };
    config.connect_timeout = Some(BEAT);
    Client::try_from(config).map_err(|error| words(&error))
}

async fn from(kubeconfig: Kubeconfig) -> Result<Config, String> {
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error.to_string())
}
