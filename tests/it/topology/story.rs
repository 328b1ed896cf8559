//! Stories: tables of what each node says, step by step, and what must be decided.
//!
//! ```text
//! t    a    b    c    | writer tenant readers condition
//! 0    W1   R1   R1   | a      a      b,c     ok
//! 1    ~    .    .    | a      a      b,c     unreachable
//! > drain b
//! 2    W1   .    .    | a      a      c       ok
//! ```
//!
//! A cell is a letter, a timeline and marks. `W` holds the lock, is primary and runs; `P` holds it in recovery
//! (promoting); `L` holds it while stopping; `T` leads a standby cluster; `R` is a running replica and `S` one that
//! streams; `O` is primary without the lock; `D` is stopped; `~` does not answer; `.` says the same again; `_` is not
//! asked. Marks: `p` paused, `u` cluster unlocked, `n` noloadbalance, `x` of another cluster, `i` states no identity,
//! `-80` is 80 bytes behind. A line with `>` is something that is done to the cluster just before the next row.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use pilotfish::topology::{Cluster, Decision, Hearsay, Observation, Operator, Report, Role, SilenceKind};

use super::{columns, member, outcome, settings, silent};

/// Where the leader's WAL ends in every story.
const LEADER_POSITION: u64 = 1000;
/// The lag that a story's readers may have.
const MAX_LAG: u64 = 100;

/// Plays a story and shows it whole if anything in it is decided otherwise.
#[track_caller]
pub fn check(title: &str, table: &str) {
    check_that(title, table, outcome);
}

/// The same for what `view` sees of the decisions.
#[track_caller]
pub fn check_that(title: &str, table: &str, view: fn(&Decision) -> String) {
    let mut lines = table.lines().map(columns).filter(|line| !line.is_empty());
    let header = lines.next().expect("a story starts with its header");
    let mut story = Story::begin(&header);
    let mut told = String::new();
    let mut surprises = 0;
    for line in lines {
        if let Some(action) = line.strip_prefix('>') {
            story.act(action);
            let _ = writeln!(told, "    {line}");
            continue;
        }
        let (says, expected) = line.split_once('|').expect("a row is: what is said | what follows");
        let decision = story.row(says);
        let _ = writeln!(told, "    {line}");
        let decided = view(&decision);
        if decided != columns(expected) {
            surprises += 1;
            let _ = writeln!(told, "    ^ decided: {decided} ({})", decision.reason);
        }
    }
    assert!(surprises == 0, "{title}:\n{told}");
}

struct Story {
    cluster: Cluster,
    names: Vec<String>,
    said: BTreeMap<String, String>,
    now: Duration,
}

impl Story {
    fn begin(header: &str) -> Story {
        let (columns, _) = header.split_once('|').expect("a header is: t and the nodes | what follows");
        let names: Vec<String> = columns.split_whitespace().skip(1).map(String::from).collect();
        let members = names.iter().map(|name| member(name, name)).collect();
        let cluster = Cluster::new(settings(Some(MAX_LAG)), members);
        Story { cluster, names, said: BTreeMap::new(), now: Duration::ZERO }
    }

    /// One moment: every node is asked in the order of the table, then it is decided, twice.
    fn row(&mut self, says: &str) -> Decision {
        let mut cells = says.split_whitespace();
        let time = cells.next().and_then(|t| t.parse().ok()).expect("a row starts with its time in seconds");
        self.now = Duration::from_secs_f64(time);
        let cells: Vec<&str> = cells.collect();
        assert_eq!(cells.len(), self.names.len(), "one cell for each node: {says}");
        for (name, cell) in self.names.iter().zip(cells) {
            if cell == "_" {
                continue;
            }
            let cell = if cell == "." { self.said[name].clone() } else { cell.to_owned() };
            self.cluster.observe(self.now, name, observation(&cell));
            self.said.insert(name.clone(), cell);
        }
        let decision = self.cluster.decide(self.now);
        assert_eq!(self.cluster.decide(self.now), decision, "decided twice at {:?}", self.now);
        decision
    }

    fn act(&mut self, action: &str) {
        let words: Vec<&str> = action.split_whitespace().collect();
        match words.as_slice() {
            ["ready", name] => assert!(self.cluster.set_operator(name, Operator::Ready).is_some()),
            ["drain", name] => assert!(self.cluster.set_operator(name, Operator::Drain).is_some()),
            ["maint", name] => assert!(self.cluster.set_operator(name, Operator::Maint).is_some()),
            ["suspect", name] => self.cluster.suspect(name),
            ["grace", seconds] => {
                let seconds = seconds.parse().expect("seconds of grace");
                self.cluster.set_leader_grace(Duration::from_secs(seconds));
            }
            // Whom the DCS names, asked at the moment of the row before.
            ["heard", leader] => {
                let (leader, asked_at) = ((*leader).to_owned(), self.now);
                self.cluster.hear_of_leader(Hearsay { leader, asked_at });
            }
            // pilotfish itself stood still until then.
            ["awake", seconds] => {
                self.now = Duration::from_secs(seconds.parse().expect("seconds"));
                self.cluster.stood_still(self.now);
            }
            ["reset"] => self.cluster.reset_history(self.now),
            ["members", members @ ..] => self.replace_members(members),
            _ => panic!("unknown action: {action}"),
        }
    }

    /// `name`, or `name@place` for one whose REST API is where that of `place` was.
    fn replace_members(&mut self, members: &[&str]) {
        let placed = |word: &&str| {
            let (name, place) = word.split_once('@').unwrap_or((word, word));
            member(name, place)
        };
        let members: Vec<_> = members.iter().map(placed).collect();
        self.names = members.iter().map(|member| member.name.clone()).collect();
        self.cluster.replace_members(self.now, members);
    }
}

/// What a cell says.
fn observation(cell: &str) -> Observation {
    if cell == "~" {
        return silent(SilenceKind::Timeout);
    }
    let (status, role, state) = match cell.chars().next() {
        Some('W') => (200, Role::Primary, "running"),
        Some('P') => (200, Role::Replica, "running"),
        Some('L') => (200, Role::Primary, "stopping"),
        Some('T') => (200, Role::StandbyLeader, "running"),
        Some('R' | 'S') => (503, Role::Replica, "running"),
        Some('O') => (503, Role::Primary, "running"),
        Some('D') => (503, Role::Replica, "stopped"),
        _ => panic!("unknown cell: {cell}"),
    };
    let (said, lag) = cell.split_once('-').unwrap_or((cell, "0"));
    let lag: u64 = lag.parse().expect("bytes behind");
    let marks = said[1..].trim_start_matches(|c: char| c.is_ascii_digit());
    let timeline = &said[1..said.len() - marks.len()];
    assert!(marks.chars().all(|mark| "punxi".contains(mark)), "unknown mark: {cell}");
    let identity = if marks.contains('x') { "theirs" } else { "ours" };
    Observation::Answered(Report {
        status,
        role,
        state: state.into(),
        timeline: timeline.parse().ok(),
        system_identifier: (!marks.contains('i')).then(|| identity.into()),
        wal_position: (state == "running").then_some(LEADER_POSITION - lag),
        replication_state: cell.starts_with('S').then(|| "streaming".into()),
        pause: marks.contains('p'),
        cluster_unlocked: marks.contains('u'),
        noloadbalance: marks.contains('n'),
        ..Report::default()
    })
}
