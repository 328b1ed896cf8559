//! How a session ended: who ended it, in which phase, and why.
//!
//! One enum is the log field, the metric label and the table column, so that the three cannot disagree.

use std::fmt;

/// The one cause of a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum End {
    /// The client closed, within its first packet or with everything delivered.
    ClientClosed,
    /// The client's connection was reset.
    ClientReset,
    /// The client vanished: keepalive or unacknowledged data timed out.
    ClientTimeout,
    /// The client connected and closed without a byte, as port checks do.
    ClientProbe,
    /// The client did not say what it wants in time.
    ClientSilent,
    /// The first packet was not PostgreSQL's protocol.
    ClientGarbage,
    /// The listener does not allow the client's address.
    ClientDenied,
    /// A trusted proxy sent no PROXY protocol header, or one that cannot be used.
    ProxyHeader,
    /// The client left while it waited for a member.
    ClientLeft,
    /// A CancelRequest was passed on: the normal end of such a connection.
    Cancel,
    /// The member closed, and everything was delivered.
    BackendClosed,
    /// The member's connection was reset.
    BackendReset,
    /// The member vanished: keepalive or unacknowledged data timed out.
    BackendTimeout,
    /// Nothing moved for as long as a client may be idle.
    ClientIdle,
    /// Nothing moved for as long as a server may be idle.
    BackendIdle,
    /// Nothing moved for as long as a session may be idle.
    TunnelIdle,
    /// No member could take the client within `hold`.
    HoldExpired,
    /// As many clients as allowed were held already.
    HoldFull,
    /// The pool had as many clients as it may (`max_sessions`).
    PoolLimit,
    /// The client's address had as many sessions as it may (`max_sessions_per_client`).
    ClientLimit,
    /// Every member was full, and as many clients as allowed waited already (`max_queued`).
    QueueFull,
    /// Every member was full for as long as a client may wait (`queue_timeout`).
    QueueExpired,
    /// Cut: its member is no longer the writer.
    RoleLost,
    /// Cut: its member no longer belongs to the cluster.
    MemberGone,
    /// Cut: its member takes no more readers, and open ones are set not to outlive that.
    Withdrawn,
    /// Cut: an operator closed the sessions of its member.
    Operator,
    /// Cut or refused because pilotfish stops; cut because its pool is served no more.
    Shutdown,
    /// Held until the drain was over, of a process that another one has taken the place of, or of a pool that is served no more.
    DrainExpired,
    /// Something inside pilotfish: the system did not let it watch the connection.
    Internal,
    /// A panic in this session.
    Panicked,
}

/// Who brought the end about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Backend,
    Pilotfish,
}

/// How far the session had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before the first packet was complete.
    Greeting,
    /// Looking for a member, dialling or held.
    Waiting,
    Relaying,
}

impl End {
    pub const ALL: [End; 30] = [
        End::ClientClosed,
        End::ClientReset,
        End::ClientTimeout,
        End::ClientProbe,
        End::ClientSilent,
        End::ClientGarbage,
        End::ClientDenied,
        End::ProxyHeader,
        End::ClientLeft,
        End::Cancel,
        End::BackendClosed,
        End::BackendReset,
        End::BackendTimeout,
        End::ClientIdle,
        End::BackendIdle,
        End::TunnelIdle,
        End::HoldExpired,
        End::HoldFull,
        End::PoolLimit,
        End::ClientLimit,
        End::QueueFull,
        End::QueueExpired,
        End::RoleLost,
        End::MemberGone,
        End::Withdrawn,
        End::Operator,
        End::Shutdown,
        End::DrainExpired,
        End::Internal,
        End::Panicked,
    ];

    /// The word in logs, metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            End::ClientClosed => "client_closed",
            End::ClientReset => "client_reset",
            End::ClientTimeout => "client_timeout",
            End::ClientProbe => "client_probe",
            End::ClientSilent => "client_silent",
            End::ClientGarbage => "client_garbage",
            End::ClientDenied => "client_denied",
            End::ProxyHeader => "proxy_header",
            End::ClientLeft => "client_left",
            End::Cancel => "cancel",
            End::BackendClosed => "backend_closed",
            End::BackendReset => "backend_reset",
            End::BackendTimeout => "backend_timeout",
            End::ClientIdle => "client_idle",
            End::BackendIdle => "backend_idle",
            End::TunnelIdle => "tunnel_idle",
            End::HoldExpired => "hold_expired",
            End::HoldFull => "hold_full",
            End::PoolLimit => "pool_limit",
            End::ClientLimit => "client_limit",
            End::QueueFull => "queue_full",
            End::QueueExpired => "queue_expired",
            End::RoleLost => "role_lost",
            End::MemberGone => "member_gone",
            End::Withdrawn => "withdrawn",
            End::Operator => "operator",
            End::Shutdown => "shutdown",
            End::DrainExpired => "drain_expired",
            End::Internal => "internal",
            End::Panicked => "panicked",
        }
    }

    pub fn side(self) -> Side {
        match self {
            End::ClientClosed
            | End::ClientReset
            | End::ClientTimeout
            | End::ClientProbe
            | End::ClientSilent
            | End::ClientGarbage
            | End::ClientDenied
            | End::ProxyHeader
            | End::ClientLeft
            | End::Cancel => Side::Client,
            End::BackendClosed | End::BackendReset | End::BackendTimeout => Side::Backend,
            End::ClientIdle
            | End::BackendIdle
            | End::TunnelIdle
            | End::HoldExpired
            | End::HoldFull
            | End::PoolLimit
            | End::ClientLimit
            | End::QueueFull
            | End::QueueExpired
            | End::RoleLost
            | End::MemberGone
            | End::Withdrawn
            | End::Operator
            | End::Shutdown
            | End::DrainExpired
            | End::Internal
            | End::Panicked => Side::Pilotfish,
        }
    }
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Backend => "backend",
            Side::Pilotfish => "pilotfish",
        }
    }
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Greeting => "greeting",
            Phase::Waiting => "waiting",
            Phase::Relaying => "relaying",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::End;
    use std::collections::HashSet;

    #[test]
    fn every_end_has_its_own_place_and_word() {
        let words: HashSet<&str> = End::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(words.len(), End::ALL.len());
        for (place, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, place);
        }
    }
}
