//! The Grafana dashboard, as far as it can be judged without drawing it.

use std::collections::BTreeSet;

use serde_json::Value;

const FILE: &str = "deploy/grafana/pilotfish.json";
/// Grafana's names of the units that are used.
const UNITS: [&str; 7] = ["none", "short", "s", "bytes", "Bps", "ops", "percentunit"];
const KINDS: [&str; 3] = ["stat", "timeseries", "state-timeline"];
const COLUMNS: u64 = 24;

pub fn read() -> Value {
    serde_json::from_str(&super::read(FILE)).expect("JSON")
}

/// Of all panels and annotations.
pub fn expressions(dashboard: &Value) -> Vec<String> {
    let of_panels = panels(dashboard).flat_map(|panel| list(&panel["targets"]));
    let all = of_panels.chain(list(&dashboard["annotations"]["list"]));
    all.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Without the rows, which are only titles.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).filter(|panel| panel["type"] != "row")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn it_is_one_that_grafana_imports() {
    let dashboard = read();
    assert_eq!((text(&dashboard, "uid"), text(&dashboard, "title")), ("pilotfish", "pilotfish"));
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "of Grafana 9");
    assert!(dashboard["id"].is_null(), "an id belongs to one Grafana");
    assert!(!text(&dashboard["time"], "from").is_empty() && !text(&dashboard, "refresh").is_empty());
    let variables: Vec<(&str, &str)> = list(&dashboard["templating"]["list"])
        .map(|variable| (text(variable, "name"), text(variable, "type")))
        .collect();
    let wanted =
        [("datasource", "datasource"), ("instance", "query"), ("cluster", "query"), ("pool", "query")];
    assert_eq!(variables, wanted);
}

#[test]
fn each_panel_says_what_it_shows_in_which_unit_and_from_where() {
    let dashboard = read();
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    assert!(list(&dashboard["panels"]).all(|panel| ids.insert(panel["id"].as_u64().expect("an id"))));
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(!title.is_empty() && titles.insert(title), "{title:?}");
        assert!(KINDS.contains(&text(panel, "type")), "{title}");
        let description = text(panel, "description");
        assert!(description.len() > 15 && description.ends_with('.'), "{title}: {description:?}");
        assert!(UNITS.contains(&text(&panel["fieldConfig"]["defaults"], "unit")), "{title}");
        let targets: Vec<&Value> = list(&panel["targets"]).collect();
        assert!(!targets.is_empty(), "{title}");
        let letters: BTreeSet<&str> = targets.iter().map(|target| text(target, "refId")).collect();
        assert_eq!(letters.len(), targets.len(), "{title}");
        for target in targets.into_iter().chain([panel]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
        for target in list(&panel["targets"]) {
            assert!(!text(target, "legendFormat").is_empty(), "{title}");
            let expression = text(target, "expr");
            assert!(expression.contains("instance=~\"$instance\""), "{title}: {expression}");
            // Rates over a fixed time would be empty, or hide what is short, at another zoom.
            let rates = expression.matches("rate(").count() + expression.matches("increase(").count();
            assert_eq!(rates, expression.matches("[$__r").count(), "{title}: {expression}");
        }
    }
}

/// Whoever chooses a cluster or a pool sees nothing of the others.
#[test]
fn what_belongs_to_a_cluster_or_a_pool_is_chosen_by_it() {
    for expression in expressions(&read()) {
        for selector in super::promql::Wanted::of(&expression).selectors {
            let chosen = |label: &str| selector.matchers.contains(&(label.to_owned(), format!("${label}")));
            let of_process = [
                "process_",
                "pilotfish:",
                "pilotfish_build",
                "pilotfish_up",
                "pilotfish_last",
                "pilotfish_cert",
            ];
            let of_process = of_process.iter().any(|start| selector.name.starts_with(start));
            assert!(of_process || chosen("cluster"), "{expression}");
        }
    }
}

#[test]
fn panels_do_not_lie_upon_each_other() {
    let dashboard = read();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{}", panel["title"]);
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        cells.for_each(|cell| assert!(taken.insert(cell), "{} lies on another", panel["title"]));
    }
}
