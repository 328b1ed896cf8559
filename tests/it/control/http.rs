//! HTTP as a browser or a scraper speaks it, and no more of that than tests need.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Response> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Response { status, head: head.to_owned(), body: body.to_owned() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub async fn request(address: SocketAddr, method: &str, path: &str) -> Response {
    let stream = TcpStream::connect(address).await.expect("a listener");
    exchange(stream, method, path, &[("Host", &address.to_string())], "").await
}

/// One request with exactly these headers, over whatever is connected to the other side.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let exchange = async {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}{length}Connection: close\r\n\r\n{body}");
        // Whoever has seen enough of it answers before it has all been sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut bytes = Vec::new();
        // A server that closes without the farewell of TLS has answered all the same.
        let _ = stream.read_to_end(&mut bytes).await;
        Response::parse(&bytes).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&bytes)))
    };
    within(&format!("the answer to {method} {path}"), exchange).await
}

pub async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path).await
}

/// Asks for the status until it is as wanted; gives what it was last in any case.
pub async fn status_until(address: SocketAddr, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let ask = async {
        loop {
            last = get(address, "/api/v1/status").await.json();
            if wanted(&last) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(super::PATIENCE, ask).await.is_err() {
        panic!("waited in vain for {what}: {last:#}");
    }
    last
}
