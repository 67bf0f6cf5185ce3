//! How long a table takes, how long a change, and what a connection notices of its size. `make bench-proxy` runs it.
//!
//! In two network namespaces of its own, a node and a client, which go with it.
#![allow(clippy::unwrap_used)]

mod place;

use std::time::{Duration, Instant};

use place::Place;
use tombolo_host::nft::{self, ElementSocket};
use tombolo_proxy::{Compiler, Endpoint, Node, Owner, Protocol, Service, ServiceKey, ServicePort, Slice, Update};

const ENDPOINTS: usize = 4;
const CHANGES: usize = 100;
const CONNECTIONS: usize = 2000;
const ROUND_TRIPS: usize = 20_000;
/// Where the server is; every service has it as its first endpoint.
const SERVER: &str = "10.1.0.2";

fn main() {
    let most: usize = std::env::args().nth(1).map_or(10_000, |text| text.parse().expect("a number of services"));
    let place = Place::new();
    println!("| services | setting up a connection, p50 | p99 | round trips of one UDP flow |");
    println!("|---|---|---|---|");
    // Once for nothing: caches, neighbours, the frequency of the processor.
    place.connections(SERVER, 8080, CONNECTIONS);
    row(&place, "no table", SERVER, 8080, 5353);
    // The table without services: connection tracking alone.
    place.within_node(|| drop(World::new(0).applied()));
    row(&place, "0, the endpoint itself", SERVER, 8080, 5353);
    let mut sizes: Vec<usize> = [1, 1000, most].into_iter().filter(|size| *size <= most).collect();
    sizes.dedup();
    for size in sizes {
        let node = place.within_node(move || World::new(size).applied());
        row(&place, &size.to_string(), &address(size - 1), 80, 53);
        if size == most {
            println!("\n{}", place.within_node(move || figures(node)));
        }
    }
}

fn row(place: &Place, name: &str, address: &str, tcp: u16, udp: u16) {
    let mut setups = place.connections(address, tcp, CONNECTIONS);
    let (p50, p99) = percentiles(&mut setups);
    let per_second = place.round_trips(address, udp, ROUND_TRIPS);
    println!("| {name} | {} µs | {} µs | {per_second}/s |", p50.as_micros(), p99.as_micros());
}

/// What is applied in the node's namespace.
struct Applied {
    world: World,
    told: Duration,
    compiled: Duration,
    applied: Duration,
    bytes: usize,
}

fn figures(applied: Applied) -> String {
    let Applied { mut world, told, compiled, applied, bytes } = applied;
    let services = world.services;
    let whole = told + compiled + applied;
    let mut quick = world.changes(Way::Netlink);
    let mut slow = world.changes(Way::Nft);
    let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1000.0);
    let (quick50, quick99) = percentiles(&mut quick);
    let (slow50, slow99) = percentiles(&mut slow);
    format!(
        "{services} services with {ENDPOINTS} endpoints each, from nothing: {} \
         (told {}, compiled {}, nft with {} KiB {})\n\
         one endpoint changes, {CHANGES} times: p50 {}, p99 {} (by nft instead: p50 {}, p99 {})\n\
         memory of this process: {}",
        ms(whole),
        ms(told),
        ms(compiled),
        bytes / 1024,
        ms(applied),
        ms(quick50),
        ms(quick99),
        ms(slow50),
        ms(slow99),
        memory(),
    )
}

/// How a change gets into the kernel.
#[derive(Clone, Copy)]
enum Way {
    Netlink,
    Nft,
}

struct World {
    compiler: Compiler,
    services: usize,
    /// How often an endpoint changed.
    round: usize,
}

impl World {
    fn new(services: usize) -> Self {
        let node = Node {
            name: "n1".to_owned(),
            pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
            cluster_pod_cidrs: vec!["10.0.0.0/14".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
            silent_networks: [].into(),
            table: tombolo_proxy::DEFAULT_TABLE.to_owned(),
            ..Node::default()
        };
        Self { compiler: Compiler::new(node), services, round: 0 }
    }

    fn applied(mut self) -> Applied {
        let start = Instant::now();
        for i in 0..self.services {
            let port = |name: &str, protocol, port| ServicePort { name: name.into(), protocol, port, node_port: None };
            let mut ports = vec![port("http", Protocol::Tcp, 80)];
            // The one that is measured serves datagrams, too.
            if i + 1 == self.services {
                ports.push(port("dns", Protocol::Udp, 53));
            }
            let service = Service { cluster_ips: vec![address(i).parse().unwrap()], ports, ..Service::default() };
            self.compiler.set_service(&key(i), Some(service));
            // Only the server answers: connections are measured, not refusals.
            self.set_endpoints(i, if i + 1 == self.services { 1 } else { ENDPOINTS }, 0);
        }
        let told = start.elapsed();
        let update = self.compiler.flush();
        let compiled = start.elapsed() - told;
        let script = update.script.to_string();
        block_on(async { nft::run(&script).await.unwrap() });
        let applied = start.elapsed() - told - compiled;
        Applied { world: self, told, compiled, applied, bytes: script.len() }
    }

    fn set_endpoints(&mut self, service: usize, count: usize, round: usize) {
        let endpoint = |i: usize, name: &str, protocol, port| Endpoint {
            // The last one is another with each round.
            address: match i {
                0 => SERVER.parse().unwrap(),
                i if i + 1 == count => format!("10.3.{}.{}", round / 250, round % 250 + 1).parse().unwrap(),
                i => format!("10.2.{}.{}", service % 250, i).parse().unwrap(),
            },
            port_name: name.to_owned(),
            protocol,
            port,
            ready: true,
            serving: true,
            terminating: false,
            node_name: Some(if i == 0 { "n1" } else { "n2" }.to_owned()),
            cluster: None,
            for_zones: vec![],
            for_nodes: vec![],
        };
        let mut endpoints: Vec<Endpoint> = (0..count).map(|i| endpoint(i, "http", Protocol::Tcp, 8080)).collect();
        endpoints.extend((0..count).map(|i| endpoint(i, "dns", Protocol::Udp, 5353)));
        let slice = Slice { owners: vec![Owner::Service(key(service))], endpoints };
        self.compiler.set_slice(&format!("{}-1", key(service)), Some(slice));
    }

    /// Changes an endpoint of a service, here and there; how long each took until the kernel had it.
    fn changes(&mut self, way: Way) -> Vec<Duration> {
        block_on(async {
            let mut socket = ElementSocket::open().unwrap();
            let mut times = Vec::new();
            for i in 0..CHANGES {
                self.round += 1;
                let start = Instant::now();
                self.set_endpoints(i * 97 % (self.services.max(2) - 1), ENDPOINTS, self.round);
                let Update { script, .. } = self.compiler.flush();
                match way {
                    Way::Netlink => {
                        let changes = script.element_changes().expect("a change of elements");
                        assert!(socket.apply(&script.table, &changes).await.unwrap());
                    }
                    Way::Nft => nft::run(&script.to_string()).await.unwrap(),
                }
                times.push(start.elapsed());
            }
            times
        })
    }
}

fn key(i: usize) -> ServiceKey {
    ServiceKey::new("bench", format!("service-{i}"))
}

fn address(i: usize) -> String {
    format!("10.{}.{}.{}", 96 + i / 62_500, i / 250 % 250, i % 250 + 1)
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn block_on<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(what)
}

/// The most that this process had (`VmHWM` of proc(5)).
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.trim_start_matches("VmHWM:").trim().to_owned()
}
