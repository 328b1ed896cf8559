//! Asks a running pilotfish: one request, one connection, one answer in JSON.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::arguments::{Form, Remote};
use super::door::Door;
use super::output::harmless;
use super::{EXIT_FAILED, EXIT_NOT_ALLOWED, EXIT_UNREACHABLE, EXIT_USAGE, Failure};
use crate::app::tls_in_words;

/// From the dial to the last byte; pilotfish answers in milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
/// Hundreds of thousands of sessions fit; what is larger is not pilotfish.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A way to one pilotfish.
#[derive(Debug)]
pub struct Client {
    pub form: Form,
    door: Door,
    authorization: Option<String>,
    tls: Option<Arc<ClientConfig>>,
    runtime: tokio::runtime::Runtime,
}

impl Remote {
    /// Runs a command against the pilotfish that the arguments mean.
    ///
    /// # Errors
    /// Arguments that cannot be used, and whatever the command fails with.
    pub fn ask(self, command: impl FnOnce(&Client) -> Result<(), Failure>) -> Result<(), Failure> {
        let authorization = authorization(&self)?;
        let door = Door::find(&self, authorization.is_some())?;
        let tls = match &door {
            Door::Network { encrypted: true, .. } => Some(Arc::new(trust(self.ca.as_deref())?)),
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::new(EXIT_FAILED, format!("no event loop: {error}")))?;
        command(&Client { form: self.output, door, authorization, tls, runtime })
    }
}

/// The login: a name with its password, or a token.
fn authorization(remote: &Remote) -> Result<Option<String>, Failure> {
    let usage = |words: &str| Failure::new(EXIT_USAGE, words);
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(user) = &remote.user {
        let password = match &remote.password_file {
            Some(path) => Some(first_line("--password-file", path)?),
            None => variable("PILOTFISH_PASSWORD"),
        };
        let password = password.ok_or_else(|| {
            usage("--user needs a password: give --password-file, or set PILOTFISH_PASSWORD")
        })?;
        return Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))));
    }
    let token = match &remote.token_file {
        Some(path) => Some(first_line("--token-file", path)?),
        None => variable("PILOTFISH_TOKEN"),
    };
    Ok(token.map(|token| format!("Bearer {token}")))
}

fn first_line(option: &str, path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| {
        Failure::new(EXIT_USAGE, format!("{option}: {} cannot be read: {error}", path.display()))
    })?;
    Ok(text.lines().next().unwrap_or("").to_owned())
}

/// Whose certificates are believed.
fn trust(ca: Option<&Path>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::new(EXIT_FAILED, error.to_string()))?;
    let Some(path) = ca else {
        let builder = builder.with_platform_verifier();
        let builder = builder.map_err(|error| {
            let error = format!("the system has no certificate authorities: {error}; give some with --ca");
            Failure::new(EXIT_FAILED, error)
        })?;
        return Ok(builder.with_no_client_auth());
    };
    let bad = |error: &dyn std::fmt::Display| {
        Failure::new(
            EXIT_USAGE,
            format!("--ca: {} holds no certificate in PEM form: {error}", path.display()),
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
        roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(bad(&"it has none"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Client {
    /// # Errors
    /// As [`Client::post`].
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.request(DEADLINE, Method::GET, path, None)
    }

    /// The same as what it is.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.get(path)?)
    }

    /// # Errors
    /// Nobody answers, it is not allowed, or it is refused: in the words of the answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.post_within(DEADLINE, path, body)
    }

    /// The same for what takes longer.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn post_within(&self, deadline: Duration, path: &str, body: &Value) -> Result<Value, Failure> {
        self.request(deadline, Method::POST, path, Some(body.to_string()))
    }

    fn request(
        &self,
        deadline: Duration,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Value, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.door.authority());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        let request =
            request.map_err(|error| Failure::new(EXIT_USAGE, format!("no such request: {error}")))?;
        let exchange = async { tokio::time::timeout(deadline, self.exchange(request)).await };
        let (status, bytes) = match self.runtime.block_on(exchange) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.unreachable(&io::ErrorKind::TimedOut.into())),
        };
        self.judge(status, &bytes)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> io::Result<(StatusCode, Bytes)> {
        match (&self.door, &self.tls) {
            (Door::Socket(path), _) => exchange(UnixStream::connect(path).await?, request).await,
            (Door::Network { host, port, .. }, None) => {
                exchange(TcpStream::connect((host.as_str(), *port)).await?, request).await
            }
            (Door::Network { host, port, .. }, Some(tls)) => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
                exchange(stream, request).await
            }
        }
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let door = &self.door;
        if error.kind() == io::ErrorKind::PermissionDenied {
            let words = format!("{door} is not open to you: {error}; its owner and its group may use it");
            return Failure::new(EXIT_NOT_ALLOWED, words);
        }
        let is_no_http =
            error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(hyper::Error::is_parse);
        let advice = match door {
            Door::Network { encrypted: false, .. } if is_no_http => {
                let authority = door.authority();
                format!("is it TLS that it speaks (admin.tls)? then use --admin https://{authority}")
            }
            _ => "is it running? (where: --admin ADDRESS)".to_owned(),
        };
        let why = tls_in_words(error.to_string());
        let words = format!("no pilotfish answers at {door}: {why}; {advice}");
        Failure::new(EXIT_UNREACHABLE, words)
    }

    fn judge(&self, status: StatusCode, bytes: &[u8]) -> Result<Value, Failure> {
        let answer = serde_json::from_slice::<Value>(bytes);
        if status.is_success() {
            return answer.map_err(|_| {
                let words = format!("what answers at {} is not pilotfish: its answer is not JSON", self.door);
                Failure::new(EXIT_UNREACHABLE, words)
            });
        }
        let answer = answer.unwrap_or(Value::Null);
        let mut words = answer["error"].as_str().map_or_else(|| format!("refused: {status}"), harmless);
        for problem in answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            words = format!("{words}\n{}", harmless(problem));
        }
        let code = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                EXIT_NOT_ALLOWED
            }
            _ => EXIT_FAILED,
        };
        Err(Failure::new(code, words))
    }
}

/// An answer as what it should be.
///
/// # Errors
/// Another version of pilotfish, or not pilotfish at all.
pub fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::new(EXIT_FAILED, format!("the answer is not as this version expects it: {error}"))
    })
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok((status, body.map_err(io::Error::other)?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_does_not_steer_the_terminal() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let door = Door::Socket("/nowhere".into());
        let client = Client { form: Form::Text, door, authorization: None, tls: None, runtime };
        let answer = br#"{"error": "no \u001b[2Jmember", "problems": ["a\u0007", "b\nc"]}"#;
        let failure = client.judge(StatusCode::UNPROCESSABLE_ENTITY, answer).expect_err("a refusal");
        assert_eq!(
            failure.message, "no \u{fffd}[2Jmember\na\u{fffd}\nb\u{fffd}c",
            "one line for each, and no control character"
        );
    }
}
