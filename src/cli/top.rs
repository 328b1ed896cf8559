//! `pilotfish top`: the members as they are now, again and again.

use std::collections::BTreeSet;
use std::io::{IsTerminal, stdin, stdout};
use std::time::{Duration, Instant};

use super::answers::{Cluster, Member, Status};
use super::arguments::Form;
use super::client::Client;
use super::output::{harmless, print_json};
use super::screen::{Key, Line, Screen, Stress};
use super::status::headline;
use super::table::Table;
use super::{EXIT_FAILED, Failure};
use crate::admin::figures::bytes;

/// The longest text to filter by; names are shorter.
const LONGEST_FILTER: usize = 64;

pub fn top(client: &Client, interval: Duration) -> Result<(), Failure> {
    if client.form == Form::Json {
        loop {
            print_json(&client.get("/api/v1/status")?)?;
            std::thread::sleep(interval);
        }
    }
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::new(EXIT_FAILED, "top needs a terminal; without one use -o json, or status"));
    }
    // Whoever cannot be reached at all is told so on the terminal as it was.
    let first = client.read("/api/v1/status")?;
    let failed = |error| Failure::new(EXIT_FAILED, format!("the terminal cannot be used: {error}"));
    let mut screen = Screen::open().map_err(failed)?;
    let mut top = Top::new(first, Instant::now());
    let mut next = Instant::now() + interval;
    while top.goes_on {
        screen.draw(&top.lines(screen.size().1)).map_err(failed)?;
        let patience = next.saturating_duration_since(Instant::now());
        if let Some(key) = screen.key(patience).map_err(failed)? {
            top.press(key);
            continue;
        }
        if Instant::now() >= next {
            if !top.paused {
                top.take(client.read("/api/v1/status"), Instant::now());
            }
            next = Instant::now() + interval;
        }
    }
    Ok(())
}

/// What is shown, and how somebody wants it.
#[derive(Debug)]
struct Top {
    now: (Instant, Status),
    before: Option<(Instant, Status)>,
    /// Why the last look failed; what is shown is older then.
    problem: Option<String>,
    sort: Sort,
    reverse: bool,
    filter: String,
    /// Keys go into the filter.
    typing: bool,
    paused: bool,
    goes_on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Name,
    Sessions,
    In,
    Out,
    Lag,
}

/// A member, its cluster, and bytes per second in and out.
struct Row<'a> {
    cluster: &'a str,
    member: &'a Member,
    rates: (u64, u64),
}

impl Sort {
    const ALL: [(Sort, &'static str); 5] = [
        (Sort::Name, "name"),
        (Sort::Sessions, "sessions"),
        (Sort::In, "in/s"),
        (Sort::Out, "out/s"),
        (Sort::Lag, "lag"),
    ];

    fn position(self) -> usize {
        Sort::ALL.iter().position(|(sort, _)| *sort == self).unwrap_or(0)
    }

    fn next(self) -> Sort {
        Sort::ALL[(self.position() + 1) % Sort::ALL.len()].0
    }

    fn word(self) -> &'static str {
        Sort::ALL[self.position()].1
    }
}

impl Top {
    fn new(first: Status, at: Instant) -> Top {
        Top {
            now: (at, first),
            before: None,
            problem: None,
            sort: Sort::Name,
            reverse: false,
            filter: String::new(),
            typing: false,
            paused: false,
            goes_on: true,
        }
    }

    fn take(&mut self, look: Result<Status, Failure>, at: Instant) {
        match look {
            Ok(status) => {
                self.before = Some(std::mem::replace(&mut self.now, (at, status)));
                self.problem = None;
            }
            Err(Failure { message, .. }) => self.problem = Some(message),
        }
    }

    fn press(&mut self, key: Key) {
        match (key, self.typing) {
            (Key::Interrupt, _) => self.goes_on = false,
            (Key::Resized, _) => {}
            (Key::Letter(letter), true) if self.filter.len() < LONGEST_FILTER => self.filter.push(letter),
            (Key::Backspace, true) => drop(self.filter.pop()),
            (Key::Enter, true) => self.typing = false,
            (Key::Escape, _) if self.typing || !self.filter.is_empty() => {
                self.typing = false;
                self.filter.clear();
            }
            (Key::Letter('q') | Key::Escape, false) => self.goes_on = false,
            (Key::Letter('p' | ' '), false) => self.paused = !self.paused,
            (Key::Letter('s'), false) => self.sort = self.sort.next(),
            (Key::Letter('r'), false) => self.reverse = !self.reverse,
            (Key::Letter('/'), false) => self.typing = true,
            _ => {}
        }
    }

    fn lines(&self, height: usize) -> Vec<Line> {
        let plain = |text: String| Line { text, stress: Stress::None };
        let mut lines = vec![Line { text: self.title(), stress: Stress::Bold }];
        if let Some(problem) = &self.problem {
            let text = harmless(&format!("what is below is old: {problem}"));
            lines.push(Line { text, stress: Stress::Reverse });
        }
        let mut overviews = self.overviews();
        // The members are what it is for; however many clusters there are, half of the height is theirs.
        overviews.truncate((height / 2).saturating_sub(lines.len()));
        lines.extend(overviews);
        lines.push(plain(String::new()));
        let mut table = self.table().lines().into_iter();
        lines.extend(table.next().map(|text| Line { text, stress: Stress::Reverse }));
        // The last line is for the keys.
        let room = height.saturating_sub(lines.len() + 1);
        lines.extend(table.take(room).map(plain));
        lines.resize(height.saturating_sub(1), plain(String::new()));
        lines.push(Line { text: self.keys(), stress: Stress::Bold });
        lines
    }

    fn title(&self) -> String {
        let Status { version, sessions, max_sessions, .. } = &self.now.1;
        let paused = if self.paused { "  PAUSED" } else { "" };
        format!("pilotfish {version}  {sessions} of {max_sessions} sessions{paused}")
    }

    fn keys(&self) -> String {
        if self.typing {
            return format!("filter: {}_  (Enter to keep, Esc for all)", self.filter);
        }
        let filter = if self.filter.is_empty() { "all".to_owned() } else { self.filter.clone() };
        let direction = if self.reverse { ", reversed" } else { "" };
        format!("q quit  p pause  s sort ({}{direction})  r reverse  / filter ({filter})", self.sort.word())
    }

    /// Of the clusters that have a member below, or none at all; those in trouble first, since not all may fit.
    fn overviews(&self) -> Vec<Line> {
        let shown: BTreeSet<&str> = self.rows().iter().map(|row| row.cluster).collect();
        let is_empty = |c: &Cluster| c.members.is_empty() && self.is_wanted(&[&c.name]);
        let clusters = self.now.1.clusters.iter();
        let mut clusters: Vec<&Cluster> =
            clusters.filter(|c| shown.contains(c.name.as_str()) || is_empty(c)).collect();
        clusters.sort_by_key(|cluster| is_well(cluster));
        clusters.into_iter().flat_map(|cluster| self.overview(cluster)).collect()
    }

    fn overview(&self, cluster: &Cluster) -> Vec<Line> {
        let stress = if is_well(cluster) { Stress::None } else { Stress::Reverse };
        let mut lines = vec![Line { text: headline(cluster), stress }];
        if !is_well(cluster) {
            lines.push(Line { text: harmless(&format!("  {}", cluster.reason)), stress: Stress::None });
        }
        for pool in &cluster.pools {
            let routes =
                if pool.routable.is_empty() { "nobody".to_owned() } else { pool.routable.join(", ") };
            let text =
                format!("  {}: {} sessions, {} held, to {routes}", pool.name, pool.sessions, pool.held);
            lines.push(Line { text: harmless(&text), stress: Stress::None });
        }
        lines
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "CLUSTER",
            "MEMBER",
            "CLASS",
            "STATE",
            "ADMIN",
            ">LAG",
            ">SESSIONS",
            ">IN/S",
            ">OUT/S",
        ]);
        for Row { cluster, member, rates } in self.rows() {
            table.row([
                cluster.to_owned(),
                member.name.clone(),
                member.class.clone(),
                member.state.clone().unwrap_or_else(|| "-".to_owned()),
                member.admin.clone(),
                member.lag_bytes.map_or("-".to_owned(), bytes),
                member.sessions.to_string(),
                bytes(rates.0),
                bytes(rates.1),
            ]);
        }
        table
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for cluster in &self.now.1.clusters {
            for member in &cluster.members {
                let rates = self.rates(&cluster.name, member);
                rows.push(Row { cluster: &cluster.name, member, rates });
            }
        }
        rows.retain(|Row { cluster, member, .. }| {
            self.is_wanted(&[cluster, &member.name, &member.class, &member.admin])
        });
        // Names go up, figures go down: what stands out comes first. Rows of one figure stay in their order.
        match self.sort {
            Sort::Name => {}
            Sort::Sessions => rows.sort_by_key(|row| std::cmp::Reverse(row.member.sessions)),
            Sort::In => rows.sort_by_key(|row| std::cmp::Reverse(row.rates.0)),
            Sort::Out => rows.sort_by_key(|row| std::cmp::Reverse(row.rates.1)),
            Sort::Lag => rows.sort_by_key(|row| std::cmp::Reverse(row.member.lag_bytes)),
        }
        if self.reverse {
            rows.reverse();
        }
        rows
    }

    fn is_wanted(&self, texts: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().contains(&wanted))
    }

    /// Bytes per second since the look before; a member that restarts its count has none.
    fn rates(&self, cluster: &str, member: &Member) -> (u64, u64) {
        let Some((before, status)) = &self.before else { return (0, 0) };
        let seconds = self.now.0.saturating_duration_since(*before).as_secs_f64();
        let cluster = status.clusters.iter().find(|known| known.name == cluster);
        let was = cluster.and_then(|cluster| cluster.members.iter().find(|known| known.name == member.name));
        let Some(was) = was.filter(|_| seconds > 0.0) else { return (0, 0) };
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds) as u64;
        (rate(member.bytes_in, was.bytes_in), rate(member.bytes_out, was.bytes_out))
    }
}

fn is_well(cluster: &Cluster) -> bool {
    cluster.condition == "ok" && cluster.writer.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::answers::Pool;
    use super::*;

    fn status(sessions: [u64; 3], bytes_in: u64) -> Status {
        let member = |(name, sessions): (&str, u64)| Member {
            name: name.to_owned(),
            class: "reader".to_owned(),
            sessions,
            bytes_in,
            ..Member::default()
        };
        let members = ["a", "b", "c"].into_iter().zip(sessions).map(member).collect();
        let cluster = Cluster {
            name: "demo".into(),
            condition: "ok".into(),
            writer: Some("a".into()),
            members,
            ..Cluster::default()
        };
        Status { clusters: vec![cluster], ..Status::default() }
    }

    fn names(top: &Top) -> String {
        top.rows().iter().map(|row| row.member.name.as_str()).collect()
    }

    #[test]
    fn keys_sort_reverse_filter_pause_and_quit() {
        let mut top = Top::new(status([1, 3, 2], 0), Instant::now());
        let mut after = |keys: &str| {
            for key in keys.chars() {
                top.press(match key {
                    '\n' => Key::Enter,
                    '\u{1b}' => Key::Escape,
                    '\u{8}' => Key::Backspace,
                    letter => Key::Letter(letter),
                });
            }
            (names(&top), top.paused, top.goes_on)
        };
        for (keys, shown) in [
            ("", "abc"),
            ("s", "bca"),
            ("r", "acb"),
            ("r/c", "c"),
            ("\u{8}B\n", "b"),
            ("\u{1b}", "bca"),
            ("/q", ""),
            ("\u{1b}", "bca"),
        ] {
            assert_eq!(after(keys), (shown.to_owned(), false, true), "{keys:?}");
        }
        assert_eq!(after("p"), ("bca".to_owned(), true, true));
        assert_eq!(after("pq"), ("bca".to_owned(), false, false));
    }

    #[test]
    fn members_and_keys_are_in_sight_however_many_clusters_there_are() {
        let mut many = status([0; 3], 0);
        let cluster = |number: usize| {
            let mut cluster = status([0; 3], 0).clusters.remove(0);
            cluster.name = format!("demo{number}");
            cluster.pools = vec![Pool::default(), Pool::default()];
            cluster
        };
        many.clusters = (0..10).map(cluster).collect();
        many.clusters[9].writer = None;
        many.clusters.push(Cluster { name: "mute".into(), condition: "silent".into(), ..Cluster::default() });
        let mut top = Top::new(many, Instant::now());
        let texts = |top: &Top, height| -> Vec<String> {
            top.lines(height).into_iter().map(|line| line.text).collect()
        };
        for height in [0, 1, 2, 3, 8, 24, 25, 100] {
            let lines = texts(&top, height);
            assert_eq!(lines.len(), height.max(1), "{height}");
            assert!(lines.last().is_some_and(|last| last.starts_with("q quit")), "{height}: {lines:?}");
        }
        let lines = texts(&top, 24);
        assert!(lines[1].starts_with("Cluster demo9") && lines[5].starts_with("Cluster mute"), "{lines:?}");
        assert!(lines[12].is_empty() && lines[13].starts_with("CLUSTER"), "{lines:?}");
        assert!(lines[14..23].iter().all(|line| line.starts_with("demo")), "{lines:?}");
        top.filter = "demo7".to_owned();
        let lines = texts(&top, 24);
        let overviews: Vec<&String> = lines.iter().filter(|line| line.starts_with("Cluster ")).collect();
        assert!(matches!(overviews[..], [one] if one.starts_with("Cluster demo7")), "{lines:?}");
    }

    #[test]
    fn rates_are_those_between_two_looks_and_an_old_picture_says_so() {
        let begin = Instant::now();
        let mut top = Top::new(status([0; 3], 1000), begin);
        assert_eq!(top.rows()[0].rates, (0, 0));
        top.take(Ok(status([0; 3], 5000)), begin + Duration::from_secs(2));
        assert_eq!(top.rows()[0].rates, (2000, 0));
        top.take(Ok(status([0; 3], 0)), begin + Duration::from_secs(3));
        assert_eq!(top.rows()[0].rates, (0, 0));
        top.take(Err(Failure::new(69, "nobody answers")), begin + Duration::from_secs(4));
        let lines = top.lines(24);
        assert_eq!(lines.len(), 24);
        assert!(lines[1].text.contains("old: nobody answers") && lines[23].text.starts_with("q quit"));
    }
}
