//! The certificate of the admin side, as it is in its files now.
//!
//! The files are read again and again; when they have changed and fit together, new connections get what they hold.
//! When they do not, the old certificate stays and the log says why, once: a renewal may have written one of two
//! files so far.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::watch;

use crate::control::credentials::read;

/// Some kilobytes are read each time, and a renewal counts from then on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most renewals come 30 days before the end; who is that late has forgotten it.
const SOON_DAYS: i64 = 7;
/// A process runs for months, and one line in its log is soon out of sight.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// Where the certificate, its key and the authorities of clients are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Clients have to show a certificate by one of these.
    pub client_ca: Option<PathBuf>,
}

/// The certificate in use, and where the next one will be.
#[derive(Debug)]
pub struct Certificates {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: TlsFiles,
    /// What the files held when they were looked at last, good or bad.
    seen: Contents,
    current: Loaded,
}

/// A certificate that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    /// Unix time in seconds at which it ends.
    not_after: i64,
    contents: Contents,
}

type Contents = Vec<Vec<u8>>;

impl TlsFiles {
    /// Reads the files and makes of them what connections need.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should, or a key that is not the certificate's.
    pub fn load(&self) -> Result<Loaded, String> {
        let contents = self.read()?;
        let path = |path: &Path| path.display().to_string();
        let chain = certificates(&contents[0], &path(&self.cert))?;
        let key = PrivateKeyDer::from_pem_slice(&contents[1])
            .map_err(|error| format!("{} holds no private key in PEM form: {error}", path(&self.key)))?;
        let not_after = x509_parser::parse_x509_certificate(&chain[0])
            .map(|(_, certificate)| certificate.validity().not_after.timestamp())
            .map_err(|error| format!("{}: not a certificate: {error}", path(&self.cert)))?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&self.client_ca, contents.get(2)) {
            (Some(ca), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, &path(ca))? {
                    roots.add(authority).map_err(|error| format!("{}: {error}", path(ca)))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", path(ca)))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key).map_err(|error| {
            format!("{} and {} do not fit together: {error}", path(&self.cert), path(&self.key))
        })?;
        Ok(Loaded { config: Arc::new(config), not_after, contents })
    }

    fn read(&self) -> Result<Contents, String> {
        let paths = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| read(path)).collect()
    }
}

fn certificates(pem: &[u8], path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{path} holds no certificate in PEM form")),
        Err(error) => Err(format!("{path} is not in PEM form: {error}")),
    }
}

impl Certificates {
    /// Starts with what the files hold now.
    ///
    /// # Errors
    /// Those of [`TlsFiles::load`].
    pub fn load(files: TlsFiles) -> Result<Certificates, String> {
        let loaded = files.load()?;
        Ok(Certificates::new(files, loaded))
    }

    /// `loaded` is what the files hold.
    pub fn new(files: TlsFiles, loaded: Loaded) -> Certificates {
        let seen = loaded.contents.clone();
        Certificates { state: Mutex::new(State { files, seen, current: loaded }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a new connection is served with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state().current.config)
    }

    /// Unix time in seconds at which the certificate in use ends.
    pub fn not_after(&self) -> i64 {
        self.state().current.not_after
    }

    /// Uses these from now on; says whether that is anything new.
    pub fn replace(&self, files: TlsFiles, loaded: Loaded) -> bool {
        let mut state = self.state();
        let is_new = state.files != files || state.current.contents != loaded.contents;
        *state = State { files, seen: loaded.contents.clone(), current: loaded };
        is_new
    }

    /// Looks at the files once: `None` when they are as they were.
    fn look(&self) -> Option<Result<i64, String>> {
        let (files, seen) = {
            let state = self.state();
            (state.files.clone(), state.seen.clone())
        };
        // A file that cannot be read counts as one with other contents.
        let contents = files.read().unwrap_or_else(|error| vec![error.into_bytes()]);
        if contents == seen {
            return None;
        }
        let loaded = files.load();
        let mut state = self.state();
        state.seen = contents;
        Some(loaded.map(|loaded| {
            state.current = loaded;
            state.current.not_after
        }))
    }

    /// Follows the files for ever, and says in the log what has come of a change, and that the end is near.
    pub async fn follow(self: Arc<Self>) {
        let mut warned: Option<Instant> = None;
        loop {
            let left = days_left(self.not_after());
            if is_to_be_told(left, warned.map(|warned| warned.elapsed())) {
                tracing::warn!(
                    days_left = left,
                    "the certificate of the admin side ends soon, or has ended; renew it"
                );
                warned = Some(Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
            let certificates = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || certificates.look()).await {
                Ok(Some(Ok(not_after))) => {
                    tracing::info!(days_left = days_left(not_after), "the certificate was reloaded");
                    warned = None;
                }
                Ok(Some(Err(problem))) => {
                    tracing::warn!(problem, "the new certificate cannot be used; the old one stays");
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}

/// Whether to warn of the end now, so long after the last warning if there was one.
fn is_to_be_told(days_left: i64, warned_before: Option<Duration>) -> bool {
    days_left <= SOON_DAYS && warned_before.is_none_or(|before| before >= WARN_EVERY)
}

fn days_left(not_after: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    (not_after - i64::try_from(now).unwrap_or(i64::MAX)).div_euclid(86_400)
}

/// Follows the files of whichever certificate counts, for ever.
pub async fn follow_current(mut tls: watch::Receiver<Option<Arc<Certificates>>>) {
    loop {
        let certificates = tls.borrow_and_update().clone();
        let following = async {
            match certificates {
                Some(certificates) => certificates.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = following => {}
            changed = tls.changed() => if changed.is_err() {
                // Nobody is left who could change it: the door is about to close.
                return std::future::pending().await;
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// The thread that follows them would be lost to a pipe, and the process to a file without an end.
    #[test]
    fn what_is_no_small_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, large] = ["pipe", "large"].map(|name| folder.path().join(name));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::fs::write(&large, vec![b'-'; (1 << 20) + 1]).unwrap();
        for path in [pipe, large, "/dev/zero".into(), folder.path().to_owned()] {
            let (tell, told) = mpsc::channel();
            let files = TlsFiles { cert: path.clone(), key: path.clone(), client_ca: None };
            // Of its own, since it would not come to an end.
            std::thread::spawn(move || tell.send(files.load().map(drop)));
            let problem = told.recv_timeout(Duration::from_secs(20)).expect("an answer").unwrap_err();
            assert!(problem.starts_with(&format!("{} cannot be read: ", path.display())), "{problem}");
        }
    }

    #[test]
    fn a_near_end_is_told_at_once_and_again_each_day() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (days_left, warned_before, told) in [
            (30, None, false),
            (8, hours(48), false),
            (7, None, true),
            (7, hours(0), false),
            (7, hours(23), false),
            (6, hours(24), true),
            (-1, hours(24), true),
        ] {
            assert_eq!(is_to_be_told(days_left, warned_before), told, "{days_left} {warned_before:?}");
        }
    }
}
