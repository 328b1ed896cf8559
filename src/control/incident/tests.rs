//! Losses of the writer, told as moments and decisions.

use super::*;
use std::collections::BTreeSet;

#[test]
fn ends_count_as_what_they_were_to_the_clients() {
    let counted = |end: End| {
        let pool = PoolStats::new(1);
        pool.count_end(end);
        let Clients { cut, broken, failed, .. } = Clients::so_far(&pool);
        [cut, broken, failed]
    };
    for end in End::ALL {
        let expected = match end {
            End::RoleLost | End::MemberGone | End::Withdrawn => [1, 0, 0],
            End::BackendClosed | End::BackendReset | End::BackendTimeout => [0, 1, 0],
            End::HoldExpired | End::HoldFull | End::DrainExpired => [0, 0, 1],
            _ => [0, 0, 0],
        };
        assert_eq!(counted(end), expected, "{end}");
    }
}

fn moment(seconds: u64) -> Moment {
    let at = Duration::from_secs(seconds);
    Moment { at, wall: SystemTime::UNIX_EPOCH + at }
}

fn decision(writer: Option<&str>, condition: Condition) -> Decision {
    Decision {
        condition,
        reason: "because".to_owned(),
        writer: writer.map(String::from),
        tenant: None,
        fallback: None,
        pools: Vec::new(),
        readers: Vec::new(),
        timeline: None,
        verdicts: Vec::new(),
        alarms: BTreeSet::new(),
        fast_until: None,
        decide_again_at: None,
    }
}

const NOBODY: Clients = Clients { held: 5, longest_hold: Duration::ZERO, cut: 1, broken: 0, failed: 0 };

#[test]
fn a_failover_from_its_first_sign_to_the_first_session() {
    let mut chronicle = Chronicle::default();
    chronicle.decided(moment(0), &decision(Some("a"), Condition::Ok), NOBODY, None);
    chronicle.note(moment(2), "too long ago");
    chronicle.note(moment(10), "a: PostgreSQL does not take sessions");
    // One session breaks between the last good decision and the first sign.
    chronicle.decided(moment(13), &decision(Some("a"), Condition::Ok), NOBODY, None);
    chronicle.decided(moment(14), &decision(None, Condition::Leaving), Clients { broken: 1, ..NOBODY }, None);
    chronicle.note(moment(15), "b: promoting");
    chronicle.decided(moment(16), &decision(Some("b"), Condition::Ok), NOBODY, None);
    assert_eq!(chronicle.conclude(moment(16), NOBODY, None), None, "no session yet");
    let (without_writer, clients) = (Duration::from_secs(2), Clients::default());
    assert_eq!(chronicle.totals(moment(16).at), Totals { incidents: 1, without_writer, clients });
    let longest_hold = Duration::from_secs(3);
    let counts = Clients { held: 8, longest_hold, cut: 1, broken: 2, failed: 1 };
    let first = Some(Duration::from_secs(17));
    let incident = chronicle.conclude(moment(18), counts, first).expect("it is over");
    assert_eq!(incident.lasted, Some(Duration::from_secs(7)), "from the sign at 10 to the session at 17");
    assert_eq!(incident.without_writer(moment(99).at), Duration::from_secs(2));
    assert_eq!((incident.writer_before.as_deref(), incident.writer_after.as_deref()), (Some("a"), Some("b")));
    let clients = Clients { held: 3, longest_hold, cut: 0, broken: 2, failed: 1 };
    assert_eq!(incident.clients, clients);
    assert_eq!(chronicle.totals(moment(99).at), Totals { incidents: 1, without_writer, clients });
    let told: Vec<&str> = incident.steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(told[0], "a: PostgreSQL does not take sessions");
    assert_eq!(told.last(), Some(&"first session on b"));
    assert!(!chronicle.is_open() && chronicle.incidents().len() == 1);
}

#[test]
fn who_is_routed_and_refuses_is_no_writer_from_the_first_refusal_on() {
    let mut chronicle = Chronicle::default();
    let refused = Some(Duration::from_secs(11));
    chronicle.decided(moment(0), &decision(Some("a"), Condition::Ok), NOBODY, None);
    chronicle.decided(moment(11), &decision(Some("a"), Condition::Ok), NOBODY, refused);
    assert!(!chronicle.is_open(), "a refusal alone may be a restart in place");
    chronicle.decided(moment(13), &decision(Some("a"), Condition::Unreachable), NOBODY, refused);
    let without =
        |chronicle: &Chronicle, at: u64| chronicle.incidents()[0].without_writer(moment(at).at).as_secs();
    assert_eq!((without(&chronicle, 13), without(&chronicle, 19)), (2, 8));
    chronicle.decided(moment(20), &decision(None, Condition::NoWriter), NOBODY, None);
    assert_eq!(without(&chronicle, 21), 10);
    chronicle.decided(moment(22), &decision(Some("b"), Condition::Ok), NOBODY, Some(moment(22).at));
    chronicle.decided(moment(23), &decision(Some("b"), Condition::Ok), NOBODY, None);
    assert_eq!(without(&chronicle, 99), 12, "until the successor takes sessions");
}

#[test]
fn losses_without_a_client_are_told_apart_unless_the_writer_was_hardly_back() {
    let mut chronicle = Chronicle::default();
    chronicle.decided(moment(0), &decision(Some("a"), Condition::Ok), NOBODY, None);
    for (at, writer) in [(10, "b"), (13, "c"), (16, "a")] {
        let over = chronicle.decided(moment(at), &decision(None, Condition::NoWriter), NOBODY, None);
        assert_eq!(over.is_some(), at > 10);
        chronicle.decided(moment(at + 1), &decision(Some(writer), Condition::Ok), NOBODY, None);
        assert_eq!(chronicle.conclude(moment(at + 1), NOBODY, None), None);
    }
    let lost = |incident: &Incident| (incident.writer_before.clone(), incident.writer_after.clone());
    let told: Vec<_> = chronicle.incidents().iter().map(|incident| lost(incident)).collect();
    let named = |before: &str, after: &str| (Some(before.to_owned()), Some(after.to_owned()));
    assert_eq!(told, [named("c", "a"), named("b", "c"), named("a", "b")]);
    let lasted: Vec<_> = chronicle.incidents().iter().map(|incident| incident.lasted).collect();
    assert_eq!(lasted, [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(1))]);
    // Lost again at once, and lost while it refuses: the same loss.
    let mut chronicle = Chronicle::default();
    chronicle.decided(moment(0), &decision(Some("a"), Condition::Ok), NOBODY, None);
    for (at, writer, refused) in [
        (10, None, None),
        (11, Some("b"), None),
        (11, None, None),
        (12, Some("b"), Some(moment(12).at)),
        (20, None, None),
    ] {
        let condition = if writer.is_some() { Condition::Ok } else { Condition::NoWriter };
        assert_eq!(
            chronicle.decided(moment(at), &decision(writer, condition), NOBODY, refused),
            None,
            "{at}"
        );
    }
    assert_eq!(chronicle.incidents().len(), 1);
}

#[test]
fn the_longest_hold_is_that_of_who_waits_now_too() {
    let pool = Arc::new(PoolStats::new(1));
    let _held = pool.hold(1);
    std::thread::sleep(Duration::from_millis(2));
    assert!(Clients::so_far(&pool).longest_hold >= Duration::from_millis(2));
}

#[test]
fn an_interruption_without_clients_ends_too_and_only_so_many_are_kept() {
    let mut chronicle = Chronicle::default();
    chronicle.decided(moment(0), &decision(Some("a"), Condition::Ok), NOBODY, None);
    for number in 1..=(KEPT as u64 + 5) {
        let began = number * 100;
        chronicle.decided(moment(began), &decision(Some("a"), Condition::Unreachable), NOBODY, None);
        for _ in 0..2 * MAX_STEPS {
            chronicle.note(moment(began), "flapping");
        }
        chronicle.decided(moment(began + 1), &decision(Some("a"), Condition::Ok), NOBODY, None);
        assert_eq!(chronicle.conclude(moment(began + 20), NOBODY, None), None);
        let incident = chronicle.conclude(moment(began + 31), NOBODY, None).expect("nobody came");
        assert_eq!((incident.number, incident.steps.len()), (number, MAX_STEPS));
        assert_eq!(incident.steps.last().map(|step| step.what.as_str()), Some("ok: because"));
    }
    assert_eq!(chronicle.incidents().len(), KEPT);
    assert_eq!(chronicle.totals(moment(0).at).incidents, KEPT as u64 + 5);
    assert_eq!(chronicle.incidents()[0].number, KEPT as u64 + 5);
}
