//! The views of HAProxy: the same columns, and the words that its tools look for.

mod names;
mod socket;

use std::collections::{BTreeSet, HashMap};

use base64::prelude::{BASE64_STANDARD, Engine};
use pilotfish::admin::haproxy::memory::Memory;
use pilotfish::admin::haproxy::rows::{Facts, rows};
use pilotfish::admin::pools::{EndView, LimitsView, PoolMemberView, PoolView};
use pilotfish::admin::view::{CheckView, ClusterView, MemberView, StatusView};
use pilotfish::config::{Role, Secret, User};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::exposition::Exposition;
use crate::control::cluster::FakeCluster;
use crate::control::fake::Answer;
use crate::control::http::{exchange, get, request};
use crate::control::postgres::Client;
use crate::control::served::{Served, config};

/// The rows by proxy and server, each by its columns.
#[derive(Debug)]
pub struct Table(pub HashMap<(String, String), HashMap<String, String>>);

impl Table {
    pub fn parse(csv: &str) -> Table {
        let mut lines = csv.lines();
        let heading = lines.next().and_then(|line| line.strip_prefix("# ")).expect("a heading");
        let names: Vec<&str> = heading.split(',').collect();
        let row = |line: &str| {
            let values: Vec<&str> = line.split(',').collect();
            assert_eq!(values.len(), names.len(), "{line}");
            let row: HashMap<String, String> = names
                .iter()
                .zip(values)
                .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
                .collect();
            ((row["pxname"].clone(), row["svname"].clone()), row)
        };
        Table(lines.filter(|line| !line.is_empty()).map(row).collect())
    }

    pub fn get(&self, proxy: &str, server: &str, column: &str) -> &str {
        let row = self.0.get(&(proxy.to_owned(), server.to_owned()));
        row.and_then(|row| row.get(column)).unwrap_or_else(|| panic!("{proxy}/{server} {column}: {self:?}"))
    }

    /// Several columns of one row, with spaces between.
    pub fn words(&self, proxy: &str, server: &str, columns: &str) -> String {
        columns.split(' ').map(|column| self.get(proxy, server, column)).collect::<Vec<_>>().join(" ")
    }
}

async fn table(served: &Served) -> Table {
    let answer = get(served.admin, "/;csv").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Table::parse(&answer.body)
}

#[tokio::test]
async fn the_csv_has_a_row_for_each_pool_and_each_member_of_it() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let served = Served::cluster(&cluster).await;
    served.until("readers", |s| s["clusters"][0]["readers"] == json!(["b", "c"])).await;
    let (_writer, _) = Client::enter(served.pool("primary")).await;
    let seen = |s: &Value| s["clusters"][0]["pools"][0]["sessions_total"] == 1;
    served.until("the session", seen).await;
    let rows = table(&served).await;
    assert_eq!(rows.0.len(), 10);
    for (proxy, server, columns, expected) in [
        ("primary", "FRONTEND", "status iid sid type scur stot slim mode", "OPEN 2 0 0 1 1 200 tcp"),
        (
            "primary",
            "a",
            "status sid type act bck scur stot check_status check_code",
            "UP 1 2 1 0 1 1 L7OK 200",
        ),
        ("primary", "b", "status sid type scur stot check_status check_code", "DOWN 2 2 0 0 L7STS 503"),
        ("primary", "BACKEND", "status type act bck qcur scur stot algo", "UP 1 1 0 0 1 1 roundrobin"),
        ("replicas", "a", "status iid check_status check_code lastsess", "DOWN 3 L7STS 503 -1"),
        ("replicas", "b", "status check_status check_code check_desc", "UP L7OK 200 Layer7 check passed"),
        ("replicas", "BACKEND", "status act bck scur stot econ algo", "UP 2 0 0 0 0 leastconn"),
    ] {
        assert_eq!(rows.words(proxy, server, columns), expected, "{proxy}/{server} {columns}");
    }
    assert_eq!(rows.get("primary", "a", "addr"), cluster.node("a").server.address.to_string());
    // No true figure, no figure.
    assert_eq!(rows.words("primary", "a", "wretr hrsp_2xx req_tot qlimit cookie"), "    ");
}

#[tokio::test]
async fn a_member_is_down_with_the_code_that_says_why_and_stands_in_as_a_backup() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let served = Served::cluster(&cluster).await;
    served.until("a reader", |s| s["clusters"][0]["readers"] == json!(["b"])).await;
    cluster.node("b").patroni.stop().await;
    served.until("b gone silent", |s| s["clusters"][0]["readers"] == json!([])).await;
    let rows = table(&served).await;
    assert_eq!(rows.words("replicas", "b", "status check_status check_code"), "DOWN L4CON ");
    assert_ne!(rows.get("replicas", "b", "last_chk"), "");
    assert_eq!(rows.words("replicas", "a", "status act bck"), "UP 0 1");
    assert_eq!(rows.words("replicas", "BACKEND", "status act bck"), "UP 0 1");
    cluster.say("a", 503, json!({}));
    served.until("no writer", |s| s["clusters"][0]["writer"].is_null()).await;
    let rows = table(&served).await;
    assert_eq!(rows.words("primary", "BACKEND", "status act"), "DOWN 0");
}

#[tokio::test]
async fn a_login_that_is_lacking_is_the_status_401_that_haproxy_would_have_seen() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let asks = Answer::http("401 Unauthorized", &["WWW-Authenticate: Basic"], b"");
    cluster.node("b").patroni.answer("/leader", asks);
    let served = Served::cluster(&cluster).await;
    let is_silent = |member: &Value| member["name"] == "b" && member["class"] == "silent";
    let seen =
        |s: &Value| s["clusters"][0]["members"].as_array().is_some_and(|all| all.iter().any(is_silent));
    served.until("b without a login", seen).await;
    // Why is in the CSV too, with a comma.
    let page = Exposition::parse(&get(served.admin, "/metrics?names=haproxy").await.body);
    let of_b = [("proxy", "replicas"), ("server", "b")];
    assert_eq!(page.value("haproxy_server_check_code", &of_b), 401.0);
    assert_eq!(page.value("haproxy_server_check_status", &[of_b[0], of_b[1], ("state", "L7STS")]), 1.0);
    assert!(page.value("haproxy_server_check_failures_total", &of_b) >= 1.0);
    let of_a = [("proxy", "replicas"), ("server", "a")];
    assert_eq!(page.value("haproxy_server_check_failures_total", &of_a), 0.0);
}

#[tokio::test]
async fn pools_of_one_name_in_two_clusters_are_told_apart() {
    let (first, second) = (FakeCluster::start("one", &["a"]).await, FakeCluster::start("two", &["a"]).await);
    let mut config = config(&[&first, &second]);
    config.clusters[1].replicas[0].name = "readers".to_owned();
    let served = Served::start(config);
    let ready =
        |s: &Value| s["clusters"].as_array().is_some_and(|all| all.iter().all(|c| c["condition"] == "ok"));
    served.until("both clusters", ready).await;
    let rows = table(&served).await;
    for proxy in ["one_primary", "two_primary", "replicas", "readers"] {
        assert_eq!(rows.get(proxy, "FRONTEND", "status"), "OPEN");
    }
}

#[tokio::test]
async fn json_holds_what_the_csv_holds_with_what_each_figure_is() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let served = Served::cluster(&cluster).await;
    let answer = get(served.admin, "/stats;json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let rows = answer.json();
    let rows = rows.as_array().expect("a list of rows");
    assert_eq!(rows.len(), 8);
    let writer = rows[1].as_array().expect("a list of columns");
    let (first, scur) = (&writer[0], writer.iter().find(|item| item["field"]["name"] == "scur"));
    let tags = json!({"origin": "Key", "nature": "Name", "scope": "Service"});
    let expected = json!({
        "objType": "Server", "proxyId": 2, "id": 1, "field": {"pos": 0, "name": "pxname"}, "processNum": 1,
        "tags": tags, "value": {"type": "str", "value": "primary"},
    });
    assert_eq!(*first, expected);
    let order = ["objType", "proxyId", "id", "field", "processNum", "tags", "value"];
    let places: Vec<_> = order.iter().map(|key| answer.body.find(&format!("\"{key}\""))).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(scur.map(|item| &item["value"]), Some(&json!({"type": "u32", "value": 0})));
}

#[tokio::test]
async fn the_views_are_found_where_haproxy_has_them_and_need_the_same_login_as_the_page() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let served = Served::cluster(&cluster).await;
    let whole = table(&served).await.0.len();
    for path in ["/stats;csv", "/haproxy?stats;csv", "/haproxy?stats;csv;norefresh"] {
        assert_eq!(Table::parse(&get(served.admin, path).await.body).0.len(), whole, "{path}");
    }
    let up = Table::parse(&get(served.admin, "/;csv;up").await.body);
    assert!(up.0.values().all(|row| row["status"] != "DOWN") && up.0.len() < whole, "{up:?}");
    assert_eq!(get(served.admin, "/;nonsense").await.status, 404);
    let post = request(served.admin, "POST", "/;csv").await;
    assert_eq!(post.status, 404);
    drop(served);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "secret").expect("a password");
    let mut config = config(&[&cluster]);
    config.admin.users = vec![User {
        name: "exporter".to_owned(),
        role: Role::Viewer,
        password: Some(Secret::File(file.path().to_owned())),
        token: None,
    }];
    let served = Served::start(config);
    assert_eq!(get(served.admin, "/;csv").await.status, 401);
    let (host, login) =
        (served.admin.to_string(), format!("Basic {}", BASE64_STANDARD.encode("exporter:secret")));
    let headers = [("Host", &*host), ("Authorization", &*login)];
    let stream = TcpStream::connect(served.admin).await.expect("a listener");
    assert_eq!(exchange(stream, "GET", "/;csv", &headers, "").await.status, 200);
}

#[tokio::test]
async fn metrics_have_haproxys_names_beside_our_own_when_asked_for() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let served = Served::cluster(&cluster).await;
    served.until("a reader", |s| s["clusters"][0]["readers"] == json!(["b"])).await;
    let plain = get(served.admin, "/metrics").await.body;
    assert!(!plain.contains("haproxy_"));
    assert_eq!(get(served.admin, "/metrics?names=nginx").await.status, 400);
    let page = Exposition::parse(&get(served.admin, "/metrics?names=haproxy").await.body);
    assert_eq!(page.value("pilotfish_ready", &[]), 1.0);
    let of = |server, state| {
        let labels = [("proxy", "primary"), ("server", server), ("state", state)];
        page.value("haproxy_server_status", &labels)
    };
    assert_eq!((of("a", "UP"), of("a", "DOWN"), of("b", "UP"), of("b", "DOWN")), (1.0, 0.0, 0.0, 1.0));
    let check = [("proxy", "primary"), ("server", "b"), ("state", "L7STS")];
    assert_eq!(page.value("haproxy_server_check_status", &check), 1.0);
    assert_eq!(page.value("haproxy_backend_active_servers", &[("proxy", "replicas")]), 1.0);
    assert_eq!(page.value("haproxy_frontend_status", &[("proxy", "primary"), ("state", "UP")]), 1.0);
    assert!(page.value("haproxy_process_start_time_seconds", &[]) > 1e9);
    let (_writer, _) = Client::enter(served.pool("primary")).await;
    let seen = |s: &Value| s["clusters"][0]["pools"][0]["sessions_total"] == 1;
    served.until("the session", seen).await;
    let page = Exposition::parse(&get(served.admin, "/metrics?names=haproxy").await.body);
    // Their names and types are those of HAProxy 2.6's exporter.
    for (name, value) in [
        ("nbthread", 2.0),
        ("nbproc", 1.0),
        ("relative_process_id", 1.0),
        ("max_connections", 200.0),
        ("current_connections", 1.0),
        ("connections_total", 1.0),
        ("current_tasks", 1.0),
        ("current_run_queue", 0.0),
        ("jobs", 3.0),
        ("listeners", 2.0),
        ("limit_connection_rate", 0.0),
    ] {
        assert_eq!(page.value(&format!("haproxy_process_{name}"), &[]), value, "{name}");
    }
    for name in ["current_connection_rate", "max_connection_rate", "current_session_rate", "bytes_out_total"]
    {
        assert!(page.value(&format!("haproxy_process_{name}"), &[]) >= 0.0, "{name}");
    }
    let version = [("version", pilotfish::admin::haproxy::info::VERSION)];
    assert_eq!(page.value("haproxy_process_build_info", &version), 1.0);
    let uweight = [("proxy", "replicas"), ("server", "a")];
    assert_eq!(page.value("haproxy_server_uweight", &uweight), 100.0, "of one that is down too");
}

/// One member of one pool, with all that rows are made from.
fn with_all_figures() -> StatusView {
    let check = CheckView { duration_ms: 3.0, status: Some(200), ..CheckView::default() };
    let address = "10.0.0.1:5432".parse().expect("an address");
    let member = MemberView {
        name: "a".to_owned(),
        class: "writer",
        admin: "ready",
        addresses: vec![address],
        last_check: Some(check),
        ..MemberView::default()
    };
    let counts = PoolMemberView {
        name: "a".to_owned(),
        weights: Some((50, 100)),
        max_sessions: Some(5),
        throttle: Some(50),
        addresses: vec![([10, 0, 0, 1], 5432).into()],
        ..PoolMemberView::default()
    };
    let end = |(cause, count)| EndView { cause, side: "client", count };
    let pool = PoolView {
        kind: "primary",
        routable: vec!["a".to_owned()],
        members: vec![counts],
        ends: [("client_denied", 3), ("client_limit", 2), ("client_closed", 7)].map(end).to_vec(),
        limits: LimitsView { max_queued: Some(1000), ..LimitsView::default() },
        ..PoolView::default()
    };
    let cluster = ClusterView { members: vec![member], pools: vec![pool], ..ClusterView::default() };
    StatusView {
        version: "",
        pid: 1,
        uptime_s: 1.0,
        ready: true,
        stopping: false,
        sessions: 0,
        max_sessions: 1,
        reloads: Default::default(),
        upgrades: Default::default(),
        panics: Default::default(),
        findings: Vec::new(),
        clusters: vec![cluster],
    }
}

/// What the documentation says of the columns is what there is: none that is filled is left out, none is promised.
#[test]
fn the_documentation_names_each_column_that_is_filled() {
    let text = include_str!("../../../docs/haproxy-views.md");
    let (_, columns) = text.split_once("| column | rows | what it is |").expect("the table of columns");
    let (table, _) = columns.split_once("\n\n").expect("its end");
    let first_cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let told: BTreeSet<&str> = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let status = with_all_figures();
    let (memory, now) = (Memory::default(), std::time::Duration::ZERO);
    let algorithms = [((Default::default(), "".into()), "roundrobin")].into();
    let rows = rows(&status, &Facts { memory: &memory, now, algorithms: &algorithms });
    let filled: BTreeSet<&str> =
        rows.iter().flat_map(|row| row.filled()).map(|(field, _)| field.column().name).collect();
    assert_eq!(told, filled);
}
