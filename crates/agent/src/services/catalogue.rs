//! What the API server says of services, as far as the proxy has to know it.

use std::collections::{BTreeMap, BTreeSet};

use tombolo_proxy::{Compiler, Import, Node, Refused, Service, ServiceKey, Slice};

use super::watch::{Change, Kind, Object};

/// Feeds a compiler.
pub(super) struct Catalogue {
    compiler: Compiler,
    /// `--cluster-id`, which is stronger than what the cluster says.
    given_id: Option<String>,
    cluster_id: Option<String>,
    node: Option<Node>,
    /// What could not be read, by object.
    refused: BTreeMap<(Kind, String), Vec<Refused>>,
    /// Of Services that have something to be said in an Event.
    uids: BTreeMap<ServiceKey, String>,
    /// The kinds of which everything was seen: before, what is missing must not be taken for gone.
    synced: BTreeSet<Kind>,
    said: BTreeSet<Refused>,
}

impl Catalogue {
    pub(super) fn new(given_id: Option<String>) -> Self {
        Self {
            compiler: Compiler::new(Node::default()),
            synced: given_id.iter().map(|_| Kind::ClusterId).collect(),
            given_id,
            cluster_id: None,
            node: None,
            refused: BTreeMap::new(),
            uids: BTreeMap::new(),
            said: BTreeSet::new(),
        }
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Service(key, object) => self.put_service(&key, *object),
            Change::Import(key, object) => self.put_import(&key, *object),
            Change::Slice(name, object) => self.put_slice(&name, *object),
            Change::AllServices(all) => {
                self.forget(Kind::Service);
                let (known, ..) = self.compiler.known();
                known.iter().filter(|key| !all.contains_key(key)).for_each(|key| self.compiler.set_service(key, None));
                all.into_iter().for_each(|(key, object)| self.put_service(&key, object));
            }
            Change::AllImports(all) => {
                self.forget(Kind::Import);
                let (_, known, _) = self.compiler.known();
                known.iter().filter(|key| !all.contains_key(key)).for_each(|key| self.compiler.set_import(key, None));
                all.into_iter().for_each(|(key, object)| self.put_import(&key, object));
            }
            Change::AllSlices(all) => {
                self.forget(Kind::Slice);
                let (.., known) = self.compiler.known();
                known
                    .iter()
                    .filter(|name| !all.contains_key(*name))
                    .for_each(|name| self.compiler.set_slice(name, None));
                all.into_iter().for_each(|(name, object)| self.put_slice(&name, object));
            }
            Change::ClusterId(id) => {
                self.synced.insert(Kind::ClusterId);
                self.cluster_id = id;
                self.tell_node();
            }
            Change::Nothing => {}
        }
    }

    pub(super) fn set_node(&mut self, node: Node) {
        self.node = Some(node);
        self.tell_node();
    }

    /// The compiler and the node that it is for, once all is known.
    pub(super) fn compiler(&mut self) -> Option<(&mut Compiler, &Node)> {
        let node = self.node.as_ref().filter(|_| self.synced.len() == Kind::ALL)?;
        Some((&mut self.compiler, node))
    }

    /// The UID of a Service, for an Event.
    pub(super) fn uid(&self, key: &ServiceKey) -> Option<String> {
        self.uids.get(key).cloned()
    }

    /// Logs what is newly refused, and what is not any more.
    pub(super) fn say(&mut self) {
        let mut refused: BTreeSet<Refused> = self.refused.values().flatten().cloned().collect();
        refused.extend(self.compiler.refused());
        for Refused { object, field, reason } in refused.difference(&self.said) {
            tracing::warn!(%object, %field, %reason, "refused");
        }
        for Refused { object, field, .. } in self.said.difference(&refused) {
            tracing::info!(%object, %field, "no longer refused");
        }
        self.said = refused;
    }

    fn tell_node(&mut self) {
        let Some(node) = &mut self.node else { return };
        node.cluster = self.given_id.clone().or_else(|| self.cluster_id.clone());
        self.compiler.set_node(node.clone());
    }

    /// Everything of a kind is told anew.
    fn forget(&mut self, kind: Kind) {
        self.synced.insert(kind);
        self.refused.retain(|(of, _), _| *of != kind);
        if kind == Kind::Service {
            self.uids.clear();
        }
    }

    fn put_service(&mut self, key: &ServiceKey, object: Object<Service>) {
        self.note(Kind::Service, key.to_string(), object.refused);
        let is_asked_for = object.value.as_ref().is_some_and(|service| service.health_check_node_port.is_some());
        match object.uid.filter(|_| is_asked_for) {
            Some(uid) => drop(self.uids.insert(key.clone(), uid)),
            None => drop(self.uids.remove(key)),
        }
        self.compiler.set_service(key, object.value);
    }

    fn put_import(&mut self, key: &ServiceKey, object: Object<Import>) {
        self.note(Kind::Import, key.to_string(), object.refused);
        self.compiler.set_import(key, object.value);
    }

    fn put_slice(&mut self, name: &str, object: Object<Slice>) {
        self.note(Kind::Slice, name.to_owned(), object.refused);
        self.compiler.set_slice(name, object.value);
    }

    fn note(&mut self, kind: Kind, name: String, refused: Vec<Refused>) {
        if refused.is_empty() {
            self.refused.remove(&(kind, name));
        } else {
            self.refused.insert((kind, name), refused);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn web() -> ServiceKey {
        ServiceKey::new("shop", "web")
    }

    fn service() -> Object<Service> {
        let value = Service { cluster_ips: vec!["10.96.0.1".parse().unwrap()], ..Service::default() };
        Object { value: Some(value), ..Object::default() }
    }

    fn node() -> Node {
        Node { name: "n1".into(), table: "t".into(), ..Node::default() }
    }

    fn cluster(catalogue: &mut Catalogue) -> Option<String> {
        catalogue.compiler().unwrap().1.cluster.clone()
    }

    #[test]
    fn nothing_is_made_of_it_before_everything_was_seen() {
        let mut catalogue = Catalogue::new(None);
        catalogue.set_node(node());
        for change in [
            Change::AllServices([(web(), service())].into()),
            Change::AllSlices(BTreeMap::new()),
            Change::AllImports(BTreeMap::new()),
            Change::ClusterId(Some("east".into())),
        ] {
            assert!(catalogue.compiler().is_none());
            catalogue.apply(change);
        }
        let (compiler, _) = catalogue.compiler().unwrap();
        assert!(compiler.flush().script.to_string().starts_with("add table inet t\n"));
        assert_eq!(compiler.len(), 1);
        // What is missing in a later list is gone.
        catalogue.apply(Change::AllServices(BTreeMap::new()));
        assert_eq!(catalogue.compiler().unwrap().0.len(), 0);
    }

    #[test]
    fn the_flag_is_stronger_than_the_clusters_own_word() {
        for (given, expected) in [(None, Some("east")), (Some("west"), Some("west"))] {
            let mut catalogue = Catalogue::new(given.map(Into::into));
            catalogue.set_node(node());
            catalogue.apply(Change::AllServices(BTreeMap::new()));
            catalogue.apply(Change::AllSlices(BTreeMap::new()));
            catalogue.apply(Change::AllImports(BTreeMap::new()));
            catalogue.apply(Change::ClusterId(Some("east".into())));
            assert_eq!(cluster(&mut catalogue).as_deref(), expected);
            catalogue.apply(Change::ClusterId(None));
            assert_eq!(cluster(&mut catalogue).as_deref(), given);
        }
    }
}
