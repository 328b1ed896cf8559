//! The writer's seat between two clear answers: silence, doubt, and maintenance mode. A story for each rule.

use super::story::check;

#[test]
fn silence_is_not_a_denial() {
    check(
        "alone and silent, the writer is used until its grace is over",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    S1   S1  | a      a      b,c     unreachable
        29.9 ~    S1   S1  | a      a      b,c     unreachable
        30   ~    S1   S1  | -      -      b,c     no_writer
        31   W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "each answer begins a new grace",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        29   ~    S1   S1  | a      a      b,c     unreachable
        29.5 W1   S1   S1  | a      a      b,c     ok
        59   ~    S1   S1  | a      a      b,c     unreachable
        59.5 ~    S1   S1  | -      -      b,c     no_writer
        ",
    );
    check(
        "every node is silent, which tells nothing of any: the writer is dialled until somebody speaks, and then its grace",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    ~    ~   | a      a      b,c     unreachable
        3    ~    ~    ~   | a      a      b,c     unreachable
        4    ~    ~    ~   | a      a      (a)     unreachable
        600  ~    ~    ~   | a      a      (a)     unreachable
        601  ~    S1   ~   | a      a      (a)     unreachable
        630  ~    S1   ~   | a      a      b       unreachable
        631  ~    S1   ~   | -      -      b       no_writer
        632  W1   S1   ~   | a      a      b       ok
        ",
    );
    check(
        "the answer of another cluster breaks no silence, and that another leads ends the reign at once",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    ~    S1x | a      a      b       unreachable foreign_member:c
        90   ~    ~    S1x | a      a      b       unreachable foreign_member:c
        91   ~    W2   S1x | b      b      (b)     ok foreign_member:c
        ",
    );
    check(
        "without any grace",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > grace 0
        1    ~    S1   S1  | -      -      b,c     no_writer
        ",
    );
}

#[test]
fn silence_never_takes_back_what_was_said() {
    check(
        "stopping, then silent: it is not dialled again, and its sessions have the grace",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    L    S1   S1  | -      a      b,c     leaving
        2    ~    S1   S1  | -      a      b,c     unreachable
        31   ~    S1   S1  | -      -      b,c     no_writer
        ",
    );
    check(
        "silent, while a replica already follows a newer timeline",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   S1   S2  | -      a      b,c     conflict
        2    ~    S1   S2  | -      a      b,c     unreachable
        31   ~    S1   S2  | -      -      b,c     no_writer
        ",
    );
}

#[test]
fn silence_loses_against_another_that_leads() {
    check(
        "another is the writer",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    S1   S1  | a      a      b,c     unreachable
        2    ~    W2   S1  | b      b      c       ok
        3    W1   W2   S1  | b      b      c       conflict two_writers:a,b old_timeline:a
        ",
    );
    check(
        "another has the lock and is being promoted: the silent one must not take what would be lost",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    S1   S1  | a      a      b,c     unreachable
        2    ~    P1   S1  | -      -      c       promoting
        3    ~    D    S1  | -      -      c       no_writer
        4    W1   D    S1  | a      a      c       ok
        ",
    );
    check(
        "another has the lock, and its server crashed before it was ever seen to run",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    S1   S1  | a      a      b,c     unreachable
        2    ~    L    S1  | -      -      c       leaving
        ",
    );
    check(
        "one with the lock on an old timeline is no better than silence",
        "
        t    a    b    c   | writer tenant readers condition
        0    W5   S5   S5  | a      a      b,c     ok
        1    ~    W4   S5  | a      a      c       unreachable old_timeline:b
        ",
    );
}

#[test]
fn fresh_evidence_holds_new_writers_for_a_while() {
    check(
        "another is being promoted: open sessions stay, new ones wait, for the grace at most",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   P1   S1  | -      a      c       promoting
        30.9 W1   P1   S1  | -      a      c       promoting
        31   W1   P1   S1  | a      a      c       ok
        99   W1   P1   S1  | a      a      c       ok          # the same doubt does not begin anew
        100  W1   S1   S1  | a      a      c       ok
        101  W1   P1   S1  | -      a      c       promoting   # a new doubt does
        ",
    );
    check(
        "a replica streams on a newer timeline, before the new writer itself was heard",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   ~    S2  | -      a      b,c     conflict
        2    W1   W2   S2  | b      b      c       conflict two_writers:a,b old_timeline:a
        ",
    );
    check(
        "a replica with a newer timeline that streams from nobody proves nothing",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   R2  | a      a      b,c     ok
        ",
    );
    check(
        "the first claim that is heard can be doubted too, and gets no sessions to keep",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   P1   S1  | -      -      c       promoting
        1    D    P1   S1  | -      -      c       promoting
        2    D    W2   S1  | b      b      c       ok
        ",
    );
    check(
        "a better claim that is doubted ends the old reign all the same",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    ~    W2   S3  | -      -      c       conflict
        2    ~    D    S1  | -      -      c       no_writer
        ",
    );
}

#[test]
fn in_maintenance_mode_the_writer_keeps_its_seat() {
    check(
        "its lock ran out, and Patroni leaves it running",
        "
        t    a    b    c   | writer tenant readers condition
        0    W7p  S7p  S7p | a      a      b,c     ok
        1    O7p  S7p  S7p | a      a      b,c     ok          orphan_primary:a
        2    ~    S7p  S7p | a      a      b,c     unreachable
        31   ~    S7p  S7p | -      -      b,c     no_writer
        32   O7p  S7p  S7p | -      -      b,c     no_writer   orphan_primary:a
        33   W7p  S7p  S7p | a      a      b,c     ok
        ",
    );
    check(
        "while nobody else claims",
        "
        t    a    b    c   | writer tenant readers condition
        0    W7p  S7p  S7p | a      a      b,c     ok
        1    O7p  W7p  S7p | b      b      c       ok          orphan_primary:a
        2    O7p  D    S7p | -      -      c       no_writer   orphan_primary:a
        3    W7p  S7p  S7p | a      a      c       ok
        4    O7p  P7p  S7p | -      -      c       promoting   orphan_primary:a
        5    W7p  S7p  S7p | a      a      c       ok
        6    O7p  Lp   S7p | -      -      c       leaving     orphan_primary:a
        7    W7p  D    S7p | a      a      c       ok
        8    O7p  ~    S8p | -      -      c       no_writer   orphan_primary:a
        ",
    );
    check(
        "it is the incumbent only, and only while the pause lasts",
        "
        t    a    b    c   | writer tenant readers condition
        0    O7p  S7p  S7p | -      -      b,c     no_writer   orphan_primary:a
        1    W7p  S7p  S7p | a      a      b,c     ok
        2    O7   S7   S7  | -      -      b,c     no_writer   orphan_primary:a
        ",
    );
    check(
        "its timeline still counts",
        "
        t    a    b    c   | writer tenant readers condition
        0    W7p  S7p  S7p | a      a      b,c     ok
        1    O8p  S8p  S8p | a      a      b,c     ok          orphan_primary:a
        2    O8p  W7p  S8p | a      a      c       ok          orphan_primary:a old_timeline:b
        3    O7p  D    S7p | -      -      c       no_writer   orphan_primary:a
        ",
    );
}

#[test]
fn the_dcs_has_a_word_in_silences_and_contradictions() {
    check(
        "each time that the DCS names the silent writer begins a new grace: only its own answers are missing",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        20   ~    S1   S1  | a      a      b,c     unreachable
        > heard a
        49   ~    S1   S1  | a      a      b,c     unreachable
        > heard a
        78   ~    S1   S1  | a      a      b,c     unreachable
        79   ~    S1   S1  | -      -      b,c     no_writer
        ",
    );
    check(
        "the silent writer has been followed by one that cannot be seen: no new writers, old ones have their grace",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        20   ~    S1   S1  | a      a      b,c     unreachable
        > heard d
        21   ~    S1   S1  | -      a      b,c     unreachable
        30   ~    S1   S1  | -      -      b,c     no_writer
        ",
    );
    check(
        "it goes on claiming the lock that the DCS has given to another: doubted for the length of a lease",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        5    W1   S1   S1  | a      a      b,c     ok
        > heard d
        6    W1   S1   S1  | -      a      b,c     conflict
        35   W1   S1   S1  | -      a      b,c     conflict
        36   W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "what the DCS said before the new leader claimed the lock is outdated",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > heard a
        1    D    W2   S1  | b      b      c       ok
        ",
    );
}

/// A frozen process, or a machine that slept: what it knows is as old as its sleep.
#[test]
fn what_was_heard_before_a_standstill_of_pilotfish_itself_leads_nobody_anywhere() {
    check(
        "nobody has been asked since: the writer of then waits for its next word, and its sessions and readers go on",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > awake 43
        43   _    _    _   | -      a      b,c     starting
        43.4 _    S1   _   | -      a      b,c     starting
        43.5 W1   _    _   | a      a      b,c     ok
        ",
    );
    check(
        "another has led meanwhile",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > awake 43
        43   _    _    _   | -      a      b,c     starting
        43.1 S2   _    _   | -      -      b,c     no_writer
        43.2 _    W2   _   | b      b      c       ok
        ",
    );
    check(
        "nobody answers afterwards: it is as at a start, however long it lasts; the sessions stay, and the grace is a new one",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > awake 43
        45   ~    ~    ~   | -      a      b,c     unreachable
        90   ~    ~    _   | -      a      b,c     unreachable
        91   ~    S1   _   | -      a      b,c     unreachable
        120  ~    S1   _   | -      a      b,c     unreachable
        121  ~    S1   _   | -      -      b,c     no_writer
        122  W1   S1   _   | a      a      b,c     ok
        ",
    );
    check(
        "Patroni's own store names it, asked afterwards: as good as its own word",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > heard a
        > awake 43
        43   _    S1   S1  | -      a      b,c     starting
        44   ~    S1   S1  | -      a      b,c     unreachable
        > heard a
        45   ~    S1   S1  | a      a      b,c     unreachable
        ",
    );
    check(
        "another cluster stays another",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   W1x | a      a      b       ok foreign_member:c
        > awake 43
        43   _    _    _   | -      a      b       starting foreign_member:c
        44   W1   _    _   | a      a      b       ok foreign_member:c
        ",
    );
}
