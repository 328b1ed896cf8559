//! Made-up traces, many of them, and an oracle that is asked about every decision.
//!
//! `PILOTFISH_TRACES` is how many, `PILOTFISH_SEED` the seed of the first; each has the seed after the one before it.
//! A trace that is decided wrongly is shown with as few steps as will still do, and with its own seed.

use std::time::Duration;

use pilotfish::topology::Cluster;

use super::oracle::Oracle;
use super::script::{Script, Step, members};
use super::{outcome, settings};

const TRACES: u64 = 100_000;

#[test]
fn made_up_traces_are_decided_by_the_rules() {
    let traces = number("PILOTFISH_TRACES").unwrap_or(TRACES);
    let first = number("PILOTFISH_SEED").unwrap_or(1);
    println!("{traces} traces from PILOTFISH_SEED={first}");
    for seed in first..first.saturating_add(traces) {
        let script = Script::made_up(seed);
        let Err(complaint) = play(&script) else { continue };
        let short = shortened(&script);
        panic!(
            "{complaint}\n\nPILOTFISH_SEED={seed} PILOTFISH_TRACES=1 plays it again; this much of it will do:\n\
             {short}{}",
            play(&short).expect_err("it was shortened while it failed")
        );
    }
}

pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// Plays a trace and has every decision judged. If it is played twice, a second cluster is asked for each decision
/// twice, and the answers must be the same.
fn play(script: &Script) -> Result<(), String> {
    let mut cluster = Cluster::new(settings(None), members(&script.members));
    let mut again = script.played_twice.then(|| cluster.clone());
    let mut oracle = Oracle::new(settings(None), &script.members);
    let mut now = Duration::ZERO;
    for (pause, step) in &script.steps {
        now += *pause;
        act(&mut cluster, now, step, &oracle);
        if let Some(again) = &mut again {
            act(again, now, step, &oracle);
        }
        oracle.note(now, step);
        let decision = cluster.decide(now);
        let judgement = oracle.judge(now, step, &cluster, &decision);
        let same = again
            .as_mut()
            .is_none_or(|again| [again.decide(now), again.decide(now)].iter().all(|d| *d == decision));
        let repeated = if same { Ok(()) } else { Err("played again, it is decided otherwise".into()) };
        judgement.and(repeated).map_err(|complaint: String| {
            let (at, decided) = (now.as_secs_f64(), outcome(&decision));
            format!("{at:.3} {step}\n  {complaint}\n  decided: {decided} ({})", decision.reason)
        })?;
    }
    Ok(())
}

fn act(cluster: &mut Cluster, now: Duration, step: &Step, oracle: &Oracle) {
    // One that left may still be heard; it is called by a name that nobody has.
    let name = |place: &usize| oracle.name_at(*place).unwrap_or("gone");
    match step {
        Step::Heard(place, observation) => cluster.observe(now, name(place), (**observation).clone()),
        Step::Suspect(place) => cluster.suspect(name(place)),
        Step::Operator(place, wish) => {
            let known = cluster.set_operator(name(place), *wish).is_some();
            assert_eq!(known, oracle.name_at(*place).is_some(), "operators are told who is a member");
        }
        Step::Members(placed) => cluster.replace_members(now, members(placed)),
        Step::Grace(grace) => cluster.set_leader_grace(*grace),
        Step::Reset => cluster.reset_history(now),
        Step::StoodStill => cluster.stood_still(now),
        Step::Nothing => {}
    }
}

/// The trace without the steps that its failure does not need.
fn shortened(script: &Script) -> Script {
    let mut short = script.clone();
    let mut i = 0;
    while i < short.steps.len() {
        let mut shorter = short.clone();
        let (pause, _) = shorter.steps.remove(i);
        if let Some((later, _)) = shorter.steps.get_mut(i) {
            *later += pause;
        }
        if play(&shorter).is_err() {
            short = shorter;
        } else {
            i += 1;
        }
    }
    short
}
