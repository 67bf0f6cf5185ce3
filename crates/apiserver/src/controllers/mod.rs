//! What follows from what is stored: endpoints of Services, pods of Deployments, nodes for pods, and what goes when
//! its owner or its namespace goes.
//!
//! Each controller is a pure function, "given these objects, these writes", in a module of its own. [`run`] is the one
//! loop around them: it hears every event of the store, notes which objects are to be looked at again, reads what
//! those functions need and applies what they answer. It is level-triggered, so that a lost write is made again at the
//! next look, and nothing waits for a timer except what is about time itself (`minReadySeconds`, deadlines).

mod affinity;
mod daemonsets;
mod deployment_status;
mod deployments;
mod endpoints;
mod garbage;
mod index;
mod mirror;
mod namespaces;
mod pods;
mod queue;
mod replicasets;
mod runner;
mod scheduler;
mod service_slices;
mod slices;
mod write;

pub use runner::run;

#[cfg(test)]
mod tests;
