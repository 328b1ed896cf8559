//! A pilotfish: the real binary as a child, with an address of its own, and what it says of itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::Cluster;
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
    /// What stands under `primary` and under `replicas`, in place of one pool each; see [`Balancer::of`] for `HOST`.
    pub primary: Option<&'static str>,
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
            primary: None,
            replicas: None,
        }
    }
}

impl Wishes {
    fn configuration(self, cluster: &Cluster) -> String {
        let Wishes { hold, fallback, drain_timeout, users, primary, replicas, .. } = self;
        let user = |login: &str, role| {
            let name = login.split(':').next().unwrap_or_default();
            format!("{{name: {name}, role: {role}, password: 'file:DIR/{name}'}}")
        };
        let users = if users {
            format!(", users: [{}, {}]", user(OPERATOR, "operator"), user(VIEWER, "viewer"))
        } else {
            String::new()
        };
        let primary = primary.map_or(format!("{{listen: 'HOST:5000', hold: {hold}}}"), str::to_owned);
        let one_pool = format!("{{listen: 'HOST:5001', hold: {hold}, fallback: {fallback}}}");
        let replicas = replicas.map_or(one_pool, str::to_owned);
        format!(
            "clusters:\n  - patroni: [{patroni}]\n    primary: {primary}\n    replicas: {replicas}\n\
             admin: {{listen: 'HOST:7000', haproxy_socket: {{path: 'DIR/{RUNTIME_SOCKET}', level: admin}}{users}}}\n\
             drain_timeout: {drain_timeout}\n\
             log: {{format: json, level: debug}}\n",
            patroni = cluster.patroni(),
        )
    }
}

/// Writes the configuration for an address and a folder, and tells where.
fn write(directory: &TempDir, host: &str, configuration: &str) -> PathBuf {
    let path = directory.path().join("pilotfish.yaml");
    let text = configuration.replace("HOST", host).replace("DIR", &directory.path().display().to_string());
    std::fs::write(&path, text).expect("a configuration");
    path
}

#[derive(Debug)]
pub struct Balancer {
    child: Child,
    host: String,
    directory: TempDir,
    cluster: &'static Cluster,
    /// What opens its page, if it asks.
    login: Option<&'static str>,
}

impl Balancer {
    /// One that has found the leader and both replicas.
    pub fn start(cluster: &'static Cluster) -> Balancer {
        Balancer::with(cluster, Wishes::default())
    }

    pub fn with(cluster: &'static Cluster, wishes: Wishes) -> Balancer {
        let login = wishes.users.then_some(VIEWER);
        let mut balancer = Balancer::of(cluster, wishes.octet, login, &wishes.configuration(cluster));
        balancer.wait_ready();
        balancer
    }

    /// One with a configuration of the test's own, in which `HOST` is its address and `DIR` its folder, and a page at the
    /// usual port that `login` opens. It has yet to find anybody.
    pub fn of(
        cluster: &'static Cluster,
        octet: u8,
        login: Option<&'static str>,
        configuration: &str,
    ) -> Balancer {
        let (host, directory) = (format!("{}.{octet}", cluster.net()), TempDir::new().expect("a directory"));
        for (name, password) in [OPERATOR, VIEWER].iter().filter_map(|login| login.split_once(':')) {
            std::fs::write(directory.path().join(name), password).expect("a password");
        }
        let path = write(&directory, &host, configuration);
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        // Killed with the tests, should these be killed themselves.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_pilotfish"), "run", "--config"])
            .arg(path)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv, of util-linux");
        let mut balancer = Balancer { child, host, directory, cluster, login };
        until_true("pilotfish answers", seconds(30), || {
            assert_eq!(balancer.child.try_wait().expect("our child"), None, "{}", balancer.log());
            balancer.answers()
        });
        balancer
    }

    /// Waits until the leader and all replicas are found.
    pub fn wait_ready(&mut self) {
        let readers = self.cluster.names().len() - 1;
        until_true("pilotfish is ready, with a leader and all readers", seconds(30), || {
            assert_eq!(self.child.try_wait().expect("our child"), None, "pilotfish has ended");
            self.condition() == "ok" && self.readers().len() == readers
        });
    }

    /// Another configuration, from now on.
    pub fn reconfigure(&self, configuration: &str) {
        write(&self.directory, &self.host, configuration);
        self.signal(Signal::HUP);
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
        let login = self
            .login
            .map(|login| format!("Authorization: {}\r\n", authorization(login)))
            .unwrap_or_default();
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

    /// The open sessions of a pool, `/api/v1/sessions`.
    pub fn sessions(&self, pool: &str) -> Vec<Value> {
        let mut all = self.json("/api/v1/sessions");
        let all = all.as_array_mut().map(std::mem::take).expect("a list");
        all.into_iter().filter(|session| session["pool"] == pool).collect()
    }

    /// The part of the status about one member.
    pub fn member(&self, name: &str) -> Value {
        let mut view = self.view();
        let members = view["members"].as_array_mut().expect("members");
        members.iter_mut().find(|member| member["name"] == name).map(Value::take).unwrap_or_default()
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

    /// Waits until that is whom a pool routes to.
    #[track_caller]
    pub fn wait_routes(&self, pool: &str, to: &[&str]) {
        until(&format!("{pool} routes to {to:?}"), seconds(30), || {
            let routable = self.routable(pool);
            if routable == to { Ok(()) } else { Err((routable, self.pool(pool)["members"].take())) }
        });
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
