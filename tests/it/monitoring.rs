//! What Prometheus and Grafana are given: rules, a dashboard and their pages, against what pilotfish really exports.

mod dashboard;
mod promql;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::promql::Wanted;
use crate::admin::exposition::Exposition;
use crate::admin::tls::Authority;
use crate::control::cluster::FakeCluster;
use crate::control::served::{Served, config};
use crate::control::within;

/// What Prometheus adds to every series.
const TARGET: [&str; 2] = ["instance", "job"];

fn path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn read(below: &str) -> String {
    std::fs::read_to_string(path(below)).unwrap_or_else(|error| panic!("{below}: {error}"))
}

/// A scrape with every metric in it: of a cluster with a lag, limits, and a certificate.
async fn scrape() -> Exposition {
    let authority = Authority::new();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut config = config(&[&cluster]);
    let address = config.admin.listen.expect("an address");
    let (certificate, key) = authority.issue(address, 2040);
    authority.write(&certificate, &key);
    config.admin.tls = Some(authority.files());
    let limits = &mut config.clusters[0].replicas[0].limits;
    limits.max_sessions = Some(100);
    limits.max_sessions_per_member = Some(50);
    limits.max_sessions_per_client = Some(10);
    let served = Served::start(config);
    let whole = async {
        loop {
            let page = authority.get(served.admin, "/metrics").await.body;
            if page.contains("pilotfish_member_lag_bytes{") && page.contains("condition=\"ok\"} 1") {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    Exposition::parse(&within("a lag", whole).await)
}

/// The labels of each series' name, with their values.
struct Exported(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exported {
    fn of(page: &Exposition) -> Exported {
        let mut names: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for sample in &page.samples {
            let labels = names.entry(sample.name.clone()).or_default();
            for (label, value) in &sample.labels {
                labels.entry(label.clone()).or_default().insert(value.clone());
            }
        }
        // Prometheus' own word on whether a target answers.
        names.insert("up".to_owned(), BTreeMap::new());
        Exported(names)
    }

    /// What an expression asks for and nobody has. `recorded` are the names that rules make.
    fn missing(&self, expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
        let mut missing = Vec::new();
        let wanted = Wanted::of(expression);
        assert!(!wanted.selectors.is_empty(), "{expression}");
        for selector in wanted.selectors {
            match self.0.get(&selector.name) {
                None if recorded.contains(&selector.name) => {}
                None => missing.push(format!("{} in {expression}", selector.name)),
                Some(labels) => {
                    let matchers =
                        selector.matchers.iter().filter(|(label, _)| !TARGET.contains(&label.as_str()));
                    for (label, value) in matchers {
                        let known = labels.get(label);
                        // Names of clusters and the like are chosen by whoever looks.
                        let unknown = |word: &&str| {
                            !word.starts_with('$') && !known.is_some_and(|known| known.contains(*word))
                        };
                        let words = value.split('|').filter(unknown).map(|word| format!("{label}={word}"));
                        missing
                            .extend(words.map(|word| format!("{}{{{word}}} in {expression}", selector.name)));
                        if known.is_none() {
                            missing.push(format!("the label {label} of {}", selector.name));
                        }
                    }
                }
            }
        }
        let mut known: BTreeSet<&str> =
            self.0.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
        known.extend(TARGET);
        let labels = wanted.labels.iter().filter(|label| !known.contains(label.as_str()));
        missing.extend(labels.map(|label| format!("the label {label} in {expression}")));
        missing
    }
}

#[tokio::test]
async fn rules_and_dashboard_ask_for_what_is_exported() {
    let exported = Exported::of(&scrape().await);
    let (rules, dashboard) = (rules::Rules::read(), dashboard::read());
    let recorded: BTreeSet<String> = rules.records().map(|rule| rule.name.clone()).collect();
    let of_rules = rules.0.iter().map(|rule| rule.expression.clone());
    let expressions: Vec<String> = of_rules.chain(dashboard::expressions(&dashboard)).collect();
    assert!(expressions.len() > 60, "{}", expressions.len());
    let missing: Vec<String> =
        expressions.iter().flat_map(|expression| exported.missing(expression, &recorded)).collect();
    assert!(missing.is_empty(), "nobody exports\n{}", missing.join("\n"));
    for (wrong, told) in [
        ("pilotfish_held_clients > 0", "pilotfish_held_clients in "),
        (
            "sum by (cluster) (pilotfish_condition{condition=\"okay\"})",
            "pilotfish_condition{condition=okay} in ",
        ),
        ("pilotfish_held{member=~\"$member\"}", "the label member of pilotfish_held"),
        ("max by (clutser) (pilotfish_held)", "the label clutser in "),
    ] {
        let missing = exported.missing(wrong, &recorded);
        assert!(missing.len() == 1 && missing[0].starts_with(told), "{wrong}: {missing:?}");
    }
}

/// docs/metrics.md has what is exported, in the words in which it is exported.
#[tokio::test]
async fn the_page_of_metrics_is_what_is_exported() {
    const PAGE: &str = "docs/metrics.md";
    let page = scrape().await;
    let mut table = String::from("| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n");
    for (name, kind) in &page.kinds {
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let labels = page.of(&sample).next().unwrap_or_else(|| panic!("no {name}")).labels.keys();
        let labels = labels.map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {} | {} |", unit(name), page.helps[name]);
    }
    let text = read(PAGE);
    let (before, rest) = text.split_once("<!-- metrics -->\n").expect("a place");
    let (shown, after) = rest.split_once("<!-- end of metrics -->").expect("its end");
    if std::env::var_os("PILOTFISH_EXPECT").is_some_and(|how| how == "write") {
        let whole = format!("{before}<!-- metrics -->\n{table}<!-- end of metrics -->{after}");
        std::fs::write(path(PAGE), whole).expect("a file");
    } else {
        assert!(
            shown == table,
            "{PAGE} is behind: run this with PILOTFISH_EXPECT=write. It should be\n{table}"
        );
    }
}

/// Prometheus wants it within the name.
fn unit(name: &str) -> &'static str {
    match name.trim_end_matches("_total") {
        name if name.ends_with("_seconds") => "seconds",
        name if name.ends_with("_bytes") => "bytes",
        _ => "",
    }
}
