//! Putting an API server together.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use ipnet::IpNet;
use rand::RngCore;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::tls::Tls;
use super::{ApiServer, Shared, bootstrap, definitions, follow};
use crate::auth::Auth;
use crate::authorize::Authorizer;
use crate::exec::PodRuntime;
use crate::resources::{Gvr, Resources};
use crate::rest::User;
use crate::schema::Registry;
use crate::services::Services;
use crate::store::Store;

/// Why an API server can't be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder can't be used.
    #[error("the API server can't use its data folder {folder}: {error}; mend that or give another --data-dir")]
    Data {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A certificate can't be made or read.
    #[error(
        "the API server's certificates can't be made: {0}; if ca.crt or ca.key in its data folder is broken, remove both"
    )]
    Certificate(String),
    /// The service networks can't be used.
    #[error("{0}")]
    ServiceCidr(String),
}

/// See [`ApiServer::builder`].
#[derive(Default)]
pub struct Builder {
    cidrs: Vec<IpNet>,
    advertise: Option<SocketAddr>,
    data_dir: Option<PathBuf>,
    sans: Vec<IpAddr>,
    token: Option<String>,
    without_controllers: bool,
    runtime: Option<Arc<dyn PodRuntime>>,
    store: Option<Store>,
    definitions: Vec<Value>,
    read_only: Option<Vec<(String, String)>>,
    authorizer: Option<Arc<dyn Authorizer>>,
}

impl Builder {
    /// The networks that Services get their addresses from: one, or one of each family, the default family first.
    pub fn service_cidrs(mut self, cidrs: impl IntoIterator<Item = IpNet>) -> Self {
        self.cidrs = cidrs.into_iter().collect();
        self
    }

    /// The address that the Service `default/kubernetes` leads to.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// Keeps objects, certificate authority and token in this folder, over restarts and crashes.
    pub fn data_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.data_dir = Some(folder.as_ref().to_owned());
        self
    }

    /// An address that the certificate is good for, beside those of the listeners.
    pub fn san(mut self, address: IpAddr) -> Self {
        self.sans.push(address);
        self
    }

    /// The administrator's token, instead of a random one.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Runs no controllers: nothing is stored that a client did not send.
    pub fn without_controllers(mut self) -> Self {
        self.without_controllers = true;
        self
    }

    /// What runs the containers of pods: `exec`, `attach` and `log` ask it. Without one they are answered by 503.
    pub fn pod_runtime(mut self, runtime: Arc<dyn PodRuntime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Serves this store, instead of one that is kept in the data folder.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Serves what a CustomResourceDefinition defines, though it is not stored.
    pub fn definition(mut self, crd: Value) -> Self {
        self.definitions.push(crd);
        self
    }

    /// Serves these built-in resources (group and plural name) and those of [`Builder::definition`], and nothing else,
    /// to be read: get, list and watch. Nothing is in the store but what is put there through [`ApiServer::store`], and
    /// nothing runs beside it.
    pub fn read_only<'a>(mut self, resources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.read_only = Some(resources.into_iter().map(|(g, r)| (g.to_owned(), r.to_owned())).collect());
        self
    }

    /// Who may do what. Without one every user may do everything.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// Builds the server and starts its controllers. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the data folder or the certificates can't be used, or the service networks make no sense.
    pub fn build(self) -> Result<ApiServer, Error> {
        check_cidrs(&self.cidrs)?;
        let data = |error| Error::Data { folder: self.data_dir.clone().unwrap_or_default(), error };
        let store = match (self.store, &self.data_dir) {
            (Some(store), _) => store,
            (None, Some(folder)) => Store::open(&folder.join("store")).map_err(data)?,
            (None, None) => Store::new(),
        };
        let folder = self.data_dir.as_deref();
        let token = match self.token {
            Some(token) => token,
            None => kept(folder, "token", || hex(&random())).map_err(data)?,
        };
        let key = kept(folder, "service-account.key", || hex(&random())).map_err(data)?;
        let services = Services::new(&self.cidrs);
        for service in store.list(&Gvr::new("", "v1", "services"), None).items {
            services.note(&service);
        }
        let mut sans = self.sans;
        sans.extend(services.first_address());
        sans.extend(self.advertise.map(|address| address.ip()));
        let tls = Arc::new(Tls::new(folder, sans)?);
        let auth = Auth::new(key_of(&key), store.clone());
        auth.add(&token, User { name: "kubernetes-admin".into(), groups: admin_groups(), uid: String::new() });
        let shared = Arc::new(Shared {
            store,
            resources: Resources::builtin(),
            services,
            auth,
            shutdown: CancellationToken::new(),
            runtime: self.runtime,
            authorizer: self.authorizer,
            advertise: self.advertise,
            schema: RwLock::new(Registry::builtin()),
        });
        for crd in &self.definitions {
            shared.define(crd);
        }
        if let Some(served) = &self.read_only {
            shared.resources.read_only(served);
            return Ok(ApiServer { shared, tls, token });
        }
        definitions::load(&shared);
        bootstrap::objects(&shared);
        tokio::spawn(follow::run(shared.clone(), shared.store.subscribe()));
        if !self.without_controllers {
            bootstrap::controllers(&shared, tls.ca_pem());
        }
        Ok(ApiServer { shared, tls, token })
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("cidrs", &self.cidrs).field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

fn admin_groups() -> Vec<String> {
    vec!["system:masters".into(), "system:authenticated".into()]
}

fn check_cidrs(cidrs: &[IpNet]) -> Result<(), Error> {
    let families = |v4: bool| cidrs.iter().filter(|c| c.addr().is_ipv4() == v4).count();
    if families(true) > 1 || families(false) > 1 {
        let text = "there may be one service network of IPv4 and one of IPv6; give --service-cidr at most one of each";
        return Err(Error::ServiceCidr(text.into()));
    }
    match cidrs.iter().find(|c| c.max_prefix_len() - c.prefix_len() < 2) {
        None => Ok(()),
        Some(cidr) => Err(Error::ServiceCidr(format!(
            "the service network {cidr} is too small; give one of /{} or wider",
            cidr.max_prefix_len() - 2
        ))),
    }
}

/// A secret that is made once and kept in the data folder, where there is one.
fn kept(folder: Option<&Path>, name: &str, make: impl FnOnce() -> String) -> std::io::Result<String> {
    let Some(folder) = folder else { return Ok(make()) };
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = make();
    super::tls::write_secret(&path, &text)?;
    Ok(text)
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key out of a kept secret.
fn key_of(text: &str) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).into()
}
