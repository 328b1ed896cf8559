//! Nothing that was given as a secret is ever told: the program has one of each kind, all that can go wrong with them
//! does, and everything that it says is read.

use std::io;
use std::net::SocketAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::child::{File, Pilotfish, command, config};
use super::console::with_admin;
use crate::admin::tls::Authority;
use crate::control::cluster::FakeCluster;
use crate::control::fake::{Answer, own_address};
use crate::control::http::exchange;
use crate::control::within;

const PASSWORD: &str = "alices-Pa55word";
const TOKEN: &str = "bobs-T0ken";
const OF_PATRONI: &str = "patronis-Pa55word";
const RENEWED: &str = "patronis-New-Pa55word";
const IN_ENVIRONMENT: &str = "nobodys-business-1n-the-environment";
const GUESS: &str = "a-wrong-Gue55";
/// In the output of a hash: whoever has it may try passwords at home.
const HASHED: &str = "Yh0uYo9p8Y3cXv0bqJ0oVw";
/// Written into the configuration itself, where it does not belong.
const MISPLACED: &str = "written-1n-clear";

/// Everything that was heard from outside, with where.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn tells_none_of(&self, secrets: &[&str]) {
        for (place, text) in &self.0 {
            let told = secrets.iter().find(|secret| text.contains(**secret));
            assert_eq!(told, None, "{place} tells it: {text}");
        }
    }
}

/// A line from the middle of a PEM file.
fn middle(pem: &str) -> &str {
    pem.lines().nth(1).expect("a line of it")
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

/// What a path answers over TLS, to whoever shows this login.
async fn ask(authority: &Authority, admin: SocketAddr, path: &str, login: &str) -> String {
    let stream = authority.connect(admin, None).await.expect("a handshake");
    let headers = [("Host", "localhost"), ("Authorization", login)];
    let response = exchange(stream, "GET", path, &headers, "").await;
    format!("{}\n\n{}", response.head, response.body)
}

async fn tell(socket: &str, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Configurations with a secret where none belongs.
fn misplaced() -> Vec<String> {
    let users = |user: &str| format!("clusters: [{{patroni: a}}]\nadmin: {{users: [{user}]}}\n");
    vec![
        users(&format!("{{name: eve, password: {MISPLACED}}}")),
        users(&format!("{{name: eve, token: '{MISPLACED}'}}")),
        users(&format!("{{name: eve, password: [{MISPLACED}]}}")),
        users(&format!("{{name: eve, pasword: {MISPLACED}}}")),
        users(&format!("{{name: eve, password: \"{MISPLACED}}}")),
        users(&format!("{{name: eve, password: '$argon2id${MISPLACED}'}}")),
        format!("clusters: [{{patroni: {{endpoints: a, auth: {{username: u, password: {MISPLACED}}}}}}}]\n"),
        format!(
            "clusters: [{{patroni: {{endpoints: a, auth: {{username: u, password_file: [{MISPLACED}]}}}}}}]\n"
        ),
    ]
}

#[test]
fn a_secret_in_the_wrong_place_is_refused_and_not_repeated() {
    for text in misplaced() {
        let output = command(&["check", "--config", &File::new(&text).path()]).output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(!said.contains(MISPLACED), "{said}\nof\n{text}");
    }
}

/// The program with a secret of each kind, and the files that they are in.
struct Keeper {
    pilotfish: Pilotfish,
    authority: Authority,
    admin: SocketAddr,
    /// The configuration with which it began.
    text: String,
    key: String,
    of_patroni: String,
    socket: String,
    _folder: File,
}

impl Keeper {
    async fn start(cluster: &FakeCluster) -> Keeper {
        let (authority, listen) = (Authority::new(), SocketAddr::new(own_address(), 0));
        let (certificate, key) = authority.issue(listen, 2040);
        authority.write(&certificate, &key);
        let [cert, key_file] = ["cert.pem", "key.pem"].map(|file| authority.path(file).display().to_string());
        let folder = File::new("");
        let (password, of_patroni) =
            (folder.beside("password", PASSWORD), folder.beside("patroni", OF_PATRONI));
        let socket = folder.path().replace("config.yaml", "haproxy.sock");
        let tls = format!("tls: {{cert: \"{cert}\", key: \"{key_file}\"}}");
        // A cluster that nobody answers for is shown a certificate, too.
        let other = format!(
            "  - name: other\n    patroni: {{endpoints: [\"https://{}:1\"], {tls}}}\n    \
             primary: {{listen: \"{}:0\"}}\n    replicas: off",
            own_address(),
            own_address()
        );
        let admin = format!(
            "{other}\nadmin:\n  listen: \"{listen}\"\n  {tls}\n  haproxy_socket: {{path: \"{socket}\", level: admin}}\n  \
             users:\n    - {{name: alice, role: operator, password: \"file:{password}\"}}\n    \
             - {{name: bob, token: \"env:BOBS_TOKEN\"}}\n    \
             - {{name: carol, password: \"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ${HASHED}\"}}"
        );
        let auth =
            format!("      auth: {{username: pilotfish, password_file: \"{of_patroni}\"}}\n    primary:");
        let text = config(cluster, "log: {level: debug}").replacen("    primary:", &auth, 1);
        let text = with_admin(&text, &admin);
        let pilotfish = Pilotfish::run_with(&text, |command| {
            command.env("BOBS_TOKEN", TOKEN).env("PGPASSWORD", IN_ENVIRONMENT);
        });
        let admin = pilotfish.admin().await;
        Keeper { pilotfish, authority, admin, text, key, of_patroni, socket, _folder: folder }
    }

    /// Logins are wrong, a login is renewed, and keys are put in the place of certificates and of the configuration.
    async fn goes_wrong(&self, heard: &mut Heard) {
        let pilotfish = &self.pilotfish;
        let (guess, nobody) = (basic("alice", GUESS), basic(GUESS, PASSWORD));
        for login in [guess, nobody, format!("Bearer {GUESS}"), format!("Basic {TOKEN}")] {
            heard.add("a wrong login", ask(&self.authority, self.admin, "/api/v1/status", &login).await);
        }
        pilotfish.says("a login was wrong").await;
        std::fs::write(&self.of_patroni, RENEWED).expect("a file");
        pilotfish.says("the credentials for Patroni were reloaded").await;
        std::fs::write(self.authority.path("cert.pem"), &self.key).expect("a file");
        let refused = |line: &str| line.contains("cannot be used; the old one").then_some(());
        pilotfish.text_line("a bad certificate", refused).await;
        let twice = format!("{}\n{}", self.text, misplaced()[0]);
        for (times, bad) in (1..).zip(misplaced().into_iter().chain([self.key.clone(), twice])) {
            std::fs::write(pilotfish.file.path(), bad).expect("a file");
            pilotfish.signal(Signal::HUP);
            let refusals =
                || pilotfish.lines().iter().filter(|line| line.contains("was not reloaded")).count();
            let refused = async {
                while refusals() < times {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            within("a word on a bad reload", refused).await;
        }
    }

    /// Everything that can be asked, and the whole log.
    async fn is_heard(&self, heard: &mut Heard) {
        for path in PATHS {
            heard.add(path, ask(&self.authority, self.admin, path, &format!("Bearer {TOKEN}")).await);
        }
        for line in LINES {
            heard.add(line, within(line, tell(&self.socket, line)).await.expect("an answer"));
        }
        let check =
            command(&["check", "--config", &File::new(&self.text).path()]).env("BOBS_TOKEN", TOKEN).output();
        let check = check.expect("it starts");
        heard.add("check", String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned());
        self.pilotfish.signal(Signal::TERM);
        self.pilotfish.exit().await;
        self.pilotfish.lines().into_iter().for_each(|line| heard.add("the log", line));
    }
}

const PATHS: [&str; 13] = [
    "/",
    "/part/sessions",
    "/metrics",
    "/metrics?names=haproxy",
    "/api/v1/status",
    "/api/v1/sessions",
    "/api/v1/events",
    "/api/v1/ends",
    "/api/v1/history",
    "/api/v1/whoami",
    "/;csv",
    "/stats;json",
    "/nothing",
];
/// At the runtime socket.
const LINES: [&str; 8] = [
    "show env",
    "show env PGPASSWORD",
    "show info",
    "show stat json",
    "show servers state",
    "show sess",
    "show cli sockets",
    "help",
];

#[tokio::test]
async fn no_secret_is_told_by_any_door_whatever_goes_wrong_with_it() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let report = Answer::Json(200, cluster.report("a", serde_json::json!({"role": "primary"})).to_string());
    // The login is wrong: a proxy before Patroni wants another.
    cluster.node("a").patroni.answer("/leader", report.for_login("somebody:else"));
    let keeper = Keeper::start(&cluster).await;
    let mut heard = Heard::default();
    keeper.goes_wrong(&mut heard).await;
    keeper.is_heard(&mut heard).await;

    let page = &heard.0.iter().find(|(place, _)| place == "/").expect("the page").1;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("refuses the login"), "{page}");
    let key = middle(&keeper.key);
    let secrets = [PASSWORD, TOKEN, OF_PATRONI, RENEWED, IN_ENVIRONMENT, GUESS, HASHED, MISPLACED, key];
    heard.tells_none_of(&secrets);
    let encoded = secrets.map(|secret| BASE64_STANDARD.encode(secret));
    heard.tells_none_of(&encoded.each_ref().map(|secret| secret.trim_end_matches('=')));
}
