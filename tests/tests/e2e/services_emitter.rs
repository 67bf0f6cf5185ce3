//! A cluster that reads the services of another through its emitter, invited by a token.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tombolo_e2e::clusters::fetch;
use tombolo_e2e::command::{attempt, command, run, tombolo};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::services::{SOON, apply, client, namespace, peer_all, wait_gone, wait_present, wait_ready, web};
use tombolo_e2e::wait_until;

const PORT: u16 = 6444;

#[test]
fn an_invited_cluster_reads_what_is_exported_and_no_other_does() {
    let lab = Lab::up(&["--nodes", "1", "--services=false"]);
    peer_all(&lab);
    client(&lab, 2);
    let emitters = [1, 2].map(|cluster| run_controller(&lab, cluster));
    web(&lab, 1, "shop", "{}");
    wait_ready(&lab, 1, "shop", "app=web", 2);

    // A token is good once.
    let token = invite(&lab, 1, "cluster2", &emitters[0], "10m").0;
    let said = wait_accepted(&lab, &token);
    assert!(said.contains("cluster1 admits this cluster as cluster2"), "{said}");
    let words = accept(&lab, &token, "cluster1").unwrap_err();
    assert!(words.contains("the token has been used, has expired or is wrong"), "{words}");
    // And not for long.
    let (expired, until) = invite(&lab, 1, "cluster2", &emitters[0], "1s");
    wait_until("the token expires", SOON, || match SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() {
        now if now > until + 1 => Ok(()),
        now => Err(format!("it is {now}, and it is good until {until}")),
    });
    let words = accept(&lab, &expired, "again").unwrap_err();
    assert!(words.contains("the token has been used, has expired or is wrong"), "{words}");

    // What is exported there stands here, and its pods answer.
    let mirror = wait_present(&lab, 2, &["service", "-n", "shop", "web"]);
    assert_eq!(mirror["metadata"]["annotations"]["tombolo.io/mirrored-from"], "cluster1");
    wait_until("a pod reaches the mirror", SOON, || fetch(&lab, 2, "client", "web.shop").map(drop));

    // Others learn nothing: who has no certificate, and who has one of another authority.
    let services = format!("https://{}/api/v1/services", emitters[0]);
    assert_eq!(ask(&lab, &["-k", &services]), "401");
    let foreign = folder(&lab).join("foreign.kubeconfig");
    let other = invite(&lab, 2, "cluster1", &emitters[1], "10m").0;
    let words = ["accept", &other, "--write-kubeconfig", foreign.to_str().unwrap(), "--name", "cluster2"];
    run(&mut in_client(&lab, &words), "");
    let files = ["certificate", "key"].map(|part| write_part(&lab, &foreign, part));
    let with = |url: &str| ask(&lab, &["-k", "--cert", &files[0], "--key", &files[1], url]);
    assert_eq!(with(&services), "401");
    assert_eq!(with(&format!("https://{}/api/v1/services", emitters[1])), "200", "the certificate is good at its own");

    // A cluster that is no longer admitted has no source any more.
    run(&mut lab.kubectl(1, &["delete", "secret", "-n", "tombolo-system", "tombolo-cluster-cluster2"]), "");
    wait_until("the source is said to be out of reach", SOON, || {
        let log = run(&mut lab.kubectl(2, &["logs", "-n", "tombolo-system", "controller"]), "");
        if log.contains("403") || log.contains("no longer admits") { Ok(()) } else { Err(log) }
    });
    // Its Secret is the source: without it the mirrors are withdrawn at once.
    run(&mut lab.kubectl(2, &["delete", "secret", "-n", "tombolo-system", "tombolo-source-cluster1"]), "");
    wait_gone(&lab, 2, &["service", "-n", "shop", "web"]);
}

/// Runs a controller with an emitter in a pod, and says where other clusters' pods reach that.
fn run_controller(lab: &Lab, cluster: usize) -> String {
    namespace(lab, cluster, "tombolo-system");
    let crd = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/clusterproperties.about.k8s.io.yaml");
    run(&mut lab.kubectl(cluster, &["apply", "-f", crd]), "");
    let identity = format!(
        "apiVersion: about.k8s.io/v1beta1\nkind: ClusterProperty\nmetadata: {{name: cluster.clusterset.k8s.io}}\nspec: \
         {{value: cluster{cluster}}}\n"
    );
    wait_until("the ClusterProperty is taken", SOON, || {
        attempt(&mut lab.kubectl(cluster, &["apply", "-f", "-"]), &identity).map(drop)
    });
    let folder = folder(lab);
    let (program, kubeconfig) = (folder.join("bin/tombolo"), folder.join(format!("cluster{cluster}.inner.kubeconfig")));
    let manifest = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: emitter, namespace: tombolo-system}}\nspec:\n  \
           selector: {{app: controller}}\n  ports: [{{port: {PORT}}}]\n\
         ---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: controller, namespace: tombolo-system, labels: {{app: controller}}}}\n\
         spec:\n  terminationGracePeriodSeconds: 5\n  containers:\n  - name: controller\n    image: tombolo\n    \
           command: [{}, controller, --kubeconfig={}, '--emit=[::]:{PORT}', '--listen=[::]:8080']\n    \
           readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 5}}\n",
        program.display(),
        kubeconfig.display()
    );
    apply(lab, cluster, &manifest);
    wait_ready(lab, cluster, "tombolo-system", "app=controller", 1);
    let service = wait_present(lab, cluster, &["service", "-n", "tombolo-system", "emitter"]);
    format!("{}:{PORT}", service["spec"]["clusterIP"].as_str().unwrap())
}

/// A token, and until when it is good.
fn invite(lab: &Lab, by: usize, name: &str, emitter: &str, expires: &str) -> (String, u64) {
    let words = ["invite", name, "--emitter", emitter, "--expires", expires, "-o", "json", "--kubeconfig"];
    let text = run(command(tombolo(), words).arg(lab.kubeconfig(by)), "");
    let made: Value = serde_json::from_str(&text).unwrap();
    let date = run(&mut command("date", ["-d", made["expires"].as_str().unwrap(), "+%s"]), "");
    (made["token"].as_str().unwrap().to_owned(), date.trim().parse().unwrap())
}

/// Accepts once the emitter is reached over the mesh; an attempt that does not reach it uses no token.
fn wait_accepted(lab: &Lab, token: &str) -> String {
    let mut said = String::new();
    wait_until("cluster2 accepts", SOON, || match accept(lab, token, "cluster1") {
        Ok(words) => {
            said = words;
            Ok(())
        }
        Err(words) => Err(words),
    });
    said
}

fn accept(lab: &Lab, token: &str, name: &str) -> Result<String, String> {
    let kubeconfig = folder(lab).join("cluster2.inner.kubeconfig");
    let words = ["accept", token, "--name", name, "--kubeconfig", kubeconfig.to_str().unwrap()];
    attempt(&mut in_client(lab, &words), "")
}

fn in_client(lab: &Lab, words: &[&str]) -> Command {
    let program = folder(lab).join("bin/tombolo");
    lab.in_pod(2, "client", &[&[program.to_str().unwrap()], words].concat())
}

/// The status of a request.
fn ask(lab: &Lab, args: &[&str]) -> String {
    let words = [&["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"], args].concat();
    run(&mut lab.in_pod(2, "client", &words), "")
}

/// Writes the client certificate of a kubeconfig, or its key, into a file of its own.
fn write_part(lab: &Lab, kubeconfig: &std::path::Path, part: &str) -> String {
    let template = format!("jsonpath={{.users[0].user.client-{part}-data}}");
    let mut view = command("kubectl", ["config", "view", "--raw", "-o", &template, "--kubeconfig"]);
    let encoded = run(view.arg(kubeconfig), "");
    let file = folder(lab).join(format!("foreign.{part}"));
    std::fs::write(&file, run(&mut command("base64", ["-d"]), &encoded)).unwrap();
    file.to_str().unwrap().to_owned()
}

fn folder(lab: &Lab) -> PathBuf {
    PathBuf::from(format!("/run/tombolo-lab/{}", lab.name))
}
