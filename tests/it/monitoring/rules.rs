//! The recording and alert rules: accepted by promtool, tried on series made by hand, and each explained.

use std::collections::BTreeSet;
use std::process::Command;

use serde_yaml::Value;

use super::{path, read};

const FILE: &str = "deploy/prometheus/pilotfish-rules.yml";
const TESTS: &str = "deploy/prometheus/pilotfish-rules.test.yml";
const PAGE: &str = "docs/alerts.md";
const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

pub struct Rules(pub Vec<Rule>);

pub struct Rule {
    pub name: String,
    pub expression: String,
    is_alert: bool,
    value: Value,
}

impl Rules {
    pub fn read() -> Rules {
        let file: Value = serde_yaml::from_str(&read(FILE)).expect("YAML");
        let rules = list(&file["groups"]).flat_map(|group| list(&group["rules"]));
        let rule = |value: &Value| Rule {
            name: text(&value["alert"]).or(text(&value["record"])).expect("a name").to_owned(),
            expression: text(&value["expr"]).expect("an expression").to_owned(),
            is_alert: text(&value["alert"]).is_some(),
            value: value.clone(),
        };
        Rules(rules.map(rule).collect())
    }

    pub fn records(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(|rule| !rule.is_alert)
    }

    fn alerts(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(|rule| rule.is_alert)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    let output = command.args(arguments).current_dir(path("")).output().expect("promtool: deploy/setup test");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}\n{}", said.join("\n"));
}

#[test]
fn promtool_accepts_them_and_they_do_what_their_tests_say() {
    promtool(&["check", "config", "deploy/prometheus/prometheus.yml"]);
    promtool(&["check", "rules", FILE]);
    promtool(&["test", "rules", TESTS]);
}

#[test]
fn each_alert_is_tried_with_series_that_fire_it_and_with_some_that_do_not() {
    let file: Value = serde_yaml::from_str(&read(TESTS)).expect("YAML");
    let tried: BTreeSet<(String, bool)> = list(&file["tests"])
        .flat_map(|test| list(&test["alert_rule_test"]))
        .map(|test| {
            (text(&test["alertname"]).expect("a name").to_owned(), list(&test["exp_alerts"]).next().is_some())
        })
        .collect();
    let wanted: BTreeSet<(String, bool)> = Rules::read()
        .alerts()
        .flat_map(|alert| [true, false].map(|fires| (alert.name.clone(), fires)))
        .collect();
    assert_eq!(tried, wanted);
}

#[test]
fn each_alert_says_what_is_wrong_and_what_to_do() {
    let rules = Rules::read();
    assert!(rules.alerts().count() > 10);
    for alert in rules.alerts() {
        let name = &alert.name;
        assert!(name.starts_with("Pilotfish"), "{name}");
        let severity = text(&alert.value["labels"]["severity"]).unwrap_or_default();
        assert!(SEVERITIES.contains(&severity), "{name}: {severity:?}");
        let annotation = |key: &str| text(&alert.value["annotations"][key]).unwrap_or_default().to_owned();
        assert!((10..120).contains(&annotation("summary").len()), "{name}");
        assert!(annotation("description").matches(". ").count() >= 1, "{name} does not say what to do");
        assert_eq!(annotation("docs"), format!("{PAGE}#{}", name.to_lowercase()), "{name}");
    }
}

/// One section for each alert and none beside them, each with how it is seen and what to do.
#[test]
fn the_page_of_alerts_has_a_section_for_each() {
    let page = read(PAGE);
    let sections: Vec<(&str, &str)> =
        page.split("\n## ").skip(1).filter_map(|rest| rest.split_once('\n')).collect();
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    let rules = Rules::read();
    let names: Vec<&str> = rules.alerts().map(|alert| alert.name.as_str()).collect();
    assert_eq!(titles, names, "in {PAGE} and in {FILE}, in one order");
    for ((title, section), alert) in sections.iter().zip(rules.alerts()) {
        let severity = text(&alert.value["labels"]["severity"]).expect("a severity");
        let delay = text(&alert.value["for"]).map_or("at once".to_owned(), |delay| format!("after {delay}"));
        assert!(section.contains(&format!("*{severity}, {delay}*")), "{title}: {severity}, {delay}");
        for part in ["**Means.** ", "**See it.** ", "**Do.** "] {
            assert!(section.contains(part), "{title} has no {part}");
        }
    }
}
