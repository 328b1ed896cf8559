//! Readers, and what operators and the list of members have to say: a story for each rule.

use super::story::check;

#[test]
fn a_reader_is_out_at_once_when_it_says_so_and_after_some_silence() {
    check(
        "a denial",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   D    S1  | a      a      c       ok
        2    W1   S1   S1  | a      a      c       ok          # good news is believed the second time
        3    W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "silence",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        1    W1   ~    S1  | a      a      b,c     ok
        2    W1   ~    S1  | a      a      b,c     ok
        3    W1   ~    S1  | a      a      c       ok
        4    W1   S1   S1  | a      a      c       ok
        5    W1   ~    S1  | a      a      c       ok
        6    W1   S1   S1  | a      a      c       ok          # the two good ones must be in a row
        7    W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "two checks lost and one answered, for ever: never three in a row",
        "
        t    a    b    | writer tenant readers condition
        0    W1   S1   | a      a      b       ok
        1    W1   ~    | a      a      b       ok
        2    W1   ~    | a      a      b       ok
        3    W1   S1   | a      a      b       ok
        4    W1   ~    | a      a      b       ok
        5    W1   ~    | a      a      b       ok
        ",
    );
    check(
        "one that was silent at first is in at its first good answer",
        "
        t    a    b    | writer tenant readers condition
        0    W1   ~    | a      a      (a)     ok
        1    W1   S1   | a      a      b       ok
        ",
    );
}

#[test]
fn a_reader_without_a_connection_is_suspect_until_it_answers() {
    check(
        "silence is no answer",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > suspect b
        0.1  W1   _    S1  | a      a      c       ok
        0.2  W1   ~    S1  | a      a      c       ok
        0.3  W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "the writer is not judged by a dial: its role is right, and clients wait for it",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > suspect a
        0.1  _    S1   S1  | a      a      b,c     ok
        ",
    );
}

#[test]
fn a_reader_must_not_lie_too_far_behind() {
    check(
        "out above the limit of 100 bytes, back at 75",
        "
        t    a    b      c      | writer tenant readers condition
        0    W1   S1     S1     | a      a      b,c     ok
        1    W1   S1-100 S1-101 | a      a      b       ok
        2    W1   S1-100 S1-80  | a      a      b       ok
        3    W1   S1-100 S1-76  | a      a      b       ok
        4    W1   S1-100 S1-75  | a      a      b       ok
        5    W1   S1-100 S1-75  | a      a      b,c     ok
        ",
    );
    check(
        "how far it was behind is remembered through a silence",
        "
        t    a    b      | writer tenant readers condition
        0    W1   S1     | a      a      b       ok
        1    W1   S1-500 | a      a      (a)     ok
        2    W1   ~      | a      a      (a)     ok
        ",
    );
    check(
        "the lag goes on being measured against a writer that lost its lock in maintenance mode",
        "
        t    a       b       | writer tenant readers condition
        0    W1p-400 S1p-400 | a      a      b       ok
        1    O1p     S1p-400 | a      a      b       ok orphan_primary:a
        2    O1p     S1p-400 | a      a      (a)     ok orphan_primary:a
        ",
    );
}

#[test]
fn noloadbalance_is_obeyed_at_once() {
    check(
        "tagged and untagged",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1n | a      a      b       ok
        1    W1   S1n  S1  | a      a      (a)     ok
        2    W1   S1n  S1  | a      a      c       ok
        ",
    );
}

#[test]
fn without_readers_the_leader_reads() {
    check(
        "the writer, and nobody when there is none",
        "
        t    a    b    | writer tenant readers condition
        0    W1   D    | a      a      (a)     ok
        1    L    D    | -      a      -       leaving
        ",
    );
    check(
        "the leader of a standby cluster, which has no writer",
        "
        t    a    b    | writer tenant readers condition
        0    T1   S1   | -      -      b       no_writer
        1    T1   D    | -      -      (a)     no_writer
        > drain a
        2    T1   D    | -      -      -       no_writer
        ",
    );
    check(
        "a replica reads whether there is a writer or not",
        "
        t    a    b    | writer tenant readers condition
        0    W1   S1   | a      a      b       ok
        1    D    S1   | -      -      b       no_writer
        ",
    );
}

#[test]
fn operators_have_the_last_word() {
    check(
        "drained: no new sessions, and the open ones stay",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > drain a
        > drain b
        1    W1   S1   S1  | -      a      c       ok
        > ready a
        > ready b
        2    W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "in maintenance: no sessions, and no alarm either",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   O1   W9x | a      a      (a)     ok          orphan_primary:b foreign_member:c
        > maint b
        > maint c
        1    W1   O1   W9x | a      a      (a)     ok
        > maint a
        2    W1   O1   W9x | -      a      -       ok
        ",
    );
    check(
        "a drained writer that falls silent is not dialled either",
        "
        t    a    b    | writer tenant readers condition
        0    W1   S1   | a      a      b       ok
        > drain a
        1    ~    S1   | -      a      b       unreachable
        ",
    );
}

#[test]
fn an_operators_word_holds_while_its_member_is_away() {
    check(
        "drained, gone from the list, and back: still drained until it is put back",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > drain b
        > members a c
        1    W1   S1       | a      a      c       ok
        > members a b c
        2    W1   S1   S1  | a      a      c       ok
        3    W1   S1   S1  | a      a      c       ok
        > ready b
        4    W1   S1   S1  | a      a      b,c     ok
        ",
    );
    check(
        "what is only named otherwise is drained under its new name, and the old name is free of it",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > drain b
        > members a c y@b
        1    W1   S1   S1  | a      a      c       ok
        > members a b@elsewhere c y@b
        2    W1   S1   S1   S1 | a  a      b,c     ok
        3    W1   S1   S1   S1 | a  a      b,c     ok
        > ready y
        4    W1   S1   S1   S1 | a  a      b,c,y   ok
        ",
    );
}

#[test]
fn members_come_and_go() {
    check(
        "one that left has no seat and no readers; one that came is asked first",
        "
        t    a    b    c   | writer tenant readers condition
        0    W1   S1   S1  | a      a      b,c     ok
        > members b c d                                       # these three are the columns from here on
        1    S1   S1   _   | -      -      b,c     no_writer
        2    W2   S1   S1  | b      b      c,d     ok
        ",
    );
    check(
        "one that is only named otherwise keeps its record and its seat, even while it is silent",
        "
        t    a    b    | writer tenant readers condition
        0    W1   S1   | a      a      b       ok
        1    ~    D    | a      a      (a)     unreachable
        > members x@a y@b
        2    ~    S1   | x      x      (x)     unreachable
        3    W1   S1   | x      x      y       ok
        ",
    );
    check(
        "a newcomer at the address of one that moved inherits nothing",
        "
        t    a    b    | writer tenant readers condition
        0    W1   S1   | a      a      b       ok
        > members 0@a a@elsewhere b
        1    _    _    _    | a      a      b       ok
        2    S1   W1   S1   | a      a      0,b     ok
        ",
    );
}
