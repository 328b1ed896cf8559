//! What must be true of every input, whoever sent it. libFuzzer looks for the one that breaks it (`make fuzz`); the tests
//! play the seeds and changes of them without it (tests/it/hostile.rs).

mod admin;

use std::fmt::Debug;

use pilotfish::config::Config;
use pilotfish::control::patroni;
use pilotfish::import::{self, Source};
use pilotfish::proxy::{first_packet, proxy_protocol};

pub use admin::{admin_request, runtime_socket};

/// What variables stand for.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A configuration is refused with a place within it for each problem, or it reads back as itself.
pub fn config(bytes: &[u8], env: Environment<'_>) {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse("config.yaml", &text, env) {
        Ok(config) => {
            let shown = config.to_string();
            let again = Config::parse("shown", &shown, &|_| None);
            assert_eq!(again.as_ref(), Ok(&config), "{shown}");
        }
        Err(problems) => {
            assert!(problems.iter().count() > 0);
            // YAML's line breaks are more than those of a terminal.
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for problem in problems.iter() {
                let (line, column) = problem.place.unwrap_or((1, 1));
                assert!((1..=lines + 1).contains(&line) && column >= 1, "{problem}");
                assert!(!problem.message.is_empty() && !problem.to_string().contains('\n'), "{problem}");
            }
        }
    }
}

/// HAProxy's file is refused with words and lines of its own, or what comes out is a configuration, but for what only the
/// machine can tell: files, variables, and addresses that are taken twice.
pub fn import(bytes: &[u8], env: Environment<'_>) {
    let text = String::from_utf8_lossy(bytes);
    let hash = |_: &str| Some("$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned());
    let source = Source { name: "haproxy.cfg", text: &text, env, hash: &hash };
    let import = match import::haproxy(&source) {
        Ok(import) => import,
        Err(slips) => return assert!(!slips.is_empty() && slips.iter().all(|slip| !slip.message.is_empty())),
    };
    let lines = text.split('\n').count();
    for note in &import.notes {
        assert!(note.line <= lines && !note.text.contains('\n'), "{note:?}");
    }
    let Some(yaml) = import.yaml.as_ref().filter(|_| import.is_whole()) else { return };
    let Err(problems) = Config::parse("config.yaml", yaml, env) else { return };
    let of_the_machine = |problem: &str| {
        let words = ["cannot be read", "is not set", "overlaps", "is taken", "given twice", "names two"];
        words.iter().any(|word| problem.contains(word))
    };
    let open: Vec<String> = problems
        .iter()
        .filter(|problem| !of_the_machine(&problem.message))
        .map(ToString::to_string)
        .collect();
    assert!(open.is_empty(), "{}\nfrom:\n{text}\ncame:\n{yaml}", open.join("\n"));
}

/// Patroni's answer: what comes out of it is fit for a log line, a label and a table cell.
pub fn patroni(bytes: &[u8]) {
    let fit = |text: &str| {
        assert!(text.len() <= 255 && !text.chars().any(char::is_control), "{text:?}");
    };
    for status in [200, 503] {
        match patroni::report(status, bytes) {
            Err(words) => fit(&words),
            Ok(report) => {
                let _ = report.class();
                let named = [&report.system_identifier, &report.replication_state, &report.patroni_version];
                let named = named.into_iter().chain([&report.scope, &report.name]);
                named.flatten().chain([&report.state]).for_each(|text| fit(text));
                for (name, value) in &report.tags {
                    fit(name);
                    fit(value);
                }
            }
        }
    }
    if let Ok(cluster) = patroni::cluster(bytes) {
        assert!((1..=64).contains(&cluster.members.len()));
        for member in &cluster.members {
            [&member.name, &member.host, &member.api].into_iter().for_each(|text| fit(text));
        }
        cluster.leader.iter().for_each(|name| fit(name));
    }
}

/// How far a reader of packets is.
#[derive(Debug, PartialEq)]
enum Step<T> {
    Need(usize),
    Done(T, usize),
    Garbage,
}

/// A reader that asks for bytes as it goes never asks for what it has, never for more than `most`, and comes to the same
/// end whether the bytes come one by one or at once.
fn reads_alike<T: Debug + PartialEq>(bytes: &[u8], most: usize, step: impl Fn(&[u8]) -> Step<T>) {
    let at_once = step(bytes);
    let mut have = 0;
    loop {
        let taken = &bytes[..have];
        match step(taken) {
            Step::Need(need) => {
                assert!(need > have && need <= most, "{need} wanted with {have} there");
                if have == bytes.len() {
                    return assert_eq!(at_once, Step::Need(need));
                }
                have += 1;
            }
            Step::Done(what, length) => {
                assert!(length <= have, "{length} of {have}");
                return assert_eq!(at_once, Step::Done(what, length));
            }
            Step::Garbage => return assert_eq!(at_once, Step::Garbage),
        }
    }
}

/// The first packet of a client.
pub fn first_packet(bytes: &[u8]) {
    use first_packet::{FirstPacket, Parse};
    // TLS at once is whatever has come, so that is not told by its length.
    if matches!(first_packet::parse(bytes), Parse::Done(FirstPacket::DirectTls, _)) {
        return;
    }
    reads_alike(bytes, first_packet::MAX_BYTES, |bytes| match first_packet::parse(bytes) {
        Parse::Need(need) => Step::Need(need),
        Parse::Done(packet, length) => Step::Done(packet, length),
        Parse::Garbage(_) => Step::Garbage,
    });
}

/// The header of a proxy in front, which also comes through our own writer as it was.
pub fn proxy_header(bytes: &[u8]) {
    use proxy_protocol::Parse;
    // Sixteen bytes and what two bytes of length can say.
    reads_alike(bytes, 16 + 65_535, |bytes| match proxy_protocol::parse(bytes) {
        Parse::Need(need) => Step::Need(need),
        Parse::Done(proxied, length) => Step::Done(proxied, length),
        Parse::Garbage(_) => Step::Garbage,
    });
    if let Parse::Done(Some(proxied), _) = proxy_protocol::parse(bytes) {
        let own = proxy_protocol::encode(Some(proxied));
        assert_eq!(proxy_protocol::parse(&own), Parse::Done(Some(proxied), own.len()));
    }
}
