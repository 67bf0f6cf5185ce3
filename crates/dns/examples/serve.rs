//! Serves as many names as asked for, without a cluster: `serve ADDRESS:PORT NAMES [THREADS]`.

use std::error::Error;
use std::net::SocketAddr;

use serde_json::json;
use tombolo_dns::server::{Server, Shared};
use tombolo_dns::{Catalog, Zones};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, names, threads @ ..] = words.as_slice() else {
        return Err("usage: serve ADDRESS:PORT NAMES [THREADS]".into());
    };
    let (address, names): (SocketAddr, u32) = (address.parse()?, names.parse()?);
    let threads = threads.first().map_or(Ok(1), |threads| threads.parse())?;
    let mut zones = Zones::cluster("cluster.local", 1)?.with_clusterset("clusterset.local", 1)?;
    let mut catalog = Catalog::new("cluster.local")?;
    for i in 0..names {
        let service = json!({
            "metadata": {"name": format!("svc-{i}"), "namespace": format!("ns-{}", i % 50)},
            "spec": {"clusterIP": format!("10.96.{}.{}", i / 250 % 250, i % 250), "ports": [{"port": 80}]},
        });
        zones.apply(catalog.apply_service(&serde_json::from_value(service)?));
    }
    zones.loaded();
    let server = Server::bind(&[address], threads, Shared::new(zones, None)).await?;
    println!("{:?}", server.addresses());
    server.run().await;
    Ok(())
}
