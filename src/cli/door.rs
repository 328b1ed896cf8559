//! Where a running pilotfish is asked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::arguments::Remote;
use super::{EXIT_CONFIG, EXIT_USAGE, Failure};
use crate::config::{Admin, Config, DEFAULT_PATH};

/// Where the socket is when systemd made the folder `pilotfish` below `/run`.
const USUAL_SOCKET: &str = "/run/pilotfish/admin.sock";
/// As in the configuration.
const USUAL_PORT: u16 = 7000;

/// One way to the admin side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    Network { encrypted: bool, host: String, port: u16 },
    Socket(PathBuf),
}

impl Door {
    /// The one that is named, else the one of the configuration, else the usual one. The socket comes first where it
    /// lets in whoever asks and no login is given.
    ///
    /// # Errors
    /// A name that is none, or a configuration file that was named and cannot be read.
    pub fn find(remote: &Remote, with_login: bool) -> Result<Door, Failure> {
        if let Some(text) = remote.admin.as_deref().filter(|text| !text.is_empty()) {
            return Door::parse(text)
                .map_err(|why| Failure::new(EXIT_USAGE, format!("--admin: {text:?} {why}")));
        }
        let admin = match &remote.config {
            Some(path) => {
                let admin = Config::load_admin(path);
                admin.map_err(|problems| Failure::new(EXIT_CONFIG, problems.to_string()))?
            }
            // Whoever may not read it, or is about to mend it, asks at the usual place.
            None => Config::load_admin(Path::new(DEFAULT_PATH)).unwrap_or_default(),
        };
        let socket = admin.socket.clone().unwrap_or_else(|| USUAL_SOCKET.into());
        let listen = admin.listen.map(|listen| Door::of(listen, &admin));
        match listen {
            Some(door) if with_login || UnixStream::connect(&socket).is_err() => Ok(door),
            _ => Ok(Door::Socket(socket)),
        }
    }

    fn of(listen: SocketAddr, admin: &Admin) -> Door {
        let host = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            ip => ip.to_string(),
        };
        Door::Network { encrypted: admin.tls.is_some(), host, port: listen.port() }
    }

    /// `HOST`, `HOST:PORT`, a URL without a path, or `unix:PATH`. An error is the end of a sentence.
    fn parse(text: &str) -> Result<Door, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err("has no path; write unix:PATH")
            } else {
                Ok(Door::Socket(path.into()))
            };
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let encrypted = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err("begins with none of http://, https://, unix:"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err("holds more than a host and a port; write HOST:PORT");
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err("has no host; write HOST:PORT");
        }
        let port = port.map_or(Ok(USUAL_PORT), str::parse).map_err(|_| "does not end in a port")?;
        Ok(Door::Network { encrypted, host: host.to_owned(), port })
    }

    /// For the header `Host`.
    pub fn authority(&self) -> String {
        match self {
            Door::Network { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Door::Network { host, port, .. } => format!("{host}:{port}"),
            Door::Socket(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Network { encrypted: false, .. } => write!(f, "http://{}", self.authority()),
            Door::Network { encrypted: true, .. } => write!(f, "https://{}", self.authority()),
            Door::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Door;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, shown) in [
            ("lb1", "http://lb1:7000"),
            ("lb1:80", "http://lb1:80"),
            ("https://lb1.example.org/", "https://lb1.example.org:7000"),
            ("[::1]:7001", "http://[::1]:7001"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(Door::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "ftp://a", "http://", "a:b", "a/b", "u@a", "unix:", ":7000", "a:99999"] {
            assert!(Door::parse(text).is_err(), "{text}");
        }
    }
}
