//! The API server as a whole: what it is built of, and its life.

mod bootstrap;
mod builder;
mod connection;
mod definitions;
mod discovery;
mod documents;
mod follow;
mod router;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use builder::{Builder, Error};

use crate::auth::Auth;
use crate::authorize::Authorizer;
use crate::exec::PodRuntime;
use crate::object;
use crate::resources::{Gvr, Resource, Resources};
use crate::rest::User;
use crate::schema::{MergeSchema, Registry};
use crate::services::Services;
use crate::store::Store;
use tls::Tls;

/// A running API server; it stops when it is dropped or [shut down](ApiServer::shutdown).
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    tls: Arc<Tls>,
    token: String,
}

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) resources: Resources,
    pub(crate) services: Services,
    pub(crate) auth: Auth,
    pub(crate) shutdown: CancellationToken,
    /// What runs the containers of pods, if anything does.
    pub(crate) runtime: Option<Arc<dyn PodRuntime>>,
    /// Who may do what; everyone everything where there is none.
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    /// Where `default/kubernetes` leads to.
    advertise: Option<SocketAddr>,
    schema: RwLock<Registry>,
}

impl ApiServer {
    /// Begins an API server that keeps its objects in memory and gives no addresses to Services.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Accepts connections until the server is shut down. Can be called for several listeners, of several network
    /// namespaces too. The listener's address becomes a name of the certificate.
    pub fn serve(&self, listener: TcpListener) -> JoinHandle<()> {
        if let Ok(address) = listener.local_addr()
            && !address.ip().is_unspecified()
        {
            self.add_san(address.ip());
        }
        tokio::spawn(connection::accept(self.shared.clone(), self.tls.clone(), listener))
    }

    /// Answers one request of a user whom the caller knows, by a client certificate for one, on a connection of the
    /// caller's. The request's own credentials do not count.
    pub async fn answer(&self, user: User, request: Request<Body>) -> Response {
        router::answer_as(&self.shared, user, request).await
    }

    /// Adds an address to those that the certificate is good for, for connections from now on.
    pub fn add_san(&self, address: IpAddr) {
        self.tls.add(address);
    }

    /// Takes a further token for a user's.
    pub fn add_token(&self, token: &str, user: User) {
        self.shared.auth.add(token, user);
    }

    /// A kubeconfig for the administrator, with the server at `url` (`https://ADDRESS:PORT`).
    pub fn kubeconfig(&self, url: &str) -> String {
        tls::kubeconfig(url, &self.tls.ca_pem(), &self.token)
    }

    /// The certificate authority's certificate, in PEM.
    pub fn ca_pem(&self) -> String {
        self.tls.ca_pem()
    }

    /// The administrator's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The objects. What is written here is not validated.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// What is served.
    pub fn resources(&self) -> &Resources {
        &self.shared.resources
    }

    /// Ends all connections and everything that runs for this server, and writes what is on its way to the disk.
    pub fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.store.flush();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    pub(crate) fn schema(&self) -> RwLockReadGuard<'_, Registry> {
        self.schema.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn merge_schema(&self, gvk: (&str, &str, &str)) -> Arc<dyn MergeSchema> {
        self.schema().merge_schema(gvk)
    }

    /// Follows a write of a client before it is answered, so that what it makes can be used at once.
    pub(crate) fn written(&self, resource: &Resource, stored: &Value) {
        if resource.gvr.is("apiextensions.k8s.io", "customresourcedefinitions") {
            self.define(stored);
        }
    }

    /// Follows a deletion of a client before it is answered.
    pub(crate) fn removed(&self, resource: &Resource, last: &Value) {
        if resource.gvr.is("", "services") {
            self.settle_addresses(last);
        }
    }

    /// Notes what a Service has, or takes back what it had when there is none of its name by now. An event may be older
    /// than what the store holds, so the store is asked.
    fn settle_addresses(&self, service: &Value) {
        let services = Gvr::new("", "v1", "services");
        match self.store.get(&services, object::namespace(service), object::name(service)) {
            Some(present) => self.services.note(&present),
            None => self.services.release(service),
        }
    }

    fn schema_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.schema.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}
