//! What comes of a program that was started: processes to be ended together.
//!
//! What is started starts others: a wrapper its program, the program itself the process that stays. They are one process group,
//! so that none of them keeps the listening sockets that it was given when the program fails.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::time::Instant;

/// What starts the process that stays has nothing else to do: it ends within this time, or is ended. Who was ended is waited
/// for no longer either.
const END_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Group {
    /// Not waited for as long as the group may have to be ended: until then no other group has its number.
    first: Child,
    /// The process that is to stay, once it has said so.
    stays: Option<OwnedFd>,
    is_let_go: bool,
}

impl Group {
    /// Blocks while the program is loaded.
    ///
    /// # Errors
    /// Those of the system.
    pub fn start(command: &mut Command) -> io::Result<Group> {
        let first = command.process_group(0).spawn()?;
        Ok(Group { first, stays: None, is_let_go: false })
    }

    /// This one of the group is to stay.
    pub fn stays(&mut self, pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Without pidfds (Linux before 5.3) its end is told by the end of the connection only.
        self.stays = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    }

    /// Waits until the process that stays has ended, or what was to start it has failed; for ever, if neither happens.
    pub async fn fails(&self) {
        let has_failed = || match &self.stays {
            Some(stays) => has_ended(stays),
            None => self.first_has_failed(),
        };
        while !has_failed() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Leaves it for [`Child::wait`].
    fn first_has_failed(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&self.first)), look);
        status.is_ok_and(|status| status.is_some_and(|status| status.exit_status() != Some(0)))
    }

    /// Ends everybody in it, and says how what was started has ended. One that the system cannot end, since a disk hangs, is
    /// left to it.
    pub async fn end(&mut self) -> Option<ExitStatus> {
        self.kill();
        ended(|| self.first.try_wait()).await
    }

    fn kill(&mut self) {
        self.is_let_go = true;
        // Who has ended by itself needs nothing.
        let _ = kill_process_group(Pid::from_child(&self.first), Signal::KILL);
        if let Some(stays) = &self.stays {
            // It may have gone into a group of its own.
            let _ = pidfd_send_signal(stays, Signal::KILL);
        }
    }

    /// The process that stays is on its own from now on.
    pub async fn let_go(&mut self) {
        self.is_let_go = true;
        if ended(|| self.first.try_wait()).await.is_none() {
            let _ = self.first.kill();
            ended(|| self.first.try_wait()).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_let_go {
            self.kill();
            // Nobody can wait here; whoever is not waited for is only a name until this process ends.
            let _ = self.first.try_wait();
        }
    }
}

/// Waits for an end, but not for ever.
async fn ended(mut look: impl FnMut() -> io::Result<Option<ExitStatus>>) -> Option<ExitStatus> {
    let deadline = Instant::now() + END_WITHIN;
    loop {
        match look() {
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            ended => return ended.ok().flatten(),
        }
    }
}

/// A pidfd can be read once its process has ended (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once)).is_ok_and(|ended| ended > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_cannot_be_ended_is_waited_for_no_longer_than_a_moment() {
        let begun = Instant::now();
        assert_eq!(ended(|| Ok(None)).await, None);
        assert!((END_WITHIN..END_WITHIN + LOOK * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let mut looks = 0;
        let third = || {
            looks += 1;
            Ok((looks == 3).then(|| ExitStatus::from_raw(9)))
        };
        assert_eq!(ended(third).await, Some(ExitStatus::from_raw(9)));
    }

    #[tokio::test]
    async fn what_was_started_is_ended_and_gone() {
        let mut group = Group::start(Command::new("sleep").arg("1000")).expect("sleep");
        let pid = Pid::from_child(&group.first);
        assert_eq!(group.end().await.and_then(|status| status.signal()), Some(Signal::KILL.as_raw()));
        rustix::process::test_kill_process(pid).expect_err("it is waited for");
    }
}
