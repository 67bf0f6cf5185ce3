//! The emitter as a server.

mod access;
mod connection;
pub(crate) mod join;
mod limits;
mod requests;
mod tls;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tombolo_apiserver::store::DeleteOptions;
use tombolo_apiserver::{ApiServer, Store, object};

use crate::metrics::Metrics;
use crate::{Admissions, Authority, Emitted, EmittedKind, Error};
use access::ReadOnly;
use limits::Limits;
use tls::Tls;

/// What an emitter is to others.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Whose certificates it has and gives.
    pub authority: Authority,
    /// Names and addresses that its certificate is good for, beside [`SERVER_NAME`](crate::SERVER_NAME), which is
    /// enough for those who joined by an invitation.
    pub names: Vec<String>,
    /// Where resource versions begin: above all that any earlier start has given out.
    /// [`secrets::next_revision`](crate::secrets::next_revision) keeps that.
    pub first_revision: u64,
    /// How long the certificates of clusters are good: a year by default.
    pub client_life: Duration,
}

impl Identity {
    /// How long the certificate of a cluster is good.
    pub const CLIENT_LIFE: Duration = Duration::from_secs(365 * 86400);

    /// An identity whose resource versions begin at the clock, in microseconds: above those of earlier starts as long
    /// as the clock is not set back.
    pub fn new(authority: Authority) -> Self {
        let micros = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
        let first_revision = u64::try_from(micros).unwrap_or(1);
        Identity { authority, names: Vec::new(), first_revision, client_life: Identity::CLIENT_LIFE }
    }
}

/// A running emitter. Clones are the same one.
#[derive(Clone)]
pub struct Emitter {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What connections and requests need.
struct Shared {
    server: ApiServer,
    ready: Arc<AtomicBool>,
    identity: Identity,
    admissions: Arc<dyn Admissions>,
    tls: Tls,
    limits: Limits,
    /// Attempts to join that are under way at once.
    joining: Semaphore,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Emitter {
    /// Begins to serve on a listener, until `shutdown`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the listener has no address or no certificate can be made.
    pub async fn start(
        listener: TcpListener,
        mut identity: Identity,
        admissions: Arc<dyn Admissions>,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let address = listener.local_addr().map_err(|error| Error::Serve(error.to_string()))?;
        if !address.ip().is_unspecified() {
            identity.names.push(address.ip().to_string());
        }
        let ready = Arc::new(AtomicBool::new(false));
        let broken = Error::Serve;
        let exports = tombolo_api::mcs::service_exports_crd().map_err(|error| broken(error.to_string()))?;
        let definitions = [exports, tombolo_api::about::crd()];
        let mut builder = ApiServer::builder()
            .store(Store::starting_after(identity.first_revision))
            .read_only(EmittedKind::ALL.map(EmittedKind::resource))
            .authorizer(Arc::new(ReadOnly::new(ready.clone())));
        for definition in definitions {
            let definition = serde_json::to_value(definition).map_err(|error| broken(error.to_string()))?;
            builder = builder.definition(definition);
        }
        let server = builder.build().map_err(|error| broken(error.to_string()))?;
        let shared = Arc::new(Shared {
            server,
            ready,
            tls: Tls::new(&identity)?,
            identity,
            admissions,
            limits: Limits::default(),
            joining: Semaphore::new(join::AT_ONCE),
            metrics: Metrics::default(),
            shutdown,
        });
        tokio::spawn(connection::accept(shared.clone(), listener));
        tokio::spawn(count_admitted(shared.clone()));
        tracing::info!(%address, "the emitter accepts connections");
        Ok(Emitter { shared, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its metrics, to be registered.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Offers an object, in place of what is offered by its kind, namespace and name. What is offered as it is already
    /// makes no event.
    pub fn set(&self, object: impl Into<Emitted>) {
        let object = object.into();
        self.put(object.kind(), object.into_value());
        self.count();
    }

    /// No longer offers an object; `namespace` is `""` for one without.
    pub fn remove(&self, kind: EmittedKind, namespace: &str, name: &str) {
        // What is not offered is as it should be.
        let _ = self.store().delete(&kind.gvr(), namespace, name, &DeleteOptions::now());
        self.count();
    }

    /// Offers these objects and no others of the kind; those of other kinds among them are passed over.
    pub fn replace(&self, kind: EmittedKind, objects: impl IntoIterator<Item = impl Into<Emitted>>) {
        let objects = objects.into_iter().map(Into::into).filter(|object| object.kind() == kind);
        let values: Vec<Value> = objects.map(Emitted::into_value).collect();
        let key = |o: &Value| (object::namespace(o).to_owned(), object::name(o).to_owned());
        let wanted: HashSet<(String, String)> = values.iter().map(key).collect();
        for known in self.store().list(&kind.gvr(), None).items {
            let (namespace, name) = key(&known);
            if !wanted.contains(&(namespace.clone(), name.clone())) {
                let _ = self.store().delete(&kind.gvr(), &namespace, &name, &DeleteOptions::now());
            }
        }
        values.into_iter().for_each(|value| self.put(kind, value));
        self.count();
    }

    /// All kinds are as the cluster has them: lists and watches are answered from now on.
    pub fn set_ready(&self) {
        if !self.shared.ready.swap(true, Ordering::Release) {
            let objects = self.shared.metrics.objects.get();
            tracing::info!(objects, "the emitter answers: all that is exported is known");
        }
    }

    /// Whether lists are answered.
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    fn put(&self, kind: EmittedKind, value: Value) {
        let (store, gvr) = (self.store(), kind.gvr());
        let (namespace, name) = (object::namespace(&value).to_owned(), object::name(&value).to_owned());
        let known = store.get(&gvr, &namespace, &name);
        // One of another UID is another object: the first is deleted, then there is the second.
        let same = |known: &Value| object::uid(&value).is_empty() || object::uid(known) == object::uid(&value);
        if known.as_deref().is_some_and(|known| !same(known)) {
            let _ = store.delete(&gvr, &namespace, &name, &DeleteOptions::now());
        }
        let put = match store.get(&gvr, &namespace, &name) {
            Some(_) => store.update(&gvr, value),
            None => store.create(&gvr, value),
        };
        if let Err(error) = put {
            tracing::error!(%error, kind = ?kind, namespace, name, "not offered to other clusters");
        }
    }

    fn count(&self) {
        let count: usize = EmittedKind::ALL.into_iter().map(|kind| self.store().count(&kind.gvr())).sum();
        self.shared.metrics.objects.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn store(&self) -> &Store {
        self.shared.server.store()
    }
}

/// Keeps the number of admitted clusters up to date.
async fn count_admitted(shared: Arc<Shared>) {
    let mut admitted = shared.admissions.admitted();
    loop {
        let count = admitted.borrow_and_update().as_ref().map_or(0, |admitted| admitted.clusters().len());
        shared.metrics.admitted.set(i64::try_from(count).unwrap_or(i64::MAX));
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            changed = admitted.changed() => if changed.is_err() { return },
        }
    }
}

impl std::fmt::Debug for Emitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emitter").field("address", &self.address).field("ready", &self.is_ready()).finish()
    }
}
