//! The difference between two tables, as one `nft -f` transaction.

use std::fmt;

use crate::table::{Set, Tables};

/// One command of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes the table unless it is there.
    AddTable,
    /// Removes the table with all that is in it.
    DeleteTable,
    /// Makes a chain.
    AddChain {
        /// Its name.
        name: String,
        /// For a base chain its type, hook, priority and policy.
        hook: Option<String>,
    },
    /// Makes a set or a map.
    AddSet {
        /// Its name.
        name: String,
        /// `set` or `map`.
        kind: &'static str,
        /// Type, flags, timeout.
        declaration: String,
    },
    /// Removes elements.
    DeleteElements {
        /// The set.
        set: String,
        /// Their keys.
        keys: Vec<String>,
    },
    /// Removes all rules of a chain.
    FlushChain(String),
    /// Appends a rule.
    AddRule {
        /// The chain.
        chain: String,
        /// The rule.
        rule: String,
    },
    /// Adds elements.
    AddElements {
        /// The set.
        set: String,
        /// Their keys, and values in a map.
        elements: Vec<(String, Option<String>)>,
    },
    /// Removes a chain, which must be empty and not referred to.
    DeleteChain(String),
    /// Removes a set, which must not be referred to.
    DeleteSet(String),
}

/// A transaction: `nft -f -` takes what its `Display` prints, and does all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// The table's name.
    pub table: String,
    /// The commands in order.
    pub commands: Vec<Command>,
}

impl Script {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The transaction that removes the table, whether or not it is there.
    pub fn removal(table: impl Into<String>) -> Self {
        Self { table: table.into(), commands: vec![Command::AddTable, Command::DeleteTable] }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.commands.iter().try_for_each(|command| write_command(f, &self.table, command))
    }
}

/// The transaction that leads from `applied` to `desired`.
///
/// Without `applied` (at the start, or when the table may have been changed by others) the table is
/// made anew in the same transaction, so that no packet meets a half-made one. Otherwise only what
/// differs is touched: a changed endpoint rewrites the one chain of its service port, a new service
/// adds its chains and elements.
pub fn plan(desired: &Tables, applied: Option<&Tables>) -> Script {
    let commands = match applied {
        Some(applied) if can_follow(desired, applied) => difference(desired, applied),
        _ => anew(desired),
    };
    Script { table: desired.name.clone(), commands }
}

/// Whether `desired` is within reach of changes in place: a declaration can't be changed.
fn can_follow(desired: &Tables, applied: &Tables) -> bool {
    desired.name == applied.name
        && desired.sets.iter().all(|(name, set)| {
            applied.sets.get(name).is_none_or(|old| old.kind == set.kind && old.declaration == set.declaration)
        })
        && desired.chains.iter().all(|(name, chain)| applied.chains.get(name).is_none_or(|old| old.hook == chain.hook))
}

fn anew(desired: &Tables) -> Vec<Command> {
    let mut commands = vec![Command::AddTable, Command::DeleteTable, Command::AddTable];
    commands.extend(difference(desired, &Tables::default()));
    commands
}

/// What refers to a thing comes after the thing when it is made, and before it when it goes.
fn difference(desired: &Tables, applied: &Tables) -> Vec<Command> {
    let mut commands = Vec::new();
    add_missing(desired, applied, &mut commands);
    delete_elements(desired, applied, &mut commands);
    rewrite_chains(desired, applied, &mut commands);
    add_elements(desired, applied, &mut commands);
    delete_leftovers(desired, applied, &mut commands);
    commands
}

fn add_missing(desired: &Tables, applied: &Tables, commands: &mut Vec<Command>) {
    for (name, chain) in &desired.chains {
        if !applied.chains.contains_key(name) {
            commands.push(Command::AddChain { name: name.clone(), hook: chain.hook.clone() });
        }
    }
    for (name, set) in &desired.sets {
        if !applied.sets.contains_key(name) {
            commands.push(Command::AddSet { name: name.clone(), kind: set.kind, declaration: set.declaration.clone() });
        }
    }
}

/// A set that goes as a whole is emptied too, since its verdicts refer to chains.
fn delete_elements(desired: &Tables, applied: &Tables, commands: &mut Vec<Command>) {
    for (name, old) in &applied.sets {
        let new = desired.sets.get(name);
        let keys: Vec<String> = old
            .elements
            .iter()
            .filter(|(key, value)| new.and_then(|new| new.elements.get(*key)) != Some(*value))
            .map(|(key, _)| key.clone())
            .collect();
        if !keys.is_empty() {
            commands.push(Command::DeleteElements { set: name.clone(), keys });
        }
    }
}

fn rewrite_chains(desired: &Tables, applied: &Tables, commands: &mut Vec<Command>) {
    for (name, old) in &applied.chains {
        let same = desired.chains.get(name).is_some_and(|new| new.rules == old.rules);
        if !same && !old.rules.is_empty() {
            commands.push(Command::FlushChain(name.clone()));
        }
    }
    for (name, new) in &desired.chains {
        let same = applied.chains.get(name).is_some_and(|old| old.rules == new.rules);
        if !same {
            commands.extend(new.rules.iter().map(|rule| Command::AddRule { chain: name.clone(), rule: rule.clone() }));
        }
    }
}

fn add_elements(desired: &Tables, applied: &Tables, commands: &mut Vec<Command>) {
    for (name, new) in &desired.sets {
        let old: Option<&Set> = applied.sets.get(name);
        let elements: Vec<(String, Option<String>)> = new
            .elements
            .iter()
            .filter(|(key, value)| old.and_then(|old| old.elements.get(*key)) != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !elements.is_empty() {
            commands.push(Command::AddElements { set: name.clone(), elements });
        }
    }
}

fn delete_leftovers(desired: &Tables, applied: &Tables, commands: &mut Vec<Command>) {
    for name in applied.chains.keys() {
        if !desired.chains.contains_key(name) {
            commands.push(Command::DeleteChain(name.clone()));
        }
    }
    for name in applied.sets.keys() {
        if !desired.sets.contains_key(name) {
            commands.push(Command::DeleteSet(name.clone()));
        }
    }
}

fn write_command(f: &mut fmt::Formatter<'_>, table: &str, command: &Command) -> fmt::Result {
    match command {
        Command::AddTable => writeln!(f, "add table inet {table}"),
        Command::DeleteTable => writeln!(f, "delete table inet {table}"),
        Command::AddChain { name, hook: None } => writeln!(f, "add chain inet {table} {name}"),
        Command::AddChain { name, hook: Some(hook) } => writeln!(f, "add chain inet {table} {name} {{ {hook} }}"),
        Command::AddSet { name, kind, declaration } => {
            writeln!(f, "add {kind} inet {table} {name} {{ {declaration} }}")
        }
        Command::DeleteElements { set, keys } => {
            writeln!(f, "delete element inet {table} {set} {{ {} }}", keys.join(", "))
        }
        Command::FlushChain(name) => writeln!(f, "flush chain inet {table} {name}"),
        Command::AddRule { chain, rule } => writeln!(f, "add rule inet {table} {chain} {rule}"),
        Command::AddElements { set, elements } => {
            write!(f, "add element inet {table} {set} {{ ")?;
            for (i, (key, value)) in elements.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                match value {
                    Some(value) => write!(f, "{comma}{key} : {value}")?,
                    None => write!(f, "{comma}{key}")?,
                }
            }
            writeln!(f, " }}")
        }
        Command::DeleteChain(name) => writeln!(f, "delete chain inet {table} {name}"),
        Command::DeleteSet(name) => writeln!(f, "delete set inet {table} {name}"),
    }
}
