//! Sets of fields, and their form in `managedFields` (`fieldsV1`).
//!
//! The form is structured-merge-diff's: a trie whose keys are `f:<name>` for a field, `k:<keys>` for the item of a
//! list with those key fields, `v:<value>` for the item of a set and `i:<index>` for a place in a list; `.` says that
//! what the path leads to belongs to the set itself, an empty object that nothing below it does.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::schema::{FieldType, MergeSchema, TypeId};

/// One step from a value to a value in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathElement {
    /// A field of an object.
    Field(String),
    /// The item of a list that has these values in its key fields: JSON, with the names sorted.
    Key(String),
    /// The item of a set: its JSON.
    Value(String),
    /// A place in a list.
    Index(u64),
}

/// A set of paths into an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    member: bool,
    children: BTreeMap<PathElement, FieldSet>,
}

impl FieldSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the `fieldsV1` form. What isn't in that form is left out.
    pub fn from_fields_v1(fields: &Value) -> Self {
        let mut set = FieldSet::new();
        for (key, below) in fields.as_object().into_iter().flatten() {
            if key == "." {
                set.member = true;
            } else if let Some(element) = PathElement::parse(key) {
                let mut child = FieldSet::from_fields_v1(below);
                child.member |= child.children.is_empty();
                set.children.insert(element, child);
            }
        }
        set
    }

    /// The `fieldsV1` form.
    pub fn to_fields_v1(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, below) in &self.children {
            map.insert(element.to_string(), below.to_fields_v1());
        }
        Value::Object(map)
    }

    /// Whether there is no path in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(FieldSet::is_empty)
    }

    /// Whether what this set is rooted at belongs to it.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// What lies below a step.
    pub fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        self.children.get(element)
    }

    /// Adds the root of this set.
    pub(super) fn insert_here(&mut self) {
        self.member = true;
    }

    /// Puts `below` under a step, if there is anything in it.
    pub(super) fn put(&mut self, element: PathElement, below: FieldSet) {
        if below.is_empty() {
            return;
        }
        match self.children.entry(element) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(below);
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let merged = slot.get().union(&below);
                slot.insert(merged);
            }
        }
    }

    /// What is in either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut set = FieldSet { member: self.member || other.member, children: self.children.clone() };
        for (element, below) in &other.children {
            let merged = match set.children.get(element) {
                Some(mine) => mine.union(below),
                None => below.clone(),
            };
            set.children.insert(element.clone(), merged);
        }
        set
    }

    /// What is in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut set = FieldSet { member: self.member && other.member, children: BTreeMap::new() };
        for (element, below) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                set.put(element.clone(), below.intersection(theirs));
            }
        }
        set
    }

    /// What is in this one and not in the other.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let mut set = FieldSet { member: self.member && !other.member, children: BTreeMap::new() };
        for (element, below) in &self.children {
            match other.children.get(element) {
                Some(theirs) => set.put(element.clone(), below.difference(theirs)),
                None => set.put(element.clone(), below.clone()),
            }
        }
        set
    }

    /// The set without what lies at and below the given path of field names.
    pub fn without(mut self, path: &[&str]) -> FieldSet {
        self.remove(path);
        self
    }

    /// The set without one path; what lies below it stays.
    pub(super) fn without_member(mut self, path: &[&str]) -> FieldSet {
        let mut at = &mut self;
        for name in path {
            match at.children.get_mut(&PathElement::Field((*name).to_owned())) {
                Some(below) => at = below,
                None => return self,
            }
        }
        at.member = false;
        self.pruned()
    }

    /// Only what lies at and below a field of the object.
    pub fn only(&self, field: &str) -> FieldSet {
        let element = PathElement::Field(field.to_owned());
        let mut set = FieldSet::new();
        if let Some(below) = self.children.get(&element) {
            set.put(element, below.clone());
        }
        set
    }

    /// Every path, as structured-merge-diff prints it: `.spec.containers[name="x"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    /// The set with every struct field a member that has a member below it: what the removal of a field needs, since
    /// the struct goes with its last field.
    pub(super) fn with_named_parents(&self, schema: &dyn MergeSchema, ty: TypeId) -> FieldSet {
        let mut set = FieldSet { member: self.member, children: BTreeMap::new() };
        for (element, below) in &self.children {
            let (below_ty, declared) = match element {
                PathElement::Field(name) => match schema.field(ty, name) {
                    FieldType::Declared(below) => (below, true),
                    FieldType::Entry(below) => (below, false),
                    FieldType::Undeclared => (TypeId::UNKNOWN, false),
                },
                _ => (schema.item(ty), false),
            };
            let mut below = below.with_named_parents(schema, below_ty);
            below.member |= declared && !below.children.is_empty();
            set.children.insert(element.clone(), below);
        }
        set
    }

    fn remove(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = PathElement::Field((*first).to_owned());
        if rest.is_empty() {
            self.children.remove(&element);
        } else if let Some(below) = self.children.get_mut(&element) {
            below.remove(rest);
            if below.is_empty() {
                self.children.remove(&element);
            }
        }
    }

    fn pruned(self) -> FieldSet {
        let children = self.children.into_iter().map(|(element, below)| (element, below.pruned()));
        FieldSet { member: self.member, children: children.filter(|(_, below)| !below.is_empty()).collect() }
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.clone());
        }
        for (element, below) in &self.children {
            let length = prefix.len();
            prefix.push_str(&element.in_path());
            below.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }
}

impl PathElement {
    /// Reads `f:name`, `k:{…}`, `v:…` or `i:0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(PathElement::Field(rest.to_owned())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(PathElement::key(keys.into_iter().collect()))
            }
            "v" => Some(PathElement::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest.parse().ok().map(PathElement::Index),
            _ => None,
        }
    }

    /// The item with these key fields.
    pub fn key(mut fields: Vec<(String, Value)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        PathElement::Key(Value::Object(fields.into_iter().collect()).to_string())
    }

    /// The item of a set.
    pub fn value(value: &Value) -> Self {
        PathElement::Value(value.to_string())
    }

    fn in_path(&self) -> String {
        match self {
            PathElement::Field(name) => format!(".{name}"),
            PathElement::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
            PathElement::Value(value) => format!("[={value}]"),
            PathElement::Index(index) => format!("[{index}]"),
        }
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, "f:{name}"),
            PathElement::Key(keys) => write!(f, "k:{keys}"),
            PathElement::Value(value) => write!(f, "v:{value}"),
            PathElement::Index(index) => write!(f, "i:{index}"),
        }
    }
}
