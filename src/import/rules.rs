//! Access rules: `tcp-request` with what the ACLs say of the client's address.

use super::address::network;
use super::notes::Notes;
use super::proxies::Proxy;
use super::sections::{Line, shown};

/// What the rules of a proxy come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who may connect, and the line that says so. Empty: everybody.
    pub allow: Vec<String>,
    pub allow_line: usize,
    /// Who sends a PROXY header first.
    pub proxies: Vec<String>,
    /// Sessions of one client address, and the line that says so.
    pub per_client: Option<(u64, usize)>,
}

/// A test of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// The client's address is one of these.
    Source(Vec<String>),
    /// The client has more sessions than so many, this one included.
    MoreThan(u64),
    /// Anything else.
    Other,
}

/// Reads the rules of a proxy. A rule that cannot be taken over is lost, and said. `accept_proxy`: some listener has a
/// PROXY header before each connection.
pub fn read(proxy: &Proxy<'_>, accept_proxy: bool, notes: &Notes) -> Access {
    let expects_proxy =
        |line: &Line| line.is("tcp-request") && line.words.iter().any(|word| word == "expect-proxy");
    let has_headers = accept_proxy || proxy.lines().any(expects_proxy);
    let acls = Acls { proxy };
    let mut access = Access::default();
    let mut accepted: Vec<String> = Vec::new();
    let (mut closed, mut accept_line, mut accept_stage) = (false, 0, "");
    for line in proxy.lines().filter(|line| line.is("tcp-request")) {
        if line.word(1) == "inspect-delay" || closed {
            continue;
        }
        let (action, condition) = parts(line);
        let condition = condition.map(|(negated, words)| acls.condition(negated, &words));
        // Before the header is read, it is the proxy's address that is judged; `allow` judges the one in the header.
        let of_the_proxy =
            has_headers && line.word(1) == "connection" && matches!(action, "accept" | "reject");
        // To accept ends the rules of one stage, and those of the next still count.
        let of_another_stage = !accepted.is_empty() && line.word(1) != accept_stage;
        let fits = match (action, condition) {
            _ if of_the_proxy || of_another_stage => false,
            ("reject", None) if !accepted.is_empty() => {
                (access.allow, access.allow_line, closed) =
                    (std::mem::take(&mut accepted), line.number, true);
                true
            }
            ("accept", Some(Condition::Within(networks))) if access.allow.is_empty() => {
                accepted.extend(networks);
                (accept_line, accept_stage) = (line.number, line.word(1));
                true
            }
            ("reject", Some(Condition::NotWithin(networks))) if access.allow.is_empty() => {
                (access.allow, access.allow_line) = ([&accepted[..], &networks[..]].concat(), line.number);
                accepted.clear();
                true
            }
            ("reject", Some(Condition::MoreThan(limit))) => {
                access.per_client = Some((limit.max(1), line.number));
                true
            }
            ("expect-proxy", Some(Condition::Within(networks))) => {
                access.proxies.extend(networks);
                true
            }
            ("expect-proxy", None) => {
                access.proxies = super::bind::EVERYBODY.map(str::to_owned).to_vec();
                true
            }
            // Counting by itself changes nothing.
            ("track", _) => {
                notes.taken(line.number, format!("{}: pilotfish counts each client's sessions", line.said()));
                true
            }
            ("accept", None) => true,
            _ => false,
        };
        if !fits {
            notes.lost(
                line.number,
                format!("{}: only allow lists of src and limits of src_conn_cur; without this rule the listener may let in whom it kept out", line.said()),
            );
        }
    }
    if !accepted.is_empty() {
        notes.not_needed(accept_line, "accept: nobody is rejected behind it, so everybody is let in");
    }
    access
}

/// Loses the rules of a place that has none in pilotfish.
pub fn lose<'a>(lines: impl Iterator<Item = &'a Line>, why: &str, notes: &Notes) {
    let restricts = |line: &&Line| match line.word(0) {
        "tcp-request" => line.word(1) != "inspect-delay",
        "http-request" => !matches!(line.word(1), "auth" | "use-service"),
        "stats" => line.word(1) == "http-request" && line.word(2) != "auth",
        _ => false,
    };
    for line in lines.filter(restricts) {
        notes.lost(line.number, format!("{}: {why}; whom it kept out may come in", line.said()));
    }
}

/// The action, and the condition with whether it is an `unless`.
fn parts(line: &Line) -> (&str, Option<(bool, Vec<&str>)>) {
    let action = match line.word(2) {
        word if word.starts_with("track-sc") => "track",
        "content" => line.word(3),
        word => word,
    };
    let at = line.words.iter().position(|word| word == "if" || word == "unless");
    let condition =
        at.map(|at| (line.word(at) == "unless", line.words[at + 1..].iter().map(String::as_str).collect()));
    (action, condition)
}

/// What a whole condition comes to.
enum Condition {
    Within(Vec<String>),
    NotWithin(Vec<String>),
    MoreThan(u64),
    Other,
}

struct Acls<'a> {
    proxy: &'a Proxy<'a>,
}

impl Acls<'_> {
    /// Alternatives of tests; HAProxy joins tests in a row by `and`.
    fn condition(&self, unless: bool, words: &[&str]) -> Condition {
        let Some(mut terms) = terms(words) else { return Condition::Other };
        // Tests in a row of which all are negated are the denial of their alternatives.
        let all_negated = terms.iter().all(|alternative| alternative.iter().all(|(negated, _)| *negated));
        let one_each = terms.iter().all(|alternative| alternative.len() == 1);
        let denied = match (all_negated, terms.len()) {
            (true, 1) => true,
            (false, _) if one_each && terms.iter().all(|alternative| !alternative[0].0) => false,
            _ => return Condition::Other,
        };
        let tests: Vec<Test> = terms.drain(..).flatten().map(|(_, words)| self.test(&words)).collect();
        let mut networks = Vec::new();
        for test in &tests {
            match test {
                Test::Source(found) => networks.extend(found.iter().cloned()),
                Test::MoreThan(limit) if tests.len() == 1 && !denied && !unless => {
                    return Condition::MoreThan(*limit);
                }
                _ => return Condition::Other,
            }
        }
        if denied != unless { Condition::NotWithin(networks) } else { Condition::Within(networks) }
    }

    /// An anonymous test, or the ACL of that name: lines of one name are alternatives.
    fn test(&self, words: &[&str]) -> Test {
        let [name] = words else { return one_test(words) };
        let lines = self.proxy.lines().filter(|line| line.is("acl") && line.word(1) == *name);
        let tests: Vec<Test> = lines
            .map(|line| one_test(&line.words.iter().skip(2).map(String::as_str).collect::<Vec<_>>()))
            .collect();
        match &tests[..] {
            [one] => one.clone(),
            [] => builtin(name),
            many => many
                .iter()
                .try_fold(Vec::new(), |mut all, test| match test {
                    Test::Source(networks) => {
                        all.extend(networks.iter().cloned());
                        Some(all)
                    }
                    _ => None,
                })
                .map_or(Test::Other, Test::Source),
        }
    }
}

/// ACLs that HAProxy has from the start.
fn builtin(name: &str) -> Test {
    match name {
        "LOCALHOST" => Test::Source(vec!["127.0.0.1".into(), "::1".into()]),
        _ => Test::Other,
    }
}

/// `src 10.0.0.0/8 …`, `src_conn_cur gt 10`.
fn one_test(words: &[&str]) -> Test {
    let Some((fetch, rest)) = words.split_first() else { return Test::Other };
    match *fetch {
        "src" => {
            let rest: Vec<&str> = rest.iter().copied().filter(|word| !matches!(*word, "-n" | "--")).collect();
            let networks: Option<Vec<String>> = rest.iter().map(|word| network(word)).collect();
            networks.filter(|networks| !networks.is_empty()).map_or(Test::Other, Test::Source)
        }
        "src_conn_cur" | "sc0_conn_cur" | "sc_conn_cur(0)" | "sc1_conn_cur" | "sc_conn_cur(1)" => {
            match rest {
                ["gt", limit] => limit.parse().map_or(Test::Other, Test::MoreThan),
                ["ge", limit] => {
                    limit.parse().map_or(Test::Other, |limit: u64| Test::MoreThan(limit.max(1) - 1))
                }
                _ => Test::Other,
            }
        }
        _ => Test::Other,
    }
}

type Term<'a> = (bool, Vec<&'a str>);

/// `a !b || { src … }`: alternatives of rows of tests, each negated or not. `None`: braces that do not fit.
fn terms<'a>(words: &[&'a str]) -> Option<Vec<Vec<Term<'a>>>> {
    let mut alternatives: Vec<Vec<Term<'a>>> = vec![Vec::new()];
    let mut words = words.iter().copied();
    let mut negated = false;
    while let Some(word) = words.next() {
        let (bang, word) = match word.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        negated ^= bang;
        match word {
            "" => continue,
            "or" | "||" => {
                alternatives.push(Vec::new());
                continue;
            }
            "{" => {
                let mut inside = Vec::new();
                loop {
                    match words.next()? {
                        "}" => break,
                        word => inside.push(word),
                    }
                }
                alternatives.last_mut()?.push((negated, inside));
            }
            name => alternatives.last_mut()?.push((negated, vec![name])),
        }
        negated = false;
    }
    alternatives.iter().all(|alternative| !alternative.is_empty()).then_some(alternatives)
}

/// Where `use_backend` goes while the readers of another have nobody.
#[derive(Debug, PartialEq, Eq)]
pub struct Fallback<'a> {
    pub readers: &'a str,
    pub primary: &'a str,
}

/// `use_backend READERS if { nbsrv(READERS) ge 1 }` with `default_backend PRIMARY`, and the same the other way round.
pub fn fallback<'a>(proxy: &Proxy<'a>) -> Option<Fallback<'a>> {
    let [choice] = proxy.all("use_backend")[..] else { return None };
    let other = proxy.last("default_backend")?.word(1);
    let at = choice.words.iter().position(|word| word == "if" || word == "unless")?;
    let unless = choice.word(at) == "unless";
    let words: Vec<&str> = choice.words[at + 1..].iter().map(String::as_str).collect();
    let terms = terms(&words)?;
    let [(negated, test)] = terms.first().filter(|_| terms.len() == 1)?.as_slice() else { return None };
    let acl: Vec<&str>;
    let test: &[&str] = match test[..] {
        [name] => {
            let line = proxy.lines().find(|line| line.is("acl") && line.word(1) == name)?;
            acl = line.words.iter().skip(2).map(String::as_str).collect();
            &acl
        }
        _ => test,
    };
    let counted = test.first()?.strip_prefix("nbsrv(")?.strip_suffix(')')?;
    let alive = match test.get(1..)? {
        ["ge", "1"] | ["gt", "0"] => true,
        ["lt", "1"] | ["eq", "0"] | ["0"] | ["le", "0"] => false,
        _ => return None,
    };
    let alive = alive ^ unless ^ negated;
    let here = choice.word(1);
    match alive {
        true if counted == here => Some(Fallback { readers: here, primary: other }),
        false if counted == other => Some(Fallback { readers: other, primary: here }),
        _ => None,
    }
}

/// Says what became of the lines `acl`.
pub fn say_acls(proxy: &Proxy<'_>, notes: &Notes) {
    for line in proxy.all("acl") {
        let used = proxy.lines().any(|rule| {
            !rule.is("acl") && rule.words.iter().any(|word| word.trim_start_matches('!') == line.word(1))
        });
        match used {
            true => notes.taken(line.number, format!("{}: in the rules that use it", shown(&line.said()))),
            false => notes.not_needed(line.number, format!("{}: no rule uses it", shown(&line.said()))),
        }
    }
}
