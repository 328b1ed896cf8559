//! Patroni nodes without PostgreSQL: many clusters, each with a leader that may change, answering as the real one does
//! (HTTP/1.0, no Content-Length, closed when the answer is out).
//!
//! With `--change-ms` the leader of one cluster after the other moves on to the next node, on a new timeline. Each
//! change is told with its moment, and with the moment at which the new leader first said so.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Patroni's own is 5; thousands of nodes in one process are served in turn.
const BACKLOG: u32 = 64;
/// A request is a line and a few headers.
const MAX_REQUEST: usize = 8 << 10;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The address of the first node; the others follow.
    #[arg(long)]
    first: std::net::Ipv4Addr,
    #[arg(long, default_value_t = 8008)]
    port: u16,
    #[arg(long, default_value_t = 1)]
    clusters: u32,
    /// Of each cluster; the first leads.
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// Where PostgreSQL is said to be; by default port 5432 of the node's own address.
    #[arg(long)]
    postgres: Option<SocketAddr>,
    /// Between two changes of a leader; by default there are none.
    #[arg(long)]
    change_ms: Option<u64>,
}

#[derive(Debug)]
struct Cluster {
    number: u32,
    leader: u32,
    timeline: u32,
    /// A change that no node has told yet.
    untold: bool,
}

/// One node's place.
#[derive(Debug, Clone)]
struct Node {
    options: Rc<Options>,
    cluster: Rc<RefCell<Cluster>>,
    number: u32,
}

pub fn run(options: Options) -> io::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(Rc::new(options))))
}

async fn serve(options: Rc<Options>) -> io::Result<Value> {
    let mut clusters = Vec::new();
    for number in 0..options.clusters {
        let cluster = Rc::new(RefCell::new(Cluster { number, leader: 0, timeline: 1, untold: false }));
        for node in 0..options.nodes {
            let node = Node { options: Rc::clone(&options), cluster: Rc::clone(&cluster), number: node };
            let listener = listen(node.address(node.number))?;
            tokio::task::spawn_local(accept(listener, node));
        }
        clusters.push(cluster);
    }
    println!("{}", json!({ "clusters": clusters.len() }));
    let Some(pause) = options.change_ms else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(Duration::from_millis(pause));
    loop {
        for cluster in &clusters {
            ticks.tick().await;
            let mut cluster = cluster.borrow_mut();
            cluster.leader = (cluster.leader + 1) % options.nodes;
            cluster.timeline += 1;
            cluster.untold = true;
            let leader = node_name(cluster.number, cluster.leader);
            println!(
                "{}",
                json!({ "changed": cluster_name(cluster.number), "leader": leader, "at_us": unix_us() })
            );
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, node: Node) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(answer(stream, node.clone()))),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, node: Node) -> io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 || request.len() > MAX_REQUEST {
            return Ok(());
        }
    }
    let (status, body) = match request.split(|&byte| byte == b' ').nth(1) {
        Some(b"/leader") => node.report(),
        Some(b"/cluster") => (200, node.members()),
        Some(b"/config") => (200, json!({ "ttl": 30, "loop_wait": 10, "retry_timeout": 10 })),
        _ => (404, json!({})),
    };
    let reason = if status == 200 { "OK" } else { "Service Unavailable" };
    let head = format!(
        "HTTP/1.0 {status} {reason}\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nContent-Type: application/json\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}

impl Node {
    fn address(&self, number: u32) -> SocketAddr {
        let place = self.cluster.borrow().number * self.options.nodes + number;
        SocketAddr::new(IpAddr::V4((u32::from(self.options.first) + place).into()), self.options.port)
    }

    /// The status and the body of `/leader`.
    fn report(&self) -> (u16, Value) {
        let mut cluster = self.cluster.borrow_mut();
        let leads = cluster.leader == self.number;
        let name = node_name(cluster.number, self.number);
        if leads && std::mem::take(&mut cluster.untold) {
            println!(
                "{}",
                json!({ "told": cluster_name(cluster.number), "leader": name, "at_us": unix_us() })
            );
        }
        let xlog = match leads {
            true => json!({ "location": 67_108_864 }),
            false => json!({ "received_location": 67_108_864, "replayed_location": 67_108_864,
                             "replayed_timestamp": null, "paused": false }),
        };
        let body = json!({
            "state": "running", "postmaster_start_time": "2026-11-23 12:43:59.067569+00:00",
            "role": if leads { "primary" } else { "replica" }, "server_version": 150_018, "xlog": xlog,
            "timeline": cluster.timeline, "dcs_last_seen": unix_us() / 1_000_000,
            "database_system_identifier": format!("77113467981498{:05}", cluster.number),
            "patroni": { "version": "4.1.5", "scope": cluster_name(cluster.number), "name": name },
        });
        (if leads { 200 } else { 503 }, body)
    }

    fn members(&self) -> Value {
        let (number, leader) = (self.cluster.borrow().number, self.cluster.borrow().leader);
        let member = |node: u32| {
            let api = self.address(node);
            let postgres = self.options.postgres.unwrap_or(SocketAddr::new(api.ip(), 5432));
            json!({
                "name": node_name(number, node), "role": if node == leader { "leader" } else { "replica" },
                "state": if node == leader { "running" } else { "streaming" }, "timeline": 1, "lag": 0,
                "host": postgres.ip(), "port": postgres.port(), "api_url": format!("http://{api}/patroni"),
            })
        };
        json!({ "members": (0..self.options.nodes).map(member).collect::<Vec<_>>(), "scope": cluster_name(number) })
    }
}

fn cluster_name(number: u32) -> String {
    format!("c{number:04}")
}

fn node_name(cluster: u32, number: u32) -> String {
    format!("{}n{}", cluster_name(cluster), number + 1)
}

fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
