//! Every end has one cause, and is counted once; what was counted up on the way is counted down again.

use std::time::Duration;

use pilotfish::stats::{End, MemberCounts};
use pilotfish::topology::Fate;

use super::bench::{Bench, Place, Port, Setup};
use super::member::Member;
use super::packets::{WELCOME, cancel, startup};
use super::peer::Peer;

/// The ends that can be brought about without waiting for a clock.
const SCENES: [End; 15] = [
    End::ClientClosed,
    End::ClientReset,
    End::ClientProbe,
    End::ClientGarbage,
    End::ClientLeft,
    End::Cancel,
    End::BackendClosed,
    End::BackendReset,
    End::HoldExpired,
    End::HoldFull,
    End::RoleLost,
    End::MemberGone,
    End::Withdrawn,
    End::Shutdown,
    End::DrainExpired,
];

/// What the member has sent in each session: its welcome and three bytes.
const BYTES_OUT: u64 = WELCOME.len() as u64 + 3;

struct Stage {
    bench: Bench,
    member: Member,
}

impl Stage {
    async fn new(setup: Setup) -> Stage {
        let stage = Stage { bench: Bench::new(setup), member: Member::start("a").await };
        stage.bench.publish([stage.member.writer()]);
        stage
    }

    fn port(&self) -> &Port {
        &self.bench.primary
    }

    /// An open session after five bytes in and [`BYTES_OUT`] out.
    async fn session(&self) -> (Peer, Peer) {
        let (mut client, mut backend) = self.port().session(&self.member).await;
        client.say(b"12345").await;
        backend.hear(b"12345").await;
        backend.say(b"123").await;
        client.hear(b"123").await;
        (client, backend)
    }

    /// A client for whom nobody is there.
    async fn waiting(&self) -> Peer {
        self.bench.publish([self.member.place()]);
        self.port().client_saying(&startup(0, "app")).await
    }

    /// Brings a session to this end.
    async fn play(&self, end: End) {
        match end {
            End::ClientClosed | End::BackendClosed => {
                let (mut client, mut backend) = self.session().await;
                let (first, second) = match end {
                    End::ClientClosed => (&mut client, &mut backend),
                    _ => (&mut backend, &mut client),
                };
                first.finish();
                second.hear_end().await;
                second.finish();
                first.hear_end().await;
            }
            End::ClientReset | End::BackendReset => {
                let (client, backend) = self.session().await;
                let (first, mut second) =
                    if end == End::ClientReset { (client, backend) } else { (backend, client) };
                first.reset();
                second.hear_reset().await;
            }
            End::ClientProbe => drop(self.port().client().await),
            End::ClientGarbage => _ = self.port().client_saying(b"GET / HTTP/1.1\r\n").await.hear_all().await,
            End::ClientLeft => {
                let client = self.waiting().await;
                self.port().holds(1).await;
                client.reset();
            }
            End::Cancel => {
                let mut client = self.port().client_saying(&cancel(16, 1)).await;
                drop(self.member.session_saying(&cancel(16, 1)).await);
                client.hear_end().await;
            }
            End::HoldExpired | End::HoldFull => _ = self.waiting().await.hear_refusal().await,
            End::RoleLost => {
                let (mut client, _backend) = self.session().await;
                self.bench.publish([self.member.place()]);
                client.hear_reset().await;
            }
            End::MemberGone => {
                let (mut client, _backend) = self.session().await;
                self.bench.publish([]);
                client.hear_reset().await;
            }
            End::Withdrawn => {
                let (mut client, _backend) = self.session().await;
                self.bench.publish([Place { writers: Fate::Withdrawn, ..self.member.place() }]);
                client.hear_reset().await;
            }
            End::Shutdown => {
                let (mut client, _backend) = self.session().await;
                self.bench.workers.cut_all();
                client.hear_reset().await;
            }
            End::DrainExpired => {
                let mut client = self.waiting().await;
                self.port().holds(1).await;
                self.bench.workers.hand_over();
                let sent_away = self.bench.workers.send_held_away(Duration::from_secs(10));
                let (refusal, ()) = tokio::join!(async move { client.hear_refusal().await }, sent_away);
                assert_eq!(refusal.sqlstate, "57P03", "{refusal:?}");
            }
            other => panic!("no scene for {other}"),
        }
    }
}

#[tokio::test]
async fn every_end_is_counted_once_and_every_gauge_goes_back_to_zero() {
    for end in SCENES {
        let hold = Duration::from_millis(if end == End::HoldExpired { 20 } else { 10_000 });
        let max_held = if end == End::HoldFull { 0 } else { 1 };
        let stage = Stage::new(Setup { hold, max_held, ..Setup::default() }).await;
        stage.play(end).await;
        stage.port().ended(end, 1).await;
        stage.bench.emptied().await;
        assert_eq!(stage.port().ends(), [(end, 1)]);
        let had_session = matches!(
            end,
            End::ClientClosed
                | End::BackendClosed
                | End::ClientReset
                | End::BackendReset
                | End::RoleLost
                | End::MemberGone
                | End::Withdrawn
                | End::Shutdown
        );
        let expected = if had_session {
            MemberCounts { active: 0, total: 1, bytes_in: 5, bytes_out: BYTES_OUT, failed_dials: 0 }
        } else {
            MemberCounts::default()
        };
        assert_eq!(stage.port().stats.members(), [("a".to_owned(), expected)], "{end}");
    }
}

#[tokio::test]
async fn counts_add_up_over_workers_and_sessions() {
    const SESSIONS: usize = 40;
    let stage = Stage::new(Setup { workers: 3, ..Setup::default() }).await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(stage.session().await);
    }
    let counts = || stage.port().stats.members()[0].1;
    let many = SESSIONS as u64;
    super::until("all counted", || counts().bytes_out == BYTES_OUT * many).await;
    let open = MemberCounts {
        active: many,
        total: many,
        bytes_in: 5 * many,
        bytes_out: BYTES_OUT * many,
        failed_dials: 0,
    };
    assert_eq!(counts(), open);
    assert_eq!((stage.port().stats.clients(), stage.port().dials()), (SESSIONS, many));
    for (client, _) in &sessions {
        client.finish();
    }
    for (_, backend) in &mut sessions {
        backend.hear_end().await;
    }
    drop(sessions);
    stage.port().ended(End::ClientClosed, many).await;
    stage.bench.emptied().await;
    assert_eq!(counts(), MemberCounts { active: 0, ..open });
}
