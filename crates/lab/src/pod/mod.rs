//! A pod on a lab's node: a network namespace that the CNI plugins attach, and commands that run in it.

pub mod container;
pub mod directory;
pub mod exec;
pub mod log;
pub mod probe;
pub mod runtime;
pub mod spec;
pub mod status;
pub mod terminal;
pub mod worker;
