//! Whether a custom resource fits its schema, in kube-apiserver's words.

use serde_json::Value;

use super::compiled::KindSchema;
use super::error::FieldError;
use super::formats;
use super::merge::TypeId;
use super::node::{Additional, Checks, ItemsBy, Kind, Node};

/// The most that is said of one object.
const MAX_ERRORS: usize = 100;

/// Everything that is wrong with an object.
pub(crate) fn validate(schema: &KindSchema, object: &Value) -> Vec<FieldError> {
    let mut walk = Walk { schema, errors: Vec::new() };
    walk.value(schema.root, object, &mut String::new());
    walk.errors.truncate(MAX_ERRORS);
    walk.errors
}

struct Walk<'a> {
    schema: &'a KindSchema,
    errors: Vec<FieldError>,
}

impl Walk<'_> {
    fn value(&mut self, ty: TypeId, value: &Value, path: &mut String) {
        let Some(node) = self.schema.node(ty) else { return };
        if self.errors.len() >= MAX_ERRORS || (value.is_null() && (node.nullable || node.kind == Kind::Any)) {
            return;
        }
        if !self.type_fits(node, value, path) {
            return;
        }
        match value {
            Value::Object(_) => self.object(node, value, path),
            Value::Array(items) => self.list(node, items, path),
            _ => {}
        }
        if let Some(checks) = &node.checks {
            self.checks(checks, value, path);
        }
    }

    fn type_fits(&mut self, node: &Node, value: &Value, path: &str) -> bool {
        if node.int_or_string {
            let fits = value.is_string() || is_integer(value);
            if !fits {
                self.errors.push(FieldError::wrong_type(path, "integer,string", type_name(value)));
            }
            return fits;
        }
        let (fits, wanted) = match node.kind {
            Kind::Any => (true, ""),
            Kind::Object => (value.is_object(), "object"),
            Kind::Array => (value.is_array(), "array"),
            Kind::String => (value.is_string(), "string"),
            Kind::Integer => (is_integer(value), "integer"),
            Kind::Number => (value.is_number(), "number"),
            Kind::Boolean => (value.is_boolean(), "boolean"),
        };
        if !fits {
            self.errors.push(FieldError::wrong_type(path, wanted, type_name(value)));
            return false;
        }
        let Some(format) = node.format.as_deref() else { return true };
        let fits = match value {
            Value::String(text) if format == "quantity" => formats::is_quantity(text),
            Value::String(text) => formats::text_fits(format, text),
            Value::Number(_) => integer(value).is_none_or(|number| formats::integer_fits(format, number)),
            _ => true,
        };
        if !fits {
            let detail = format!("{path} in body must be of type {format}: {value}");
            self.errors.push(FieldError::invalid(path, value, detail));
        }
        fits
    }

    fn object(&mut self, node: &Node, value: &Value, path: &mut String) {
        let Value::Object(map) = value else { return };
        for name in node.required.iter().filter(|name| !map.contains_key(*name)) {
            self.errors.push(FieldError::required(&join(path, name), ""));
        }
        if node.embedded {
            for name in ["apiVersion", "kind"] {
                if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                    self.errors.push(FieldError::required(&join(path, name), "must not be empty"));
                }
            }
        }
        let length = path.len();
        for (name, value) in map {
            match (node.fields.get(name), node.additional) {
                (Some(field), _) => {
                    push_field(path, name);
                    self.value(field.ty, value, path);
                }
                (None, Additional::Schema(ty)) => {
                    push_field(path, name);
                    self.value(ty, value, path);
                }
                (None, Additional::None) => {}
            }
            path.truncate(length);
        }
    }

    fn list(&mut self, node: &Node, items: &[Value], path: &mut String) {
        let length = path.len();
        for (index, item) in items.iter().enumerate() {
            path.push_str(&format!("[{index}]"));
            self.value(node.items, item, path);
            path.truncate(length);
        }
        let id = |item: &Value| match &node.items_by {
            ItemsBy::Position => None,
            ItemsBy::Value => Some(item.clone()),
            ItemsBy::Keys(keys) => {
                let keys = keys
                    .iter()
                    .filter_map(|key| Some((key.name.clone(), item.get(&key.name).or(key.default.as_ref())?.clone())));
                Some(Value::Object(keys.collect()))
            }
        };
        let mut seen = std::collections::HashSet::new();
        for (index, id) in items.iter().map(id).enumerate() {
            let Some(id) = id else { continue };
            if !seen.insert(canonical(&id)) {
                self.errors.push(FieldError::duplicate(&format!("{path}[{index}]"), &id));
            }
        }
    }

    fn checks(&mut self, checks: &Checks, value: &Value, path: &mut String) {
        let mut wrong =
            |detail: String| self.errors.push(FieldError::invalid(path, value, format!("{path} in body {detail}")));
        match value {
            Value::String(text) => {
                let length = text.chars().count() as u64;
                if let Some(least) = checks.min_length.filter(|least| length < *least) {
                    wrong(format!("should be at least {least} chars long"));
                }
                if let Some((pattern, _)) = checks.pattern.as_ref().filter(|(_, regex)| !regex.is_match(text)) {
                    wrong(format!("should match '{pattern}'"));
                }
                if let Some(most) = checks.max_length.filter(|most| length > *most) {
                    self.errors.push(FieldError::too_long(path, most));
                }
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(0.0);
                if let Some((least, exclusive)) = checks.minimum
                    && (number < least || (exclusive && number == least))
                {
                    let or_equal = if exclusive { "" } else { " or equal to" };
                    wrong(format!("should be greater than{or_equal} {least}"));
                }
                if let Some((most, exclusive)) = checks.maximum
                    && (number > most || (exclusive && number == most))
                {
                    let or_equal = if exclusive { "" } else { " or equal to" };
                    wrong(format!("should be less than{or_equal} {most}"));
                }
                if let Some(factor) = checks.multiple_of.filter(|factor| !is_multiple(number, *factor)) {
                    wrong(format!("should be a multiple of {factor}"));
                }
            }
            Value::Array(items) => {
                let count = items.len() as u64;
                if let Some(least) = checks.min_items.filter(|least| count < *least) {
                    wrong(format!("should have at least {least} items"));
                }
                if checks.unique_items && has_duplicates(items) {
                    wrong("shouldn't contain duplicates".to_owned());
                }
                if let Some(most) = checks.max_items.filter(|most| count > *most) {
                    self.errors.push(FieldError::too_many(path, items.len(), most));
                }
            }
            Value::Object(map) => {
                let count = map.len() as u64;
                if let Some(least) = checks.min_properties.filter(|least| count < *least) {
                    wrong(format!("should have at least {least} properties"));
                }
                if let Some(most) = checks.max_properties.filter(|most| count > *most) {
                    wrong(format!("should have at most {most} properties"));
                }
            }
            _ => {}
        }
        if let Some(values) = checks.enumeration.as_ref().filter(|values| !values.contains(value)) {
            self.errors.push(FieldError::not_supported(path, value, values));
        }
        self.combinations(checks, value, path);
    }

    fn combinations(&mut self, checks: &Checks, value: &Value, path: &mut String) {
        let fits = |walk: &Self, ty: TypeId, path: &str| {
            let mut inner = Walk { schema: walk.schema, errors: Vec::new() };
            inner.value(ty, value, &mut path.to_owned());
            inner.errors
        };
        let shown = Value::String(type_name(value).to_owned());
        let wrong = |detail: &str| FieldError::invalid(path, &shown, format!("{path} in body {detail}"));

        let mut errors = Vec::new();
        for ty in &checks.all_of {
            errors.extend(fits(self, *ty, path));
        }
        if !checks.any_of.is_empty() && !checks.any_of.iter().any(|ty| fits(self, *ty, path).is_empty()) {
            errors.push(wrong("must validate at least one schema (anyOf)"));
        }
        if !checks.one_of.is_empty() {
            let found = checks.one_of.iter().filter(|ty| fits(self, **ty, path).is_empty()).count();
            if found != 1 {
                let found = if found == 0 { "none valid".to_owned() } else { format!("{found} valid alternatives") };
                errors.push(wrong(&format!("must validate one and only one schema (oneOf). Found {found}")));
            }
        }
        if checks.not.is_some_and(|ty| fits(self, ty, path).is_empty()) {
            errors.push(wrong("must not validate the schema (not)"));
        }
        self.errors.extend(errors);
    }
}

/// The path of a field.
pub(crate) fn join(path: &str, name: &str) -> String {
    let mut joined = path.to_owned();
    push_field(&mut joined, name);
    joined
}

/// Goes on to a field.
pub(crate) fn push_field(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

fn is_integer(value: &Value) -> bool {
    integer(value).is_some()
}

fn integer(value: &Value) -> Option<i128> {
    let Value::Number(number) = value else { return None };
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    whole.or_else(|| number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e30).map(|f| f as i128))
}

fn is_multiple(number: f64, factor: f64) -> bool {
    let quotient = number / factor;
    factor == 0.0 || (quotient - quotient.round()).abs() < 1e-9
}

fn has_duplicates(items: &[Value]) -> bool {
    let mut seen = std::collections::HashSet::new();
    items.iter().any(|item| !seen.insert(canonical(item)))
}

/// The same text for equal values.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => {
            let mut sorted = value.clone();
            sorted.sort_all_objects();
            sorted.to_string()
        }
        scalar => scalar.to_string(),
    }
}

/// The JSON type of a value, as schemas name it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
