//! How HAProxy would say that a session ended: two letters, who ended it and in which state.
//!
//! (Source: HAProxy, doc/configuration.txt, "Session state at disconnection".) The first letter: `C` client, `S` server,
//! `P` the proxy refused, `I` a fault, `D` the server was taken down, `K` killed by an operator, `c` and `s` a timeout on
//! that side, `-` nothing unusual. The second: `R` waiting for the first bytes, `Q` waiting in a queue, `C` connecting,
//! `D` relaying, `-` after all was done.

use super::{End, Phase};

/// The letters for an end in this phase. Held clients wait as in a queue.
pub fn termination(end: End, phase: Phase, held: bool) -> [char; 2] {
    let state = match phase {
        Phase::Greeting => 'R',
        Phase::Waiting if held => 'Q',
        Phase::Waiting => 'C',
        Phase::Relaying => 'D',
    };
    let who = match end {
        // Nothing unusual, unless it came in the middle of something.
        End::ClientClosed | End::Cancel | End::BackendClosed if phase != Phase::Greeting => {
            return ['-', '-'];
        }
        End::ClientClosed | End::Cancel | End::ClientReset | End::ClientProbe | End::ClientLeft => 'C',
        // A peer that answers no keepalive has broken off, as far as anybody can see.
        End::ClientTimeout => 'C',
        End::BackendClosed | End::BackendReset | End::BackendTimeout => 'S',
        End::ClientSilent | End::ClientIdle | End::TunnelIdle => 'c',
        End::BackendIdle => 's',
        End::ClientGarbage | End::ClientDenied | End::ProxyHeader => 'P',
        End::HoldExpired => return if held { ['s', 'Q'] } else { ['S', 'C'] },
        End::HoldFull | End::PoolLimit | End::ClientLimit => return ['P', 'C'],
        End::QueueExpired => return ['s', 'Q'],
        End::QueueFull => return ['S', 'Q'],
        // Whatever it was doing: HAProxy 2.6 gives no state to what it kills.
        End::RoleLost | End::MemberGone | End::Withdrawn if phase == Phase::Relaying => return ['D', '-'],
        End::Operator | End::Shutdown if phase == Phase::Relaying => return ['K', '-'],
        End::RoleLost | End::MemberGone | End::Withdrawn => 'D',
        End::Operator | End::Shutdown | End::DrainExpired => 'K',
        End::Internal | End::Panicked => 'I',
    };
    [who, state]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_ends() {
        use Phase::{Greeting, Relaying, Waiting};
        for (end, phase, held, letters) in [
            (End::ClientClosed, Relaying, false, "--"),
            (End::BackendClosed, Relaying, true, "--"),
            (End::Cancel, Waiting, false, "--"),
            (End::ClientClosed, Greeting, false, "CR"),
            (End::ClientProbe, Greeting, false, "CR"),
            (End::ClientReset, Greeting, false, "CR"),
            (End::ClientSilent, Greeting, false, "cR"),
            (End::ClientGarbage, Greeting, false, "PR"),
            (End::ClientDenied, Greeting, false, "PR"),
            (End::ProxyHeader, Greeting, false, "PR"),
            (End::ClientLeft, Waiting, false, "CC"),
            (End::ClientLeft, Waiting, true, "CQ"),
            (End::HoldExpired, Waiting, false, "SC"),
            (End::HoldExpired, Waiting, true, "sQ"),
            (End::HoldFull, Waiting, false, "PC"),
            (End::PoolLimit, Greeting, false, "PC"),
            (End::ClientLimit, Greeting, false, "PC"),
            (End::QueueExpired, Waiting, false, "sQ"),
            (End::QueueFull, Waiting, false, "SQ"),
            (End::ClientReset, Relaying, false, "CD"),
            (End::ClientTimeout, Relaying, false, "CD"),
            (End::ClientIdle, Relaying, false, "cD"),
            (End::TunnelIdle, Relaying, false, "cD"),
            (End::BackendReset, Relaying, false, "SD"),
            (End::BackendTimeout, Relaying, false, "SD"),
            (End::BackendIdle, Relaying, false, "sD"),
            (End::RoleLost, Relaying, false, "D-"),
            (End::MemberGone, Relaying, false, "D-"),
            (End::Withdrawn, Relaying, false, "D-"),
            (End::Operator, Relaying, false, "K-"),
            (End::Shutdown, Relaying, false, "K-"),
            (End::Shutdown, Waiting, true, "KQ"),
            (End::DrainExpired, Waiting, true, "KQ"),
            (End::Internal, Relaying, false, "ID"),
            (End::Panicked, Waiting, true, "IQ"),
        ] {
            assert_eq!(String::from_iter(termination(end, phase, held)), letters, "{end} {phase:?} {held}");
        }
    }

    #[test]
    fn every_end_has_letters_that_haproxy_knows() {
        for end in End::ALL {
            for phase in [Phase::Greeting, Phase::Waiting, Phase::Relaying] {
                for held in [false, true] {
                    let [who, state] = termination(end, phase, held);
                    assert!("CSPLRIDUKcs-".contains(who) && "RQCD-".contains(state), "{end} {phase:?}");
                }
            }
        }
    }
}
