//! The effective configuration as it is shown: a configuration again, and the same one.

use pilotfish::config::Config;

use super::{ENVIRONMENT, FULL, MINIMAL, POOLS, SEVERAL, parse};

/// Whatever was accepted shows as YAML that is accepted as the same.
fn reads_back(config: &Config) {
    let shown = config.to_string();
    let again =
        Config::parse("shown", &shown, &|_| None).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
    assert_eq!(&again, config, "{shown}");
}

#[test]
fn the_effective_configuration_reads_back() {
    for example in [MINIMAL, FULL, SEVERAL, POOLS, ENVIRONMENT] {
        reads_back(&parse(example));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let odd = folder.path().join("a \"b\" \\ ${FIVE} $$${x} \u{2028} \u{fc} #: ");
    std::fs::write(&odd, "").expect("a file");
    let mut config =
        parse("clusters: [{name: '1e3', patroni: 'https://a', primary: off}]\nadmin: off\nworkers: 3");
    let tls = pilotfish::config::Tls { ca: Some(odd), ..Default::default() };
    config.clusters[0].patroni.tls = Some(tls);
    reads_back(&config);
    assert!(config.to_string().contains('\u{fc}'), "letters stay as they are");
}

/// What is no letter takes ten characters when it is shown, and a plain key of YAML has 1024 at most.
#[test]
fn keys_that_show_longer_than_they_were_read_back() {
    for length in [102, 103, 200] {
        let key = "\u{fffd}".repeat(length);
        let pool = format!("{{require: {{tags: {{{key}: x, b: y}}}}, weights: {{{key}: 7, c: 1}}}}");
        reads_back(&parse(&format!("clusters: [{{patroni: a, replicas: {pool}}}]")));
    }
}
