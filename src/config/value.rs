//! Durations, sizes and listen addresses, to and from text.
//!
//! Each reader takes the text alone and answers with the value, or with the end of a sentence that begins with the
//! text: what is wrong with it and what to write.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The units of time with their length in milliseconds, the longest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `100ms`, `1.5s`, `2m`, `1h`, `1d`; whole milliseconds. Only 0 needs no unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let (Ok(whole), Ok(part), 1..=9) = (whole.parse::<u64>(), fraction.parse::<u64>(), fraction.len()) else {
        return Err("is not a duration; write a number with a unit such as 100ms, 1s, 2m".into());
    };
    if unit.is_empty() {
        let zero = whole == 0 && part == 0;
        return if zero {
            Ok(Duration::ZERO)
        } else {
            Err(format!("has no unit; write {number}s for seconds"))
        };
    }
    let Some((_, unit_ms)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("has a unit that is not known; the units are ms, s, m, h, d".into());
    };
    let scale = 10u128.pow(fraction.len() as u32);
    let scaled_ms = (u128::from(whole) * scale + u128::from(part)) * u128::from(*unit_ms);
    if !scaled_ms.is_multiple_of(scale) {
        return Err("is finer than a millisecond; write whole milliseconds".into());
    }
    let ms = u64::try_from(scaled_ms / scale).map_err(|_| "is longer than anyone can wait; write less")?;
    Ok(Duration::from_millis(ms))
}

/// The shortest text that [`duration`] reads as this, of one that is in whole milliseconds.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let fits = TIME_UNITS.iter().find(|(_, unit_ms)| ms != 0 && ms.is_multiple_of(u128::from(*unit_ms)));
    fits.map_or("0s".into(), |(unit, unit_ms)| format!("{}{unit}", ms / u128::from(*unit_ms)))
}

/// Bytes: `16MiB`, `16MB`, `16M` are the same, as in PostgreSQL's settings and Patroni's: units are powers of 1024.
/// Small or capital letters, no unit for bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let Ok(number) = number.parse::<u64>() else {
        return Err("is not a size; write whole bytes or a unit such as 64kB, 16MiB, 1GiB".into());
    };
    let unit_bytes: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => {
            return Err(
                "has a unit that is not known; the units are kB, MB, GB, TB or kiB, MiB, GiB, TiB".into()
            );
        }
    };
    number.checked_mul(unit_bytes).ok_or_else(|| "is more bytes than can be counted; write less".into())
}

/// The shortest text that [`size`] reads as this.
pub fn show_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("kiB", 10)];
    let fits = units.iter().find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    fits.map_or(bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// `IP:PORT` with an IPv6 address in brackets; `:PORT` and `*:PORT` are all IPv4 addresses, `localhost` is 127.0.0.1.
/// Port 0 is any free one. Names are not looked up: what they stand for may change, a listener does not.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err("has no port; write IP:PORT, an IPv6 address in brackets: [::1]:5000".into());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("is not an address to listen on; write IP:PORT such as 0.0.0.0:5000".into());
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err("does not end in a port; write IP:PORT with a port from 0 to 65535".into());
    };
    match host {
        "" | "*" => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        host if host.parse::<IpAddr>().is_ok() => Err(format!("needs brackets; write [{host}]:{port}")),
        _ => Err(format!(
            "is not an IP address of this machine and names are not looked up here; write IP:{port}"
        )),
    }
}
