//! A pilotfish: the real binary as a child, with an address of its own, and what it says of itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, NET};
use crate::wait::{seconds, until, until_true};

const RUNTIME_SOCKET: &str = "haproxy.sock";

/// What a failed test shows of the log.
const LOG_LINES: usize = 40;

/// What a test wants to be different from the default.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Last octet of its address; two at one time need two.
    pub octet: u8,
    pub hold: &'static str,
    pub fallback: &'static str,
    pub drain_timeout: &'static str,
    /// Those of [`OPERATOR`] and [`VIEWER`] have to log in.
    pub users: bool,
    /// What stands under `replicas`, in place of one pool; `HOST` is the balancer's address.
    pub replicas: Option<&'static str>,
}

/// Name and password, joined as Basic wants them.
pub const OPERATOR: &str = "ada:countess";
pub const VIEWER: &str = "bob:builder";

/// The header's value for a login.
pub fn authorization(login: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(login))
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            octet: 5,
            hold: "45s",
            fallback: "primary",
            drain_timeout: "30s",
            users: false,
            replicas: None,
        }
    }
}

#[derive(Debug)]
pub struct Balancer {
    child: Child,
    host: String,
    directory: TempDir,
    cluster: &'static Cluster,
    asks_users: bool,
}

impl Balancer {
    /// One that has found the leader and both replicas.
    pub fn start(cluster: &'static Cluster) -> Balancer {
        Balancer::with(cluster, Wishes::default())
    }

    pub fn with(cluster: &'static Cluster, wishes: Wishes) -> Balancer {
        let Wishes { octet, hold, fallback, drain_timeout, users: asks_users, replicas } = wishes;
        let (host, directory) = (format!("{NET}.{octet}"), TempDir::new().expect("a directory"));
        let user = |login: &str, role| {
            let (name, password) = login.split_once(':').expect("a name and a password");
            let file = directory.path().join(name);
            std::fs::write(&file, password).expect("a password");
            format!("{{name: {name}, role: {role}, password: 'file:{}'}}", file.display())
        };
        let users = format!("[{}, {}]", user(OPERATOR, "operator"), user(VIEWER, "viewer"));
        let users = if asks_users { format!(", users: {users}") } else { String::new() };
        let one_pool = format!("{{listen: '{host}:5001', hold: {hold}, fallback: {fallback}}}");
        let replicas = replicas.map_or(one_pool, |pools| pools.replace("HOST", &host));
        let text = format!(
            "clusters:\n  - patroni: [{patroni}]\n    \
             primary: {{listen: '{host}:5000', hold: {hold}}}\n    \
             replicas: {replicas}\n\
             admin: {{listen: '{host}:7000', haproxy_socket: {{path: '{runtime}', level: admin}}{users}}}\n\
             drain_timeout: {drain_timeout}\n\
             log: {{format: json, level: debug}}\n",
            patroni = cluster.patroni(),
            runtime = directory.path().join(RUNTIME_SOCKET).display(),
        );
        let configuration = directory.path().join("pilotfish.yaml");
        std::fs::write(&configuration, text).expect("a configuration");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        // Killed with the tests, should these be killed themselves.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_pilotfish"), "run", "--config"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv, of util-linux");
        let mut balancer = Balancer { child, host, directory, cluster, asks_users };
        until_true("pilotfish is ready, with a leader and two readers", seconds(30), || {
            assert_eq!(balancer.child.try_wait().expect("our child"), None, "pilotfish has ended");
            balancer.answers() && balancer.condition() == "ok" && balancer.readers().len() == 2
        });
        balancer
    }

    pub fn primary(&self) -> SocketAddr {
        self.at(5000)
    }

    pub fn replicas(&self) -> SocketAddr {
        self.at(5001)
    }

    pub fn admin(&self) -> SocketAddr {
        self.at(7000)
    }

    /// Where HAProxy's runtime commands are taken.
    pub fn runtime_socket(&self) -> PathBuf {
        self.directory.path().join(RUNTIME_SOCKET)
    }

    /// Of that name below the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        format!("{}:{port}", self.host).parse().expect("an address")
    }

    fn answers(&self) -> bool {
        TcpStream::connect(self.admin()).is_ok()
    }

    /// A page of the admin side: status code and body.
    pub fn page(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin())?;
        stream.set_read_timeout(Some(seconds(10)))?;
        let login = if self.asks_users {
            format!("Authorization: {}\r\n", authorization(VIEWER))
        } else {
            String::new()
        };
        write!(stream, "GET {path} HTTP/1.0\r\n{login}\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.expect("a status code"), body.to_owned()))
    }

    fn json(&self, path: &str) -> Value {
        let (code, body) = self.page(path).expect("an answer");
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// `/api/v1/status`.
    pub fn status(&self) -> Value {
        self.json("/api/v1/status")
    }

    /// The part of the status about the cluster.
    pub fn view(&self) -> Value {
        self.status()["clusters"][0].take()
    }

    pub fn condition(&self) -> String {
        text(&self.view()["condition"])
    }

    pub fn writer(&self) -> Option<String> {
        self.view()["writer"].as_str().map(str::to_owned)
    }

    pub fn readers(&self) -> Vec<String> {
        texts(&self.view()["readers"])
    }

    /// The part of the status about one pool.
    pub fn pool(&self, name: &str) -> Value {
        let mut view = self.view();
        let pools = view["pools"].as_array_mut().expect("pools");
        pools.iter_mut().find(|pool| pool["name"] == name).expect("the pool").take()
    }

    /// Whom a pool routes to.
    pub fn routable(&self, pool: &str) -> Vec<String> {
        texts(&self.pool(pool)["routable"])
    }

    /// How many sessions of a pool ended for this cause.
    pub fn ends(&self, pool: &str, cause: &str) -> u64 {
        let pool = self.pool(pool);
        let ends = pool["ends"].as_array().expect("ends");
        ends.iter().find(|end| end["cause"] == cause).and_then(|end| end["count"].as_u64()).unwrap_or(0)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our child");
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> ExitStatus {
        until("pilotfish ends", seconds(20), || self.child.try_wait().expect("our child").ok_or("it runs"))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).expect("its log")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

/// No pilotfish outlives its test, and none may have found fault with itself.
impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            self.cluster.keep_logs();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            self.directory.disable_cleanup(true);
            println!("--- the end of {}\n{end}\n---", self.log_path().display());
            return;
        }
        let faults: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
        assert!(faults.is_empty() && !log.contains("panicked"), "{faults:#?}");
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
