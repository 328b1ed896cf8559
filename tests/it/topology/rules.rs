//! The writer's seat: who gets it, and who is refused. A story for each rule.

use super::story::check;

#[test]
fn the_node_with_the_lock_is_the_writer() {
    check(
        "nothing is decided before enough has been heard, and two of three are enough",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   _    _   | -      -      -       starting
        0.1  _    S1   _   | a      a      b       ok
        0.2  _    _    S1  | a      a      b,c     ok
        ",
    );
    check(
        "without a writer, every node is asked before anything is said",
        "
        t    a    b    c   | writer tenant readers condition
        0    S1   S1   _   | -      -      a,b     starting
        1    .    .    ~   | -      -      a,b     no_writer
        ",
    );
    check(
        "old servers state no identity at all",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1i  S1i  _   | -      -      b       starting
        1    .    .    S1i | a      a      b,c     ok
        ",
    );
    check(
        "nobody at all",
        "
        t    a    b    | writer tenant readers condition
        0    ~    _    | -      -      -       starting
        1    ~    ~    | -      -      -       unreachable
        2    ~    D    | -      -      -       no_writer
        ",
    );
}

#[test]
fn of_two_writers_one_is_used_at_most() {
    check(
        "the higher timeline wins",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   W2   S1  | b      b      c       conflict two_writers:a,b old_timeline:a
        2    D    W2   S1  | b      b      c       ok
        ",
    );
    check(
        "on the same timeline the incumbent stays",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   W1   S1  | a      a      c       conflict two_writers:a,b
        2    ~    W1   S1  | b      b      c       ok        # silence against a verified claim
        3    W1   W1   S1  | b      b      c       conflict two_writers:a,b
        ",
    );
    check(
        "on the same timeline and without an incumbent there is none",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   W1   S1  | -      -      c       conflict two_writers:a,b
        1    W1   S1   S1  | a      a      c       ok
        ",
    );
    check(
        "an incumbent that was passed over in a tie has no claim on the seat any more",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    W1   W1  | -      -      -       conflict two_writers:b,c
        2    ~    D    D   | -      -      -       no_writer
        3    W1   D    D   | a      a      (a)     ok
        ",
    );
}

#[test]
fn another_cluster_is_never_used() {
    check(
        "a foreign writer, however new its timeline, even while ours is silent",
        "
        t    a    b    c    | writer tenant readers condition
        0    W1   S1   W9x  | a      a      b       ok          foreign_member:c
        1    ~    S1   W9x  | a      a      b       unreachable foreign_member:c
        31   ~    S1   W9x  | -      -      b       no_writer   foreign_member:c
        ",
    );
    check(
        "a foreign replica that was heard before the identity was known, and then falls silent",
        "
        t    a    b    c    | writer tenant readers condition
        0    S1x  W1   S1   | b      b      c       ok          foreign_member:a
        1    ~    .    .    | b      b      c       ok
        ",
    );
    check(
        "two clusters of one node each: neither is ours, not even when one is silent for a moment",
        "
        t    a    b    | writer tenant readers condition
        0    W1   W1x  | -      -      -       conflict    two_writers:a,b no_identity
        1    ~    W1x  | -      -      -       conflict    no_identity
        2    W1   ~    | -      -      -       conflict    no_identity
        ",
    );
}

#[test]
fn a_denial_acts_at_once() {
    check(
        "the writer says that it lost the lock",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    O1   S1   S1  | -      -      b,c     no_writer orphan_primary:a
        2    D    S1u  S1u | -      -      b,c     no_writer
        3    ~    S1u  S1u | -      -      b,c     no_writer   # no grace for one that gave up
        ",
    );
    check(
        "the writer is a replica now, or has joined another cluster",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    S1   S1   S1  | -      -      b,c     no_writer
        2    W1   S1   S1  | a      a      b,c     ok
        3    W1x  S1   S1  | -      -      b,c     no_writer foreign_member:a
        ",
    );
    check(
        "a writer that stops takes no new sessions; those it has go on until it gives up the lock",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    L    S1   S1  | -      a      b,c     leaving
        2    L    S1   S1  | -      a      b,c     leaving
        3    D    S1   S1  | -      -      b,c     no_writer
        ",
    );
    check(
        "a writer that only restarted is back at once",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    L    S1   S1  | -      a      b,c     leaving
        2    W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "one that is leaving when it is first heard has no sessions to keep",
        "
        t    a    b    c   | writer tenant readers condition
        0    L    S1   S1  | -      -      b,c     leaving
        ",
    );
}

#[test]
fn never_back_to_an_older_timeline() {
    check(
        "until the operator says that the cluster was restored",
        "
        t    a    b    c   | writer tenant readers condition
        0    W5   S5   S5  | a      a      b,c     ok
        1    D    W4   S5  | -      -      c       conflict old_timeline:b
        60   D    W4   R4  | -      -      c       conflict old_timeline:b
        > reset
        61   D    W4   R4  | b      b      c       ok
        62   W5   W4   R4  | a      a      c       conflict two_writers:a,b old_timeline:b
        ",
    );
    check(
        "a cluster that was made anew under the old addresses",
        "
        t    a    b    c    | writer tenant readers condition
        0    W5   S5   S5   | a      a      b,c     ok
        1    W1x  S1x  ~    | -      -      c       no_writer foreign_member:a foreign_member:b
        > reset
        2    W1x  S1x  ~    | a      a      (a)     ok
        3    W1x  S1x  S1x  | a      a      b,c     ok
        ",
    );
    check(
        "a claim without a timeline is good for the incumbent only",
        "
        t    a    b    c   | writer tenant readers condition
        0    W5   S5   S5  | a      a      b,c     ok
        1    W    S5   S5  | a      a      b,c     ok
        2    D    W    S5  | -      -      c       promoting
        3    D    W6   S5  | b      b      c       ok
        ",
    );
    check(
        "a new cluster that never told a timeline",
        "
        t    a    b    | writer tenant readers condition
        0    W    R    | a      a      b       ok
        ",
    );
}

#[test]
fn promotion_is_waited_for() {
    check(
        "a switchover",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    L    S1   S1  | -      a      b,c     leaving
        2    D    S1u  S1u | -      -      b,c     no_writer
        3    D    P1   S1  | -      -      c       promoting
        4    D    W2   S1  | b      b      c       ok
        5    S2   W2   S2  | b      b      c       ok
        6    S2   W2   S2  | b      b      a,c     ok
        ",
    );
    check(
        "a promotion without end, even of one that was the writer",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    P1   S1   S1  | -      -      b,c     promoting
        99   P1   S1   S1  | -      -      b,c     promoting
        ",
    );
}
