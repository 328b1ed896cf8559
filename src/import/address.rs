//! Addresses as HAProxy writes them (configuration.txt, section 11).

use std::net::{IpAddr, Ipv6Addr};

use crate::config::host_name;

/// What an address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp {
        /// Empty, `*`, an IP address without brackets, or a name.
        host: String,
        /// `ipv6@` and the like said so.
        ipv6: bool,
        /// `""`, `5000`, `5000-5005`, `+1`.
        port: String,
    },
    Unix(String),
    /// Something that pilotfish has no name for.
    Other(&'static str),
}

/// Takes an address apart; what is missing comes out empty.
pub fn parse(text: &str) -> Address {
    let bare = text.strip_prefix("stream+").unwrap_or(text);
    let (family, rest) = match bare.split_once('@') {
        Some((family, rest)) if family.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
            (family, rest)
        }
        _ => ("", bare),
    };
    match family {
        "unix" | "uxst" => return Address::Unix(rest.into()),
        "abns" | "abnsz" => return Address::Other("an abstract socket"),
        "fd" => return Address::Other("a descriptor of another program"),
        "sockpair" => return Address::Other("a pair of sockets"),
        "" | "ipv4" | "tcp" | "tcp4" | "ipv6" | "tcp6" => {}
        _ => return Address::Other("neither TCP nor a unix socket"),
    }
    if rest.starts_with('/') {
        return Address::Unix(rest.into());
    }
    let (host, port) = match rest.rsplit_once(':') {
        // An IPv6 address in brackets, without a port.
        Some((_, port)) if port.ends_with(']') => (rest, ""),
        Some(parts) => parts,
        None => (rest, ""),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ipv6 = matches!(family, "ipv6" | "tcp6") || host.parse::<Ipv6Addr>().is_ok();
    Address::Tcp { host: host.into(), ipv6, port: port.into() }
}

/// An IP address, or a name as the configuration takes it.
pub fn is_host(host: &str) -> bool {
    host.parse::<Ipv6Addr>().is_ok() || host_name(host).is_ok()
}

/// `HOST:PORT` with brackets where they are needed.
pub fn with_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The IP address to listen on; `None` for a name, which pilotfish does not look up there.
pub fn listen_ip(host: &str, ipv6: bool) -> Option<IpAddr> {
    match host {
        "" | "*" if ipv6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        "" | "*" => Some([0, 0, 0, 0].into()),
        "localhost" => Some([127, 0, 0, 1].into()),
        host => host.parse().ok(),
    }
}

/// `5000` or `5000-5005`: both ends.
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    if text.contains('+') {
        return None;
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 != 0 && range.0 <= range.1).then_some(range)
}

/// An IP address or a network of CIDR, as pilotfish's `allow` takes it. HAProxy also takes masks such as 255.255.0.0.
pub fn network(text: &str) -> Option<String> {
    let Some((ip, mask)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(|ip| ip.to_string());
    };
    let ip: IpAddr = ip.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match mask.parse::<u32>() {
        Ok(bits) => bits,
        Err(_) => {
            let mask: u32 = mask.parse::<std::net::Ipv4Addr>().ok()?.into();
            (mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0).then(|| mask.leading_ones())?
        }
    };
    (bits <= most).then(|| format!("{ip}/{bits}"))
}

#[cfg(test)]
mod tests {
    use super::{Address, network, parse, port_range};

    #[test]
    fn addresses_come_apart() {
        let tcp = |host: &str, ipv6, port: &str| Address::Tcp { host: host.into(), ipv6, port: port.into() };
        for (text, expected) in [
            (":5000", tcp("", false, "5000")),
            ("*:5000-5002", tcp("*", false, "5000-5002")),
            ("10.0.0.1:5000", tcp("10.0.0.1", false, "5000")),
            ("10.0.0.1", tcp("10.0.0.1", false, "")),
            ("ipv4@:5000", tcp("", false, "5000")),
            ("ipv6@:5000", tcp("", true, "5000")),
            ("ipv6@fd00::1:5000", tcp("fd00::1", true, "5000")),
            ("[::]:5000", tcp("::", true, "5000")),
            (":::5000", tcp("::", true, "5000")),
            ("[fd00::1]", tcp("fd00::1", true, "")),
            ("stream+ipv4@pg1.example:5432", tcp("pg1.example", false, "5432")),
            ("/run/pg.sock", Address::Unix("/run/pg.sock".into())),
            ("unix@run/pg.sock", Address::Unix("run/pg.sock".into())),
            ("abns@pg", Address::Other("an abstract socket")),
            ("quic4@:443", Address::Other("neither TCP nor a unix socket")),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn ports_and_networks_are_read_strictly() {
        assert_eq!(port_range("5000-5002"), Some((5000, 5002)));
        for wrong in ["", "0", "5002-5000", "65536", "+1", "a"] {
            assert_eq!(port_range(wrong), None, "{wrong}");
        }
        assert_eq!(network("10.0.0.0/255.255.0.0").as_deref(), Some("10.0.0.0/16"));
        assert_eq!(network("fd00::/8").as_deref(), Some("fd00::/8"));
        assert_eq!(network("127.0.0.1").as_deref(), Some("127.0.0.1"));
        for wrong in ["host.example", "10.0.0.0/33", "10.0.0.0/255.0.255.0", "10.0.0/8"] {
            assert_eq!(network(wrong), None, "{wrong}");
        }
    }
}
