#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn gvr() -> Gvr {
    Gvr::new("", "v1", "configmaps")
}

fn pods() -> Gvr {
    Gvr::new("", "v1", "pods")
}

fn object(namespace: &str, name: &str, value: u64) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "data": {"value": value.to_string()}})
}

/// What a list holds: keys and resource versions.
fn summary(list: &List) -> Vec<(String, String, String)> {
    let row = |o: &Arc<Value>| {
        (object::namespace(o).to_owned(), object::name(o).to_owned(), object::resource_version(o).to_owned())
    };
    list.items.iter().map(row).collect()
}

#[test]
fn a_stale_write_is_refused_and_an_empty_one_makes_no_event() {
    let store = Store::new();
    let first = store.create(&gvr(), object("n", "a", 1)).unwrap();
    assert_eq!(store.create(&gvr(), object("n", "a", 1)).unwrap_err().reason, "AlreadyExists");
    let second = store.update(&gvr(), object("n", "a", 2)).unwrap();
    assert_ne!(object::resource_version(&first), object::resource_version(&second));
    assert_eq!(store.update(&gvr(), Value::clone(&first)).unwrap_err().reason, "Conflict");
    let revision = store.revision();
    assert_eq!(store.update(&gvr(), Value::clone(&second)).unwrap(), second);
    assert_eq!(store.revision(), revision);
}

#[tokio::test]
async fn a_watch_reads_on_from_where_it_was_told() {
    let store = Store::new();
    let first = store.create(&gvr(), object("n", "a", 1)).unwrap();
    store.update(&gvr(), object("n", "a", 2)).unwrap();
    let mut watch = store.watch(&gvr(), object::resource_version(&first).parse().unwrap()).unwrap();
    store.delete(&gvr(), "n", "a", &DeleteOptions::now()).unwrap();
    let kinds: Vec<EventKind> = watch.next().await.unwrap().iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Modified, EventKind::Deleted]);
    assert_eq!(watch.ready().unwrap().1, store.revision());
}

#[tokio::test]
async fn what_the_log_has_forgotten_is_gone() {
    let store = Store::new();
    store.create(&gvr(), object("n", "a", 0)).unwrap();
    let start = store.revision();
    let mut slow = store.watch(&gvr(), start).unwrap();
    for i in 1..10_000 {
        store.update(&gvr(), object("n", "a", i)).unwrap();
    }
    assert_eq!(store.watch(&gvr(), start).unwrap_err().code, 410);
    assert_eq!(store.list_at(&gvr(), None, start).unwrap_err().code, 410);
    assert_eq!(slow.next().await.unwrap_err().code, 410);
    assert_eq!(store.list_at(&gvr(), None, store.revision() + 1).unwrap_err().code, 504);
}

#[test]
fn deletion_waits_for_finalizers() {
    let store = Store::new();
    let mut held = object("n", "a", 1);
    held["metadata"]["finalizers"] = json!(["x/y"]);
    store.create(&gvr(), held).unwrap();
    let options = DeleteOptions::default();
    assert!(matches!(store.delete(&gvr(), "n", "a", &options).unwrap(), Deletion::Marked(_)));
    let marked = store.get(&gvr(), "n", "a").unwrap();
    assert!(object::is_terminating(&marked));
    let revision = store.revision();
    store.delete(&gvr(), "n", "a", &options).unwrap();
    assert_eq!(store.revision(), revision, "asked for twice, marked once");
    let mut free = Value::clone(&marked);
    object::set_meta(&mut free, "finalizers", Value::Null);
    store.update(&gvr(), free).unwrap();
    assert!(store.get(&gvr(), "n", "a").is_none());
}

#[test]
fn a_pod_on_a_node_gets_its_grace_period() {
    let store = Store::new();
    let mut pod = object("n", "a", 1);
    pod["spec"] = json!({"nodeName": "node", "terminationGracePeriodSeconds": 7});
    store.create(&pods(), pod).unwrap();
    store.delete(&pods(), "n", "a", &DeleteOptions::default()).unwrap();
    assert_eq!(store.get(&pods(), "n", "a").unwrap()["metadata"]["deletionGracePeriodSeconds"], 7);
    assert!(matches!(store.delete(&pods(), "n", "a", &DeleteOptions::now()).unwrap(), Deletion::Removed(_)));
}

#[test]
fn preconditions_are_kept() {
    let store = Store::new();
    store.create(&gvr(), object("n", "a", 1)).unwrap();
    let other = DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() };
    assert_eq!(store.delete(&gvr(), "n", "a", &other).unwrap_err().reason, "Conflict");
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    store.delete(&gvr(), "n", "a", &dry).unwrap();
    assert_eq!(store.count(&gvr()), 1);
}

proptest! {
    /// The past, rebuilt from the log, is what was listed then.
    #[test]
    fn a_list_at_a_revision_is_what_was_there(steps in proptest::collection::vec((0usize..3, 0usize..4, 0usize..3), 1..60)) {
        let store = Store::new();
        let mut seen = vec![store.list(&gvr(), None)];
        for (turn, (namespace, name, action)) in steps.into_iter().enumerate() {
            let (namespace, name) = (format!("n{namespace}"), format!("o{name}"));
            let object = object(&namespace, &name, turn as u64);
            let _ = match action {
                0 => store.create(&gvr(), object).map(|_| ()),
                1 => store.update(&gvr(), object).map(|_| ()),
                _ => store.delete(&gvr(), &namespace, &name, &DeleteOptions::now()).map(|_| ()),
            };
            seen.push(store.list(&gvr(), None));
        }
        for list in &seen[1..] {
            let past = store.list_at(&gvr(), None, list.revision).unwrap();
            prop_assert_eq!(summary(&past), summary(list));
            let one: Vec<_> = summary(list).into_iter().filter(|(namespace, ..)| namespace == "n1").collect();
            prop_assert_eq!(summary(&store.list_at(&gvr(), Some("n1"), list.revision).unwrap()), one);
        }
    }
}

#[test]
fn what_was_known_of_an_earlier_life_is_gone() {
    let earlier = Store::starting_after(1000);
    earlier.create(&gvr(), object("n", "a", 1)).unwrap();
    let later = Store::starting_after(2000);
    for revision in [1001, 1999, 2001] {
        assert_eq!(later.watch(&gvr(), revision).unwrap_err().code, 410, "{revision}");
    }
    // A page of a list that the earlier life began must not look like its end.
    assert_eq!(later.list_at(&pods(), None, 1001).unwrap_err().code, 410);
    assert!(later.watch(&gvr(), 2000).is_ok());
    later.create(&gvr(), object("n", "a", 1)).unwrap();
    assert!(later.watch(&gvr(), 2001).is_ok());
}
