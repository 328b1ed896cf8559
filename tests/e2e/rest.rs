//! Patroni's REST API with TLS, client certificates and a login, and certificates that run out and are renewed.

use std::path::PathBuf;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::session::Session;
use crate::wait::{seconds, until};

/// What the cluster tool calls its authority.
const AUTHORITY: &str = "Patroni's authority";

/// The files that pilotfish is given, and who issues them.
struct Credentials {
    issuer: Issuer<'static, KeyPair>,
    authority: String,
    folder: TempDir,
}

impl Credentials {
    fn of(cluster: &Cluster) -> Credentials {
        let read =
            |file: &str| std::fs::read_to_string(cluster.directory().join("tls").join(file)).expect("a file");
        let folder = TempDir::new().expect("a directory");
        let credentials = Credentials {
            issuer: issuer(KeyPair::from_pem(&read("rest-ca.key")).expect("a key")),
            authority: read("rest-ca.crt"),
            folder,
        };
        credentials.write("ca.pem", &credentials.authority);
        credentials.write("password", "admin\n");
        credentials
    }

    fn write(&self, file: &str, text: &str) {
        // As tools that renew do it: nobody sees half a file.
        let draft = self.path("draft");
        std::fs::write(&draft, text).expect("a file");
        std::fs::rename(draft, self.path(file)).expect("a file");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A client certificate until the first day of that year, and its key, where pilotfish looks for them.
    fn issue(&self, until: i32) {
        let mut params = CertificateParams::new(vec!["pilotfish".to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write("key.pem", &key.serialize_pem());
        self.write("cert.pem", &certificate.pem());
    }
}

fn issuer(key: KeyPair) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    Issuer::new(params, key)
}

fn configuration(cluster: &Cluster, credentials: &Credentials, shows_certificate: bool) -> String {
    let folder = credentials.folder.path().display();
    let (pair, login) = match shows_certificate {
        true => (
            format!(", cert: '{folder}/cert.pem', key: '{folder}/key.pem'"),
            format!("      auth: {{username: admin, password_file: '{folder}/password'}}\n"),
        ),
        false => (String::new(), String::new()),
    };
    format!(
        "clusters:\n  - patroni:\n      endpoints: [{}]\n      tls: {{ca: '{folder}/ca.pem'{pair}}}\n{login}    \
         primary: {{listen: 'HOST:5000'}}\n    replicas: {{listen: 'HOST:5001'}}\n\
         admin: {{listen: 'HOST:7000'}}\nlog: {{format: json}}\n",
        cluster.patroni()
    )
}

/// Patroni's `restapi.verify_client` on every node, by a reload.
fn set_verify_client(cluster: &Cluster, wanted: &str) {
    let names = cluster.names();
    let file = |name: &str| cluster.directory().join(name).join("patroni.yml");
    for name in &names {
        let text = std::fs::read_to_string(file(name)).expect("Patroni's configuration");
        let mut configuration: Value = serde_json::from_str(&text).expect("the tool writes JSON");
        configuration["restapi"]["verify_client"] = wanted.into();
        std::fs::write(file(name), configuration.to_string()).expect("Patroni's configuration");
    }
    let mut patronictl = Command::new(cluster.in_environment("bin/patronictl"));
    patronictl.arg("-c").arg(file(names[0])).args(["reload", cluster.scope(), "--force"]);
    let output = patronictl.output().expect("patronictl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until every member is shown as silent, for this reason.
fn wait_silent(cluster: &Cluster, balancer: &Balancer, why: &str) {
    until(why, seconds(30), || {
        let members: Vec<Value> = cluster.names().iter().map(|name| balancer.member(name)).collect();
        let is_silent = |member: &Value| {
            member["class"] == "silent"
                && member["last_check"]["error"].as_str().is_some_and(|error| error.contains(why))
        };
        if members.iter().all(is_silent) { Ok(()) } else { Err(members) }
    });
}

#[test]
fn patroni_with_client_certificates_is_followed_and_renewed_files_count_at_once() {
    let cluster = Cluster::with_tls();
    let (credentials, leader) = (Credentials::of(cluster), cluster.leader());
    let mut balancer = Balancer::of(cluster, 5, None, &configuration(cluster, &credentials, false));
    let serves = |balancer: &Balancer, member: &str| {
        let session = Session::open(balancer.primary()).expect("a session");
        assert_eq!(cluster.member_at(&session.server()), member);
    };
    // `verify_client: optional` asks for a certificate only where something is changed.
    balancer.wait_ready();
    serves(&balancer, &leader);

    set_verify_client(cluster, "required");
    wait_silent(cluster, &balancer, "it wants a client certificate");
    serves(&balancer, &leader);
    credentials.issue(2099);
    balancer.reconfigure(&configuration(cluster, &credentials, true));
    balancer.wait_ready();

    cluster.tool(&["kill", &leader]);
    let other = cluster.others(&[&leader]).remove(0);
    until("the other node leads", seconds(60), || match balancer.writer() {
        Some(writer) if writer == other => Ok(()),
        writer => Err(writer),
    });
    serves(&balancer, &other);
    cluster.tool(&["up"]);
    balancer.wait_ready();

    let lasting = Session::open(balancer.primary()).expect("a session");
    credentials.issue(2021);
    wait_silent(
        cluster,
        &balancer,
        "it refuses the client certificate of patroni.tls.cert: CertificateExpired",
    );
    serves(&balancer, &other);
    credentials.issue(2099);
    balancer.wait_ready();
    let stranger = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    credentials.write("ca.pem", &params.self_signed(&stranger).expect("an authority").pem());
    wait_silent(cluster, &balancer, "UnknownIssuer");
    credentials.write("ca.pem", &credentials.authority);
    balancer.wait_ready();
    assert_eq!(cluster.member_at(&lasting.server()), other);
    drop(balancer);
    cluster.tool(&["down", "--wipe"]);
}
