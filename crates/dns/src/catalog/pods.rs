//! Names of pods that are known to exist.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Diff, ObjectKey, dashed};
use crate::name::{Name, NameError};
use crate::record::{Data, Record};

/// The addresses of all Pods, by namespace. Pods in the network of their node share its address.
#[derive(Debug)]
pub(super) struct Pods {
    /// `pod.<domain>`.
    origin: Name,
    addresses: HashMap<ObjectKey, Vec<IpAddr>>,
    uses: HashMap<(Box<str>, IpAddr), u32>,
}

impl Pods {
    pub(super) fn new(origin: Name) -> Self {
        Self { origin, addresses: HashMap::new(), uses: HashMap::new() }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.addresses.keys()
    }

    /// A Pod has these addresses now, which may be none.
    pub(super) fn set(&mut self, key: &ObjectKey, addresses: Vec<IpAddr>) -> Diff {
        let mut diff = Diff::default();
        let old = self.addresses.remove(key).unwrap_or_default();
        if old == addresses {
            if !old.is_empty() {
                self.addresses.insert(key.clone(), old);
            }
            return diff;
        }
        for address in addresses.iter().filter(|address| !old.contains(address)) {
            let uses = self.uses.entry((key.namespace.clone(), *address)).or_default();
            *uses += 1;
            if *uses == 1 {
                self.say(key, *address, &mut diff, |diff, record| diff.added.push(record));
            }
        }
        for address in old.iter().filter(|address| !addresses.contains(address)) {
            let place = (key.namespace.clone(), *address);
            let Some(uses) = self.uses.get_mut(&place) else {
                continue;
            };
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&place);
                self.say(key, *address, &mut diff, |diff, record| diff.removed.push(record));
            }
        }
        if !addresses.is_empty() {
            self.addresses.insert(key.clone(), addresses);
        }
        diff
    }

    fn say(&self, key: &ObjectKey, address: IpAddr, diff: &mut Diff, tell: impl FnOnce(&mut Diff, Record)) {
        match self.name(&key.namespace, address) {
            Ok(owner) => tell(diff, Record { owner, data: Data::address(address) }),
            Err(error) => diff.refused.push(format!("Pod {key}: no name can be made for it: {error}")),
        }
    }

    fn name(&self, namespace: &str, address: IpAddr) -> Result<Name, NameError> {
        self.origin.child(namespace)?.child(&dashed(address))
    }
}
