//! Brings the node to its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Error, Result};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tombolo_host::{Host, Scope, Sysctls, nft};
use tombolo_mesh::plan::{self, Plan};
use tombolo_mesh::{Node, firewall, routes};
use tombolo_net::network::{self, Network};
use tombolo_net::wireguard::{self, DeviceStatus};
use tombolo_wireguard::device::{self, Device, OpenOptions};

use super::inputs;
use crate::events::MANAGER;
use crate::metrics::Metrics;
use crate::world::World;
use crate::{Options, cni, selfnode};

pub(super) struct Applier {
    client: Client,
    options: Arc<Options>,
    host: Host,
    metrics: Arc<Metrics>,
    device: Option<Box<dyn Device>>,
    status: DeviceStatus,
    firewall: Option<String>,
    last_seen: i64,
    /// Addresses of peers that were just added.
    greet: Vec<IpAddr>,
}

impl Applier {
    pub(super) fn new(client: Client, options: Arc<Options>, host: Host, metrics: Arc<Metrics>) -> Self {
        let last_seen = inputs::unix_now();
        Self {
            client,
            options,
            host,
            metrics,
            device: None,
            status: DeviceStatus::default(),
            firewall: None,
            last_seen,
            greet: Vec::new(),
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// What the WireGuard device said last.
    pub(super) fn device_status(&self) -> &DeviceStatus {
        &self.status
    }

    /// This node lives, and will say so with the next plan. What others made of our nftables table is looked at, too.
    pub(super) fn check_in(&mut self) {
        self.last_seen = inputs::unix_now();
    }

    /// Applies each part for itself: what fails does not stop the rest. Returns what failed.
    pub(super) async fn apply(&mut self, plan: &Plan, mtu: u32, own: &Node, world: &World) -> Vec<Error> {
        let mut problems = Vec::new();
        problems.extend(self.settings(plan).err());
        problems.extend(self.cni_configuration(own, mtu).err());
        problems.extend(self.annotate(plan, own, world).await.err());
        problems.extend(self.firewall(plan).await.err());
        problems.extend(self.wireguard(plan, mtu).await.err());
        problems.extend(self.network(&plan.network).await);
        self.greet();
        problems
    }

    /// Sends an empty datagram to each new peer, now that it is routed there: this begins the handshake. The other side
    /// may have begun one before we knew its key, and would wait five seconds before the next (WireGuard's
    /// REKEY_TIMEOUT), its packets with it.
    fn greet(&mut self) {
        const DISCARD: u16 = 9;
        for address in self.greet.drain(..) {
            let any: SocketAddr =
                if address.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
            let sent = UdpSocket::bind(any).and_then(|socket| socket.send_to(&[], (address, DISCARD)));
            tracing::debug!(%address, ?sent, "greeted a new peer");
        }
    }

    /// Undoes everything. What cannot be undone is said, and left.
    pub(super) async fn clean_up(&mut self) {
        tracing::info!("undoing what was changed on this node");
        let mut problems = self.network(&Network::default()).await;
        let removed = nft::run(&firewall::remove_script(inputs::FIREWALL_TABLE)).await;
        problems.extend(removed.err().map(Error::from));
        if self.options.clean_up_interface {
            self.device = None;
            let removed = device::remove(&self.options.interface, &self.options.wireguard_socket_dir).await;
            problems.extend(removed.err().map(Error::from));
        }
        problems.extend(Sysctls::restore(&self.record()).err().map(Error::from));
        problems.extend(self.forget_annotations().await.err());
        for problem in problems {
            tracing::warn!(error = %format!("{problem:#}"), "cannot undo");
        }
    }

    fn record(&self) -> PathBuf {
        self.options.state_dir.join("sysctls")
    }

    /// A router forwards, and a bridge shows its packets to nftables.
    fn settings(&self, plan: &Plan) -> Result<()> {
        let subnets = || plan.topology.subnets.iter().chain(&plan.topology.wireguard_ips);
        let mut wanted: Vec<(String, &str)> = Vec::new();
        if subnets().any(|net| net.addr().is_ipv4()) {
            wanted.push(("net.ipv4.ip_forward".into(), "1"));
            wanted.push(("net.ipv4.conf.all.src_valid_mark".into(), "1"));
        }
        if subnets().any(|net| net.addr().is_ipv6()) {
            // A host that forwards no longer takes its default route from router advertisements, unless told so by 2.
            for link in std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
                let key = format!("net/ipv6/conf/{}/accept_ra", link.file_name().to_string_lossy());
                if Sysctls::read(&key).is_ok_and(|value| value == "1") && link.file_name() != "all" {
                    wanted.push((key, "2"));
                }
            }
            wanted.push(("net.ipv6.conf.all.forwarding".into(), "1"));
        }
        for key in ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"] {
            if Sysctls::read(key).is_ok() {
                wanted.push((key.into(), "1"));
            }
        }
        let wanted: Vec<(&str, &str)> = wanted.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        Sysctls::set(&wanted, &self.record()).context("cannot make this node a router")
    }

    fn cni_configuration(&self, own: &Node, mtu: u32) -> Result<()> {
        if !self.options.cni {
            return Ok(());
        }
        let options = &self.options;
        if cni::ensure(&options.cni_path, &own.subnets, mtu, options.cni_data_dir.as_deref())? {
            tracing::info!(path = %options.cni_path.display(), "wrote the CNI configuration");
        }
        Ok(())
    }

    async fn annotate(&mut self, plan: &Plan, own: &Node, world: &World) -> Result<()> {
        let discovered = plan::discovered_endpoints(&world.nodes, &world.peers, &self.status);
        let silent = if plan.leads() { plan.silent_networks.clone() } else { BTreeSet::new() };
        let annotations =
            selfnode::annotations(own, &plan.topology.wireguard_ips, &discovered, &silent, self.last_seen);
        let stored = |name: &str| world.own_annotations.get(name);
        let same = selfnode::WRITTEN.iter().all(|name| stored(name) == annotations.get(*name));
        if same {
            return Ok(());
        }
        let name = &self.options.hostname;
        let object =
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "annotations": annotations } });
        let api: Api<core::Node> = Api::all(self.client.clone());
        let params = PatchParams::apply(MANAGER).force();
        api.patch_metadata(name, &params, &Patch::Apply(object)).await.with_context(|| {
            format!("cannot annotate Node {name}, so the others do not know this node's key and address")
        })?;
        Ok(())
    }

    async fn forget_annotations(&self) -> Result<()> {
        let gone: BTreeMap<&str, Value> = selfnode::WRITTEN.iter().map(|name| (*name, Value::Null)).collect();
        let patch = json!({ "metadata": { "annotations": gone } });
        let api: Api<core::Node> = Api::all(self.client.clone());
        api.patch_metadata(&self.options.hostname, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("cannot remove this node's annotations")?;
        Ok(())
    }

    async fn firewall(&mut self, plan: &Plan) -> Result<()> {
        let script = plan.firewall.script();
        let there = self.firewall.as_ref() == Some(&script)
            && nft::table_exists("inet", inputs::FIREWALL_TABLE).await.unwrap_or(false);
        if there {
            return Ok(());
        }
        nft::run(&script).await.context("cannot change the nftables table of the mesh")?;
        self.metrics.changes.inc();
        self.firewall = Some(script);
        Ok(())
    }

    async fn wireguard(&mut self, plan: &Plan, mtu: u32) -> Result<()> {
        let Some(wanted) = &plan.device else { return self.no_wireguard().await };
        let done = self.bring_device(wanted, mtu).await;
        if done.is_err() {
            // It is looked for, or made, anew.
            self.device = None;
        }
        done
    }

    async fn bring_device(&mut self, wanted: &wireguard::Device, mtu: u32) -> Result<()> {
        let interface = &self.options.interface;
        if self.host.link(interface).await?.is_none() {
            self.device = None;
        }
        let device = match self.device.take() {
            Some(device) => device,
            None => self.open(mtu).await?,
        };
        let status = device.status().await?;
        let changes = wireguard::changes(&status, wanted);
        if changes.is_empty() {
            self.status = status;
        } else {
            device.apply(&changes).await?;
            self.metrics.changes.inc_by(changes.len() as u64);
            self.say(&changes);
            self.greet.extend(changes.iter().filter_map(newcomer));
            self.status = device.status().await?;
        }
        self.host.set_up(interface, Some(mtu)).await?;
        self.device = Some(device);
        Ok(())
    }

    async fn open(&self, mtu: u32) -> Result<Box<dyn Device>> {
        let options = &self.options;
        let there = self.host.link(&options.interface).await?.is_some();
        anyhow::ensure!(
            there || options.create_interface,
            "the interface {} is not there, and --create-interface=false says that somebody else makes it",
            options.interface
        );
        let open = OpenOptions {
            socket_dir: options.wireguard_socket_dir.clone(),
            exe: options.program.clone(),
            log: Some(options.state_dir.join("wireguard.log")),
            mtu: u16::try_from(mtu).ok(),
            prefer: options.wireguard,
        };
        let device = device::open(&options.interface, &open).await?;
        tracing::info!(interface = %options.interface, kind = ?device.kind(), "WireGuard");
        Ok(device)
    }

    fn say(&self, changes: &[wireguard::Change]) {
        for change in changes {
            match change {
                wireguard::Change::RemovePeer(key) => tracing::info!(peer = %key, "peer removed"),
                wireguard::Change::SetPeer(peer) if peer.update_only => {
                    tracing::info!(peer = %peer.public_key, endpoint = ?peer.endpoint, allowed_ips = ?peer.allowed_ips, "peer changed");
                }
                wireguard::Change::SetPeer(peer) => {
                    tracing::info!(peer = %peer.public_key, endpoint = ?peer.endpoint, allowed_ips = ?peer.allowed_ips, "peer added");
                }
                _ => {}
            }
        }
    }

    /// Another leads: the device that this node had is removed, so that nobody sends to it.
    async fn no_wireguard(&mut self) -> Result<()> {
        self.device = None;
        self.status = DeviceStatus::default();
        if !self.options.create_interface || self.host.link(&self.options.interface).await?.is_none() {
            return Ok(());
        }
        device::remove(&self.options.interface, &self.options.wireguard_socket_dir).await?;
        tracing::info!(interface = %self.options.interface, "this node does not lead its location: WireGuard removed");
        Ok(())
    }

    async fn network(&self, wanted: &Network) -> Vec<Error> {
        let scope = Scope {
            address_links: vec![self.options.interface.clone()],
            vxlan_names: vec![routes::VXLAN_LINK.to_owned()],
        };
        let current = match self.host.observe(&scope).await {
            Ok(current) => current,
            Err(error) => return vec![error.into()],
        };
        let changes = network::changes(&current, wanted);
        if changes.is_empty() {
            return Vec::new();
        }
        self.metrics.changes.inc_by(changes.len() as u64);
        tracing::debug!(?changes, "changing links, addresses, routes and rules");
        let failed = self.host.apply(&changes).await;
        failed.into_iter().map(|(change, error)| Error::from(error).context(format!("{change:?}"))).collect()
    }
}

/// An address of the peer that the change adds, if it can be sent to.
fn newcomer(change: &wireguard::Change) -> Option<IpAddr> {
    let wireguard::Change::SetPeer(peer) = change else { return None };
    if peer.update_only || peer.endpoint.is_none() {
        return None;
    }
    let mut hosts = peer.allowed_ips.iter().flatten().filter(|net| net.prefix_len() == net.max_prefix_len());
    hosts.next().map(|net| net.addr())
}
