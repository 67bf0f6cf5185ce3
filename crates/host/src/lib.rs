//! Links, addresses, routes, rules and nftables of the host: observe, apply, clean up.
//!
//! The thin end under the agent. It reads what is there into the plain values of [`tombolo_net::network`], and carries
//! out the [`Change`]s between that and what shall be; it holds no policy and no memory. What is ours is told from what
//! is others' by the kernel itself: our routes and rules bear protocol [`tombolo_net::network::PROTOCOL`], our links have names that the
//! caller gives, and [`nft`] keeps to the caller's tables. All of it acts in the network namespace of the thread that
//! calls; a [`Host`] stays with the one in which it was connected.

mod addresses;
pub mod capabilities;
pub mod conntrack;
mod error;
mod links;
mod netlink;
pub mod nft;
pub mod probe;
mod programs;
mod routes;
mod rules;
mod sys;
pub mod sysctl;
mod vxlan;
mod watch;

use ipnet::IpNet;
use tombolo_net::network::{Address, Change, Network};

pub use addresses::{LinkAddress, Scope as AddressScope};
pub use error::{HostError, Refusal};
pub use links::LinkInfo;
pub use nft::NftError;
pub use probe::Prober;
pub use sysctl::Sysctls;
pub use watch::Watch;

use links::Links;
use netlink::Netlink;
use routes::Places;

/// What of a namespace is ours beyond the routes and rules that bear our protocol number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Links, made by whomever, all of whose global addresses are ours.
    pub address_links: Vec<String>,
    /// Names of the VXLAN links that we make.
    pub vxlan_names: Vec<String>,
}

/// What a node can be known by: the input of address discovery and of the MTU's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// All addresses of all links, in order.
    pub addresses: Vec<LinkAddress>,
    /// The link of the main table's default route for IPv4 (the one with the smallest metric).
    pub default_link_v4: Option<LinkInfo>,
    /// The same for IPv6.
    pub default_link_v6: Option<LinkInfo>,
}

impl Facts {
    /// The addresses of a link.
    pub fn of_link<'a>(&'a self, link: &'a str) -> impl Iterator<Item = IpNet> + 'a {
        self.addresses.iter().filter(move |a| a.link == link).map(|a| a.net)
    }
}

/// The network of the namespace in which it was connected.
#[derive(Debug, Clone)]
pub struct Host {
    netlink: Netlink,
}

impl Host {
    /// Opens the socket, in the namespace of the calling thread. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the system grants no netlink socket.
    pub async fn connect() -> Result<Self, HostError> {
        Ok(Self { netlink: Netlink::connect()? })
    }

    /// All that is ours.
    ///
    /// It is written the way the kernel keeps it: prefixes without host bits, an IPv6 route of the default metric with
    /// metric 0. A VXLAN link that is down or learns has MTU 0, and the missing half of an end is an unspecified
    /// address, so that [`tombolo_net::network::changes`] puts both right.
    ///
    /// # Errors
    /// When the kernel refuses a listing.
    pub async fn observe(&self, scope: &Scope) -> Result<Network, HostError> {
        let links = Links::list(&self.netlink).await?;
        let mut network = Network::default();
        for name in &scope.vxlan_names {
            network.vxlans.extend(vxlan::observe(&self.netlink, name).await?);
        }
        if !scope.address_links.is_empty() {
            let listed = addresses::list(&self.netlink, &links).await?;
            let ours = listed.into_iter().filter(|a| a.scope == AddressScope::Global);
            let ours = ours.filter(|a| scope.address_links.contains(&a.link));
            network.addresses = ours.map(|a| Address { link: a.link, net: a.net }).collect();
        }
        network.routes = routes::observe(&self.netlink, &links).await?.into_iter().collect();
        network.rules = rules::observe(&self.netlink).await?.into_iter().collect();
        Ok(network)
    }

    /// Carries out the steps in their order, each for itself, and gives back those that failed. What is already so, or
    /// already gone, is done.
    pub async fn apply(&self, changes: &[Change]) -> Vec<(Change, HostError)> {
        let mut failed = Vec::new();
        let (mut links, mut places) = (None, Places::default());
        for change in changes {
            if let Err(error) = self.step(change, &mut links, &mut places).await {
                failed.push((change.clone(), error));
            }
        }
        failed
    }

    /// Starts to listen for changes of links, addresses, routes and rules in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the system grants no netlink socket.
    pub fn watch(&self) -> Result<Watch, HostError> {
        Watch::start()
    }

    /// The link with this name.
    ///
    /// # Errors
    /// When the kernel refuses the question.
    pub async fn link(&self, name: &str) -> Result<Option<LinkInfo>, HostError> {
        Ok(links::get(&self.netlink, name).await?.as_ref().map(links::read))
    }

    /// Sets the link up, with this MTU (bytes) if one is given.
    ///
    /// # Errors
    /// When there is no such link, or the kernel refuses.
    pub async fn set_up(&self, name: &str, mtu: Option<u32>) -> Result<(), HostError> {
        links::set_up(&self.netlink, name, mtu).await
    }

    /// Removes the link, of whatever kind; one that is not there is removed already.
    ///
    /// # Errors
    /// When the kernel refuses, as it does for hardware.
    pub async fn delete(&self, name: &str) -> Result<(), HostError> {
        links::delete(&self.netlink, name).await
    }

    /// The node's addresses and the links of its default routes.
    ///
    /// # Errors
    /// When the kernel refuses a listing.
    pub async fn facts(&self) -> Result<Facts, HostError> {
        let links = Links::list(&self.netlink).await?;
        let addresses = addresses::list(&self.netlink, &links).await?;
        let v4 = routes::default_link(&self.netlink, false).await?;
        let v6 = routes::default_link(&self.netlink, true).await?;
        let link = |index: Option<u32>| index.and_then(|index| links.at(index)).cloned();
        Ok(Facts { addresses, default_link_v4: link(v4), default_link_v6: link(v6) })
    }

    /// One step. The links are listed when first needed, and anew after one was made or removed.
    async fn step(&self, change: &Change, links: &mut Option<Links>, places: &mut Places) -> Result<(), HostError> {
        let netlink = &self.netlink;
        match change {
            Change::AddVxlan(link) => {
                *links = None;
                vxlan::add(netlink, link).await
            }
            Change::RemoveVxlan(name) => {
                *links = None;
                vxlan::remove(netlink, name).await
            }
            Change::AddRemote(name, remote) => vxlan::add_remote(netlink, name, remote).await,
            Change::RemoveRemote(name, remote) => vxlan::remove_remote(netlink, name, remote).await,
            Change::AddAddress(address) => addresses::add(netlink, self.links(links).await?, address).await,
            Change::RemoveAddress(address) => addresses::remove(netlink, self.links(links).await?, address).await,
            Change::ReplaceRoute(route) => routes::replace(netlink, self.links(links).await?, places, route).await,
            Change::RemoveRoute(route) => routes::remove(netlink, self.links(links).await?, route).await,
            Change::AddRule(rule) => rules::add(netlink, rule).await,
            Change::RemoveRule(rule) => rules::remove(netlink, rule).await,
        }
    }

    async fn links<'a>(&self, listed: &'a mut Option<Links>) -> Result<&'a Links, HostError> {
        let links = match listed.take() {
            Some(links) => links,
            None => Links::list(&self.netlink).await?,
        };
        Ok(listed.insert(links))
    }
}
