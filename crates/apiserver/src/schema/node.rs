//! Schemas in the form that requests are checked with: a flat arena of nodes, references resolved, patterns compiled.

use std::collections::HashMap;

use indexmap::IndexMap;
use regex::Regex;
use serde_json::{Map, Value};

use super::cel::Rule;
use super::merge::ListKey;
use super::merge::TypeId;

/// The JSON type of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whatever.
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// What an object may have beside its declared fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Additional {
    /// Nothing.
    None,
    /// Entries of this type.
    Schema(TypeId),
}

/// How a list's items are told apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ItemsBy {
    Position,
    Value,
    Keys(Vec<ListKey>),
}

/// A declared field.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) ty: TypeId,
    pub(crate) default: Option<Value>,
    pub(crate) patch_merge: bool,
    pub(crate) patch_replace: bool,
    pub(crate) patch_merge_key: Option<String>,
}

/// One schema.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    pub(crate) atomic_map: bool,
    pub(crate) fields: IndexMap<String, Field>,
    pub(crate) additional: Additional,
    pub(crate) items: TypeId,
    pub(crate) items_by: ItemsBy,
    pub(crate) required: Vec<String>,
    pub(crate) format: Option<String>,
    pub(crate) default: Option<Value>,
    pub(crate) checks: Option<Box<Checks>>,
    pub(crate) rules: Vec<Rule>,
    /// The definition this node is, such as `io.k8s.api.core.v1.PodSpec`.
    pub(crate) definition: Option<String>,
}

/// What a value must be, beyond its type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    pub(crate) enumeration: Option<Vec<Value>>,
    pub(crate) pattern: Option<(String, Regex)>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) minimum: Option<(f64, bool)>,
    pub(crate) maximum: Option<(f64, bool)>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) all_of: Vec<TypeId>,
    pub(crate) any_of: Vec<TypeId>,
    pub(crate) one_of: Vec<TypeId>,
    pub(crate) not: Option<TypeId>,
}

/// Schemas that refer to each other.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    nodes: Vec<Node>,
}

/// Something in a schema that cannot be used: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Arena {
    /// The node of a type; none for [`TypeId::UNKNOWN`].
    pub(crate) fn get(&self, ty: TypeId) -> Option<&Node> {
        self.nodes.get(ty.0 as usize)
    }

    /// Whether there is any rule.
    pub(crate) fn has_rules(&self) -> bool {
        self.nodes.iter().any(|node| !node.rules.is_empty())
    }
}

/// Turns schemas in Kubernetes' OpenAPI form into nodes.
pub(crate) struct Compiler<'a> {
    definitions: &'a Map<String, Value>,
    arena: Arena,
    known: HashMap<String, TypeId>,
    structural: bool,
    flaws: Vec<Flaw>,
}

impl<'a> Compiler<'a> {
    /// A compiler for schemas that refer to `definitions`.
    pub(crate) fn new(definitions: &'a Map<String, Value>) -> Self {
        Compiler { definitions, arena: Arena::default(), known: HashMap::new(), structural: false, flaws: Vec::new() }
    }

    /// The node of a custom resource's schema: structural, with what every object has.
    pub(crate) fn custom_resource(&mut self, schema: &Value, path: &str) -> TypeId {
        self.structural = true;
        let root = self.schema(schema, path);
        self.structural = false;
        let mut node = self.arena.nodes[root.0 as usize].clone();
        self.embed(&mut node);
        self.arena.nodes[root.0 as usize] = node;
        root
    }

    /// The node of a definition; [`TypeId::UNKNOWN`] where there is none.
    pub(crate) fn definition(&mut self, name: &str) -> TypeId {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let Some(schema) = self.definitions.get(name) else { return TypeId::UNKNOWN };
        let ty = self.reserve();
        self.known.insert(name.to_owned(), ty);
        let structural = std::mem::replace(&mut self.structural, false);
        let mut node = self.node(schema, name);
        self.structural = structural;
        if name == super::definitions::QUANTITY {
            node.kind = Kind::Any;
            node.format = Some("quantity".to_owned());
        }
        node.definition = Some(name.to_owned());
        self.arena.nodes[ty.0 as usize] = node;
        ty
    }

    /// The node of a schema; `path` names it in flaws.
    pub(crate) fn schema(&mut self, schema: &Value, path: &str) -> TypeId {
        if let Some(name) = reference(schema) {
            return self.definition(name);
        }
        let ty = self.reserve();
        let node = self.node(schema, path);
        self.arena.nodes[ty.0 as usize] = node;
        ty
    }

    /// What came of it.
    pub(crate) fn finish(self) -> (Arena, Vec<Flaw>) {
        (self.arena, self.flaws)
    }

    fn reserve(&mut self) -> TypeId {
        let ty = TypeId(self.arena.nodes.len() as u32);
        self.arena.nodes.push(Node::any());
        ty
    }

    fn node(&mut self, schema: &Value, path: &str) -> Node {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
        let mut node = Node {
            kind: kind(schema),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string") || text(schema, "format") == Some("int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            atomic_map: text(schema, "x-kubernetes-map-type") == Some("atomic"),
            required: strings(schema.get("required")),
            format: text(schema, "format").map(str::to_owned),
            default: schema.get("default").cloned(),
            ..Node::any()
        };
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let ty = self.schema(property, &format!("{path}.properties[{name}]"));
            node.fields.insert(name.clone(), field(ty, property));
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => node.additional = Additional::Schema(TypeId::UNKNOWN),
            Some(Value::Bool(false)) | None => {}
            Some(entries) => {
                let ty = self.schema(entries, &format!("{path}.additionalProperties"));
                node.additional = Additional::Schema(ty);
            }
        }
        if let Some(items) = schema.get("items") {
            node.items = self.schema(items, &format!("{path}.items"));
        }
        node.items_by = self.items_by(schema, node.items);
        if node.embedded {
            self.embed(&mut node);
        }
        // An object that says nothing of its fields has whatever fields, as RawExtension and FieldsV1 do.
        if node.kind == Kind::Object
            && node.fields.is_empty()
            && node.additional == Additional::None
            && !self.structural
        {
            node.preserve_unknown = true;
        }
        node.checks = self.checks(schema, path).map(Box::new);
        node.rules = self.rules(schema, path);
        node
    }

    fn items_by(&self, schema: &Value, items: TypeId) -> ItemsBy {
        match text(schema, "x-kubernetes-list-type") {
            Some("set") => ItemsBy::Value,
            Some("map") => {
                let default = |name: &str| {
                    let field = self.arena.get(items)?.fields.get(name)?;
                    field.default.clone().or_else(|| self.arena.get(field.ty)?.default.clone())
                };
                let names = strings(schema.get("x-kubernetes-list-map-keys")).into_iter();
                ItemsBy::Keys(names.map(|name| ListKey { default: default(&name), name }).collect())
            }
            _ => ItemsBy::Position,
        }
    }

    /// Adds what every object has to an embedded one.
    fn embed(&mut self, node: &mut Node) {
        let metadata = self.definition(super::OBJECT_META);
        let text = self.schema(&serde_json::json!({"type": "string"}), "");
        node.fields.entry("apiVersion".to_owned()).or_insert_with(|| Field::plain(text));
        node.fields.entry("kind".to_owned()).or_insert_with(|| Field::plain(text));
        node.fields.insert("metadata".to_owned(), Field::plain(metadata));
    }

    fn checks(&mut self, schema: &Value, path: &str) -> Option<Checks> {
        let count = |name: &str| schema.get(name).and_then(Value::as_u64);
        let bound = |name: &str, exclusive: &str| {
            let exclusive = schema.get(exclusive).and_then(Value::as_bool).unwrap_or(false);
            Some((schema.get(name)?.as_f64()?, exclusive))
        };
        let pattern = text(schema, "pattern").and_then(|pattern| match Regex::new(pattern) {
            Ok(regex) => Some((pattern.to_owned(), regex)),
            Err(error) => {
                let message =
                    format!("Invalid value: {pattern:?}: must be a valid regular expression, but isn't: {error}");
                self.flaws.push(Flaw { path: format!("{path}.pattern"), message });
                None
            }
        });
        let mut several = |name: &str| -> Vec<TypeId> {
            let list = schema.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
            list.map(|(index, schema)| self.schema(schema, &format!("{path}.{name}[{index}]"))).collect()
        };
        let (all_of, any_of, one_of) = (several("allOf"), several("anyOf"), several("oneOf"));
        let checks = Checks {
            enumeration: schema.get("enum").and_then(Value::as_array).cloned(),
            pattern,
            min_length: count("minLength"),
            max_length: count("maxLength"),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: schema.get("multipleOf").and_then(Value::as_f64),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: schema.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of,
            any_of,
            one_of,
            not: schema.get("not").map(|schema| self.schema(schema, &format!("{path}.not"))),
        };
        checks.is_something().then_some(checks)
    }

    fn rules(&mut self, schema: &Value, path: &str) -> Vec<Rule> {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        let mut compiled = Vec::new();
        for (index, rule) in rules.enumerate() {
            match Rule::compile(rule) {
                Ok(rule) => compiled.push(rule),
                Err(message) => {
                    let path = format!("{path}.x-kubernetes-validations[{index}].rule");
                    self.flaws.push(Flaw { path, message });
                }
            }
        }
        compiled
    }
}

impl Node {
    fn any() -> Self {
        Node {
            kind: Kind::Any,
            nullable: false,
            int_or_string: false,
            preserve_unknown: false,
            embedded: false,
            atomic_map: false,
            fields: IndexMap::new(),
            additional: Additional::None,
            items: TypeId::UNKNOWN,
            items_by: ItemsBy::Position,
            required: Vec::new(),
            format: None,
            default: None,
            checks: None,
            rules: Vec::new(),
            definition: None,
        }
    }

    /// Whether a field that isn't declared is kept.
    pub(crate) fn keeps_unknown(&self) -> bool {
        self.preserve_unknown || (self.kind == Kind::Any && self.fields.is_empty())
    }
}

impl Field {
    fn plain(ty: TypeId) -> Self {
        Field { ty, default: None, patch_merge: false, patch_replace: false, patch_merge_key: None }
    }
}

impl Checks {
    fn is_something(&self) -> bool {
        self.enumeration.is_some()
            || self.pattern.is_some()
            || self.minimum.is_some()
            || self.maximum.is_some()
            || self.multiple_of.is_some()
            || self.unique_items
            || self.not.is_some()
            || !(self.all_of.is_empty() && self.any_of.is_empty() && self.one_of.is_empty())
            || [
                self.min_length,
                self.max_length,
                self.min_items,
                self.max_items,
                self.min_properties,
                self.max_properties,
            ]
            .iter()
            .any(Option::is_some)
    }
}

fn field(ty: TypeId, schema: &Value) -> Field {
    let strategies = text(schema, "x-kubernetes-patch-strategy").unwrap_or("");
    let has = |name: &str| strategies.split(',').any(|strategy| strategy == name);
    Field {
        ty,
        default: schema.get("default").cloned(),
        patch_merge: has("merge"),
        patch_replace: has("replace"),
        patch_merge_key: text(schema, "x-kubernetes-patch-merge-key").map(str::to_owned),
    }
}

/// The definition that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    text(schema, "$ref")?.rsplit('/').next()
}

fn kind(schema: &Value) -> Kind {
    match text(schema, "type") {
        Some("object") => Kind::Object,
        Some("array") => Kind::Array,
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ if schema.get("properties").is_some() => Kind::Object,
        _ => Kind::Any,
    }
}

fn text<'a>(schema: &'a Value, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str)
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
