//! The table of a node, kept up with what changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use crate::fragment::{self, Claim, Fragment, Front, HealthCheck};
use crate::journal::{Journal, Update};
use crate::model::{Endpoint, Import, Node, Owner, Refused, Service, ServiceKey, Slice};
use crate::ruleset::{Split, skeleton};
use crate::table::{Chain, Element, Key, Set, Tables};

/// Services, ServiceImports and EndpointSlices to the table, change by change.
///
/// Each owner's part is kept; a change computes that owner's part again and nothing else. When several claim the same
/// address and port, the first by [`Owner`] has it and the others' claims are refused, until it lets go.
#[derive(Debug)]
pub struct Compiler {
    node: Node,
    services: BTreeMap<ServiceKey, Service>,
    imports: BTreeMap<ServiceKey, Import>,
    /// The imports that a Service stands for.
    derived: BTreeMap<ServiceKey, BTreeSet<ServiceKey>>,
    slices: HashMap<String, Arc<Slice>>,
    /// The slices of each owner by their names.
    behind: BTreeMap<Owner, BTreeMap<String, Arc<Slice>>>,
    fragments: BTreeMap<Owner, Fragment>,
    claimants: HashMap<Front, BTreeSet<Owner>>,
    shared: HashMap<(&'static str, Key), usize>,
    splits: HashMap<Split, usize>,
    /// Frontends with several claimants, and owners of which something was left out.
    contested: BTreeSet<Front>,
    refusing: BTreeSet<Owner>,
    health: BTreeMap<ServiceKey, HealthCheck>,
    dirty: BTreeSet<Owner>,
    journal: Journal,
}

impl Compiler {
    /// Without any service yet.
    pub fn new(node: Node) -> Self {
        Self {
            journal: Journal::new(skeleton(&node)),
            node,
            services: BTreeMap::new(),
            imports: BTreeMap::new(),
            derived: BTreeMap::new(),
            slices: HashMap::new(),
            behind: BTreeMap::new(),
            fragments: BTreeMap::new(),
            claimants: HashMap::new(),
            shared: HashMap::new(),
            splits: HashMap::new(),
            contested: BTreeSet::new(),
            refusing: BTreeSet::new(),
            health: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// The node is like this from now on.
    pub fn set_node(&mut self, node: Node) {
        if node == self.node {
            return;
        }
        let (old, new) = (skeleton(&self.node), skeleton(&node));
        for set in crate::ruleset::given_sets() {
            let elements = |tables: &Tables| -> BTreeSet<Key> {
                tables.sets.get(set).into_iter().flat_map(|set| set.elements.keys().copied()).collect()
            };
            let (old, new) = (elements(&old), elements(&new));
            old.difference(&new).for_each(|key| self.journal.put_element(set, *key, None));
            new.difference(&old).for_each(|key| self.journal.put_element(set, *key, Some(Element::default())));
        }
        if node.table != self.node.table {
            self.journal.rename(&node.table);
        }
        let seen_from = |node: &Node| {
            let Node { name, pod_cidrs, zone, cluster, .. } = node.clone();
            (name, pod_cidrs, zone, cluster)
        };
        if seen_from(&node) != seen_from(&self.node) {
            self.dirty.extend(self.services.keys().cloned().map(Owner::Service));
            self.dirty.extend(self.imports.keys().cloned().map(Owner::Import));
        }
        let changed: Vec<&IpNet> = node.silent_networks.symmetric_difference(&self.node.silent_networks).collect();
        if !changed.is_empty() {
            let concerns =
                |slice: &Slice| slice.endpoints.iter().any(|e| changed.iter().any(|n| n.contains(&e.address)));
            let concerned = self.slices.values().filter(|slice| concerns(slice));
            self.dirty.extend(concerned.flat_map(|slice| slice.owners.iter().cloned()));
        }
        self.node = node;
    }

    /// The Service is like this from now on; none when it is gone.
    pub fn set_service(&mut self, key: &ServiceKey, service: Option<Service>) {
        if put(&mut self.services, key, service) {
            self.dirty.insert(Owner::Service(key.clone()));
            let imports = self.derived.get(key).into_iter().flatten();
            self.dirty.extend(imports.cloned().map(Owner::Import));
        }
    }

    /// The ServiceImport is like this from now on; none when it is gone.
    pub fn set_import(&mut self, key: &ServiceKey, import: Option<Import>) {
        let derived = |import: Option<&Import>| {
            import.and_then(|import| import.derived.as_deref()).map(|name| ServiceKey::new(&key.namespace, name))
        };
        let (old, new) = (derived(self.imports.get(key)), derived(import.as_ref()));
        if !put(&mut self.imports, key, import) {
            return;
        }
        self.dirty.insert(Owner::Import(key.clone()));
        if let Some(old) = &old
            && let Some(imports) = self.derived.get_mut(old)
        {
            imports.remove(key);
            if imports.is_empty() {
                self.derived.remove(old);
            }
        }
        if let Some(new) = &new {
            self.derived.entry(new.clone()).or_default().insert(key.clone());
        }
        self.dirty.extend([old, new].into_iter().flatten().map(Owner::Service));
    }

    /// The EndpointSlice of this name (with its namespace) is like this from now on; none when it is gone.
    pub fn set_slice(&mut self, name: &str, slice: Option<Slice>) {
        if self.slices.get(name).map(|old| &**old) == slice.as_ref() {
            return;
        }
        let slice = slice.map(Arc::new);
        let old = match slice.clone() {
            Some(slice) => self.slices.insert(name.to_owned(), slice),
            None => self.slices.remove(name),
        };
        for owner in old.iter().flat_map(|old| &old.owners) {
            if let Some(slices) = self.behind.get_mut(owner) {
                slices.remove(name);
                if slices.is_empty() {
                    self.behind.remove(owner);
                }
            }
            self.dirty.insert(owner.clone());
        }
        if let Some(slice) = slice {
            for owner in &slice.owners {
                self.behind.entry(owner.clone()).or_default().insert(name.to_owned(), slice.clone());
                self.dirty.insert(owner.clone());
            }
        }
    }

    /// The names of all Services, ServiceImports and slices that are known.
    pub fn known(&self) -> (Vec<ServiceKey>, Vec<ServiceKey>, Vec<String>) {
        let (services, imports) = (self.services.keys().cloned(), self.imports.keys().cloned());
        (services.collect(), imports.collect(), self.slices.keys().cloned().collect())
    }

    /// What changed since the last time. The first time, and after [`Self::forget_applied`], the table is made anew.
    pub fn flush(&mut self) -> Update {
        for owner in std::mem::take(&mut self.dirty) {
            let fragment = self.compile(&owner);
            self.replace(owner, fragment);
        }
        self.journal.take()
    }

    /// What was flushed did not come about, or somebody else changed the table.
    pub fn forget_applied(&mut self) {
        self.journal.forget();
    }

    /// What the table should hold, as of the last [`Self::flush`].
    pub fn tables(&self) -> &Tables {
        self.journal.tables()
    }

    /// What is left out of the table; everything else is in.
    pub fn refused(&self) -> BTreeSet<Refused> {
        let own = self.refusing.iter().flat_map(|owner| &self.fragments[owner].refused).cloned();
        let lost = self.contested.iter().flat_map(|front| {
            let mut claimants = self.claimants[front].iter();
            let first = claimants.next();
            claimants.filter_map(move |owner| {
                Some(Refused {
                    object: owner.to_string(),
                    field: self.fragments[owner].claims.get(front)?.field?.to_owned(),
                    reason: format!("{} is already served for {}", front.1, first?),
                })
            })
        });
        own.chain(lost).collect()
    }

    /// What load balancers are told that ask for a Service.
    pub fn health_checks(&self) -> &BTreeMap<ServiceKey, HealthCheck> {
        &self.health
    }

    /// How many Services and ServiceImports there are.
    pub fn len(&self) -> usize {
        self.services.len() + self.imports.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn compile(&self, owner: &Owner) -> Fragment {
        let Some(service) = self.service(owner) else { return Fragment::default() };
        let slices = self.behind.get(owner).into_iter().flat_map(BTreeMap::values);
        let endpoints: Vec<&Endpoint> = slices.flat_map(|slice| &slice.endpoints).collect();
        fragment::compile(owner, &service, &endpoints, &self.node)
    }

    fn service(&self, owner: &Owner) -> Option<Service> {
        match owner {
            Owner::Service(key) => {
                let mut service = self.services.get(key)?.clone();
                let imports = self.derived.get(key).into_iter().flatten();
                let of_import = imports.filter_map(|import| self.imports.get(import)?.service.clusters.clone()).next();
                service.clusters = service.clusters.or(of_import);
                Some(service)
            }
            Owner::Import(key) => {
                let import = self.imports.get(key)?;
                let mut service = import.service.clone();
                if let Some(name) = &import.derived
                    && let Some(derived) = self.services.get(&ServiceKey::new(&key.namespace, name))
                {
                    service.cluster_ips.retain(|ip| !derived.cluster_ips.contains(ip));
                }
                Some(service)
            }
        }
    }

    fn replace(&mut self, owner: Owner, new: Fragment) {
        let old = self.fragments.remove(&owner).unwrap_or_default();
        if old == new {
            if new != Fragment::default() {
                self.fragments.insert(owner, new);
            }
            return;
        }
        // What both have is counted up before it is counted down.
        for split in &new.splits {
            self.count_split(*split, true);
        }
        for (set, key) in &new.shared {
            self.count_shared(set, *key, true);
        }
        for (name, rules) in &new.chains {
            self.journal.put_chain(name, Some(Chain::regular(rules.clone())));
        }
        for (name, declaration) in &new.sets {
            self.journal.put_set(name, Some(Set::plain(declaration.clone())));
        }
        for (front, claim) in &old.claims {
            if new.claims.get(front) != Some(claim) {
                self.release(front, &owner, claim);
            }
        }
        for (front, claim) in &new.claims {
            if old.claims.get(front) != Some(claim) {
                self.acquire(front, &owner, claim);
            }
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            self.journal.put_chain(name, None);
        }
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            self.journal.put_set(name, None);
        }
        for split in old.splits {
            self.count_split(split, false);
        }
        for (set, key) in old.shared {
            self.count_shared(set, key, false);
        }
        self.note(owner, new);
    }

    fn note(&mut self, owner: Owner, fragment: Fragment) {
        if let Owner::Service(key) = &owner {
            put(&mut self.health, key, fragment.health);
        }
        if fragment.refused.is_empty() {
            self.refusing.remove(&owner);
        } else {
            self.refusing.insert(owner.clone());
        }
        if fragment != Fragment::default() {
            self.fragments.insert(owner, fragment);
        }
    }

    fn acquire(&mut self, front: &Front, owner: &Owner, claim: &Claim) {
        let claimants = self.claimants.entry(*front).or_default();
        let before = claimants.first().cloned();
        claimants.insert(owner.clone());
        if claimants.len() > 1 {
            self.contested.insert(*front);
        }
        match before {
            None => self.put_claim(claim),
            Some(before) if owner < &before => {
                self.take_claim(&self.claim(&before, front));
                self.put_claim(claim);
            }
            Some(_) => {}
        }
    }

    fn release(&mut self, front: &Front, owner: &Owner, claim: &Claim) {
        let Some(claimants) = self.claimants.get_mut(front) else { return };
        let had_it = claimants.first() == Some(owner);
        claimants.remove(owner);
        let next = claimants.first().cloned();
        if claimants.len() < 2 {
            self.contested.remove(front);
        }
        if claimants.is_empty() {
            self.claimants.remove(front);
        }
        if had_it {
            self.take_claim(claim);
            if let Some(next) = next {
                self.put_claim(&self.claim(&next, front));
            }
        }
    }

    fn claim(&self, owner: &Owner, front: &Front) -> Claim {
        self.fragments.get(owner).and_then(|fragment| fragment.claims.get(front)).cloned().unwrap_or_default()
    }

    fn put_claim(&mut self, claim: &Claim) {
        for (set, key, element) in &claim.elements {
            self.journal.put_element(set, *key, Some(element.clone()));
        }
        if let Some((frontend, state)) = &claim.udp {
            self.journal.put_udp(*frontend, Some(state.clone()));
        }
    }

    fn take_claim(&mut self, claim: &Claim) {
        for (set, key, _) in &claim.elements {
            self.journal.put_element(set, *key, None);
        }
        if let Some((frontend, _)) = &claim.udp {
            self.journal.put_udp(*frontend, None);
        }
    }

    fn count_shared(&mut self, set: &'static str, key: Key, is_more: bool) {
        if let Some(is_there) = count(&mut self.shared, (set, key), is_more) {
            self.journal.put_element(set, key, is_there.then(Element::default));
        }
    }

    fn count_split(&mut self, split: Split, is_more: bool) {
        if let Some(is_there) = count(&mut self.splits, split, is_more) {
            self.journal.put_chain(&split.name(), is_there.then(|| split.chain()));
        }
    }
}

/// Counts; says whether it came (true) or went (false) with that.
fn count<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, is_more: bool) -> Option<bool> {
    if is_more {
        let count = counts.entry(key).or_default();
        *count += 1;
        return (*count == 1).then_some(true);
    }
    let count = counts.get_mut(&key)?;
    *count -= 1;
    if *count > 0 {
        return None;
    }
    counts.remove(&key);
    Some(false)
}

/// Whether that changed anything.
fn put<V: PartialEq>(map: &mut BTreeMap<ServiceKey, V>, key: &ServiceKey, value: Option<V>) -> bool {
    match value {
        Some(value) if map.get(key) == Some(&value) => false,
        Some(value) => {
            map.insert(key.clone(), value);
            true
        }
        None => map.remove(key).is_some(),
    }
}
