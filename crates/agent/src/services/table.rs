//! The table in the kernel.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tombolo_host::conntrack::{self, Flow};
use tombolo_host::nft::{self, ElementSocket};
use tombolo_proxy::{Node, Script, StaleFlows, Update};

/// Applies updates: those about elements alone over a socket that is kept, others by `nft`.
#[derive(Default)]
pub(super) struct Table {
    socket: Option<ElementSocket>,
    is_applied: bool,
    /// The silent networks that it knows of.
    silent: BTreeSet<IpNet>,
}

impl Table {
    /// Whether the last update came about.
    pub(super) fn is_applied(&self) -> bool {
        self.is_applied
    }

    /// # Errors
    /// Nothing of the update came about, and what is in the kernel may not be what was applied before.
    pub(super) async fn apply(&mut self, update: &Update, node: &Node) -> Result<()> {
        self.is_applied = false;
        if !update.script.is_empty() {
            self.run(&update.script).await?;
        }
        self.is_applied = true;
        forget_flows(&update.stale, node).await;
        let silenced: Vec<IpNet> = node.silent_networks.difference(&self.silent).copied().collect();
        self.silent.clone_from(&node.silent_networks);
        forget_attempts(&silenced).await;
        Ok(())
    }

    async fn run(&mut self, script: &Script) -> Result<()> {
        if let Some(changes) = script.element_changes() {
            let mut socket = match self.socket.take() {
                Some(socket) => socket,
                None => ElementSocket::open()?,
            };
            // After an error the socket is not used again: answers may still be under way.
            let done = socket.apply(&script.table, &changes).await?;
            self.socket = Some(socket);
            if done {
                return Ok(());
            }
        }
        nft::run(&script.to_string()).await.context("nft")
    }
}

/// Connection tracking would send UDP clients on to endpoints that are gone.
async fn forget_flows(stale: &[StaleFlows], node: &Node) {
    if stale.is_empty() {
        return;
    }
    let is_own = |address: IpAddr| node.node_port_addresses.contains(&address);
    let stale = Lookup::new(stale);
    let is_stale = |destination: SocketAddr, replier: IpAddr| stale.contains(destination, replier, is_own);
    if let Err(error) = conntrack::forget_udp(is_stale).await {
        tracing::warn!(%error, "UDP clients may go on sending to endpoints that are gone for up to two minutes");
    }
}

/// A client's next attempt at a connection that nobody has answered goes to another endpoint.
async fn forget_attempts(silenced: &[IpNet]) {
    if silenced.is_empty() {
        return;
    }
    let is_translated = |flow: &Flow| flow.destination.ip() != flow.replier;
    let is_attempt = |flow: &Flow| !flow.is_answered && silenced.iter().any(|net| net.contains(&flow.replier));
    match conntrack::forget(|flow| is_translated(flow) && is_attempt(flow)).await {
        Ok(count) => tracing::debug!(count, ?silenced, "forgot attempts at connections"),
        Err(error) => {
            tracing::warn!(%error, "attempts at connections to endpoints that do not answer go on until they time out");
        }
    }
}

/// The flows by port: at the start all UDP services are looked at, for each of maybe many flows.
struct Lookup<'a>(HashMap<u16, Vec<&'a StaleFlows>>);

impl<'a> Lookup<'a> {
    fn new(stale: &'a [StaleFlows]) -> Self {
        let mut by_port: HashMap<u16, Vec<&StaleFlows>> = HashMap::new();
        stale.iter().for_each(|flows| by_port.entry(flows.frontend.port()).or_default().push(flows));
        Self(by_port)
    }

    fn contains(&self, destination: SocketAddr, replier: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
        let flows = self.0.get(&destination.port()).into_iter().flatten();
        flows.into_iter().any(|flows| flows.contains(destination, replier, &is_own))
    }
}
