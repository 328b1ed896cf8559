//! TLS before the admin side, and certificates that change under it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pilotfish::config::AdminTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::exposition::Exposition;
use crate::control::cluster::FakeCluster;
use crate::control::http::exchange;
use crate::control::served::{Served, config};
use crate::control::within;

/// An authority and a folder for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub folder: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Authority { issuer, folder }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A certificate for localhost and this address until the last day of that year, 0:00 UTC, and its key.
    pub fn issue(&self, address: SocketAddr, year: i32) -> (String, String) {
        let names = ["localhost".to_owned(), address.ip().to_string()];
        let mut params = CertificateParams::new(names).expect("parameters");
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// One that says of itself that it is an authority's.
    pub fn issue_as_authority(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate for these names, and its key.
    pub fn issue_for(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    pub fn write(&self, certificate: &str, key: &str) {
        std::fs::write(self.path("cert.pem"), certificate).expect("a file");
        std::fs::write(self.path("key.pem"), key).expect("a file");
    }

    pub fn files(&self) -> AdminTls {
        AdminTls { cert: self.path("cert.pem"), key: self.path("key.pem"), client_ca: None }
    }

    /// Connects, with a certificate of its own where one is given.
    pub async fn connect(
        &self,
        address: SocketAddr,
        own: Option<(&str, &str)>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    pub async fn get(&self, address: SocketAddr, path: &str) -> crate::control::http::Response {
        let stream = self.connect(address, None).await.expect("a handshake");
        exchange(stream, "GET", path, &[("Host", "localhost")], "").await
    }

    /// Unix time at which the certificate in use ends, as the metrics have it.
    pub async fn not_after(&self, address: SocketAddr) -> f64 {
        let scrape = self.get(address, "/metrics").await;
        Exposition::parse(&scrape.body).value("pilotfish_certificate_not_after_seconds", &[])
    }
}

pub async fn serve(authority: &Authority, client_ca: bool) -> (Served, FakeCluster) {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let mut config = config(&[&cluster]);
    let address = config.admin.listen.expect("an address");
    let (certificate, key) = authority.issue(address, 2040);
    authority.write(&certificate, &key);
    let client_ca = client_ca.then(|| authority.path("ca.pem"));
    config.admin.tls = Some(AdminTls { client_ca, ..authority.files() });
    (Served::start(config), cluster)
}

#[tokio::test]
async fn clients_without_tls_or_without_a_handshake_are_not_waited_for() {
    let authority = Authority::new();
    let (served, _cluster) = serve(&authority, false).await;
    let mut mute = TcpStream::connect(served.admin).await.expect("a listener");
    let begin = std::time::Instant::now();
    let mut plain = TcpStream::connect(served.admin).await.expect("a listener");
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("room");
    let mut answer = Vec::new();
    let _ = within("the end of plain HTTP", plain.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("ok"), "{answer:?}");
    let _ = within("the end of a mute client", mute.read_to_end(&mut answer)).await;
    assert!((4..15).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn clients_show_a_certificate_where_that_is_asked() {
    let authority = Authority::new();
    let (served, _cluster) = serve(&authority, true).await;
    let (certificate, key) = authority.issue(served.admin, 2040);
    let known = authority.connect(served.admin, Some((&certificate, &key))).await.expect("a handshake");
    assert_eq!(exchange(known, "GET", "/livez", &[("Host", "localhost")], "").await.status, 200);
    let (foreign, foreign_key) = Authority::new().issue(served.admin, 2040);
    for own in [None, Some((foreign.as_str(), foreign_key.as_str()))] {
        // With TLS 1.3 a client hears of the refusal when it reads.
        let Ok(mut stream) = authority.connect(served.admin, own).await else { continue };
        let mut answer = Vec::new();
        let heard = within("a refusal", stream.read_to_end(&mut answer)).await;
        assert!(heard.is_err() && answer.is_empty(), "{heard:?} {answer:?}");
    }
}
