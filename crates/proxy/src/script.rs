//! What leads from one table to another, as one nftables transaction.

use std::borrow::Cow;
use std::fmt;

use tombolo_net::nft::ElementChange;

use crate::table::{Element, Key, Tables};

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
        keys: Vec<Key>,
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
        /// The elements by their keys.
        elements: Vec<(Key, Element)>,
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

    /// The same in the kernel's own terms, where it is about elements alone.
    ///
    /// That is what most changes are, and starting `nft` costs more than all else about them.
    pub fn element_changes(&self) -> Option<Vec<ElementChange<'_>>> {
        let mut changes = Vec::new();
        for command in &self.commands {
            match command {
                Command::DeleteElements { set, keys } => {
                    for key in keys {
                        let key = key.bytes()?;
                        changes.push(ElementChange { set, is_added: false, key, data: None, comment: None });
                    }
                }
                Command::AddElements { set, elements } => {
                    for (key, element) in elements {
                        changes.push(ElementChange {
                            set,
                            is_added: true,
                            key: key.bytes()?,
                            data: element.value.as_ref().map(|value| value.data()),
                            comment: element.comment.as_deref().map(Cow::Borrowed),
                        });
                    }
                }
                _ => return None,
            }
        }
        Some(changes)
    }
}

/// The transaction that makes the table anew, whatever was there: no packet meets a half-made one.
pub(crate) fn anew(tables: &Tables) -> Script {
    let mut commands = vec![Command::AddTable, Command::DeleteTable, Command::AddTable];
    for (name, chain) in &tables.chains {
        commands.push(Command::AddChain { name: name.clone(), hook: chain.hook.clone() });
    }
    for (name, set) in &tables.sets {
        let declaration = set.declaration.clone();
        commands.push(Command::AddSet { name: name.clone(), kind: set.kind, declaration });
    }
    for (name, chain) in &tables.chains {
        commands.extend(chain.rules.iter().map(|rule| Command::AddRule { chain: name.clone(), rule: rule.clone() }));
    }
    for (name, set) in tables.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
        let elements = set.elements.iter().map(|(key, element)| (*key, element.clone())).collect();
        commands.push(Command::AddElements { set: name.clone(), elements });
    }
    Script { table: tables.name.clone(), commands }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.commands.iter().try_for_each(|command| write_command(f, &self.table, command))
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
            write!(f, "delete element inet {table} {set} {{ ")?;
            for (i, key) in keys.iter().enumerate() {
                write!(f, "{}{key}", comma(i))?;
            }
            writeln!(f, " }}")
        }
        Command::FlushChain(name) => writeln!(f, "flush chain inet {table} {name}"),
        Command::AddRule { chain, rule } => writeln!(f, "add rule inet {table} {chain} {rule}"),
        Command::AddElements { set, elements } => {
            write!(f, "add element inet {table} {set} {{ ")?;
            for (i, (key, element)) in elements.iter().enumerate() {
                write!(f, "{}{key}", comma(i))?;
                if let Some(comment) = &element.comment {
                    write!(f, " comment \"{comment}\"")?;
                }
                if let Some(value) = &element.value {
                    write!(f, " : {value}")?;
                }
            }
            writeln!(f, " }}")
        }
        Command::DeleteChain(name) => writeln!(f, "delete chain inet {table} {name}"),
        Command::DeleteSet(name) => writeln!(f, "delete set inet {table} {name}"),
    }
}

fn comma(i: usize) -> &'static str {
    if i == 0 { "" } else { ", " }
}
