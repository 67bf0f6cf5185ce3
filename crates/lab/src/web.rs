//! The web server of the image `tombolo/web`: says which pod answered, on which node, and whom.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest line of a request.
const LONGEST: usize = 8192;

/// Serves on the port, in both families, until the process ends.
///
/// # Errors
/// The port is taken.
pub async fn serve(port: u16) -> io::Result<()> {
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?,
    };
    let name = |variable| std::env::var(variable).unwrap_or_default();
    let (pod, node) = (name("POD_NAME"), name("NODE_NAME"));
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // Out of file descriptors: they come back as clients go.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let page = page(&pod, &node, client);
        tokio::spawn(async move {
            // A client that goes away or takes too long gets nothing.
            let _ = tokio::time::timeout(PATIENCE, answer(stream, &page)).await;
        });
    }
}

fn page(pod: &str, node: &str, client: SocketAddr) -> String {
    format!("pod {pod} on node {node} answers {}\n", client.ip().to_canonical())
}

async fn answer(stream: TcpStream, page: &str) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut method = String::new();
    while method.is_empty() || line.trim_end() != "" {
        line.clear();
        if stream.read_line(&mut line).await? == 0 || line.len() > LONGEST {
            return Ok(());
        }
        if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        }
    }
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    );
    if method != "HEAD" {
        let _ = write!(response, "{page}");
    }
    stream.get_mut().write_all(response.as_bytes()).await?;
    stream.get_mut().shutdown().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_client_is_named_in_its_own_family() {
        let client = "[::ffff:10.42.1.3]:999".parse().unwrap();
        assert_eq!(page("web-0", "c1-n1", client), "pod web-0 on node c1-n1 answers 10.42.1.3\n");
    }

    #[tokio::test]
    async fn a_page_is_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, "hello\n").await.unwrap();
            }
        });
        for (method, ends) in [("GET", "\r\n\r\nhello\n"), ("HEAD", "Connection: close\r\n\r\n")] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(ends), "{text}");
        }
        server.await.unwrap();
    }
}
