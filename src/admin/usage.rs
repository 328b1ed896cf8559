//! What this process takes from its system: open files, memory, processor time, as `/proc/self` tells it.
//!
//! Formats: proc(5). Whatever cannot be read is `None`, and is then not shown.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub open_files: Option<u64>,
    /// `None` without a limit too.
    pub max_files: Option<u64>,
    pub resident_bytes: Option<u64>,
    /// Of user and system.
    pub cpu_seconds: Option<f64>,
}

impl Usage {
    /// Costs some microseconds, or with very many open files on a Linux before 6.2 some milliseconds.
    pub fn read() -> Usage {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (ticks, pages) = parse(&stat).unzip();
        Usage {
            open_files: open_files(),
            max_files: getrlimit(Resource::Nofile).current,
            resident_bytes: pages.map(|pages: u64| pages * rustix::param::page_size() as u64),
            cpu_seconds: ticks
                .map(|ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
        }
    }
}

/// Processor time that this thread has taken so far.
pub fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Linux 6.2 and later tell the count as the folder's size; before, the size is 0.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        // The folder itself is open while it is read.
        0 => fs::read_dir(FOLDER).ok().map(|files| files.count().saturating_sub(1) as u64),
        count => Some(count),
    }
}

/// Processor time in ticks and resident memory in pages. The name in parentheses may have any character in it.
fn parse(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    // The first of the rest is the third field of proc(5).
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_whatever_the_process_is_called() {
        let stat = "42 (a) 1 (b) S 1 42 42 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 9 0 7777 1000000 321 18446744073709551615 1 1";
        assert_eq!(parse(stat), Some((300, 321)));
        for broken in [
            "",
            "42 (a",
            "42 (a) S 1 2 3",
            "42 (a) S 1 42 42 0 -1 4194560 900 0 3 0 x 50 0 0 20 0 9 0 7777 1 3",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_seen() {
        let files: Vec<fs::File> = (0..50).map(|_| fs::File::open("/dev/null").expect("a file")).collect();
        let usage = Usage::read();
        drop(files);
        assert!(usage.open_files.is_some_and(|files| files > 50), "{usage:?}");
        assert!(usage.open_files <= usage.max_files, "{usage:?}");
        assert!(usage.resident_bytes.is_some_and(|bytes| (1 << 20..1 << 36).contains(&bytes)), "{usage:?}");
        assert!(usage.cpu_seconds.is_some_and(|seconds| (0.0..1e6).contains(&seconds)), "{usage:?}");
    }
}
