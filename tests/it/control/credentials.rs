//! Nodes that want to be shown something: TLS with a client certificate, and a login.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use pilotfish::control::{Credentials, Names, Password, Patroni, PatroniOptions};
use pilotfish::topology::{Observation, SilenceKind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::fake::own_address;
use super::within;
use crate::admin::tls::Authority;

const LOGIN: &str = "pilotfish:hunter2";
const REPORT: &str = r#"{"state": "running", "role": "replica"}"#;

/// A node as `verify_client: required` and a proxy with a login make it.
/// Its certificate is for this name, or for its own address.
pub async fn node(authority: &Authority, name: Option<&str>) -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).await.expect("a free port");
    let ip = listener.local_addr().expect("an address").ip().to_string();
    serve(listener, authority, authority.issue_for(&[name.unwrap_or(&ip)]))
}

fn serve(listener: TcpListener, authority: &Authority, (certificate, key): (String, String)) -> SocketAddr {
    let address = listener.local_addr().expect("an address");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.path("ca.pem")).expect("a file"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("an authority"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a pair")));
    tokio::spawn(async move {
        let wanted = format!("authorization: basic {}", BASE64_STANDARD.encode(LOGIN).to_lowercase());
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let Ok(read) = stream.read(&mut request).await else { continue };
            let known = String::from_utf8_lossy(&request[..read]).to_lowercase().contains(&wanted);
            let challenge = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"node\"";
            let status = if known { "503 Replica" } else { challenge };
            let _ = stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n{REPORT}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

/// Credentials that such a node likes, in the authority's folder.
pub fn good(authority: &Authority) -> Credentials {
    let (certificate, key) = authority.issue_for(&["pilotfish"]);
    authority.write(&certificate, &key);
    std::fs::write(authority.path("password"), "hunter2\nof old\n").expect("a file");
    Credentials {
        ca: Some(authority.path("ca.pem")),
        cert: Some(authority.path("cert.pem")),
        key: Some(authority.path("key.pem")),
        username: Some("pilotfish".to_owned()),
        password: Password::File(authority.path("password")),
        ..Credentials::default()
    }
}

fn patroni(credentials: Credentials) -> Result<Patroni, String> {
    let options =
        PatroniOptions { timeout: Duration::from_secs(5), credentials, ..PatroniOptions::default() };
    Patroni::new(options, Names::default())
}

/// What comes of a check: `answered`, or why not.
async fn asked(credentials: Credentials, address: SocketAddr) -> String {
    told(&patroni(credentials).expect("good files"), address).await
}

async fn told(patroni: &Patroni, address: SocketAddr) -> String {
    match patroni.leader(&format!("https://{address}")).await {
        Observation::Answered(_) => "answered".to_owned(),
        Observation::Silent(silence) if silence.kind == SilenceKind::Tls => {
            format!("tls: {}", silence.detail)
        }
        Observation::Silent(silence) => silence.detail,
    }
}

#[tokio::test]
async fn a_node_is_shown_what_it_wants_and_has_to_show_what_is_wanted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let named = node(&authority, Some("patroni.internal")).await;
    let by_address = node(&authority, None).await;
    let listener = TcpListener::bind((own_address(), 0)).await.expect("a free port");
    let ip = listener.local_addr().expect("an address").ip().to_string();
    let wrong_kind = serve(listener, &authority, authority.issue_as_authority(&ip));
    let (certificate, key) = stranger.issue_for(&["pilotfish"]);
    stranger.write(&certificate, &key);
    let good = good(&authority);
    let change = |change: &dyn Fn(&mut Credentials)| {
        let mut credentials = good.clone();
        change(&mut credentials);
        credentials
    };
    let as_named =
        |credentials: &mut Credentials| credentials.server_name = Some("patroni.internal".to_owned());
    for (what, credentials, address, expected) in [
        ("all is well", good.clone(), by_address, "answered"),
        ("its certificate is for another name", good.clone(), named, "tls"),
        (
            "it shows an authority's",
            good.clone(),
            wrong_kind,
            "tls: the certificate is that of an authority; give",
        ),
        ("the name is the one that was said", change(&as_named), named, "answered"),
        ("the name is another", change(&as_named), by_address, "tls"),
        ("unknown authority", change(&|c| c.ca = Some(stranger.path("ca.pem"))), by_address, "tls"),
        ("nobody is asked for a name", change(&|c| c.trust_everybody = true), named, "answered"),
        (
            "no client certificate",
            change(&|c| (c.cert, c.key) = (None, None)),
            by_address,
            "tls: it wants a client certificate, and patroni.tls.cert has none",
        ),
        (
            "a stranger's client certificate",
            change(&|c| {
                (c.cert, c.key) = (Some(stranger.path("cert.pem")), Some(stranger.path("key.pem")));
            }),
            by_address,
            "tls: it refuses the client certificate of patroni.tls.cert: ",
        ),
        (
            "a wrong password",
            change(&|c| c.password = Password::Known("wrong".to_owned())),
            by_address,
            "it refuses the login of patroni.auth (status 401)",
        ),
        (
            "no login",
            change(&|c| c.username = None),
            by_address,
            "it wants a login, and patroni.auth has none (status 401)",
        ),
        (
            "from the environment",
            change(&|c| c.password = Password::Known("hunter2".to_owned())),
            by_address,
            "answered",
        ),
    ] {
        let told = within(what, asked(credentials, address)).await;
        assert!(told.starts_with(expected), "{what}: {told}");
    }
}

#[tokio::test]
async fn files_are_followed_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let address = node(&authority, None).await;
    let patroni = patroni(good(&authority)).expect("good files");
    let following = tokio::spawn(patroni.clone().follow());
    let comes = async |what: &str, wanted: &dyn Fn(Option<String>) -> bool| {
        let poll = async {
            while !wanted(patroni.problem()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(what, poll).await;
    };
    let (_, other_key) = authority.issue_for(&["pilotfish"]);
    let key = std::fs::read_to_string(authority.path("key.pem")).expect("a key");
    std::fs::write(authority.path("key.pem"), other_key).expect("a file");
    comes("a complaint", &|problem| problem.is_some_and(|why| why.contains("client certificate"))).await;
    assert_eq!(told(&patroni, address).await, "answered");
    std::fs::write(authority.path("key.pem"), key).expect("a file");
    comes("peace", &|problem| problem.is_none()).await;
    std::fs::remove_file(authority.path("password")).expect("a file");
    comes("a complaint", &|problem| problem.is_some_and(|why| why.contains("cannot be read"))).await;
    assert_eq!(told(&patroni, address).await, "answered");
    // A new password is used, even if it is the wrong one.
    std::fs::write(authority.path("password"), "changed").expect("a file");
    let refused = async {
        while told(&patroni, address).await == "answered" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the new password", refused).await;
    assert_eq!(patroni.problem(), None);
    following.abort();
}

#[tokio::test]
async fn what_cannot_be_used_is_said_at_once() {
    let authority = Authority::new();
    let good = good(&authority);
    std::fs::write(authority.path("empty"), "").expect("a file");
    for (credentials, words) in [
        (
            Credentials { ca: Some(authority.path("empty")), ..good.clone() },
            "the file in tls.ca holds no certificate",
        ),
        (
            Credentials { cert: Some(authority.path("empty")), ..good.clone() },
            "the file in tls.cert holds no certificate",
        ),
        (Credentials { key: Some(authority.path("cert.pem")), ..good.clone() }, "its key"),
        (Credentials { ca: Some(authority.path("gone")), ..good.clone() }, "gone cannot be read"),
        (
            Credentials { password: Password::File(authority.path("empty")), ..good.clone() },
            "holds nothing in its first line",
        ),
    ] {
        let problem = patroni(credentials).expect_err(words);
        assert!(problem.contains(words), "{problem}");
    }
    let shown = format!("{:?}", Password::Known("hunter2".to_owned()));
    assert!(!shown.contains("hunter2"), "{shown}");
}
