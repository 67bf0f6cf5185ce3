//! Label and field selectors out of a request's query.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tombolo_apiserver::selectors::{FieldSelector, LabelSelector};

fuzz_target!(|text: &str| {
    let object = json!({
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "tier": "", "n": "5"}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running"},
    });
    if let Ok(selector) = LabelSelector::parse(text) {
        let written = selector.to_string();
        assert_eq!(
            LabelSelector::parse(&written).as_ref(),
            Ok(&selector),
            "what is written is read as it was: {written}"
        );
        let _ = (selector.matches(&object), selector.matches(&json!({})));
    }
    for (group, kind, selectable) in [("", "Pod", &[][..]), ("example.com", "Thing", &["spec.nodeName"])] {
        let Ok(selector) = FieldSelector::parse(text, group, kind, selectable) else { continue };
        let _ = (selector.name(), selector.equals("metadata.namespace"), selector.matches(&object));
    }
    if let Ok(value) = serde_json::from_str(text) {
        let _ = LabelSelector::from_object(&value).map(|selector| selector.matches(&object));
    }
});
