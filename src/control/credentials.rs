//! By what Patroni's nodes are trusted and what they are shown: certificates and a password, as they are in their files
//! now.
//!
//! The files are read again and again. When they have changed and can be used, the next check goes by them; when they
//! cannot, the old ones stay, and the log and the status say why: a renewal may have written one of two files so far.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::file;

/// Chains and lists of authorities are smaller; what is larger is some other file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the credentials of one cluster are.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Authorities that the nodes' certificates are checked against; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The client certificate and its key, for `verify_client: required`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The certificates must be for this name, whatever host was dialled.
    pub server_name: Option<String>,
    /// Whatever certificate a node shows is as good as any.
    pub trust_everybody: bool,
    /// For HTTP basic authentication.
    pub username: Option<String>,
    pub password: Password,
}

/// Where a password is.
#[derive(Clone, Default)]
pub enum Password {
    #[default]
    None,
    /// The first line of a file.
    File(PathBuf),
    /// From the environment, which does not change.
    Known(String),
}

/// What the files hold at one moment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub ca: Option<Vec<u8>>,
    pub cert: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub password: Option<String>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Password::None => f.write_str("none"),
            Password::File(path) => write!(f, "file:{}", path.display()),
            Password::Known(_) => f.write_str("(known)"),
        }
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Credentials {
    /// Whether there is anything that may change.
    pub fn has_files(&self) -> bool {
        let password = matches!(self.password, Password::File(_));
        password || [&self.ca, &self.cert, &self.key].into_iter().any(Option::is_some)
    }

    /// # Errors
    /// A file that cannot be read: a sentence that names it.
    pub fn read(&self) -> Result<Contents, String> {
        let file = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let password = match &self.password {
            Password::None => None,
            Password::Known(password) => Some(password.clone()),
            Password::File(path) => {
                let text = String::from_utf8_lossy(&read(path)?).into_owned();
                let first = text.lines().next().filter(|line| !line.is_empty());
                Some(
                    first
                        .ok_or_else(|| format!("{} holds nothing in its first line", path.display()))?
                        .to_owned(),
                )
            }
        };
        Ok(Contents { ca: file(&self.ca)?, cert: file(&self.cert)?, key: file(&self.key)?, password })
    }

    /// How to speak TLS by what the files hold. `None`: as usual, by the system's authorities.
    ///
    /// # Errors
    /// What cannot be used, and why.
    pub fn tls(&self, contents: &Contents) -> Result<Option<ClientConfig>, String> {
        let is_usual = contents.ca.is_none() && contents.cert.is_none() && self.server_name.is_none();
        if is_usual && !self.trust_everybody {
            return Ok(None);
        }
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(contents)?);
        let (Some(cert), Some(key)) = (&contents.cert, &contents.key) else {
            return Ok(Some(builder.with_no_client_auth()));
        };
        let chain = certificates(cert, "tls.cert")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("the client certificate cannot be used: its key: {error}"))?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map(Some).map_err(|error| format!("the client certificate cannot be used: {error}"))
    }

    fn verifier(&self, contents: &Contents) -> Result<Arc<Verifier>, String> {
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let name = self.server_name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|_| "tls.server_name is no name of a server".to_owned())?;
        let usual: Option<Arc<dyn ServerCertVerifier>> = match &contents.ca {
            _ if self.trust_everybody => None,
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, "tls.ca")? {
                    let added = roots.add(authority);
                    added.map_err(|error| format!("the CA certificate cannot be used: {error}"))?;
                }
                let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
                Some(built.map_err(|error| format!("the CA certificate cannot be used: {error}"))?)
            }
            None => {
                let platform = rustls_platform_verifier::Verifier::new(provider);
                Some(Arc::new(platform.map_err(|error| format!("TLS cannot be set up: {error}"))?))
            }
        };
        Ok(Arc::new(Verifier { usual, name, algorithms }))
    }
}

/// What a file of up to 1 MiB holds.
///
/// # Errors
/// It cannot be read, is larger, or no file: a sentence that names it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, MAX_FILE_BYTES).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("the file in {what} holds no certificate in PEM form")),
        Err(error) => Err(format!("the file in {what} cannot be used: {error}")),
    }
}

/// What the TLS library says, and in words what it has none for.
pub fn tls_in_words(cause: String) -> String {
    match cause.contains("CaUsedAsEndEntity") {
        true => "the certificate is that of an authority; give the server one with CA:FALSE".to_owned(),
        false => cause,
    }
}

/// Checks certificates as usual, but for another name than that of the host, or not at all.
#[derive(Debug)]
struct Verifier {
    /// `None`: not at all.
    usual: Option<Arc<dyn ServerCertVerifier>>,
    name: Option<ServerName<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(host);
        match &self.usual {
            Some(usual) => usual.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
