//! The admin side of the real program: secrets, certificates, the socket and reloads.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::child::{File, Pilotfish, config, output};
use crate::admin::tls::Authority;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::http::{exchange, get};
use crate::control::within;

/// In place of the line for the admin side that [`config`] writes.
pub fn with_admin(config: &str, admin: &str) -> String {
    let line = config.lines().find(|line| line.starts_with("admin:")).expect("a section");
    config.replace(line, admin)
}

#[test]
fn off_loopback_without_users_it_does_not_start() {
    let file = File::new("clusters: [{patroni: a}]\nadmin: {listen: \"0.0.0.0:7000\"}\n");
    for command in ["run", "check"] {
        let (code, shown, errors) = output(&[command, "--config", &file.path()]);
        assert_eq!((code, shown.as_str()), (78, ""));
        assert!(errors.contains("nobody would have to log in") && errors.contains("admin.users"), "{errors}");
    }
}

#[tokio::test]
async fn a_secret_is_in_no_line_of_the_log_and_not_in_what_check_shows() {
    const SECRETS: [&str; 4] = ["hunter2", "t0ken", "c29tZXNhbHQ", "guess"];
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let hash = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$Yh0uYo9p8Y3cXv0bqJ0oVw";
    let file = File::new("");
    let password = file.beside("password", "hunter2\n");
    let admin = format!(
        "admin:\n  listen: \"{}:0\"\n  users:\n    - {{name: alice, role: operator, password: \"file:{password}\"}}\n    \
         - {{name: bob, token: \"env:BOBS_TOKEN\", password: \"{hash}\"}}",
        own_address()
    );
    let text = with_admin(&config(&cluster, "log: {level: debug}"), &admin);
    let pilotfish = Pilotfish::run_with(&text, |command| {
        command.env("BOBS_TOKEN", "t0ken");
    });
    let admin = pilotfish.admin().await;
    let login = |given: &str| format!("Authorization: {given}\r\n");
    for (given, status) in [
        (login("Bearer t0ken"), 200),
        (login("Bearer guess"), 401),
        (login("Basic aHVudGVyMjpodW50ZXIy"), 401),
        (login("Basic YWxpY2U6aHVudGVyMg=="), 200),
    ] {
        let (name, value) = given.trim().split_once(": ").expect("a header");
        let stream = tokio::net::TcpStream::connect(admin).await.expect("a listener");
        let host = admin.to_string();
        let response = exchange(stream, "GET", "/api/v1/status", &[("Host", &host), (name, value)], "").await;
        assert_eq!(response.status, status, "{response:?}");
        assert!(SECRETS.iter().all(|secret| !response.body.contains(secret)), "{response:?}");
    }
    let wrong = pilotfish.says("a login was wrong").await;
    assert_eq!((&wrong["user"], wrong["remote"].is_string()), (&json!("unknown"), true));
    pilotfish.signal(Signal::HUP);
    pilotfish.says("the configuration was reloaded").await;
    pilotfish.signal(Signal::TERM);
    assert_eq!(pilotfish.exit().await, 0);
    let check = super::child::command(&["check", "--config", &pilotfish.file.path()])
        .env("BOBS_TOKEN", "t0ken")
        .output()
        .expect("the program starts");
    let shown = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && shown.contains("password: a hash, which is not shown"), "{shown}");
    assert!(shown.contains("env:BOBS_TOKEN") && shown.contains(&password), "{shown}");
    for text in pilotfish.lines().iter().chain([&shown]) {
        assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
    }
}

#[test]
fn a_secret_that_cannot_be_used_is_named_and_not_shown() {
    let file = File::new("");
    let password = file.beside("password", "$argon2id$v=19$m=1,t=0,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub\n");
    // Binding it would fail first, with another code.
    let taken = std::net::TcpListener::bind((own_address(), 0)).expect("a free port");
    let listen = taken.local_addr().expect("an address");
    let text = format!(
        "clusters: [{{patroni: a, primary: {{listen: '{listen}'}}, replicas: off}}]\n\
         admin: {{listen: '{}:0', users: [{{name: eve, password: 'file:{password}'}}]}}",
        own_address()
    );
    for command in ["check", "run"] {
        let (code, shown, errors) = output(&[command, "--config", &File::new(&text).path()]);
        assert_eq!((code, shown.as_str()), (78, ""), "{command}: {errors}");
        assert!(errors.contains("admin.users, eve: a broken argon2 hash"), "{command}: {errors}");
        assert!(!errors.contains("RdescudvJ"), "{errors}");
    }
}

/// 31 December, 0:00 UTC.
const END_OF_2040: f64 = 2_240_524_800.0;
const END_OF_2041: f64 = 2_272_060_800.0;

#[tokio::test]
async fn a_new_certificate_counts_soon_and_a_bad_one_never() {
    let authority = Authority::new();
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let listen = std::net::SocketAddr::new(own_address(), 0);
    let (certificate, key) = authority.issue(listen, 2040);
    authority.write(&certificate, &key);
    let [cert, key] = ["cert.pem", "key.pem"].map(|file| authority.path(file).display().to_string());
    let admin = format!("admin: {{listen: \"{listen}\", tls: {{cert: \"{cert}\", key: \"{key}\"}}}}");
    let pilotfish = Pilotfish::run(&with_admin(&config(&cluster, ""), &admin));
    let listening = pilotfish.line("the page", |line| line["page"].is_string()).await;
    assert!(listening["page"].as_str().is_some_and(|page| page.starts_with("https://")), "{listening}");
    let admin = pilotfish.admin().await;
    assert_eq!(authority.not_after(admin).await, END_OF_2040);
    let refused = |times: usize| {
        let refusals = || {
            let lines = pilotfish.lines();
            lines.iter().filter(|line| line.contains("cannot be used; the old one stays")).count()
        };
        async move {
            while refusals() < times {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    };
    // Half of a renewal, then all of it.
    let (certificate, new_key) = authority.issue(admin, 2041);
    std::fs::write(&cert, &certificate).expect("a file");
    within("a word on half a renewal", refused(1)).await;
    assert_eq!(authority.not_after(admin).await, END_OF_2040);
    let kept = authority.connect(admin, None).await.expect("a handshake");
    std::fs::write(&key, &new_key).expect("a file");
    pilotfish.says("the certificate was reloaded").await;
    let old = exchange(kept, "GET", "/livez", &[("Host", "localhost")], "").await;
    assert_eq!(old.status, 200, "an open connection goes on");
    assert_eq!(authority.not_after(admin).await, END_OF_2041);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (times, bad) in [(2, "nonsense"), (3, broken)] {
        std::fs::write(&cert, bad).expect("a file");
        within("a word on a bad certificate", refused(times)).await;
        assert_eq!(authority.not_after(admin).await, END_OF_2041);
    }
    std::fs::remove_file(&cert).expect("a file");
    within("a word on a missing certificate", refused(4)).await;
    assert_eq!(authority.not_after(admin).await, END_OF_2041);
}

#[tokio::test]
async fn the_socket_goes_with_the_process_and_a_dead_ones_is_replaced() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let with_socket = |admin: &str| with_admin(&config(&cluster, ""), admin);
    // As systemd does: by a variable alone.
    let text = config(&cluster, "");
    let run = |text: &str| {
        Pilotfish::run_with(text, |command| {
            command.env("RUNTIME_DIRECTORY", folder.path());
        })
    };
    let first = run(&text);
    let listening = first.line("the socket", |line| line["socket"].is_string()).await;
    assert_eq!(listening["socket"], socket.display().to_string());
    let second = run(&with_socket(&format!("admin: {{listen: off, socket: \"{}\"}}", socket.display())));
    assert_eq!(second.exit().await, 1);
    let error = second.line("an error", |line| line["level"] == "ERROR").await;
    assert!(
        error["message"].as_str().is_some_and(|m| m.contains("admin.sock") && m.contains("in use")),
        "{error}"
    );
    first.signal(Signal::KILL);
    within("the end of the first", async {
        while first.exit_status().is_none() {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert!(socket.exists());
    let third = run(&text);
    third.says("routes changed").await;
    tokio::net::UnixStream::connect(&socket).await.expect("a listener");
    third.signal(Signal::TERM);
    assert_eq!(third.exit().await, 0);
    assert!(!socket.exists());
    std::fs::write(&socket, "precious").expect("a file");
    let fourth = run(&text);
    assert_eq!(fourth.exit().await, 1);
    assert_eq!(std::fs::read_to_string(&socket).expect("a file"), "precious");
}

#[tokio::test]
async fn a_reload_applies_what_it_can_names_the_rest_and_changes_nothing_when_the_file_is_bad() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock").display().to_string();
    let listen = std::net::SocketAddr::new(own_address(), 0);
    let admin = |more: &str| format!("admin: {{listen: \"{listen}\", socket: \"{socket}\"{more}}}");
    let base = config(&cluster, "");
    let pilotfish = Pilotfish::run(&with_admin(&base, &admin("")));
    let address = pilotfish.admin().await;
    let reload = async |text: &str| {
        std::fs::write(pilotfish.file.path(), text).expect("a file");
        let stream = tokio::net::UnixStream::connect(&socket).await.expect("a listener");
        let headers = [("Host", "localhost"), ("Content-Type", "application/json")];
        let response = exchange(stream, "POST", "/api/v1/reload", &headers, "{}").await;
        (response.status, response.json())
    };
    let nothing = json!({"applied": [], "needs_restart": []});
    assert_eq!(reload(&with_admin(&base, &admin(""))).await, (200, nothing.clone()));
    assert_eq!(get(address, "/api/v1/status").await.status, 200);
    let metrics = get(address, "/metrics").await.body;
    assert!(metrics.contains("pilotfish_reloads_total{result=\"applied\"} 1\n"), "{metrics}");
    assert!(metrics.contains("pilotfish_last_reload_successful 1\n"), "{metrics}");

    let token = pilotfish.file.beside("token", "t0ken");
    let users = format!(", users: [{{name: me, token: \"file:{token}\"}}], allowed_hosts: [lb.example.org]");
    let changed = with_admin(&base, &admin(&users)).replace("interval: 100ms", "interval: 150ms")
        + "drain_timeout: 5s\n";
    let (status, told) = reload(&changed).await;
    assert_eq!(status, 200, "{told}");
    let applied = ["admin.allowed_hosts", "admin.users", "clusters[0].patroni.interval", "drain_timeout"];
    assert_eq!(told, json!({"applied": applied, "needs_restart": []}));
    assert_eq!(get(address, "/api/v1/status").await.status, 401, "from now on one has to log in");
    let with_token = async |token: &str| {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a listener");
        let headers = [("Host", "lb.example.org"), ("Authorization", token)];
        exchange(stream, "GET", "/api/v1/whoami", &headers, "").await.status
    };
    assert_eq!(with_token("Bearer t0ken").await, 200);

    // Only the file with the secret has changed.
    pilotfish.file.beside("token", "n3w");
    let (_, told) = reload(&changed).await;
    assert_eq!(told, json!({"applied": ["admin.users"], "needs_restart": []}));
    assert_eq!((with_token("Bearer t0ken").await, with_token("Bearer n3w").await), (401, 200));

    let (status, told) = reload("clusters: [{patroni: a, hold: 1}]\nworkers: many\n").await;
    assert_eq!((status, told["problems"].as_array().map(Vec::len)), (422, Some(2)), "{told}");
    assert!(told["problems"][1].as_str().is_some_and(|p| p.contains(":2:10: workers:")), "{told}");
    assert_eq!(with_token("Bearer n3w").await, 200, "nothing changed");
    let said = pilotfish.says("the configuration was not reloaded; the running one stays").await;
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    assert_eq!((&said["user"], &said["remote"]), (&Value::from(uid), &"unix socket".into()));
}

#[tokio::test]
async fn a_change_is_in_the_log_even_if_who_made_it_does_not_wait() {
    use tokio::io::AsyncWriteExt;
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock").display().to_string();
    let admin = format!("admin: {{listen: off, socket: \"{socket}\"}}");
    let pilotfish = Pilotfish::run(&with_admin(&config(&cluster, ""), &admin));
    pilotfish.says("routes changed").await;
    let path = "/api/v1/clusters/demo/members/a/state";
    let connect = async || tokio::net::UnixStream::connect(&socket).await.expect("a listener");
    // What was asked for may be done or not; what has been done shows as the state before the next.
    let mut done = 0;
    for _ in 0..50 {
        let body = r#"{"state":"maint"}"#;
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        connect().await.write_all(request.as_bytes()).await.expect("a request");
        let headers = [("Host", "x"), ("Content-Type", "application/json")];
        let drained = exchange(connect().await, "POST", path, &headers, r#"{"state":"drain"}"#).await;
        done += usize::from(drained.json()["before"] == "maint");
    }
    assert!(done > 0, "each of them was dropped unseen");
    let told = || pilotfish.lines().iter().filter(|line| line.contains(r#""state":"maint""#)).count();
    let told_each = async {
        while told() < done {
            tokio::task::yield_now().await;
        }
    };
    within("a line for each change", told_each).await;
}

/// A reload must not open what only a restart would close.
#[tokio::test]
async fn a_reload_does_not_take_the_login_from_a_listener_off_loopback() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let file = File::new("");
    let token = file.beside("token", "t0ken");
    let admin = format!("admin: {{listen: \"0.0.0.0:0\", users: [{{name: me, token: \"file:{token}\"}}]}}");
    let pilotfish = Pilotfish::run(&with_admin(&config(&cluster, ""), &admin));
    pilotfish
        .line("a warning", |line| line["message"].as_str().is_some_and(|m| m.contains("clear text")))
        .await;
    let port = pilotfish.admin().await.port();
    std::fs::write(pilotfish.file.path(), config(&cluster, "")).expect("a file");
    pilotfish.signal(Signal::HUP);
    let said = pilotfish.says("the configuration was not reloaded; the running one stays").await;
    assert!(said["problems"].as_str().is_some_and(|p| p.contains("admin.users is empty")), "{said}");
    assert_eq!(get((std::net::Ipv4Addr::LOCALHOST, port).into(), "/api/v1/status").await.status, 401);
}
