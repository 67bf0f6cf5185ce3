//! An API server on loopback, for as long as the program runs: `serve ADDR:PORT SERVICE_CIDR[,CIDR] KUBECONFIG [DIR]`.

use anyhow::Context;
use tombolo_apiserver::ApiServer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, cidrs, kubeconfig, data_dir @ ..] = args.as_slice() else {
        anyhow::bail!("wanted: ADDR:PORT SERVICE_CIDR[,CIDR] KUBECONFIG [DIR]");
    };
    let listener = tokio::net::TcpListener::bind(listen).await.context("listening")?;
    let address = listener.local_addr()?;
    let cidrs: Result<Vec<ipnet::IpNet>, _> = cidrs.split(',').map(str::parse).collect();
    let mut builder = ApiServer::builder().service_cidrs(cidrs?).advertise(address);
    if let Some(folder) = data_dir.first() {
        builder = builder.data_dir(folder);
    }
    let server = builder.build()?;
    let serving = server.serve(listener);
    std::fs::write(kubeconfig, server.kubeconfig(&format!("https://{address}")))?;
    serving.await?;
    Ok(())
}
