//! What the service manager is told: that pilotfish serves, reloads or stops, how it stands, and that it is alive.
//!
//! The protocol is sd_notify(3): datagrams to the socket in `$NOTIFY_SOCKET`. Without that variable nobody is told anything.
//! That a datagram does not arrive changes nothing for sessions, so it is in the log at level debug only.

use std::time::Duration;

use sd_notify::NotifyState;

/// A stop is granted this much beyond its drain, for the last words of sessions and threads.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// systemd, or another that speaks its protocol.
#[derive(Debug, Clone, Copy)]
pub struct Manager {
    is_there: bool,
}

impl Manager {
    pub fn from_environment() -> Manager {
        Manager { is_there: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    pub fn is_there(self) -> bool {
        self.is_there
    }

    /// Within this time the manager wants a sign of life, again and again; `None`: it wants none.
    pub fn patience(self) -> Option<Duration> {
        // Zero stands for no watchdog.
        let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
        patience.filter(|_| self.is_there)
    }

    /// Connections are taken from now on, or again by the reloaded configuration.
    pub fn ready(self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read anew; [`Manager::ready`] ends that. The time tells this reload from an older one
    /// (systemd.service(5), `Type=notify-reload`).
    pub fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
        }
    }

    /// One line for `systemctl status`.
    pub fn status(self, line: &str) {
        self.tell(&[NotifyState::Status(line)]);
    }

    /// A stop has begun that may last for `drain`: longer than the manager would wait, perhaps.
    pub fn stopping(self, drain: Duration, sessions: usize) {
        // The library's own state ends at 71 minutes.
        let extended = format!("EXTEND_TIMEOUT_USEC={}", (drain + STOP_MARGIN).as_micros());
        let status = format!("stopping: {sessions} sessions may finish for {} s", drain.as_secs_f64());
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::Custom(&extended)]);
    }

    /// Another process is the one to watch from now on, and to listen to.
    pub fn succeeded_by(self, pid: u32) {
        self.tell(&[NotifyState::MainPid(pid)]);
    }

    /// A sign of life.
    pub fn alive(self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(self, states: &[NotifyState<'_>]) {
        if !self.is_there {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(%error, "the service manager was not told {states:?}");
        }
    }
}
