//! Server-side apply, and the record that other writes leave in `managedFields`.
//!
//! The rules are those of structured-merge-diff's `merge.Updater` with kube-apiserver's managers around it
//! (<https://kubernetes.io/docs/reference/using-api/server-side-apply/>): what a manager applies it owns; what it owned
//! and applies no more is removed, unless somebody else owns it; what somebody else owns and would change is a conflict.

use serde_json::{Value, json};

use super::conflict::{self, Conflict};
use super::diff::Comparison;
use super::fields::FieldSet;
use super::managers::{self, Manager, Managers, Operation, strip};
use super::typed::{field_set, merge, misfit, remove};
use crate::object;
use crate::schema::MergeSchema;
use crate::status::Status;

/// Where `kubectl apply` without `--server-side` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// kubectl's default field manager for server-side apply.
const KUBECTL: &str = "kubectl";
/// Who owns what was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who applies, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// The field manager.
    pub manager: String,
    /// Take over the fields that are in conflict.
    pub force: bool,
    /// The subresource that is written, such as `status`.
    pub subresource: Option<String>,
    /// Now, in RFC 3339 with whole seconds.
    pub time: String,
    /// The version that the request is for, such as `apps/v1`.
    pub api_version: String,
}

/// Applies a configuration to an object, or makes a new one of it.
///
/// The result has its `managedFields`, and is equal to `live` where the apply changes nothing.
///
/// 400 for a configuration of another version or with `managedFields`, 409 for conflicts, 500 for one that does not
/// fit the schema (as kube-apiserver has it).
pub fn server_side_apply(
    live: Option<&Value>,
    applied: &Value,
    schema: &dyn MergeSchema,
    opts: &ApplyOptions,
) -> Result<Value, Status> {
    check(applied, schema, opts)?;
    let apply = Apply { schema, opts, applied: scoped(applied, schema, opts.subresource.as_deref()) };
    let managers = live.map(Managers::of).unwrap_or_default();

    let conflicts = match apply.run(live, managers.clone(), opts.force) {
        Ok(object) => return Ok(object),
        Err(conflicts) => apply.beyond_last_applied(live, conflicts),
    };
    if !conflicts.is_empty() {
        return Err(conflict::status(&conflicts));
    }
    apply.run(live, managers, true).map_err(|conflicts| conflict::status(&conflicts))
}

/// Records in `new`'s `managedFields` that `manager` made it of `live` by a create, an update or a patch.
///
/// `time` is now, in RFC 3339 with whole seconds. `new` may bring `managedFields` of its own: they replace the live
/// ones, and one empty entry resets them.
pub fn track_update(
    live: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: Option<&str>,
    schema: &dyn MergeSchema,
    time: &str,
    api_version: &str,
) {
    let mut managers = match live {
        _ if subresource.is_none() && managers::is_reset(new) => Managers::default(),
        Some(live) => {
            let given = if subresource.is_none() { Managers::of(new) } else { Managers::default() };
            if given.is_empty() { Managers::of(live) } else { given }
        }
        None => Managers::of(new),
    };
    managers::take(new);
    if live.is_some() && managers.is_empty() {
        // Nobody kept a record so far: kube-apiserver does not begin one with an update.
        return;
    }

    let mut base = live.cloned().unwrap_or_else(|| json!({}));
    managers::take(&mut base);
    let (base, filled) = (with_structs(base, schema.empty()), with_structs(new.clone(), schema.empty()));
    let comparison = Comparison::between(schema, schema.root(), &base, &filled)
        .filter(|set| strip(writable(set, schema, subresource)));
    let changed = comparison.changed();
    for other in &mut managers.0 {
        other.fields = other.fields.difference(&changed).difference(&comparison.removed);
    }
    if !changed.is_empty() {
        let entry = Manager {
            name: manager.to_owned(),
            operation: Operation::Update,
            api_version: api_version.to_owned(),
            subresource: subresource.unwrap_or("").to_owned(),
            time: Some(time.to_owned()),
            fields: changed,
        };
        match managers.position(&entry) {
            Some(at) => {
                let previous = &mut managers.0[at];
                previous.fields = previous.fields.union(&entry.fields);
                previous.time = entry.time;
            }
            None => managers.0.push(entry),
        }
    }
    managers.cap();
    managers.write(new);
}

/// The object with the structs that are always there, as in Kubernetes' own types.
fn with_structs(mut object: Value, structs: &Value) -> Value {
    if let (Value::Object(object), Value::Object(structs)) = (&mut object, structs) {
        for (name, inner) in structs {
            let value =
                object.shift_remove(name).unwrap_or_else(|| if inner.is_object() { json!({}) } else { Value::Null });
            object.insert(name.clone(), with_structs(value, inner));
        }
    }
    object
}

fn check(applied: &Value, schema: &dyn MergeSchema, opts: &ApplyOptions) -> Result<(), Status> {
    if !applied.is_object() {
        return Err(Status::bad_request("error decoding patch: an apply configuration is an object"));
    }
    let version = object::api_version(applied);
    if version != opts.api_version {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            opts.api_version
        )));
    }
    if applied.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    if let Some(misfit) = misfit(schema, schema.root(), applied) {
        let (name, namespace, kind) = (object::name(applied), object::namespace(applied), object::kind(applied));
        let message =
            format!("failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {misfit}");
        return Err(Status::new(500, "", message));
    }
    Ok(())
}

/// The part of a configuration that may be written through this endpoint.
fn scoped(applied: &Value, schema: &dyn MergeSchema, subresource: Option<&str>) -> Value {
    let mut applied = applied.clone();
    let Some(map) = applied.as_object_mut() else { return applied };
    match subresource {
        Some("status") => {
            map.shift_remove("spec");
        }
        _ if schema.has_status() => {
            map.shift_remove("status");
        }
        _ => {}
    }
    applied
}

/// The part of a set of fields that may be written through this endpoint.
fn writable(set: FieldSet, schema: &dyn MergeSchema, subresource: Option<&str>) -> FieldSet {
    match subresource {
        Some("status") => set.without(&["spec"]),
        _ if schema.has_status() => set.without(&["status"]),
        _ => set,
    }
}

struct Apply<'a> {
    schema: &'a dyn MergeSchema,
    opts: &'a ApplyOptions,
    applied: Value,
}

impl Apply<'_> {
    /// One attempt: the new object, or the conflicts that `force` would have overridden.
    fn run(&self, live: Option<&Value>, mut managers: Managers, force: bool) -> Result<Value, Vec<Conflict>> {
        let (schema, root) = (self.schema, self.schema.root());
        let mut base = live.cloned().unwrap_or_else(|| json!({}));
        managers::take(&mut base);
        if live.is_some() && managers.is_empty() {
            managers.0.push(self.before_first_apply(&base));
        }

        let mut entry = Manager {
            name: self.opts.manager.clone(),
            operation: Operation::Apply,
            api_version: self.opts.api_version.clone(),
            subresource: self.opts.subresource.clone().unwrap_or_default(),
            time: Some(self.opts.time.clone()),
            fields: strip(field_set(schema, root, &self.applied)),
        };
        let previous = managers.position(&entry).map(|at| managers.0.remove(at));

        let merged = merge(schema, root, Some(&base), &self.applied);
        let mut new = match &previous {
            Some(previous) => self.prune(merged, &previous.fields, &managers, &entry.fields),
            None => merged,
        };

        let comparison = Comparison::between(schema, root, &base, &new);
        let changed = comparison.changed();
        let mut conflicts = Vec::new();
        for other in &mut managers.0 {
            let fields = other.fields.intersection(&changed);
            if !fields.is_empty() {
                let manager = other.clone();
                other.fields = other.fields.difference(&fields);
                conflicts.push(Conflict { manager, fields });
            }
            other.fields = other.fields.difference(&comparison.removed);
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }

        self.sync_last_applied(&mut new);
        let same_fields = previous
            .as_ref()
            .is_some_and(|previous| previous.fields == entry.fields && previous.api_version == entry.api_version);
        if let Some(previous) = previous
            && same_fields
            && new == base
        {
            // Nothing changed: not even the time of the entry.
            entry.time = previous.time;
        }
        managers.0.push(entry);
        managers.write(&mut new);
        Ok(new)
    }

    fn before_first_apply(&self, base: &Value) -> Manager {
        let structs = self.schema.empty();
        let base = with_structs(base.clone(), structs);
        let comparison = Comparison::between(self.schema, self.schema.root(), &with_structs(json!({}), structs), &base);
        Manager {
            name: BEFORE_FIRST_APPLY.to_owned(),
            operation: Operation::Update,
            api_version: self.opts.api_version.clone(),
            subresource: String::new(),
            time: Some(self.opts.time.clone()),
            fields: strip(writable(comparison.changed(), self.schema, None)),
        }
    }

    /// Removes what this manager owned and applies no more, unless somebody owns it.
    fn prune(&self, merged: Value, last: &FieldSet, others: &Managers, applied: &FieldSet) -> Value {
        let (schema, root) = (self.schema, self.schema.root());
        if last.is_empty() {
            return merged;
        }
        let named = |set: &FieldSet| set.with_named_parents(schema, root);
        let without = |set: &FieldSet| remove(schema, root, &merged, set).unwrap_or_else(|| json!({}));

        let merged_set = named(&field_set(schema, root, &merged));
        let last = named(last);
        let pruned = without(&last);

        // Back comes what somebody owns (this manager included) …
        let owned = others.0.iter().fold(applied.clone(), |owned, other| owned.union(&other.fields));
        let pruned_set = named(&field_set(schema, root, &pruned));
        let pruned = without(&merged_set.difference(&pruned_set.union(&named(&owned))));

        // … and what hung below a removed field but was not this manager's.
        let pruned_set = named(&field_set(schema, root, &pruned));
        without(&merged_set.difference(&pruned_set).intersection(&last))
    }

    /// The conflicts that remain when kubectl goes over from client-side to server-side apply: what its own last
    /// applied configuration set, and is still so, is no conflict.
    fn beyond_last_applied(&self, live: Option<&Value>, conflicts: Vec<Conflict>) -> Vec<Conflict> {
        let Some(own) = live.and_then(|live| self.last_applied_fields(live)) else { return conflicts };
        let rest =
            conflicts.into_iter().map(|conflict| Conflict { fields: conflict.fields.difference(&own), ..conflict });
        rest.filter(|conflict| !conflict.fields.is_empty()).collect()
    }

    fn last_applied_fields(&self, live: &Value) -> Option<FieldSet> {
        if self.opts.manager != KUBECTL {
            return None;
        }
        let annotation = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
        let last: Value = serde_json::from_str(annotation).ok()?;
        if object::api_version(&last) != self.opts.api_version {
            return None;
        }
        let (schema, root) = (self.schema, self.schema.root());
        let mut live = live.clone();
        managers::take(&mut live);
        let comparison = Comparison::between(schema, root, &last, &live);
        let fields = field_set(schema, root, &last);
        Some(fields.difference(&comparison.changed()).difference(&comparison.removed))
    }

    /// Keeps client-side apply's annotation current where it is there and kubectl applies.
    fn sync_last_applied(&self, new: &mut Value) {
        if self.opts.manager != KUBECTL {
            return;
        }
        let Some(annotation) = new.pointer_mut("/metadata/annotations").and_then(|a| a.get_mut(LAST_APPLIED)) else {
            return;
        };
        let mut applied = self.applied.clone();
        if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.shift_remove(LAST_APPLIED);
        }
        *annotation = json!(format!("{applied}\n"));
    }
}
