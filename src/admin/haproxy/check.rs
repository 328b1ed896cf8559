//! The last check of a member, in the words of a check that HAProxy would have made.
//!
//! Behind HAProxy each pool has a check of its own (`/primary`, `/replica`), so a member that is well but has another
//! role fails it with status 503. pilotfish asks once and decides for all pools; here the decision is the outcome.

use super::super::view::CheckView;
use crate::topology::SilenceKind;

/// HAProxy's code of a check's outcome, with what goes beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub status: &'static str,
    pub code: Option<u16>,
    pub description: &'static str,
}

/// All codes of `haproxy_server_check_status`, in HAProxy's order.
pub const STATES: [&str; 16] = [
    "HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7OK",
    "L7OKC", "L7STS", "PROCERR", "PROCTOUT", "PROCOK",
];

const NOT_YET: Outcome = Outcome { status: "INI", code: None, description: "Initializing" };
const WRONG_STATUS: Outcome = Outcome { status: "L7STS", code: None, description: "Layer7 wrong status" };

/// What a check for the pool would have said, `fit` being whether the member takes its new sessions, or would if it were
/// not drained.
pub fn outcome(check: Option<&CheckView>, fit: bool) -> Outcome {
    let Some(check) = check else { return NOT_YET };
    match check.silence {
        Some(kind) => of_silence(kind),
        None if fit => Outcome { status: "L7OK", code: Some(200), description: "Layer7 check passed" },
        None => Outcome { code: Some(503), ..WRONG_STATUS },
    }
}

fn of_silence(kind: SilenceKind) -> Outcome {
    let (status, description) = match kind {
        SilenceKind::Login => return Outcome { code: Some(401), ..WRONG_STATUS },
        SilenceKind::Timeout => ("L7TOUT", "Layer7 timeout"),
        SilenceKind::Refused | SilenceKind::Unreachable => ("L4CON", "Layer4 connection problem"),
        SilenceKind::Reset => ("SOCKERR", "Socket error"),
        SilenceKind::Tls => ("L6RSP", "Layer6 invalid response"),
        SilenceKind::NotPatroni | SilenceKind::TooLarge | SilenceKind::Fault => {
            ("L7RSP", "Layer7 invalid response")
        }
    };
    Outcome { status, code: None, description }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_in_the_documentation() {
        let text = include_str!("../../../docs/haproxy-views.md");
        let (_, table) =
            text.split_once("| `check_status` | when |\n|---|---|\n").expect("the table of outcomes");
        let (table, _) = table.split_once("\n\n").expect("its end");
        let mut told: Vec<&str> =
            table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim).collect();
        let of = |silence| CheckView { silence, ..CheckView::default() };
        let silences = [
            SilenceKind::Timeout,
            SilenceKind::Refused,
            SilenceKind::Reset,
            SilenceKind::Unreachable,
            SilenceKind::Tls,
            SilenceKind::NotPatroni,
            SilenceKind::TooLarge,
            SilenceKind::Login,
            SilenceKind::Fault,
        ];
        let silent = silences.map(|kind| outcome(Some(&of(Some(kind))), false));
        let others = [outcome(Some(&of(None)), true), outcome(Some(&of(None)), false), outcome(None, false)];
        let shown = |outcome: &Outcome| match outcome.code {
            Some(code) => format!("`{}` {code}", outcome.status),
            None => format!("`{}`", outcome.status),
        };
        let mut all: Vec<String> = silent.iter().chain(&others).map(shown).collect();
        told.sort_unstable();
        all.sort_unstable();
        all.dedup();
        assert_eq!(told, all);
    }
}
