//! Whether a new process knows enough to take the old one's place: pure.

/// How an address stands in the new process, compared with the old one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Everybody who takes its sessions there does so here.
    Whole,
    /// It leads somewhere, as it does there.
    Enough,
    /// It leads nowhere.
    Not,
}

/// Compares the members that take new sessions there and here.
pub(super) fn settled(there: &[String], here: &[String]) -> Settled {
    match there.iter().all(|member| here.contains(member)) {
        true => Settled::Whole,
        false if here.is_empty() => Settled::Not,
        false => Settled::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_old_process_knows_the_new_one_must_know() {
        let members = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (there, here, expected) in [
            ("a", "a", Settled::Whole),
            ("b c", "c b d", Settled::Whole),
            ("b c", "c", Settled::Enough),
            // The leader has changed meanwhile, or the names have.
            ("a", "b", Settled::Enough),
            ("a", "", Settled::Not),
            // Nobody knew of anybody there either.
            ("", "", Settled::Whole),
            ("", "a", Settled::Whole),
        ] {
            assert_eq!(settled(&members(there), &members(here)), expected, "{there} | {here}");
        }
    }
}
