//! Patroni's REST API: the requests. What the answers say is in [`answer`](super::answer).
//!
//! The server is Python's `BaseHTTPRequestHandler` speaking HTTP/1.0: one request for each connection, no
//! Content-Length, read to the end, five worker threads, a backlog of five. So: send at once, never keep a
//! connection, never have two checks under way for one node (the poller's business), and believe nothing about the
//! size, shape or speed of what comes back. (Source: patroni/api.py, Patroni 3.0 to 4.1.)
//!
//! The only file that names reqwest.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use super::answer;
pub use super::answer::{ClusterAnswer, cluster, report};
use super::credentials::{Contents, Credentials, tls_in_words};
use super::names::Names;
use crate::topology::{Observation, Silence, SilenceKind};

/// A health answer is about 1 KiB; `replication` adds 150 bytes for each standby.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// `/cluster` and `/config` carry tags and parameters that people write.
const MAX_CLUSTER_BYTES: usize = 1024 * 1024;

/// The files are looked at so often: a renewal counts from then on.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is told of a check that panicked: it says nothing of the node.
pub fn fault() -> Silence {
    Silence { kind: SilenceKind::Fault, detail: "a fault inside pilotfish; see its log".to_owned() }
}

/// How to reach the nodes of one cluster.
#[derive(Debug, Clone, Default)]
pub struct PatroniOptions {
    /// For a whole request, from name lookup to the last byte.
    pub timeout: Duration,
    pub credentials: Credentials,
    /// Nodes that are not asked by https get no login: the operator wants it encrypted.
    pub login_needs_tls: bool,
}

/// Asks the nodes of one cluster, or of several that are asked alike.
#[derive(Debug, Clone)]
pub struct Patroni {
    options: Arc<PatroniOptions>,
    names: Names,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    asking: Asking,
    /// Base URLs of the nodes that have asked for a login.
    want_login: HashSet<String>,
    /// What the files held when they were looked at last, good or bad.
    seen: Result<Contents, String>,
    /// Why what they hold now cannot be used.
    problem: Option<String>,
}

/// By what requests are made.
#[derive(Debug, Clone)]
struct Asking {
    http: reqwest::Client,
    password: Option<String>,
}

impl Patroni {
    /// # Errors
    /// When a file cannot be read or used; the text says which and why.
    pub fn new(options: PatroniOptions, names: Names) -> Result<Patroni, String> {
        let contents = options.credentials.read()?;
        let asking = Asking::new(&options, &contents, &names)?;
        let state = State { asking, want_login: HashSet::new(), seen: Ok(contents), problem: None };
        Ok(Patroni { options: Arc::new(options), names, state: Arc::new(Mutex::new(state)) })
    }

    /// It asks in the same way, with the same memory.
    pub fn is(&self, other: &Patroni) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the certificates or the password that are in the files now are not those in use.
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// That node is asked no more: whoever is there later has not asked for a login.
    pub fn forget(&self, api: &str) {
        self.state().want_login.remove(api);
    }

    /// Looks at the files once: `None` when they are as they were.
    fn look(&self) -> Option<Result<(), String>> {
        let found = self.options.credentials.read();
        if found == self.state().seen {
            return None;
        }
        let renewed = found.clone().and_then(|contents| Asking::new(&self.options, &contents, &self.names));
        let mut state = self.state();
        state.seen = found;
        state.problem = renewed.as_ref().err().cloned();
        Some(renewed.map(|asking| state.asking = asking))
    }

    /// Follows the files for ever, and says in the log what has come of a change.
    pub async fn follow(self) {
        while self.options.credentials.has_files() {
            tokio::time::sleep(LOOK_EVERY).await;
            let patroni = self.clone();
            match tokio::task::spawn_blocking(move || patroni.look()).await {
                Ok(Some(Ok(()))) => tracing::info!("the credentials for Patroni were reloaded"),
                Ok(Some(Err(problem))) => {
                    tracing::warn!(
                        problem,
                        "the new credentials for Patroni cannot be used; the old ones stay"
                    );
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// `GET /leader`: 200 says that the node holds the leader lock, the body what it is.
    pub async fn leader(&self, api: &str) -> Observation {
        match self.read(api, "/leader", MAX_REPORT_BYTES).await {
            Ok((status, body)) => match report(status, &body) {
                Ok(report) => Observation::Answered(report),
                Err(detail) => Observation::Silent(Silence { kind: SilenceKind::NotPatroni, detail }),
            },
            Err(silence) => Observation::Silent(silence),
        }
    }

    /// `GET /cluster`: who belongs to the cluster, read from the DCS by the node that is asked.
    pub async fn cluster(&self, api: &str) -> Result<ClusterAnswer, String> {
        let (status, body) =
            self.read(api, "/cluster", MAX_CLUSTER_BYTES).await.map_err(|silence| silence.detail)?;
        if status != 200 {
            return Err(format!("/cluster was answered with status {status}"));
        }
        cluster(&body)
    }

    /// `GET /config`: the cluster's `ttl`.
    pub async fn ttl(&self, api: &str) -> Option<Duration> {
        let (status, body) = self.read(api, "/config", MAX_CLUSTER_BYTES).await.ok()?;
        if status == 200 { answer::ttl(&body) } else { None }
    }

    /// Reads a whole answer, at most `limit` bytes of body, within the time for one check.
    ///
    /// Patroni answers whoever asks; what wants a login is a proxy before it. So a login is shown only to a node that has
    /// asked for it, and a password that is set stays here where nobody does.
    async fn read(&self, api: &str, path: &str, limit: usize) -> Result<(u16, Vec<u8>), Silence> {
        let deadline = Instant::now() + self.options.timeout;
        let (asking, wants_login) = {
            let state = self.state();
            (state.asking.clone(), state.want_login.contains(api))
        };
        let request = |login: Option<Login<'_>>| {
            let request = asking.http.get(format!("{api}{path}")).header("Connection", "close");
            let request = request.timeout(deadline.saturating_duration_since(Instant::now()));
            match login {
                Some(Login { username, password }) => request.basic_auth(username, password),
                None => request,
            }
        };
        let known = if wants_login { self.login_for(api, &asking).ok() } else { None };
        let mut response = request(known).send().await.map_err(|error| silence(&error))?;
        if response.status() == StatusCode::UNAUTHORIZED && known.is_none() {
            let login = match is_basic(response.headers()) {
                true => self.login_for(api, &asking),
                false => Err("it wants a login of another kind than HTTP basic (status 401)"),
            };
            let login = login.map_err(|why| Silence { kind: SilenceKind::Login, detail: why.to_owned() })?;
            self.state().want_login.insert(api.to_owned());
            response = request(Some(login)).send().await.map_err(|error| silence(&error))?;
        }
        let status = response.status().as_u16();
        if response.status() == StatusCode::UNAUTHORIZED {
            let detail = format!("it refuses the login of patroni.auth (status {status})");
            return Err(Silence { kind: SilenceKind::Login, detail });
        }
        Ok((status, body(response, limit).await?))
    }

    /// What a node that asks for a login may be shown, or why nothing.
    fn login_for<'a>(&'a self, api: &str, asking: &'a Asking) -> Result<Login<'a>, &'static str> {
        let Some(username) = &self.options.credentials.username else {
            return Err("it wants a login, and patroni.auth has none (status 401)");
        };
        if self.options.login_needs_tls && !api.starts_with("https://") {
            return Err(
                "it wants a login, which goes to https nodes only, since patroni.endpoints has such \
                        (status 401)",
            );
        }
        Ok(Login { username, password: asking.password.as_deref() })
    }
}

/// For HTTP basic authentication.
#[derive(Clone, Copy)]
struct Login<'a> {
    username: &'a str,
    password: Option<&'a str>,
}

/// Whether one of the challenges is for HTTP basic authentication (RFC 9110, section 11.6.1).
fn is_basic(headers: &HeaderMap) -> bool {
    let values = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
    let mut schemes =
        values.flat_map(|value| value.split(',')).filter_map(|part| part.split_whitespace().next());
    schemes.any(|scheme| scheme.eq_ignore_ascii_case("basic"))
}

async fn body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, Silence> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| silence(&error))? {
        if body.len() + chunk.len() > limit {
            let detail = format!("the answer is longer than {limit} bytes");
            return Err(Silence { kind: SilenceKind::TooLarge, detail });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Asking {
    fn new(options: &PatroniOptions, contents: &Contents, names: &Names) -> Result<Asking, String> {
        let tls = options.credentials.tls(contents)?;
        let builder = || {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .http1_only()
                .pool_max_idle_per_host(0)
                .timeout(options.timeout)
                .user_agent(concat!("pilotfish/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(names.clone())
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| format!("TLS cannot be set up: {}", root_cause(&error)))
        };
        let http = match tls {
            Some(tls) => build(builder().tls_backend_preconfigured(tls))?,
            // Minimal images come without any. Then no https node can be trusted, but those of http can be asked.
            None => build(builder()).or_else(|problem| {
                tracing::warn!(problem, "https nodes will not be trusted; give their authorities in tls.ca");
                build(builder().tls_certs_only(Vec::new()))
            })?,
        };
        Ok(Asking { http, password: contents.password.clone() })
    }
}

/// Why a request brought nothing, read from the chain of errors.
fn silence(error: &reqwest::Error) -> Silence {
    let io_kind =
        causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let tls = causes(error).any(|cause| cause.downcast_ref::<rustls::Error>().is_some());
    let kind = if error.is_timeout() {
        SilenceKind::Timeout
    } else if tls {
        SilenceKind::Tls
    } else {
        use std::io::ErrorKind as Kind;
        match io_kind {
            Some(Kind::ConnectionRefused) => SilenceKind::Refused,
            Some(Kind::TimedOut) => SilenceKind::Timeout,
            Some(Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted) => SilenceKind::Reset,
            _ if error.is_connect() => SilenceKind::Unreachable,
            _ if root_cause(error).contains("closed before message completed") => SilenceKind::Reset,
            _ => SilenceKind::NotPatroni,
        }
    };
    let detail = match kind {
        SilenceKind::Timeout => "no answer in time".to_owned(),
        _ => objection(error).unwrap_or_else(|| tls_in_words(root_cause(error))),
    };
    Silence { kind, detail }
}

/// What a node has against our certificate, in words that say which setting it is about.
fn objection(error: &reqwest::Error) -> Option<String> {
    use rustls::AlertDescription as Alert;
    let told = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = told else { return None };
    match alert {
        Alert::CertificateRequired => {
            Some("it wants a client certificate, and patroni.tls.cert has none".to_owned())
        }
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::DecryptError
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate => {
            Some(format!("it refuses the client certificate of patroni.tls.cert: {alert:?}"))
        }
        _ => None,
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An io::Error made from another error shows that one only by get_ref.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

/// The innermost error says what happened; the outer ones only where.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.lookup(name.as_str()).await?;
            // Port 0: reqwest puts in the URL's.
            let addresses: reqwest::dns::Addrs =
                Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
