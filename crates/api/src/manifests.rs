//! The manifests in `deploy/crds/`, kept the same as the types.

use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// `TOMBOLO_WRITE_CRDS=1 cargo test -p tombolo-api` writes the file anew.
pub(crate) fn check(crd: &CustomResourceDefinition) {
    let name = crd.metadata.name.as_deref().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../deploy/crds/{name}.yaml"));
    let (group, yaml) = (&crd.spec.group, serde_yaml_ng::to_string(crd).unwrap());
    // The file's name is PLURAL.GROUP, the object's own.
    assert!(name.ends_with(group.as_str()));
    if std::env::var_os("TOMBOLO_WRITE_CRDS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &yaml).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), yaml);
}
