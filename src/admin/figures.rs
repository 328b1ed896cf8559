//! Numbers for people.

/// Bytes: binary units, three digits.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || scaled >= 100.0 { 0 } else { 1 };
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// A duration, in one unit.
pub fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// Milliseconds as seconds or milliseconds, whichever reads better.
pub fn millis(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { ago(ms as f64 / 1e3) }
}

/// A rate: whole numbers when large, one digit when small.
pub fn rate(per_s: f64) -> String {
    if per_s < 10.0 { format!("{per_s:.1}") } else { format!("{per_s:.0}") }
}

/// Unix time as `2026-11-24 22:08:26 UTC`.
pub fn utc(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    // Days since 0000-03-01, in eras of 400 years: leap days come last in such a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (500 << 20, "500 MiB")] {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in [(0.44, "0.4 s"), (61.0, "61 s"), (600.0, "10 min"), (86_400.0 * 3.0, "3 d")] {
            assert_eq!(ago(seconds), text);
        }
        for (ms, text) in [(7, "7 ms"), (999, "999 ms"), (1500, "1.5 s"), (90_000, "90 s")] {
            assert_eq!(millis(ms), text);
        }
        for (ms, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399_000, "2000-02-28 23:59:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (951_868_800_000, "2000-03-01 00:00:00 UTC"),
            (1_795_557_706_999, "2026-11-24 22:01:46 UTC"),
            (4_107_542_399_000, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(ms), text);
        }
        for (per_s, text) in [(0.0, "0.0"), (9.94, "9.9"), (120.4, "120")] {
            assert_eq!(rate(per_s), text);
        }
    }
}
