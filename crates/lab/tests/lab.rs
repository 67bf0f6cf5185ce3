//! A whole lab, for real: up, a pod, down; and down after the supervisor was killed.
//!
//! The test runs in network, mount and process namespaces of its own, so that what the machine shows before and after
//! can be compared exactly, and nothing is left if it fails. The agent is replaced by a small one, which writes the CNI
//! configuration and says that it is ready: this is about the lab alone.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "lab/streams.rs"]
mod streams;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tombolo_lab::control::{Place, Request, Status, ask};
use tombolo_lab::daemon::Wish;
use tombolo_lab::state::{Process, StateDir};
use tombolo_lab::{Family, Interconnect, Plan, Reflector, Underlay, netns, reflector, supervisor, teardown, up, web};

const NAME: &str = "t";
const INSIDE: &str = "TOMBOLO_LAB_TEST_INSIDE";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["lab", "supervise", name] => {
            runtime.block_on(supervisor::supervise(name)).unwrap();
            ExitCode::SUCCESS
        }
        ["lab", "web", ..] => {
            runtime.block_on(web::serve(80)).unwrap();
            ExitCode::SUCCESS
        }
        ["agent", ref flags @ ..] => agent(flags),
        _ if std::env::var_os(INSIDE).is_some() => {
            inside(&runtime);
            ExitCode::SUCCESS
        }
        // `cargo test -- --list` and the like ask for test names; there is one test.
        ["--list", ..] => ExitCode::SUCCESS,
        _ => isolated(),
    }
}

fn isolated() -> ExitCode {
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn inside(runtime: &tokio::runtime::Runtime) {
    for command in
        ["mount -t tmpfs tmpfs /run", "ip link set lo up", "ip netns add other", "ip link add keep type bridge"]
    {
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }
    let before = machine();
    for (underlay, family, killed) in [
        (Underlay::Routed, Family::Ipv4, false),
        (Underlay::Flat, Family::Ipv6, true),
        (Underlay::Nat, Family::Dual, false),
    ] {
        let plan = plan(underlay, family);
        let started = Instant::now();
        runtime.block_on(async {
            let program = std::env::current_exe().unwrap();
            up(&plan, &program, |step| println!("{:?} {step}", started.elapsed())).await.unwrap();
            let again = up(&plan, &program, |_| {}).await.unwrap_err();
            assert!(again.to_string().contains("is there already"), "{again}");
            use_it().await;
        });
        nodes_reach_each_other(&plan);
        let text = std::fs::read(StateDir::new(NAME).supervisor()).unwrap();
        let process: Process = serde_json::from_slice(&text).unwrap();
        if killed {
            process.signal(Signal::SIGKILL);
            eventually("the supervisor to die", || !process.is_alive());
        }
        let down = Instant::now();
        assert!(teardown::down(NAME).unwrap());
        println!("down took {:?}", down.elapsed());
        assert!(!teardown::down(NAME).unwrap(), "nothing is left to remove");
        assert_eq!(machine(), before);
    }
    println!("test a_lab_comes_and_goes ... ok");
    for (reflector, family) in
        [(Reflector::Frr, Family::Ipv4), (Reflector::Bird, Family::Dual), (Reflector::Gobgp, Family::Dual)]
    {
        let plan = Plan { interconnect: Interconnect::Bgp(reflector), ..plan(Underlay::Flat, family) };
        let program = std::env::current_exe().unwrap();
        runtime.block_on(up(&plan, &program, |step| println!("{} {step}", reflector.name()))).unwrap();
        reflector_comes_and_goes(&plan);
        assert!(teardown::down(NAME).unwrap());
        assert_eq!(machine(), before);
    }
    println!("test a_reflector_comes_and_goes ... ok");
}

/// It listens, is stopped, killed and started, and answers at what it announces.
fn reflector_comes_and_goes(plan: &Plan) {
    let node = plan.cluster(2).node(1).namespace();
    let connects = || {
        let addresses = plan.reflector_addresses();
        let mut sockets = addresses.iter().map(|net| SocketAddr::new(net.addr(), reflector::PORT));
        netns::enter(&node, || Ok(sockets.all(|to| TcpStream::connect_timeout(&to, Duration::from_secs(5)).is_ok())))
    };
    let wish = |wish| ask::<Value>(NAME, &Request::Reflector { wish }).unwrap();
    assert!(connects().unwrap());
    for ending in [Wish::Kill, Wish::Stop] {
        wish(ending);
        let status = ask::<Status>(NAME, &Request::Status).unwrap().reflector.unwrap();
        assert!(!status.listens && status.processes.iter().all(|process| process.pid.is_none()), "{status:?}");
        assert!(!connects().unwrap());
        wish(Wish::Start);
        assert!(connects().unwrap());
    }
    let status = ask::<Status>(NAME, &Request::Status).unwrap().reflector.unwrap();
    assert!(status.listens, "{status:?}");
    let look = || Command::new("sh").args(["-c", &status.look]).output().unwrap();
    eventually("it to be looked at", || look().status.success());
    if let Interconnect::Bgp(Reflector::Gobgp) = plan.interconnect {
        let rib = || output(&status.namespace, &["gobgp", "global", "rib", "-a", "ipv6"]);
        eventually("it to announce its networks", || rib().contains("fd01::2/128"));
    }
}

/// By each family, and with NAT by the ports that lead to nodes.
fn nodes_reach_each_other(plan: &Plan) {
    let [here, there] = [1, 2].map(|k| plan.cluster(k).node(1));
    let mut targets: Vec<SocketAddr> =
        there.addresses().iter().map(|net| SocketAddr::new(net.addr(), there.wireguard_port())).collect();
    let mut sources: Vec<IpAddr> = here.addresses().iter().map(|net| net.addr()).collect();
    if plan.underlay == Underlay::Nat {
        let public = |k| plan.cluster(k).public_addresses().into_iter().map(|net| net.addr());
        targets = public(2).map(|ip| SocketAddr::new(ip, there.wireguard_port())).collect();
        sources = public(1).collect();
    }
    for (target, source) in targets.into_iter().zip(sources) {
        let bind = |port| {
            let any: IpAddr =
                if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            move || UdpSocket::bind((any, port))
        };
        let server = netns::enter(&there.namespace(), bind(there.wireguard_port())).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let client = netns::enter(&here.namespace(), bind(0)).unwrap();
        client.send_to(b"hello", target).unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.ip(), source, "to {target}");
    }
}

fn plan(underlay: Underlay, family: Family) -> Plan {
    Plan {
        name: NAME.into(),
        clusters: 2,
        nodes: 1,
        locations: 1,
        underlay,
        family,
        interconnect: Interconnect::Wireguard,
        mesh_granularity: "location".into(),
        agent_args: Vec::new(),
        dns: false,
        services: false,
        clusterset_cidr: false,
    }
}

/// What the machine shows: namespaces, links, files, processes, firewall.
fn machine() -> BTreeSet<String> {
    let shell = |command: &str| {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = [
        shell("ip netns list | cut -d' ' -f1 | sed 's/^/netns /'"),
        shell("ip -o link | cut -d: -f2 | sed 's/^/link/'"),
        shell("find /run -not -path '/run/netns/*' | sed 's/^/file /'"),
        shell("nft list ruleset | sed 's/^/nft /'"),
    ]
    .concat();
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let processes = pids.filter(|pid: &i32| Process::of(*pid).is_ok()).map(|pid| format!("process {pid}"));
    lines.lines().map(String::from).chain(processes).collect()
}

async fn use_it() {
    let status: Status = ask(NAME, &Request::Status).unwrap();
    assert_eq!(status.clusters.len(), 2);
    assert!(status.clusters.iter().flat_map(|c| &c.nodes).all(|node| node.ready), "{status:?}");
    let client = client(&status.clusters[0].kubeconfig).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get("c1-n1").await.unwrap();
    assert_eq!(node.metadata.labels.unwrap()["topology.kubernetes.io/region"], "cluster1");
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let started = Instant::now();
    pods.create(&PostParams::default(), &pod("web", json!({"image": "tombolo/web"}))).await.unwrap();
    let web = wait_for_ready(&pods, "web").await;
    println!("a pod was ready after {:?}", started.elapsed());
    let ip = web.status.unwrap().pod_ip.unwrap();
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
    let page = output("tl-t-c1-n1", &["curl", "-s", &format!("http://{host}/")]);
    assert!(page.starts_with("pod web on node c1-n1 answers "), "{page}");

    container_ends_and_comes_back(&pods).await;
    a_command_runs_in_it();
    streams::work(&pods, &status.clusters[0].kubeconfig).await;
    nodes_come_and_go(&nodes).await;

    let params = DeleteParams { grace_period_seconds: Some(5), ..DeleteParams::default() };
    pods.delete("web", &params).await.unwrap();
    until("the pod to go", async || pods.get_opt("web").await.unwrap().is_none()).await;
    until("its namespace to go", async || netns::list("tl-t-c1-p-").len() == 1).await;
}

async fn container_ends_and_comes_back(pods: &Api<Pod>) {
    let command = json!(["sh", "-c", "echo run on $(hostname); sleep infinity & exit 3"]);
    pods.create(&PostParams::default(), &pod("loop", json!({"image": "x", "command": command}))).await.unwrap();
    until("a restart", async || {
        let status = serde_json::to_value(pods.get("loop").await.unwrap().status).unwrap();
        let container = &status["containerStatuses"][0];
        container["restartCount"].as_i64() >= Some(2) && container["lastState"]["terminated"]["exitCode"] == 3
    })
    .await;
    let previous = LogParams { previous: true, ..LogParams::default() };
    assert_eq!(pods.logs("loop", &previous).await.unwrap(), "run on loop\n");
    delete(pods, "loop").await;
    pods.create(&PostParams::default(), &pod("idle", json!({"image": "tombolo/pause"}))).await.unwrap();
    wait_for_ready(pods, "idle").await;
}

async fn delete(pods: &Api<Pod>, name: &str) {
    let params = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
    pods.delete(name, &params).await.unwrap();
    until("it to go", async || pods.get_opt(name).await.unwrap().is_none()).await;
}

fn a_command_runs_in_it() {
    let container = Request::Container { cluster: 1, namespace: "default".into(), pod: "web".into(), container: None };
    let place: Place = ask(NAME, &container).unwrap();
    assert!(place.env.contains(&("NODE_NAME".into(), "c1-n1".into())));
    let words = ["sh", "-c", "hostname; cat /etc/hosts; exit 3"].map(String::from);
    let output = place.command(&words).unwrap().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("web\n127.0.0.1\tlocalhost\n"), "{text}");
    assert_eq!(output.status.code(), Some(3));
}

async fn nodes_come_and_go(nodes: &Api<Node>) {
    let name: String = ask(NAME, &Request::AddNode { cluster: 1 }).unwrap();
    assert_eq!(name, "c1-n2");
    assert!(
        !output("tl-t-c1-n2", &["ip", "route"]).is_empty() || !output("tl-t-c1-n2", &["ip", "-6", "route"]).is_empty()
    );
    let _: Value = ask(NAME, &Request::Cut { cluster: 1, node: 2, cut: true }).unwrap();
    eventually("the link to go down", || output("tl-t-c1-n2", &["ip", "link", "show", "eth0"]).contains("NO-CARRIER"));
    let _: Value = ask(NAME, &Request::RemoveNode { cluster: 1, node: 2 }).unwrap();
    assert!(nodes.get_opt("c1-n2").await.unwrap().is_none());
    assert!(!netns::path("tl-t-c1-n2").exists());
    let missing = ask::<Value>(NAME, &Request::RemoveNode { cluster: 1, node: 2 }).unwrap_err().to_string();
    assert_eq!(missing, "cluster1 has no node c1-n2: it has c1-n1");
}

fn pod(name: &str, container: Value) -> Pod {
    let mut container = container;
    container["name"] = json!("main");
    if container["image"] == "tombolo/web" {
        container["readinessProbe"] = json!({"httpGet": {"port": 80}});
    }
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"containers": [container]}})).unwrap()
}

async fn wait_for_ready(pods: &Api<Pod>, name: &str) -> Pod {
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pod = pods.get(name).await.unwrap();
        if is_ready(&pod) {
            return pod;
        }
        if Instant::now() > deadline {
            let config = StateDir::new(NAME).kubeconfig("cluster1");
            let kubectl = Command::new("kubectl").arg("--kubeconfig").arg(config).args(["get", "events"]).output();
            let events = String::from_utf8(kubectl.unwrap().stdout).unwrap();
            panic!("the pod does not become ready: {:#}\n{events}", json!(pod.status));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn output(namespace: &str, words: &[&str]) -> String {
    let output = Command::new("ip").args(["netns", "exec", namespace]).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// In the agent's place: writes the CNI configuration that its arguments and the plan ask for, and is ready.
fn agent(flags: &[&str]) -> ExitCode {
    let flag = |name: &str| flags.windows(2).find(|pair| pair[0] == name).unwrap()[1];
    let plan = StateDir::new(NAME).read_plan().unwrap();
    let node = flag("--hostname").strip_prefix('c').unwrap().split_once("-n").unwrap();
    let node = plan.cluster(node.0.parse().unwrap()).node(node.1.parse().unwrap());
    let ranges: Vec<Value> = node.pod_cidrs().iter().map(|net| json!([{"subnet": net}])).collect();
    let list = json!({"cniVersion": "0.4.0", "name": "test", "plugins": [
        {"type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": true,
         "ipam": {"type": "host-local", "dataDir": flag("--cni-data-dir"), "ranges": ranges}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    let path = PathBuf::from(flag("--cni-path"));
    std::fs::write(path.with_extension("new"), list.to_string()).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
    let listener = TcpListener::bind(flag("--listen")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    ExitCode::SUCCESS
}
