//! What a decision says about time: until when to ask the nodes fast, and when to decide again though nobody speaks.

use std::time::Duration;

use pilotfish::topology::Decision;

use super::story::check_that;

/// `fast again`, in seconds; `-` is never.
fn deadlines(decision: &Decision) -> String {
    let seconds = |at: Option<Duration>| at.map_or("-".into(), |at| at.as_secs_f64().to_string());
    format!("{} {}", seconds(decision.fast_until), seconds(decision.decide_again_at))
}

fn check(title: &str, table: &str) {
    check_that(title, table, deadlines);
}

#[test]
fn each_new_sign_of_trouble_is_worth_two_minutes_of_fast_checks() {
    check(
        "an old sign prolongs nothing, a new one does, and calm ends it",
        "
        t    a    b    | fast again
        0    W1   S1   | -    -
        1    W1   ~    | 121  -
        2    W1   ~    | 121  -
        3    D    ~    | 123  -       # no writer
        4    D    P1   | 124  -
        5    S1   W2   | -    -
        ",
    );
    check(
        "bounded, though the trouble is not",
        "
        t    a    b    | fast again
        0    W1   S1   | -    -
        1    W1   ~    | 121  -
        120  W1   ~    | 121  -
        121  W1   ~    | -    -
        999  W1   ~    | -    -
        1000 L    ~    | 1120 -
        ",
    );
    check(
        "not asked yet, unlocked, suspect",
        "
        t    a    b    | fast again
        0    W1   _    | 120  -
        1    W1   S1   | -    -
        2    W1   S1u  | 122  -
        3    W1   S1   | -    -
        > suspect b
        4    W1   _    | 124  -
        5    W1   S1   | -    -
        ",
    );
    check(
        "what the operator wants is no trouble",
        "
        t    a    b    | fast again
        0    W1   S1   | -    -
        > drain a
        > maint b
        1    W1   ~    | -    -
        ",
    );
}

#[test]
fn time_alone_changes_a_decision_at_a_moment_that_is_told() {
    check(
        "when the grace of a silent writer is over",
        "
        t    a    b    | fast again
        0    W1   S1   | -    -
        1    ~    S1   | 121  30
        2    ~    S1   | 121  30
        > grace 10
        3    ~    S1   | 121  10
        10   ~    S1   | 130  -       # no writer is a new sign
        ",
    );
    check(
        "when a doubt has lasted for the grace",
        "
        t    a    b    | fast again
        0    W1   S1   | -    -
        1    W1   P1   | 121  31
        2    W1   P1   | 121  31
        31   W1   P1   | 121  -
        ",
    );
}
