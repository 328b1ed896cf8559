//! `pilotfish top` on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use super::child::command;
use super::terminal::Console;
use crate::control::cluster::FakeCluster;
use crate::control::within;

struct Terminal {
    keyboard: File,
    /// The other side, kept so that its modes can be looked at.
    inner: OwnedFd,
    shown: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    fn top(socket: &str) -> Terminal {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&outer).and_then(|()| unlockpt(&outer)).expect("a terminal");
        let name = ptsname(&outer, Vec::new()).expect("a name");
        let inner =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other side");
        let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&inner, size).expect("a size");
        let side = || Stdio::from(inner.try_clone().expect("a descriptor"));
        let mut command = command(&["top", "--interval", "100ms", "--admin", &format!("unix:{socket}")]);
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm");
        let child = command.spawn().expect("the program starts");
        let keyboard = File::from(outer);
        let shown = Arc::<Mutex<String>>::default();
        let (mut screen, text) = (keyboard.try_clone().expect("a descriptor"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let new = String::from_utf8_lossy(&bytes[..count]).into_owned();
                text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&new);
            }
        });
        Terminal { keyboard, inner, shown, child }
    }

    fn press(&mut self, keys: &str) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Waits until this has been shown since the last key.
    async fn shows(&self, wanted: &str) {
        let search = async {
            while !self.shown.lock().unwrap_or_else(PoisonError::into_inner).contains(wanted) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(crate::control::PATIENCE, search).await.is_err() {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let frame = shown.rsplit("\u{1b}[1;1H").next().unwrap_or("");
            panic!("{wanted:?} is not in what was shown last: {frame:?}");
        }
    }

    async fn exit(&mut self) -> Option<i32> {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("it is ours") {
                    return status.code();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        within("the end of top", ended).await
    }

    /// Lines, echo and signals as they were before.
    fn is_itself(&self) -> bool {
        let modes = tcgetattr(&self.inner).expect("modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn top_shows_members_hears_keys_and_gives_the_terminal_back() {
    let cluster = FakeCluster::start("demo", &["alpha", "beta"]).await;
    let console = Console::serve(&cluster).await;
    let mut top = Terminal::top(&console.socket);
    assert!(top.is_itself());
    top.shows("alpha").await;
    top.shows("beta").await;
    top.shows("writer alpha for").await;
    assert!(!top.is_itself(), "keys come one by one");
    // It is live: what happens is shown without a key.
    cluster.say("beta", 503, json!({"state": "stopped"}));
    top.shows("stopped").await;
    top.press("s");
    top.shows("s sort (sessions)").await;
    top.press("/alp");
    top.shows("filter: alp_").await;
    top.press("\u{a}\u{1b}[A\r");
    top.shows("/ filter (alp)").await;
    top.press("p");
    top.shows("PAUSED").await;
    assert!(
        !top.shown.lock().unwrap_or_else(PoisonError::into_inner).contains("stopped"),
        "beta is filtered out"
    );
    top.press("q");
    assert_eq!(top.exit().await, Some(0));
    assert!(top.is_itself());
    let mut again = Terminal::top(&console.socket);
    again.shows("alpha").await;
    again.press("\u{3}");
    assert_eq!(again.exit().await, Some(0));
}

#[tokio::test]
async fn top_without_a_terminal_says_so() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let console = Console::serve(&cluster).await;
    let (code, shown, errors) = console.ask(&["top"]).await;
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(errors.contains("top needs a terminal"), "{errors}");
}
