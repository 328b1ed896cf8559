//! The rules of the layout, read from the sources: one crate has no cargo boundary that would keep them.

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file, as its path below the project and its text.
pub struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The module that the file belongs to: the first name below `src/`.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let name = rest.split('/').next()?;
        Some(name.trim_end_matches(".rs"))
    }

    /// What comes before the unit tests, which may have a file of their own, without comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_code = !(self.path.starts_with("src/") && self.path.ends_with("/tests.rs"));
        let lines =
            self.text.lines().enumerate().take_while(move |(_, line)| is_code && *line != "#[cfg(test)]");
        lines
            .map(|(number, line)| (number + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn says(&self, word: &str) -> bool {
        self.code().any(|(_, line)| line.contains(word))
    }
}

pub fn sources(below: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = below.iter().flat_map(|folder| rust_files(&root.join(folder))).collect();
    files.sort();
    let read = |file: PathBuf| Source {
        text: fs::read_to_string(&file).expect("a source file"),
        path: file.strip_prefix(root).expect("below the project").display().to_string(),
    };
    files.into_iter().map(read).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths
        .flat_map(|path| match path.extension() {
            _ if path.is_dir() => rust_files(&path),
            Some(extension) if extension == "rs" => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

fn refuse(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Each module with the modules that it may use beside itself.
const RINGS: [(&str, &[&str]); 11] = [
    ("topology", &[]),
    ("stats", &["topology"]),
    ("routing", &["topology", "stats"]),
    ("proxy", &["topology", "stats", "routing"]),
    ("file", &[]),
    ("control", &["topology", "stats", "routing", "proxy", "file"]),
    ("admin", &["topology", "stats", "routing", "proxy", "control", "file"]),
    ("config", &["file"]),
    ("import", &["config"]),
    ("app", &["topology", "stats", "routing", "proxy", "control", "admin", "config"]),
    ("cli", &["app", "config", "admin", "import"]),
];

#[test]
fn a_module_uses_only_its_own_ring_and_those_further_in() {
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        let Some(module) = source.module().filter(|module| !matches!(*module, "lib" | "main")) else {
            continue;
        };
        let Some((_, allowed)) = RINGS.iter().find(|(name, _)| *name == module) else {
            complaints
                .push(format!("{}: the module {module} has no ring; give it one in RINGS", source.path));
            continue;
        };
        for (line, used) in crate_paths(&source) {
            if used != module && !allowed.contains(&used.as_str()) {
                complaints.push(format!("{}:{line}: {module} must not use crate::{used}", source.path));
            }
        }
    }
    refuse(complaints);
}

/// The modules of this crate that a file names, with the lines.
fn crate_paths(source: &Source) -> Vec<(usize, String)> {
    let name =
        |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
    let in_line = |(number, line): (usize, &str)| {
        line.split("crate::").skip(1).map(|rest| (number, name(rest))).collect::<Vec<_>>()
    };
    source.code().flat_map(in_line).filter(|(_, name)| !name.is_empty()).collect()
}

/// A crate, and the only files that may name it.
const ONE_PLACE: [(&str, &[&str]); 18] = [
    ("proxy_header::", &["src/proxy/proxy_protocol.rs"]),
    ("jiff::", &["src/proxy/tcplog.rs"]),
    ("arc_swap", &["src/routing/cell.rs"]),
    ("reqwest", &["src/control/patroni.rs"]),
    ("prometheus::", &["src/admin/metrics.rs"]),
    ("serde_yaml", &["src/config/raw.rs"]),
    ("askama", &["src/admin/dashboard.rs", "src/admin/routes.rs"]),
    ("clap::", &["src/cli/arguments.rs"]),
    ("crossterm", &["src/cli/screen.rs"]),
    ("argon2::", &["src/admin/secret.rs"]),
    ("bcrypt::", &["src/admin/secret.rs"]),
    ("listenfd", &["src/app/handover/inherited.rs"]),
    ("command_fds", &["src/app/handover/successor.rs"]),
    ("sd_notify", &["src/app/manager.rs"]),
    ("rustix::event", &["src/proxy/epoll.rs", "src/app/handover/group.rs"]),
    ("rustix::pipe", &["src/proxy/splice.rs"]),
    ("libc::", &["src/proxy/splice.rs"]),
    ("unsafe {", &["src/proxy/splice.rs"]),
];

#[test]
fn a_library_is_named_in_one_place() {
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        for (library, places) in ONE_PLACE {
            if source.says(library) && !places.contains(&source.path.as_str()) {
                complaints.push(format!("{}: only {} may name {library}", source.path, places.join(", ")));
            }
        }
    }
    refuse(complaints);
}

#[test]
fn the_core_is_pure() {
    let foreign =
        ["tokio", "serde", "tracing", "Instant", "SystemTime", "std::net", "std::io", "std::fs", "println!"];
    let impure = |source: &Source| {
        let named = foreign.iter().filter(|word| source.says(word));
        named.map(|word| format!("{}: the core knows nothing of {word}", source.path)).collect::<Vec<_>>()
    };
    let core = sources(&["src/topology"]);
    assert!(!core.is_empty());
    refuse(core.iter().flat_map(impure).collect());
}

/// Where the time of day is looked at: to be shown, passed on, or compared with the end of a certificate. Whatever waits or
/// decides goes by the monotonic clock, which nobody sets.
const WALL_CLOCKS: [&str; 9] = [
    "src/admin/actions.rs",
    "src/admin/haproxy/show.rs",
    "src/admin/tls.rs",
    "src/admin/upgrade.rs",
    "src/admin/view.rs",
    "src/app/handover/predecessor.rs",
    "src/app.rs",
    "src/control/incident.rs",
    "src/proxy/sessions.rs",
];

#[test]
fn the_wall_clock_is_only_shown() {
    let sources = sources(&["src"]);
    let lookers: Vec<&str> =
        sources.iter().filter(|source| source.says("SystemTime::now")).map(|source| &*source.path).collect();
    assert_eq!(lookers, WALL_CLOCKS);
}

#[test]
fn the_data_plane_knows_no_http_no_patroni_and_no_configuration() {
    let foreign = ["hyper", "axum", "http::", "serde", "patroni", "Patroni"];
    let knowing = |source: &Source| {
        let named = foreign.iter().filter(|word| source.says(word));
        named
            .map(|word| format!("{}: the data plane knows nothing of {word}", source.path))
            .collect::<Vec<_>>()
    };
    refuse(sources(&["src/proxy"]).iter().flat_map(knowing).collect());
}

/// Another engine can take the place of this one, since nobody else knows how it works.
#[test]
fn how_bytes_are_moved_is_known_behind_the_engine_only() {
    let behind = ["engine.rs", "relay.rs", "socket.rs", "splice.rs", "stream.rs", "epoll.rs"];
    let inner = ["socket::", "splice::", "relay::Relay", "relay::Tools", "epoll::"];
    let knowing = |source: &Source| {
        let named = inner.iter().filter(|word| source.says(word));
        named.map(|word| format!("{}: {word} is the engine's", source.path)).collect::<Vec<_>>()
    };
    let is_outside = |source: &Source| !behind.iter().any(|file| source.path.ends_with(file));
    refuse(sources(&["src/proxy"]).iter().filter(|source| is_outside(source)).flat_map(knowing).collect());
    let reaching_in = |source: &Source| {
        let named = inner.iter().filter(|word| source.says(&format!("proxy::{word}")));
        named.map(|word| format!("{}: {word} is the engine's", source.path)).collect::<Vec<_>>()
    };
    refuse(sources(&["src"]).iter().flat_map(reaching_in).collect());
}

/// A file is one noun, and a function is read in one go.
const LONGEST_FILE: usize = 450;
const LONGEST_FUNCTION: usize = 70;

#[test]
fn files_and_functions_stay_short() {
    let mut complaints = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            complaints.push(format!("{}: {lines} lines; is it still one noun?", source.path));
        }
        for (line, length) in
            functions(&source.text).into_iter().filter(|(_, length)| *length > LONGEST_FUNCTION)
        {
            complaints.push(format!("{}:{line}: a function of {length} lines", source.path));
        }
    }
    refuse(complaints);
}

/// Line and length of each function: from its `fn` to the brace in the same column.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_head = |line: &str| {
        let words = line.trim_start();
        // A trait's functions may have no body.
        !words.ends_with(';')
            && [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) fn ",
                "pub(super) async fn ",
                "const fn ",
            ]
            .iter()
            .any(|head| words.starts_with(head))
    };
    let mut found = Vec::new();
    for (start, head) in lines.iter().enumerate().filter(|(_, line)| is_head(line)) {
        let end = lines[start..].iter().position(|line| indent(line) == indent(head) && line.trim() == "}");
        if let Some(end) = end {
            found.push((start + 1, end + 1));
        }
    }
    found
}

#[test]
fn every_file_opens_with_its_intuition() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let complaint = |source: Source| format!("{}: says nothing about itself at its top", source.path);
    refuse(sources(&["src", "tests", "benches"]).into_iter().filter(silent).map(complaint).collect());
}

#[test]
fn no_panics_by_carelessness_and_no_leftovers() {
    let mut complaints = Vec::new();
    for source in sources(&["src"]) {
        for word in [".unwrap()", ".expect(", "panic!(", "unimplemented!(", "todo!(", "dbg!(", "FIXME"] {
            for (line, _) in source.code().filter(|(_, text)| text.contains(word)) {
                complaints.push(format!("{}:{line}: {word}", source.path));
            }
        }
    }
    refuse(complaints);
}

/// Where a panic ends the process, it ends all sessions.
#[test]
fn panics_unwind_in_what_is_released() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a file");
    assert!(manifest.contains("\n[profile.release]\n") && manifest.contains("\npanic = \"unwind\"\n"));
    assert!(!manifest.contains("panic = \"abort\""));
}

#[test]
fn tests_wait_for_conditions_and_skip_nothing() {
    let mut complaints = Vec::new();
    for source in sources(&["tests"]).into_iter().filter(|source| source.path != "tests/it/tidy.rs") {
        for word in ["#[ignore", "thread::sleep(Duration::from_secs"] {
            if source.text.contains(word) {
                complaints.push(format!("{}: {word}", source.path));
            }
        }
    }
    refuse(complaints);
}

/// The benchmarks write both; whoever edits one of them by hand is found here.
#[test]
fn the_readme_shows_the_saved_measurements() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let readme = read("README.md").expect("a README");
    for result in ["benches/failover/results/failover.md", "benches/dataplane/results/dataplane.md"] {
        let (_, rest) = readme.split_once(&format!("<!-- bench: {result} -->\n")).expect("a place");
        let (shown, _) = rest.split_once("<!-- end of bench -->").expect("its end");
        assert_eq!(shown, read(result).expect("saved measurements"));
    }
}
