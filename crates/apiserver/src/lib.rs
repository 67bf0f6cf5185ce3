//! A Kubernetes-style API server as a library.
//!
//! It is for the lab, for tests and for the read-only API that a cluster offers to others; the state of a production
//! cluster is in its own kube-apiserver. What a client can see is what a real kube-apiserver shows it: `kubectl` and
//! client-go or kube-rs informers work on it unchanged.
//!
//! A request goes through these rooms:
//!
//! ```text
//! server (TLS, connections) → auth → http (path, query, Accept, body) → rest (verbs)
//!     → patch, schema, strategy (what a kind asks for) → store (objects, revisions, events) → journal (disk)
//! ```
//!
//! and beside them `controllers` turn what is stored into what follows from it (endpoints, garbage collection, …),
//! and `exec` joins a client to a pod.

mod auth;
mod authorize;
pub mod clock;
pub mod controllers;
mod convert;
pub mod exec;
mod http;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod resources;
mod rest;
pub mod schema;
pub mod selectors;
mod server;
mod services;
pub mod status;
pub mod store;
mod strategy;
pub mod tables;

pub use authorize::{Attributes, Authorizer, ResourceAttributes};
pub use resources::{Gvk, Gvr, Resource, Resources};
pub use rest::User;
pub use server::{ApiServer, Builder, Error};
pub use status::Status;
pub use store::Store;
