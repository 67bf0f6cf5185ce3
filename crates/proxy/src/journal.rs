//! A table that remembers what was changed in it.

use std::collections::BTreeMap;

use crate::script::{self, Command, Script};
use crate::table::{Chain, Element, Key, Set, Tables};
use crate::udp::{self, StaleFlows, UdpFrontend, UdpState};

/// What lies between two tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// The transaction.
    pub script: Script,
    /// The flows to forget after it.
    pub stale: Vec<StaleFlows>,
}

/// A table, and what each thing in it was when the last update was taken.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    tables: Tables,
    /// Whether nothing is known of what was: the next update makes the table anew.
    is_anew: bool,
    elements: BTreeMap<(&'static str, Key), Option<Element>>,
    chains: BTreeMap<String, Option<Chain>>,
    sets: BTreeMap<String, Option<Set>>,
    udp: BTreeMap<UdpFrontend, Option<UdpState>>,
}

impl Journal {
    /// A table that is not in the kernel yet.
    pub(crate) fn new(tables: Tables) -> Self {
        Self { tables, is_anew: true, ..Self::default() }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What is in the kernel is not known any more.
    pub(crate) fn forget(&mut self) {
        let tables = std::mem::take(&mut self.tables);
        *self = Self::new(tables);
    }

    pub(crate) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.tables.name);
        self.forget();
    }

    pub(crate) fn put_element(&mut self, set: &'static str, key: Key, element: Option<Element>) {
        let Some(of_set) = self.tables.sets.get_mut(set) else { return };
        let before = match element {
            Some(element) => of_set.elements.insert(key, element),
            None => of_set.elements.remove(&key),
        };
        if !self.is_anew {
            self.elements.entry((set, key)).or_insert(before);
        }
    }

    pub(crate) fn put_chain(&mut self, name: &str, chain: Option<Chain>) {
        let before = put(&mut self.tables.chains, name, chain);
        if !self.is_anew {
            self.chains.entry(name.to_owned()).or_insert(before);
        }
    }

    pub(crate) fn put_set(&mut self, name: &str, set: Option<Set>) {
        let before = put(&mut self.tables.sets, name, set);
        if !self.is_anew {
            self.sets.entry(name.to_owned()).or_insert(before);
        }
    }

    pub(crate) fn put_udp(&mut self, frontend: UdpFrontend, state: Option<UdpState>) {
        let before = match state {
            Some(state) => self.tables.udp.insert(frontend, state),
            None => self.tables.udp.remove(&frontend),
        };
        if !self.is_anew {
            self.udp.entry(frontend).or_insert(before);
        }
    }

    /// What changed since the last time.
    pub(crate) fn take(&mut self) -> Update {
        if std::mem::take(&mut self.is_anew) {
            let stale = udp::stale(&BTreeMap::new(), &self.tables.udp, self.tables.udp.keys().copied());
            return Update { script: script::anew(&self.tables), stale };
        }
        let script = Script { table: self.tables.name.clone(), commands: self.commands() };
        let udp = std::mem::take(&mut self.udp);
        let frontends: Vec<UdpFrontend> = udp.keys().copied().collect();
        let before = udp.into_iter().filter_map(|(frontend, state)| Some((frontend, state?))).collect();
        self.elements.clear();
        self.chains.clear();
        self.sets.clear();
        Update { script, stale: udp::stale(&before, &self.tables.udp, frontends) }
    }

    /// What refers to a thing comes after the thing when it is made, and before it when it goes.
    fn commands(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        self.add_missing(&mut commands);
        self.delete_elements(&mut commands);
        self.rewrite_chains(&mut commands);
        self.add_elements(&mut commands);
        self.delete_leftovers(&mut commands);
        commands
    }

    fn add_missing(&self, commands: &mut Vec<Command>) {
        for name in self.chains.iter().filter(|(_, before)| before.is_none()).map(|(name, _)| name) {
            if let Some(chain) = self.tables.chains.get(name) {
                commands.push(Command::AddChain { name: name.clone(), hook: chain.hook.clone() });
            }
        }
        for name in self.sets.iter().filter(|(_, before)| before.is_none()).map(|(name, _)| name) {
            if let Some(set) = self.tables.sets.get(name) {
                let declaration = set.declaration.clone();
                commands.push(Command::AddSet { name: name.clone(), kind: set.kind, declaration });
            }
        }
    }

    fn now(&self, set: &str, key: &Key) -> Option<&Element> {
        self.tables.sets.get(set)?.elements.get(key)
    }

    fn delete_elements(&self, commands: &mut Vec<Command>) {
        for ((set, key), before) in &self.elements {
            if before.is_none() || before.as_ref() == self.now(set, key) {
                continue;
            }
            match commands.last_mut() {
                Some(Command::DeleteElements { set: last, keys }) if last == set => keys.push(*key),
                _ => commands.push(Command::DeleteElements { set: (*set).to_owned(), keys: vec![*key] }),
            }
        }
    }

    fn rewrite_chains(&self, commands: &mut Vec<Command>) {
        let changed: Vec<(&String, &Option<Chain>)> =
            self.chains.iter().filter(|(name, before)| before.as_ref() != self.tables.chains.get(*name)).collect();
        for (name, before) in &changed {
            if before.as_ref().is_some_and(|before| !before.rules.is_empty()) {
                commands.push(Command::FlushChain((*name).clone()));
            }
        }
        for (name, _) in &changed {
            let rules = self.tables.chains.get(*name).into_iter().flat_map(|chain| &chain.rules);
            commands.extend(rules.map(|rule| Command::AddRule { chain: (*name).clone(), rule: rule.clone() }));
        }
    }

    fn add_elements(&self, commands: &mut Vec<Command>) {
        for ((set, key), before) in &self.elements {
            let Some(element) = self.now(set, key).filter(|now| Some(*now) != before.as_ref()) else { continue };
            let element = (*key, element.clone());
            match commands.last_mut() {
                Some(Command::AddElements { set: last, elements }) if last == set => elements.push(element),
                _ => commands.push(Command::AddElements { set: (*set).to_owned(), elements: vec![element] }),
            }
        }
    }

    fn delete_leftovers(&self, commands: &mut Vec<Command>) {
        let chains = self.chains.iter().filter(|(name, before)| before.is_some() && !self.has_chain(name));
        commands.extend(chains.map(|(name, _)| Command::DeleteChain(name.clone())));
        let sets = self.sets.iter().filter(|(name, before)| before.is_some() && !self.tables.sets.contains_key(*name));
        commands.extend(sets.map(|(name, _)| Command::DeleteSet(name.clone())));
    }

    fn has_chain(&self, name: &str) -> bool {
        self.tables.chains.contains_key(name)
    }
}

fn put<T>(map: &mut BTreeMap<String, T>, name: &str, value: Option<T>) -> Option<T> {
    match value {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    }
}
