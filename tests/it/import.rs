//! The way over from HAProxy: each file of its configuration with all that comes of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use pilotfish::config::Config;
use pilotfish::import::{self, Class, Import, Slip, Source, keywords};

use crate::process::child::{File, command, output};

/// Blocks with a blank line between: a file, then after `! ` all that is wrong with it, in order.
const REFUSED: &str = include_str!("import/refused.txt");

/// The fixture with words that the installed HAProxy does not have yet.
const NEWER: &str = "newer";

/// Stands in the fixtures for a folder with certificates that HAProxy can read.
const TLS: &str = "/etc/patroni-tls";

/// The environment of HAProxy's service, and of pilotfish's.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PG1", "10.0.0.1"),
    ("PG2", "10.0.0.2"),
    ("ROLE", "primary"),
    ("SYSLOG", "127.0.0.1:514"),
    ("OPTIONS", "inter 2s"),
    ("PATRONI_PASSWORD", "open sesame"),
];

/// The shape of a hash, so that no test waits for one.
const HASH: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

static TLS_DIR: LazyLock<String> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/import-tls");
    std::fs::create_dir_all(folder).expect("a folder");
    let own = rcgen::generate_simple_self_signed(vec!["patroni.internal".to_owned()]).expect("a certificate");
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    std::fs::write(format!("{folder}/ca.pem"), &cert).expect("a file");
    std::fs::write(format!("{folder}/client.pem"), format!("{cert}{key}")).expect("a file");
    folder.to_owned()
});

pub fn env(name: &str) -> Option<String> {
    ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn import(text: &str) -> Result<Import, Vec<Slip>> {
    import::haproxy(&Source { name: "haproxy.cfg", text, env: &env, hash: &|_| Some(HASH.to_owned()) })
}

pub fn fixtures() -> Vec<(String, PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/import");
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "cfg")).collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a fixture").replace(TLS, &TLS_DIR);
        (path.file_stem().expect("a name").to_string_lossy().into_owned(), path, text)
    };
    files.into_iter().map(read).collect()
}

/// `PILOTFISH_EXPECT=write` writes what comes out in place of what was expected; then read it before it is kept.
fn is_writing() -> bool {
    std::env::var("PILOTFISH_EXPECT").is_ok_and(|word| word == "write")
}

/// All that comes of a file, as the program shows it.
fn told(import: &Import) -> String {
    let mut text = format!("exit {}\n", if import.is_whole() { 0 } else { 3 });
    for note in &import.notes {
        let _ = writeln!(text, "{}: {}: {}", note.line, note.class.words(), note.text);
    }
    text + "---\n" + import.yaml.as_deref().unwrap_or("")
}

#[test]
fn every_file_comes_over_as_it_is_written_down() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 24, "{} files", fixtures.len());
    for (name, path, text) in fixtures {
        let import = import(&text).unwrap_or_else(|slips| panic!("{name}: {slips:#?}"));
        let told = told(&import).replace(&*TLS_DIR, TLS);
        let path = path.with_extension("expected");
        if is_writing() {
            std::fs::write(&path, &told).expect("a file");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(told == expected, "{name}: found:\n{told}\nexpected:\n{expected}");
    }
}

#[test]
fn what_comes_out_is_a_configuration() {
    for (name, _, text) in fixtures() {
        let import = import(&text).expect("a configuration");
        let Some(yaml) = &import.yaml else { continue };
        if let Err(problems) = Config::parse("config.yaml", yaml, &env) {
            panic!("{name}: {problems}\n{yaml}");
        }
    }
}

/// Those that the installed HAProxy can read.
fn of_this_haproxy() -> impl Iterator<Item = (String, PathBuf, String)> {
    fixtures().into_iter().filter(|(name, ..)| name != NEWER)
}

/// What stands in the fixtures is what HAProxy takes.
#[test]
fn haproxy_takes_the_same_files() {
    for (name, path, text) in of_this_haproxy() {
        let file = File::new(&text);
        let mut haproxy = Command::new("haproxy");
        haproxy.args(["-c", "-f", &file.path()]).envs(ENVIRONMENT).stdin(Stdio::null());
        let output = haproxy.output().expect("haproxy, which deploy/setup test installs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} ({}): {told}", path.display());
    }
}

/// The file with the word at `at` of each line changed by a letter, where it is one that could be a keyword.
fn mutant(text: &str, at: usize, change: fn(&str) -> String) -> String {
    let mutated = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let is_header = !line.starts_with([' ', '\t']);
        let is_plain = |word: &String| word.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_');
        match words.get(at).filter(|word| is_plain(word) && word.len() > 2) {
            Some(word) if !is_header && !line.contains(['"', '\'', '\\', '#']) => words[at] = change(word),
            _ => return line.to_owned(),
        }
        format!("    {}", words.join(" "))
    };
    text.lines().map(mutated).collect::<Vec<_>>().join("\n") + "\n"
}

/// The lines that HAProxy complains of, each with whether it is for a word that it does not know.
fn complaints(text: &str) -> Vec<(usize, bool)> {
    const UNKNOWN: [&str; 9] = [
        "unknown keyword",
        "unknown option",
        "unknown stats",
        "unknown proxy mode",
        "unknown persist",
        "unknown statement",
        "only supports",
        "supports '",
        "expects '",
    ];
    let file = File::new(text);
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-c", "-f", &file.path()]).envs(ENVIRONMENT).stdin(Stdio::null());
    let output = haproxy.output().expect("haproxy, which deploy/setup test installs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let place = format!("[{}:", file.path());
    let alerts = told.lines().filter(|line| line.contains("ALERT"));
    let found = alerts.filter_map(|line| {
        let (number, message) = line.split_once(&place)?.1.split_once(']')?;
        Some((number.parse().ok()?, UNKNOWN.iter().any(|words| message.contains(words))))
    });
    found.collect()
}

/// A word that HAProxy does not know is never taken for one that means nothing here, nor the other way round. Files of
/// the fixtures, each keyword changed by a letter.
#[test]
fn what_haproxy_does_not_know_is_not_known_here() {
    let changes: [fn(&str) -> String; 2] = [
        |word| format!("{word}{}", &word[word.len() - 1..]),
        |word| format!("{}z{}", &word[..1], &word[2..]),
    ];
    let (mut files, mut unknown) = (0, 0);
    for (name, _, text) in of_this_haproxy() {
        let longest = text.lines().map(|line| line.split_whitespace().count()).max().unwrap_or(0);
        for (at, change) in (0..longest).flat_map(|at| changes.map(|change| (at, change))) {
            let mutant = mutant(&text, at, change);
            if mutant == text {
                continue;
            }
            let slips = import(&mutant).err().unwrap_or_default();
            let complaints = complaints(&mutant);
            for (line, _) in complaints.iter().filter(|(_, is_unknown)| *is_unknown) {
                let said = mutant.lines().nth(line - 1).unwrap_or_default();
                assert!(slips.iter().any(|slip| slip.line == *line), "{name}:{line}: taken: {said}");
                unknown += 1;
            }
            // HAProxy may give up early: after fifty wrong lines, or at one that it cannot go on from.
            let read_to = complaints.iter().map(|(line, _)| *line).max().unwrap_or(usize::MAX);
            for slip in slips.iter().filter(|slip| slip.line <= read_to) {
                let said = mutant.lines().nth(slip.line.saturating_sub(1)).unwrap_or_default();
                let ours_alone = slip.message.contains("HAProxy knows no such")
                    && complaints.iter().all(|(line, _)| *line != slip.line);
                assert!(!ours_alone, "{name}:{}: HAProxy takes: {said}: {}", slip.line, slip.message);
            }
            files += 1;
        }
    }
    assert!(files > 300 && unknown > 1000, "{files} files, {unknown} words");
}

#[test]
fn what_haproxy_would_not_take_is_refused_with_every_line() {
    let mut blocks = 0;
    let mut written: Vec<String> = Vec::new();
    for block in REFUSED.split("\n\n") {
        let (slips, text): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| line.starts_with("! "));
        let text = text.join("\n") + "\n";
        let Err(found) = import(&text) else { panic!("accepted:\n{text}") };
        let found: Vec<String> =
            found.iter().map(|slip| format!("! {}: {}", slip.line, slip.message)).collect();
        blocks += 1;
        if !is_writing() {
            assert_eq!(found, slips, "for:\n{text}");
        }
        written.push(format!("{text}{}", found.join("\n")));
    }
    if is_writing() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/import/refused.txt");
        std::fs::write(path, written.join("\n\n") + "\n").expect("a file");
    }
    assert!(blocks >= 20, "{blocks} blocks");
}

/// Lines of sections that came over are all spoken of, and so is each section that did not.
#[test]
fn no_line_is_passed_over_in_silence() {
    for (name, _, text) in fixtures() {
        let import = import(&text).expect("a configuration");
        let spoken: BTreeSet<usize> = import.notes.iter().map(|note| note.line).collect();
        let mut section = 0;
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = i + 1;
            if !line.starts_with([' ', '\t', '#', '.']) {
                section = number;
            }
            let is_comment = line.trim_start().starts_with(['#', '.']);
            let whole = spoken.range(section..).next().is_some();
            assert!(is_comment || whole, "{name}:{number}: nothing is said of {line:?}");
        }
    }
}

#[test]
fn no_secret_comes_out() {
    for (name, _, text) in fixtures() {
        let told = told(&import(&text).expect("a configuration"));
        for secret in [
            "cGF0cm9uaTpzd29yZGZpc2g",
            "swordfish",
            "open sesame",
            "pass#word",
            "wonderland",
            "cGF0cm9uaTpvcGVu",
            "O53DSWFkgJwdqlVL",
        ] {
            assert!(!told.contains(secret), "{name}: {secret}");
        }
    }
}

#[test]
fn the_program_tells_the_three_outcomes_apart() {
    let run = |text: &str| {
        let file = File::new(text);
        let (code, stdout, stderr) = output(&["import-haproxy", &file.path()]);
        (code, stdout, stderr.replace(&file.path(), "FILE"))
    };
    let whole = "defaults\n mode tcp\n timeout client 1d\nlisten primary\n bind *:5000\n option httpchk /primary\n \
                 server a 10.0.0.1:5432 check port 8008\n";
    let (code, stdout, stderr) = run(&whole.replace(" timeout client 1d\n", ""));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("FILE:5: taken over: option httpchk /primary: a pool primary\n"), "{stderr}");
    assert!(stderr.trim_end().ends_with(" lost") && stderr.contains(", 0 lost"), "{stderr}");
    Config::parse("config.yaml", &stdout, &env).expect("a configuration");

    let (code, stdout, stderr) = run(&whole.replace("check port", "check agent-check port"));
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("FILE:7: lost: agent-check: ") && stdout.contains("#   line 7: agent-check"),
        "{stderr}"
    );

    let (code, stdout, stderr) = run(&whole.replace("mode tcp", "mode \"tcp"));
    assert_eq!((code, stdout.as_str()), (78, ""), "{stderr}");
    assert!(stderr.starts_with("FILE:2: the quote \" is opened and never closed"), "{stderr}");

    let (code, _, stderr) = output(&["import-haproxy", "/nowhere/haproxy.cfg"]);
    assert!(code == 78 && stderr.contains("/nowhere/haproxy.cfg: cannot be read: No such file"), "{stderr}");
}

#[test]
fn standard_input_does_as_well() {
    let file =
        File::new("listen a\n bind *:5000\n option httpchk\n server a 10.0.0.1:5432 check port 8008\n");
    let stdin = std::fs::File::open(file.path()).expect("a file");
    let output = command(&["import-haproxy", "-"]).stdin(stdin).output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.starts_with("standard input:2: taken over: "), "{stderr}");
}

/// The table in docs/ is the one in the code.
#[test]
fn the_page_shows_the_table() {
    let mut table = String::from("| where | HAProxy | becomes |\n|---|---|---|\n");
    for keyword in keywords::rows() {
        let place = format!("{:?}", keyword.place).to_lowercase();
        let becomes = match keyword.class {
            Class::Taken => keyword.what.to_owned(),
            class => format!("*{}*: {}", class.words(), keyword.what),
        };
        let _ = writeln!(table, "| {place} | `{}` | {becomes} |", keyword.name);
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/move-from-haproxy.md");
    let text = std::fs::read_to_string(&page).expect("the page");
    let (before, rest) = text.split_once("<!-- keywords -->\n").expect("a place");
    let (shown, after) = rest.split_once("<!-- end of keywords -->").expect("its end");
    if is_writing() {
        let whole = format!("{before}<!-- keywords -->\n{table}<!-- end of keywords -->{after}");
        std::fs::write(&page, whole).expect("a file");
    } else {
        assert!(shown == table, "docs/move-from-haproxy.md is behind: run this with PILOTFISH_EXPECT=write");
    }
}
