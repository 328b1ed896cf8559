//! What the log has last said of pools that nobody takes sessions of.
//!
//! The begin of a vacancy is told once for each cause, and so is its end. A pool may pass through states that are not
//! worth a line in between: a new node has not been asked yet, or the writer is gone, which is told of the cluster. So a
//! pool is compared with what was said of it and not with how it was before.
//!
//! Pure: routes go in, what is to be said comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::routing::{Cause, Kind, PoolRoutes, Routes, Vacancy};

/// By pool that was said to have nobody: the cause, as it was last told here or of the cluster.
#[derive(Debug, Default)]
pub(super) struct Vacancies(BTreeMap<Arc<str>, Cause>);

/// One line about a pool.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Nobody takes its sessions, or nobody for another reason than before.
    Nobody(&'a PoolRoutes, &'a Vacancy),
    /// Somebody does again.
    Taken(&'a PoolRoutes),
}

/// What becomes of one pool's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Nobody,
    Taken,
    Nothing,
}

impl Vacancies {
    /// What is to be said of these routes, which follow those of the last call.
    pub fn news<'a>(&mut self, routes: &'a Routes) -> Vec<Line<'a>> {
        // A reload may have taken a pool away.
        self.0.retain(|name, _| routes.pool(name).is_some());
        let line = |pool: &'a PoolRoutes| {
            let vacancy = pool.vacancy.as_ref();
            match self.take_in(&pool.name, pool.kind, vacancy.map(|vacancy| vacancy.cause)) {
                News::Nobody => vacancy.map(|vacancy| Line::Nobody(pool, vacancy)),
                News::Taken => Some(Line::Taken(pool)),
                News::Nothing => None,
            }
        };
        routes.pools.iter().filter_map(line).collect()
    }

    fn take_in(&mut self, pool: &Arc<str>, kind: Kind, cause: Option<Cause>) -> News {
        match (cause, kind) {
            (None, _) if self.0.remove(pool).is_some() => News::Taken,
            (None | Some(Cause::Unknown), _) => News::Nothing,
            // Told with the decision. What was told before is over, and its end is still to come.
            (Some(cause @ Cause::NoWriter), _) | (Some(cause @ Cause::Drained), Kind::Primary) => {
                self.0.entry(Arc::clone(pool)).and_modify(|told| *told = cause);
                News::Nothing
            }
            (
                Some(
                    cause @ (Cause::Port
                    | Cause::OwnListener
                    | Cause::Weight
                    | Cause::Drained
                    | Cause::NoReplica
                    | Cause::Unfit),
                ),
                _,
            ) => match self.0.insert(Arc::clone(pool), cause) {
                Some(told) if told == cause => News::Nothing,
                _ => News::Nobody,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.` taken, `?` unknown, `w` no writer, `p` a dead port, `d` drained, `r` no replica.
    fn cause(letter: char) -> Option<Cause> {
        match letter {
            '.' => None,
            '?' => Some(Cause::Unknown),
            'w' => Some(Cause::NoWriter),
            'p' => Some(Cause::Port),
            'd' => Some(Cause::Drained),
            _ => Some(Cause::NoReplica),
        }
    }

    #[test]
    fn each_begin_is_told_once_and_so_is_each_end() {
        // What is told: `!` nobody, `+` taken again, `.` nothing.
        for (kind, seen, told) in [
            (Kind::Replicas, "..rr..", "..!.+."),
            // A node joins: it serves, or it does not.
            (Kind::Replicas, "r?.", "!.+"),
            (Kind::Replicas, "r?r?r.", "!....+"),
            (Kind::Primary, "p?p.", "!..+"),
            (Kind::Replicas, "rpr.", "!!!+"),
            (Kind::Replicas, "?.?.", "...."),
            (Kind::Replicas, "d.", "!+"),
            // Of the cluster: told with the decision, and no end without a begin.
            (Kind::Primary, "w.d.", "...."),
            (Kind::Primary, "pw.", "!.+"),
            (Kind::Primary, "pwp.", "!.!+"),
            (Kind::Primary, "pdp.", "!.!+"),
        ] {
            let (mut vacancies, pool) = (Vacancies::default(), Arc::from("pool"));
            let step = |letter: char| match vacancies.take_in(&pool, kind, cause(letter)) {
                News::Nobody => '!',
                News::Taken => '+',
                News::Nothing => '.',
            };
            assert_eq!(seen.chars().map(step).collect::<String>(), told, "{kind:?} {seen}");
        }
    }

    #[test]
    fn a_pool_that_a_reload_has_taken_away_is_forgotten() {
        let mut vacancies = Vacancies::default();
        vacancies.take_in(&Arc::from("pool"), Kind::Replicas, Some(Cause::NoReplica));
        assert!(vacancies.news(&Routes::default()).is_empty() && vacancies.0.is_empty());
    }
}
