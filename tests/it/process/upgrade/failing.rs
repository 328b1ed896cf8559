//! A new process that fails, in whichever way: the old one never stopped, and says why.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::json;

use super::world::World;
use crate::control::cluster::FakeCluster;
use crate::control::fake::{Answer, own_address};
use crate::control::http::{get, status_until};
use crate::control::postgres::Client;
use crate::control::within;
use crate::reload::widths::free_port;

/// What is in the place of the program.
enum Program {
    Same,
    Script(&'static str),
    None,
}

#[tokio::test]
async fn a_new_process_that_fails_changes_nothing() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "upgrade_timeout: 40s");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    let (mut client, _) = Client::enter(primary).await;
    let good = std::fs::read_to_string(world.pilotfish.file.path()).expect("its configuration");
    let write = |text: &str| std::fs::write(world.pilotfish.file.path(), text).expect("a file");
    let taken = TcpListener::bind((own_address(), 0)).expect("a free port");
    let taken = format!("replicas: {{listen: [\"{}\", \"", taken.local_addr().expect("an address"));
    let conflict = good.replacen("replicas: {listen: \"", &taken, 1).replacen("\"}\nadmin", "\"]}\nadmin", 1);
    let secret = good.replacen("admin: {", "admin: {users: [{name: u, password: 'file:/none'}], ", 1);
    let folder = good.replacen("haproxy.sock", "none/haproxy.sock", 1);
    let failures: [(&str, Program, &[&str]); 10] = [
        // Behind all other sockets, which it has taken by then.
        (&folder, Program::Same, &["admin.haproxy_socket cannot", "No such file", "directory is missing"]),
        ("clusters: 7", Program::Same, &["config.yaml:1:11", "expected a list"]),
        (&conflict, Program::Same, &["pool replicas cannot listen on", "Address already in use"]),
        (&secret, Program::Same, &["/none"]),
        (&good, Program::Script("#!/bin/sh\nexit 3\n"), &["exit status: 3"]),
        // Whoever keeps the sockets and the connection is ended too, and not waited for.
        (&good, Program::Script("#!/bin/sh\nsleep 1000 &\nexit 4\n"), &["exit status: 4"]),
        // Not read by a shell.
        (&good, Program::Script("touch /nowhere\nexit 5\n"), &["cannot be started", "no script that names"]),
        (&good, Program::None, &["cannot be started", "No such file"]),
        (&good, Program::Script("#!/bin/sh\nexec sleep 1000\n"), &["not ready within 0.3 s"]),
        (&good, Program::Script("#!/bin/sh\nsleep 1000 & wait\n"), &["not ready within 0.3 s"]),
    ];
    for (failed, (text, program, reasons)) in (1..).zip(failures) {
        world.restore();
        if reasons[0].starts_with("not ready") {
            write(&good.replace("upgrade_timeout: 40s", "upgrade_timeout: 300ms"));
            let (code, said) = world.command(&["reload"]).await;
            assert_eq!(code, 0, "{said}");
        }
        write(text);
        match program {
            Program::Same => {}
            Program::Script(script) => world.replace(script),
            Program::None => world.remove(),
        }
        let said = world.upgrade().await.expect_err("no upgrade");
        let goes_on = format!(": process {} goes on as before:", world.first());
        let (_, shown) = world.command(&["status"]).await;
        for reason in [&["not upgraded", &*goes_on][..], reasons].concat() {
            assert!(said.contains(reason) && shown.contains(reason), "no {reason:?} in {said}\n{shown}");
        }
        let status = get(admin, "/api/v1/status").await.json();
        assert_eq!((&status["upgrades"]["failed"], &status["upgrades"]["done"]), (&failed.into(), &0.into()));
        let problem = status["upgrades"]["problem"].as_str().expect("a reason");
        assert!(problem.contains(reasons[0]), "{problem}");
        let metrics = get(admin, "/metrics").await.body;
        assert!(
            metrics.contains(&format!("pilotfish_upgrades_total{{result=\"failed\"}} {failed}\n")),
            "{metrics}"
        );
        assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
        assert_eq!(Client::enter(primary).await.1, "a");
        world.only(&[world.first()]).await;
        world.assert_files(&said);
    }
    write(&good);
    let (code, said) = world.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    world.restore();
    world.upgrade().await.expect("an upgrade after all");
    let status = status_until(admin, "the upgrade", |status| status["upgrades"]["done"] == 1).await;
    assert_eq!((&status["upgrades"]["failed"], status["upgrades"]["problem"].is_null()), (&10.into(), true));
    assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
}

/// The running process is in its own way, which only a reload can help.
#[tokio::test]
async fn an_address_that_becomes_wider_wants_a_reload_first() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "");
    let (narrow, port) = (world.pilotfish.pool("primary").await.ip(), free_port());
    let text = std::fs::read_to_string(world.pilotfish.file.path()).expect("its configuration");
    let listen = |address: &str| {
        let text = text.replacen(&format!("{narrow}:0\""), &format!("{address}:{port}\""), 1);
        std::fs::write(world.pilotfish.file.path(), text).expect("a file");
    };
    listen(&narrow.to_string());
    assert_eq!(world.command(&["reload"]).await.0, 0);
    listen("0.0.0.0");
    let said = world.upgrade().await.expect_err("it is taken");
    let why = format!(
        "it overlaps {narrow}:{port}, which the running process (or systemd) has passed on: reload first"
    );
    assert!(said.contains(&why), "{said}");
    assert_eq!(world.command(&["reload"]).await.0, 0);
    world.upgrade().await.expect("as it is told");
}

/// It is named, since whoever has a socket may be given its connections.
#[tokio::test]
async fn whoever_gets_away_with_the_sockets_is_told_of() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "");
    Client::enter(world.pilotfish.pool("primary").await).await;
    let away = world.pool_socket().with_file_name("away");
    let away = away.display();
    world.replace(&format!(
        "#!/bin/sh\nsetsid sh -c ': > {away}; exec sleep 1000' &\nwhile [ ! -e {away} ]; do sleep 0.01; done\nexit 4\n"
    ));
    let said = world.upgrade().await.expect_err("no upgrade");
    assert!(said.contains("exit status: 4") && said.contains("still has the listening sockets"), "{said}");
}

/// It starts the program as its child, and waits for it.
#[tokio::test]
async fn a_program_behind_a_wrapper_takes_over_by_itself() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    Client::enter(primary).await;
    world.replace(&format!("#!/bin/sh\n{} \"$@\"\n", env!("CARGO_BIN_EXE_pilotfish")));
    let upgraded = world.upgrade().await.expect("an upgrade");
    let pid = upgraded["pid"].as_u64().expect("a number");
    world.only(&[pid]).await;
    status_until(admin, "the upgrade", |status| status["upgrades"]["done"] == 1).await;
    assert_eq!(Client::enter(primary).await.1, "a");
}

/// The file leads to nodes that do not answer, or they do not answer this process.
#[tokio::test]
async fn a_new_process_that_finds_no_writer_where_there_is_one_is_none() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "upgrade_timeout: 5s");
    let primary = world.pilotfish.pool("primary").await;
    let (mut client, _) = Client::enter(primary).await;
    cluster.node("a").patroni.answer("/leader", Answer::Never);
    // One file is taken over, of another mode; one is not named any more.
    let path = world.pilotfish.file.path();
    let text = std::fs::read_to_string(&path).expect("its configuration");
    let pool = format!(", \"unix:{}\"", world.pool_socket().display());
    let text = text.replacen(&pool, "", 1).replacen("level: admin}", "level: admin, mode: \"0600\"}", 1);
    assert!(text.contains("0600") && !text.contains("pool.sock"), "{text}");
    std::fs::write(&path, text).expect("a file");
    let said = world.upgrade().await.expect_err("no upgrade");
    assert!(said.contains("leads nowhere in the new one, there to a"), "{said}");
    assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    assert_eq!(Client::enter(primary).await.1, "a", "the silent leader is still dialled");
    world.only(&[world.first()]).await;
    world.assert_files(&said);
    let mode = std::fs::metadata(world.runtime_socket()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn one_upgrade_at_a_time_and_no_reload_meanwhile() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "upgrade_timeout: 1m");
    let admin = world.pilotfish.admin().await;
    Client::enter(world.pilotfish.pool("primary").await).await;
    world.replace("#!/bin/sh\nexec sleep 1000\n");
    world.pilotfish.signal(Signal::USR2);
    let begun = world.pilotfish.says("an upgrade begins").await;
    assert_eq!((&begun["user"], &begun["remote"]), (&"SIGUSR2".into(), &"-".into()));
    world.pilotfish.signal(Signal::USR2);
    world.pilotfish.says("an upgrade is refused: one is under way").await;
    let said = world.upgrade().await.expect_err("busy");
    assert!(said.contains("goes on as before: another upgrade is under way"), "{said}");
    within("the hanging program", async {
        while world.processes().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (code, said) = world.command(&["reload"]).await;
    assert!(code == 1 && said.contains("another process takes the place of this one"), "{said}");
    let status = get(admin, "/api/v1/status").await.json();
    let reloads = &status["reloads"];
    assert_eq!((&reloads["rejected"], &reloads["problems"]), (&0.into(), &json!([])), "it was not looked at");
    let metrics = get(admin, "/metrics").await.body;
    assert!(metrics.contains("pilotfish_last_reload_successful 1\n"), "{metrics}");
    let (code, said) = world.command(&["maint", "a"]).await;
    assert!(code != 0 && said.contains("would not know of it"), "{said}");
    for line in ["disable server primary/a", "set weight primary/a 7", "set maxconn frontend primary 9"] {
        let said = world.runtime(line);
        assert!(said.contains("would not know of it"), "{line}: {said}");
    }
    // A stop ends what has not begun to serve.
    world.pilotfish.signal(Signal::TERM);
    assert_eq!(world.pilotfish.exit().await, 0);
    world.only(&[]).await;
}

/// The service manager is told only that a reload is over, so it is not over before it was done.
#[tokio::test]
async fn a_hangup_during_an_upgrade_is_for_whoever_serves_then() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "upgrade_timeout: 20s");
    let admin = world.pilotfish.admin().await;
    Client::enter(world.pilotfish.pool("primary").await).await;
    let reloaded = || {
        let lines = world.pilotfish.lines();
        lines.iter().filter(|line| line.contains("the configuration was reloaded")).count()
    };
    let go = world.pool_socket().with_file_name("go");
    let waits = |then: &str| {
        world.replace(&format!("#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.01; done\n{then}\n", go.display()));
        world.pilotfish.signal(Signal::USR2);
    };
    waits("exit 3");
    world.pilotfish.says("an upgrade begins").await;
    world.pilotfish.signal(Signal::HUP);
    std::fs::write(&go, "").expect("a file");
    world.pilotfish.says("the configuration was reloaded").await;
    let status = get(admin, "/api/v1/status").await.json();
    assert_eq!((&status["upgrades"]["failed"], &status["reloads"]["applied"]), (&1.into(), &1.into()));

    std::fs::remove_file(&go).expect("its own file");
    waits(&format!("exec {} \"$@\"", env!("CARGO_BIN_EXE_pilotfish")));
    within("the second program", async {
        while world.processes().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.pilotfish.signal(Signal::HUP);
    std::fs::write(&go, "").expect("a file");
    let passed =
        world.pilotfish.says("a reload is for the process that has taken the place of this one").await;
    assert_ne!(passed["pid"], world.first());
    assert_eq!(passed.get("error"), None);
    assert_eq!(world.pilotfish.exit().await, 0);
    status_until(admin, "its reload", |status| status["reloads"]["applied"] == 1).await;
    assert_eq!(reloaded(), 2);
}
