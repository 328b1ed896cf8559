//! Every command against a running pilotfish: text, JSON and exit codes.

use std::net::SocketAddr;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::child::{File, Pilotfish, command, config};
use super::console::with_admin;
use crate::admin::tls::Authority;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::http::{get, status_until};
use crate::control::postgres::{Client, Server};

/// A pilotfish with a socket, and the folder that it is in.
pub struct Console {
    pub pilotfish: Pilotfish,
    pub socket: String,
    folder: TempDir,
}

impl Console {
    pub async fn serve(cluster: &FakeCluster) -> Console {
        Console::serve_as(cluster, &config(cluster, "")).await
    }

    async fn serve_as(cluster: &FakeCluster, config: &str) -> Console {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("admin.sock").display().to_string();
        let admin = format!("admin: {{listen: \"{}:0\", socket: \"{socket}\"}}", own_address());
        let pilotfish = Pilotfish::run(&with_admin(config, &admin));
        // A cluster of one has all of its readers before it is known.
        let all = |s: &Value| {
            let cluster_shown = &s["clusters"][0];
            let readers = cluster_shown["readers"].as_array().map(Vec::len);
            readers == Some(cluster.nodes.len() - 1) && !cluster_shown["writer"].is_null()
        };
        status_until(pilotfish.admin().await, "all members", all).await;
        Console { pilotfish, socket, folder }
    }

    /// Asks over the socket. On a thread of its own, since the nodes live on this one.
    pub async fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        ask(&[arguments, &["--admin", &format!("unix:{}", self.socket)]].concat(), &[]).await
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let (code, shown, errors) = self.ask(&[arguments, &["-o", "json"]].concat()).await;
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
        serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
    }
}

/// The program with these arguments and variables, to its end.
pub async fn ask(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = command(arguments);
    command.envs(variables.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output());
    let Output { status, stdout, stderr } = run.await.expect("a thread").expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit, not a signal"), text(stdout), text(stderr))
}

#[tokio::test]
async fn status_shows_what_patronictl_list_shows_and_the_pools() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    let (_open, _) = Client::enter(console.pilotfish.pool("primary").await).await;
    let (code, shown, errors) = console.ask(&["status"]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let words = |begin: &str| -> Vec<String> {
        let line = shown.lines().find(|line| line.trim_start().starts_with(begin));
        line.unwrap_or_else(|| panic!("{begin}: {shown}")).split_whitespace().map(str::to_owned).collect()
    };
    assert!(shown.contains("Cluster demo: ok, writer a for "), "{shown}");
    assert_eq!(words("MEMBER")[..6], ["MEMBER", "HOST", "ROLE", "STATE", "TL", "LAG"].map(String::from));
    let a = words("a ");
    assert_eq!(a[2..8].join(" "), "primary running 1 - writer ready", "{a:?}");
    assert_eq!(a.last().map(String::as_str), Some("1"));
    assert_eq!(words("b ")[2..5].join(" "), "replica running 1");
    assert_eq!(words("primary")[2..5].join(" "), "a 1 0");
    assert_eq!(words("replicas")[2], "b");
    let whole = console.json(&["status"]).await;
    assert_eq!((&whole["clusters"][0]["writer"], &whole["ready"]), (&json!("a"), &json!(true)));
    let (code, _, errors) = console.ask(&["status", "--cluster", "other"]).await;
    assert_eq!((code, errors.as_str()), (1, "no cluster is named \"other\"; see pilotfish status\n"));
}

#[tokio::test]
async fn scripts_ask_whether_it_is_ready_and_wait_for_a_writer() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    assert_eq!(console.ask(&["status", "--ready"]).await, (0, "ready\n".into(), String::new()));
    assert_eq!(console.json(&["status", "--ready"]).await, json!({"ready": true, "stopping": false}));
    assert_eq!(console.ask(&["status", "--wait-writer", "0s"]).await, (0, "demo: a\n".into(), String::new()));
    cluster.say("a", 503, json!({"state": "stopped"}));
    let lost = |s: &Value| s["clusters"][0]["writer"].is_null();
    status_until(console.pilotfish.admin().await, "no writer", lost).await;
    let (code, shown, errors) = console.ask(&["status", "--wait-writer", "300ms"]).await;
    assert_eq!((code, shown.as_str()), (1, ""));
    assert_eq!(errors, "demo has no writer: no node holds the leader lock\n");
    let promote = async {
        // Asked for while there is none.
        tokio::task::yield_now().await;
        cluster.promote("b");
    };
    let wait = ["status", "--wait-writer", "20s", "--cluster", "demo"];
    let ((code, shown, _), ()) = tokio::join!(console.ask(&wait), promote);
    assert_eq!((code, shown.as_str()), (0, "demo: b\n"));
    let waited = console.json(&["status", "--wait-writer", "1m"]).await;
    assert_eq!(waited["writers"], json!([{"cluster": "demo", "writer": "b"}]));
}

#[tokio::test]
async fn a_writer_that_nobody_gets_to_is_waited_for() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let at_a = cluster.node("a").server.address.ip();
    let reserved = TcpListener::bind((at_a, 0)).await.expect("a free port");
    let port = reserved.local_addr().expect("an address").port();
    drop(reserved);
    let primary = format!("primary: {{port: {port}, listen:");
    let text = config(&cluster, "").replace("primary: {listen:", &primary);
    let console = Console::serve_as(&cluster, &text).await;
    let vacant = |s: &Value| s["clusters"][0]["pools"][0]["vacancy"]["cause"] == "port";
    status_until(console.pilotfish.admin().await, "a dead port", vacant).await;
    let why = format!("a takes no connections at port {port}: Connection refused (os error 111)");
    let (code, shown, errors) = console.ask(&["status", "--wait-writer", "0s"]).await;
    let expected = format!("nobody takes the sessions of primary of demo: {why}\n");
    assert_eq!((code, shown.as_str(), errors), (1, "", expected));
    let (_, shown, _) = console.ask(&["status"]).await;
    assert!(shown.contains("Cluster demo: nobody takes writes, writer a for "), "{shown}");
    assert!(shown.contains(&format!("  primary: nobody takes its sessions: {why}\n")), "{shown}");
    let mend = async {
        // Asked for while there is nobody.
        tokio::task::yield_now().await;
        Server::start_at("pooler of a", SocketAddr::new(at_a, port)).await
    };
    let ((code, shown, _), _pooler) = tokio::join!(console.ask(&["status", "--wait-writer", "20s"]), mend);
    assert_eq!((code, shown.as_str()), (0, "demo: a\n"));
}

/// Its Patroni is well, and so is all that is known of it; only whoever is sent there knows better.
#[tokio::test]
async fn a_writer_that_refuses_its_sessions_is_waited_for() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    let (admin, primary) = (console.pilotfish.admin().await, console.pilotfish.pool("primary").await);
    cluster.node("a").server.stop().await;
    let mut held = Client::knock(primary).await;
    let refused = |s: &Value| s["clusters"][0]["pools"][0]["refused_for_s"].is_number();
    let status = status_until(admin, "a refusal", refused).await;
    assert_eq!(status["clusters"][0]["pools"][0]["routable"], json!(["a"]));
    let (code, shown, errors) = console.ask(&["status", "--wait-writer", "0s"]).await;
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(errors.starts_with("a of demo has taken no session for "), "{errors}");
    let ready = get(admin, "/readyz?pool=primary").await;
    assert_eq!(ready.status, 503);
    cluster.node("a").server.resume().await;
    assert_eq!(held.welcome().await, "a");
    let (code, shown, _) = console.ask(&["status", "--wait-writer", "20s"]).await;
    assert_eq!((code, shown.as_str()), (0, "demo: a\n"));
    assert_eq!(get(admin, "/readyz?pool=primary").await.status, 200);
}

#[tokio::test]
async fn supervisors_ask_whether_it_would_notice_a_new_leader() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    let informed = ["status", "--ready", "--informed"];
    assert_eq!(console.ask(&informed).await, (0, "ready\n".into(), String::new()));
    let silent = |name: &'static str| {
        move |s: &Value| {
            let members = s["clusters"][0]["members"].as_array();
            members.is_some_and(|all| all.iter().any(|m| m["name"] == name && m["class"] == "silent"))
        }
    };
    cluster.node("a").patroni.stop().await;
    status_until(console.pilotfish.admin().await, "a silent leader", silent("a")).await;
    assert_eq!(console.ask(&informed).await.0, 0, "that the leader is silent every pilotfish sees");
    cluster.node("b").patroni.stop().await;
    status_until(console.pilotfish.admin().await, "silence", silent("b")).await;
    let (code, shown, _) = console.ask(&informed).await;
    assert_eq!((code, shown.as_str()), (1, "not informed: no node of demo answers\n"));
    let (code, shown, _) = console.ask(&[&informed[..], &["-o", "json"]].concat()).await;
    assert_eq!((code, shown.contains("\"ready\":false")), (1, true), "{shown}");
    assert_eq!(console.ask(&["status", "--ready"]).await.0, 0, "it goes on serving by what it knows");
}

#[tokio::test]
async fn sessions_are_listed_and_filtered() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    let (_writer, _) = Client::enter(console.pilotfish.pool("primary").await).await;
    let (_reader, _) = Client::enter(console.pilotfish.pool("replicas").await).await;
    for (filter, members) in [
        (&[][..], &["a", "b"][..]),
        (&["--pool", "replicas"], &["b"]),
        (&["--member", "a"], &["a"]),
        (&["--client", "127."], &["a", "b"]),
        (&["--client", "10."], &[]),
        (&["--phase", "waiting"], &[]),
        (&["--cluster", "demo", "-n", "1"], &["a"]),
    ] {
        let arguments = [&["sessions"], filter].concat();
        let rows = console.json(&arguments).await;
        let found: Vec<&Value> = rows.as_array().expect("a list").iter().map(|row| &row["member"]).collect();
        assert_eq!(
            found,
            members.iter().map(|name| json!(name)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
        let (code, shown, _) = console.ask(&arguments).await;
        assert_eq!((code, shown.lines().count()), (0, members.len() + 1), "{shown}");
        assert!(shown.contains("CLIENT") && shown.contains("PHASE"), "{shown}");
    }
    let rows = console.json(&["sessions", "--member", "b"]).await;
    let (_, shown, _) = console.ask(&["sessions", "--member", "b"]).await;
    assert!(shown.contains(&format!(" {} ", rows[0]["backend_client_port"])), "{shown}");
}

#[tokio::test]
async fn a_member_is_drained_and_put_back_and_its_sessions_are_closed() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    let admin = console.pilotfish.admin().await;
    let (code, shown, _) = console.ask(&["drain", "b"]).await;
    assert_eq!((code, shown.as_str()), (0, "b of demo is set to drain (it was ready)\n"));
    status_until(admin, "a drained member", |s| s["clusters"][0]["members"][1]["admin"] == "drain").await;
    let log = console.pilotfish.says("an operator set the state of a member").await;
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    let told = ["user", "remote", "cluster", "member", "state", "before"].map(|name| log[name].clone());
    assert_eq!(told, [uid.as_str(), "unix socket", "demo", "b", "drain", "ready"]);
    let (_, shown, _) = console.ask(&["maint", "a", "--cluster", "demo"]).await;
    assert!(shown.contains("note: a is the writer: new writers wait"), "{shown}");
    let (_, shown, _) = console.ask(&["status"]).await;
    assert!(shown.contains("Cluster demo: writer taken out of service, no writer"), "{shown}");
    assert!(
        shown.contains("  a is the writer, but an operator set it to maint: new writers wait"),
        "{shown}"
    );
    let told = console.json(&["ready", "a"]).await;
    assert_eq!(
        (&told["state"], &told["before"], &told["note"]),
        (&json!("ready"), &json!("maint"), &json!(null))
    );

    let (client, _) = Client::enter(console.pilotfish.pool("primary").await).await;
    let (code, shown, _) = console.ask(&["close-sessions", "a"]).await;
    assert_eq!((code, shown.as_str()), (0, "sessions closed on a of demo: 1\n"));
    assert!(client.end().await.is_err());
    let ended = console.pilotfish.says("session ended").await;
    assert_eq!((&ended["cause"], &ended["side"]), (&json!("operator"), &json!("pilotfish")));
    assert_eq!(console.json(&["close-sessions", "a"]).await["closed"], 0);

    let (code, _, errors) = console.ask(&["drain", "zz"]).await;
    assert_eq!((code, errors.as_str()), (1, "no cluster has a member named \"zz\"; there is a, b\n"));
    let (code, _, errors) = console.ask(&["drain", "a", "--cluster", "zz"]).await;
    assert_eq!((code, errors.as_str()), (1, "no cluster is named \"zz\"; there is demo\n"));
}

#[tokio::test]
async fn events_tell_a_failover_afterwards_and_while_it_happens() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let console = Console::serve(&cluster).await;
    assert_eq!(console.ask(&["events"]).await.1, "no writer was lost since the start\n");
    assert_eq!(console.json(&["events"]).await, json!([]));
    let mut following = command(&["events", "--follow", "--admin", &format!("unix:{}", console.socket)]);
    let mut following = following.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    let heard = {
        let out = following.stdout.take().expect("a pipe");
        tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            for line in std::io::BufRead::lines(std::io::BufReader::new(out)) {
                lines.push(line.expect("text"));
                if lines.last().is_some_and(|line| line.starts_with("  = ")) {
                    break;
                }
            }
            lines
        })
    };
    cluster.say("a", 503, json!({"state": "stopped"}));
    let admin = console.pilotfish.admin().await;
    status_until(admin, "no writer", |s| s["clusters"][0]["writer"].is_null()).await;
    cluster.promote("b");
    let (_client, on) = Client::enter(console.pilotfish.pool("primary").await).await;
    assert_eq!(on, "b");
    let heard = crate::control::within("the end of the incident", heard).await.expect("a thread");
    following.kill().and_then(|()| following.wait()).expect("it runs");
    let (_, shown, _) = console.ask(&["events"]).await;
    for lines in [heard.join("\n"), shown] {
        assert!(lines.contains("demo #1: a was the writer"), "{lines}");
        assert!(lines.contains("  = b is the writer, first session after "), "{lines}");
        assert!(lines.lines().count() > 3, "{lines}");
    }
    let rows = console.json(&["events", "--cluster", "demo"]).await;
    assert_eq!((&rows[0]["writer_after"], &rows[0]["ongoing"]), (&json!("b"), &json!(false)));
}

#[tokio::test]
async fn a_reload_by_command() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let console = Console::serve(&cluster).await;
    let nothing = "applied: nothing\nneeds a restart: nothing\n";
    assert_eq!(console.ask(&["reload"]).await, (0, nothing.into(), String::new()));
    let path = console.pilotfish.file.path();
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, text.replace("workers: 2", "workers: 3")).expect("a file");
    assert_eq!(console.json(&["reload"]).await, json!({"applied": [], "needs_restart": ["workers"]}));
    std::fs::write(&path, "clusters: 5").expect("a file");
    let (code, shown, errors) = console.ask(&["reload"]).await;
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(errors.contains("nothing was changed") && errors.contains(":1:11: clusters:"), "{errors}");
    let told = console.ask(&["status"]).await.1;
    let [_, head, problem, ..] = &told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
    assert!(head.starts_with("the last reload, ") && head.contains(" ago, was rejected; "), "{told}");
    assert!(problem.contains(":1:11: clusters:"), "{told}");
    std::fs::write(&path, text).expect("a file");
    assert_eq!(console.ask(&["reload"]).await.0, 0);
    let told = console.ask(&["status"]).await.1;
    assert!(told.lines().nth(1).is_some_and(|l| l.starts_with("the configuration was reloaded ")), "{told}");
}

/// Where to ask and as whom, and what the exit code says when it comes to nothing.
#[tokio::test]
async fn addresses_logins_and_exit_codes() {
    let authority = Authority::new();
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let listen = std::net::SocketAddr::new(own_address(), 0);
    let (certificate, key) = authority.issue(listen, 2040);
    authority.write(&certificate, &key);
    let path = |file: &str| authority.path(file).display().to_string();
    for (file, text) in [("alice", "open sesame\n"), ("viewer", "t0ken\n"), ("wrong", "guess\n")] {
        std::fs::write(path(file), text).expect("a file");
    }
    let admin = format!(
        "admin:\n  listen: \"{listen}\"\n  tls: {{cert: \"{}\", key: \"{}\"}}\n  users:\n    \
         - {{name: alice, role: operator, password: \"file:{}\"}}\n    - {{name: scraper, token: \"file:{}\"}}",
        path("cert.pem"),
        path("key.pem"),
        path("alice"),
        path("viewer")
    );
    let pilotfish = Pilotfish::run(&with_admin(&config(&cluster, ""), &admin));
    pilotfish.says("routes changed").await;
    let url = format!("https://{}", pilotfish.admin().await);
    let (ca, alice, token, wrong) = (path("ca.pem"), path("alice"), path("viewer"), path("wrong"));
    let at = ["--admin", url.as_str(), "--ca", ca.as_str()];
    let nobody = format!("http://{}:9", own_address());
    let no_socket = format!("unix:{}", path("none.sock"));
    for (arguments, variables, code, words) in [
        (&["status"][..], &[][..], 77, "log in"),
        (&["status", "--user", "alice", "--password-file", &alice], &[], 0, ""),
        (&["status", "--user", "alice"], &[("PILOTFISH_PASSWORD", "open sesame")], 0, ""),
        (&["status", "--user", "alice"], &[("PILOTFISH_PASSWORD", "guess")], 77, "not right"),
        (&["status", "--user", "alice"], &[], 2, "PILOTFISH_PASSWORD"),
        (&["status", "--token-file", &token], &[], 0, ""),
        (&["status"], &[("PILOTFISH_TOKEN", "t0ken")], 0, ""),
        (&["drain", "a", "--token-file", &token], &[], 77, "scraper is a viewer"),
        (&["drain", "a", "--token-file", &wrong], &[], 77, "not right"),
        (&["drain", "a", "--user", "alice", "--password-file", &alice], &[], 0, ""),
        (&["status", "--token-file", "/none"], &[], 2, "--token-file: /none cannot be read: No such"),
    ] {
        let (found, shown, errors) = ask(&[arguments, &at].concat(), variables).await;
        assert_eq!((found, errors.contains(words)), (code, true), "{arguments:?}: {shown}{errors}");
        assert_eq!(found == 0, errors.is_empty(), "{arguments:?}: {errors}");
    }
    let log = pilotfish.says("an operator set the state of a member").await;
    assert_eq!(log["user"], "alice");
    assert!(
        log["remote"].as_str().is_some_and(|remote| remote.parse::<std::net::SocketAddr>().is_ok()),
        "{log}"
    );
    for (arguments, variables, code, words) in [
        (&["status", "--admin", &nobody][..], &[][..], 69, "no pilotfish answers at http://"),
        (&["status"], &[("PILOTFISH_ADMIN", nobody.as_str())], 69, "is it running?"),
        (&["status", "--admin", &no_socket], &[], 69, "none.sock"),
        (&["status", "--admin", &url.replace("https", "http")], &[], 69, &format!("use --admin {url}")),
        (&["status", "--admin", &url, "--token-file", &token], &[], 69, "certificate"),
        (&["status", "--admin", &url, "--ca", &alice], &[], 2, "holds no certificate"),
        (&["status", "--admin", "ftp://x"], &[], 2, "http://, https://, unix:"),
        (&["status", "--wait-writer", "soon"], &[], 2, "such as 30s"),
        (&["top", "--interval", "1ms"], &[], 2, "100ms to 60s"),
        (&["status", "--config", "/nonexistent.yaml"], &[], 78, "/nonexistent.yaml: cannot be read"),
        // Where the configuration says, with the port that it says.
        (&["status", "--config", &pilotfish.file.path()], &[], 69, ":0: "),
    ] {
        let (found, shown, errors) = ask(arguments, variables).await;
        assert_eq!((found, errors.contains(words)), (code, true), "{arguments:?}: {shown}{errors}");
        assert_eq!(shown, "");
    }
}

#[tokio::test]
async fn the_configuration_says_where_the_socket_is_and_a_reader_may_leave() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let console = Console::serve(&cluster).await;
    let file = console.pilotfish.file.path();
    let (code, shown, errors) = ask(&["ready", "a", "--config", &file], &[]).await;
    assert_eq!(
        (code, shown.as_str(), errors.as_str()),
        (0, "a of demo is set to ready (it was ready)\n", "")
    );
    assert!(console.folder.path().exists());
    // What is wrong elsewhere in the file is no matter of whoever asks: the process goes on by what it has read before.
    let broken =
        File::new(&format!("clusters: [{{hold: 1}}]\nadmin: {{socket: \"{}\", users: x}}\n", console.socket));
    let (code, shown, errors) = ask(&["status", "--config", &broken.path()], &[]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(shown.contains("Cluster demo: ok, writer a for "), "{shown}");
    let broken = File::new("clusters: [");
    let (code, shown, errors) = ask(&["status", "--config", &broken.path()], &[]).await;
    assert_eq!((code, shown.as_str(), errors.is_empty()), (78, "", false), "nothing of it can be understood");
    let socket = format!("unix:{}", console.socket);
    for arguments in [&["status"][..], &["sessions"], &["top", "-o", "json"], &["events", "-o", "json"]] {
        let mut command = command(&[arguments, &["--admin", &socket]].concat());
        command.stdout(std::io::pipe().expect("a pipe").1);
        let run = tokio::task::spawn_blocking(move || command.output());
        let output =
            crate::control::within("an end", run).await.expect("a thread").expect("the program starts");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}");
    }
}
