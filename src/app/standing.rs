//! How all clusters stand, in one line for `systemctl status`.
//!
//! Few clusters are each named with their writer. Of many only those without one are named: that is what somebody who
//! looks wants to know.

use crate::control::{ClusterPicture, Pictures};

/// More clusters than this are counted.
const MOST_NAMED: usize = 4;

/// A cluster and who takes its writes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    cluster: String,
    writer: Option<String>,
    /// Enough has been heard of it to decide.
    decided: bool,
}

/// The line for this moment.
pub(super) fn line(pictures: &Pictures) -> String {
    let standings: Vec<Standing> = pictures.all().iter().map(|picture| Standing::of(picture)).collect();
    text(&standings)
}

impl Standing {
    fn of(picture: &ClusterPicture) -> Standing {
        let writer = picture.decision.as_ref().and_then(|decision| decision.writer.clone());
        Standing { cluster: picture.name.to_string(), writer, decided: picture.decision.is_some() }
    }
}

fn text(standings: &[Standing]) -> String {
    let named = |standing: &Standing| match &standing.writer {
        Some(writer) => format!("{}: writer {writer}", standing.cluster),
        None if standing.decided => format!("{}: no writer", standing.cluster),
        None => format!("{}: nothing heard yet", standing.cluster),
    };
    if standings.len() <= MOST_NAMED {
        return standings.iter().map(named).collect::<Vec<_>>().join("; ");
    }
    let without: Vec<&str> =
        standings.iter().filter(|standing| standing.writer.is_none()).map(|it| &*it.cluster).collect();
    let count = format!("{} of {} clusters have a writer", standings.len() - without.len(), standings.len());
    match without.split_at_checked(MOST_NAMED) {
        _ if without.is_empty() => count,
        Some((shown, more)) if !more.is_empty() => {
            format!("{count}; without: {} and {} more", shown.join(", "), more.len())
        }
        _ => format!("{count}; without: {}", without.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clusters c1, c2 and so on: `+` has a writer, `-` has none, `?` has not been heard of.
    fn standings(signs: &str) -> Vec<Standing> {
        let standing = |(index, sign): (usize, char)| Standing {
            cluster: format!("c{}", index + 1),
            writer: (sign == '+').then(|| format!("pg{}", index + 1)),
            decided: sign != '?',
        };
        signs.chars().enumerate().map(standing).collect()
    }

    #[test]
    fn few_clusters_are_named_and_of_many_those_in_need() {
        let cases = [
            ("+", "c1: writer pg1"),
            ("-", "c1: no writer"),
            ("?", "c1: nothing heard yet"),
            ("+-?+", "c1: writer pg1; c2: no writer; c3: nothing heard yet; c4: writer pg4"),
            ("+++++", "5 of 5 clusters have a writer"),
            ("+-+?+", "3 of 5 clusters have a writer; without: c2, c4"),
            ("----+", "1 of 5 clusters have a writer; without: c1, c2, c3, c4"),
            ("------", "0 of 6 clusters have a writer; without: c1, c2, c3, c4 and 2 more"),
        ];
        for (signs, expected) in cases {
            assert_eq!(text(&standings(signs)), expected, "{signs}");
        }
    }
}
