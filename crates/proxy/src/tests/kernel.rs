//! A kernel as far as transactions go.

use std::collections::{BTreeMap, BTreeSet};

use crate::script::{Command, Script};
use crate::table::{Chain, Set, Tables};

/// What the kernel does with a transaction, and what it does not put up with.
#[derive(Default)]
pub(super) struct Kernel {
    sets: BTreeMap<String, Set>,
    chains: BTreeMap<String, Chain>,
}

impl Kernel {
    pub(super) fn holds(&self, tables: &Tables) -> bool {
        self.sets == tables.sets && self.chains == tables.chains
    }

    pub(super) fn run(&mut self, script: &Script) {
        for command in &script.commands {
            self.step(command);
        }
    }

    fn step(&mut self, command: &Command) {
        match command.clone() {
            Command::AddTable => {}
            Command::DeleteTable => *self = Self::default(),
            Command::AddChain { name, hook } => {
                let chain = Chain { hook, rules: vec![] };
                assert!(self.chains.insert(name, chain).is_none());
            }
            Command::AddSet { name, kind, declaration } => {
                let set = Set { kind, declaration, elements: BTreeMap::new() };
                assert!(self.sets.insert(name, set).is_none());
            }
            Command::DeleteElements { set, keys } => {
                let elements = &mut self.sets.get_mut(&set).unwrap().elements;
                keys.iter().for_each(|key| assert!(elements.remove(key).is_some(), "{set} has no {key}"));
            }
            Command::FlushChain(name) => self.chains.get_mut(&name).unwrap().rules.clear(),
            Command::AddRule { chain, rule } => {
                self.assert_known(&rule);
                self.chains.get_mut(&chain).unwrap().rules.push(rule);
            }
            Command::AddElements { set, elements } => {
                for (key, element) in elements {
                    self.assert_known(&element.value.as_ref().map(ToString::to_string).unwrap_or_default());
                    let elements = &mut self.sets.get_mut(&set).unwrap().elements;
                    assert!(elements.insert(key, element).is_none(), "{set} has {key} already");
                }
            }
            Command::DeleteChain(name) => {
                assert!(self.chains.remove(&name).unwrap().rules.is_empty());
                assert!(!self.mentioned().contains(&name), "{name} is referred to");
            }
            Command::DeleteSet(name) => {
                self.sets.remove(&name).unwrap();
                assert!(!self.mentioned().contains(&format!("@{name}")), "{name} is referred to");
            }
        }
    }

    fn assert_known(&self, text: &str) {
        for mention in mentions(text) {
            let is_known = match mention.strip_prefix('@') {
                Some(set) => self.sets.contains_key(set),
                None => self.chains.contains_key(&mention),
            };
            assert!(is_known, "{mention} is not there");
        }
    }

    fn mentioned(&self) -> BTreeSet<String> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        let values =
            self.sets.values().flat_map(|set| set.elements.values().filter_map(|element| element.value.as_ref()));
        rules.cloned().chain(values.map(ToString::to_string)).flat_map(|text| mentions(&text)).collect()
    }
}

/// The chains, and the sets with their `@`, that a rule or verdict refers to.
fn mentions(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split([' ', ',']).collect();
    let chains = words.windows(2).filter(|pair| ["goto", "jump"].contains(&pair[0])).map(|pair| pair[1]);
    let sets = words.iter().copied().filter(|word| word.starts_with('@'));
    chains.chain(sets).map(ToOwned::to_owned).collect()
}
