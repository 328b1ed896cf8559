//! A program in a file of its own, which can be replaced, and all processes that come of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::super::child::{File, Pilotfish, config};
use crate::control::cluster::FakeCluster;
use crate::control::within;

/// In the environment of every process of one test, so that none outlives it.
const MARK: &str = "PILOTFISH_TEST";

pub struct World {
    pub pilotfish: Pilotfish,
    /// Beside the program, so that a link is enough.
    folder: TempDir,
    /// With short paths.
    sockets: TempDir,
    mark: String,
}

impl World {
    pub fn start(cluster: &FakeCluster, more: &str) -> World {
        World::start_with(cluster, more, |_| {})
    }

    pub fn start_with(cluster: &FakeCluster, more: &str, change: impl FnOnce(&mut Command)) -> World {
        let built = Path::new(env!("CARGO_BIN_EXE_pilotfish"));
        let folder = tempfile::tempdir_in(built.parent().expect("a folder")).expect("a folder");
        let program = folder.path().join("pilotfish");
        std::fs::hard_link(built, &program).expect("a link");
        let mark = folder.path().display().to_string();
        let sockets = tempfile::tempdir().expect("a folder");
        let text = text(cluster, sockets.path(), more);
        let pilotfish = Pilotfish::run_program(&program, File::new(&text), |command| {
            command.env(MARK, &mark);
            change(command);
        });
        World { pilotfish, folder, sockets, mark }
    }

    /// The process that was started first.
    pub fn first(&self) -> u64 {
        self.pilotfish.pid.as_raw_nonzero().get().unsigned_abs().into()
    }

    pub fn pool_socket(&self) -> PathBuf {
        self.sockets.path().join("pool.sock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.sockets.path().join("admin.sock")
    }

    /// Another program in the place of the file.
    pub fn replace(&self, script: &str) {
        let beside = self.folder.path().join("new");
        std::fs::write(&beside, script).expect("a file");
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).expect("its own file");
        std::fs::rename(&beside, self.folder.path().join("pilotfish")).expect("one folder");
    }

    pub fn remove(&self) {
        std::fs::remove_file(self.folder.path().join("pilotfish")).expect("its own file");
    }

    /// The program again.
    pub fn restore(&self) {
        let place = self.folder.path().join("pilotfish");
        // It may be there or not.
        let _ = std::fs::remove_file(&place);
        std::fs::hard_link(env!("CARGO_BIN_EXE_pilotfish"), &place).expect("a link");
    }

    /// One of the commands that ask a running pilotfish: its exit code and all that it says.
    pub async fn command(&self, words: &[&str]) -> (i32, String) {
        let admin = format!("unix:{}", self.admin_socket().display());
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let run = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
            command.args(&words).args(["--admin", &admin]).env_clear().output().expect("the program starts")
        };
        let output = tokio::task::spawn_blocking(run).await.expect("no panic");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("an exit"), String::from_utf8(said).expect("text"))
    }

    /// `pilotfish upgrade`: what came of it, or what it said.
    pub async fn upgrade(&self) -> Result<Value, String> {
        let (code, said) = self.command(&["upgrade", "-o", "json"]).await;
        match code {
            0 => Ok(serde_json::from_str(&said).expect("JSON")),
            1 => Err(said),
            _ => panic!("{code}: {said}"),
        }
    }

    /// The processes of this test that run.
    pub fn processes(&self) -> Vec<u64> {
        let wanted = format!("{MARK}={}", self.mark).into_bytes();
        let processes = std::fs::read_dir("/proc").expect("a system with processes");
        let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let is_ours = |number: &u64| {
            let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == wanted)
        };
        numbers.filter(is_ours).collect()
    }

    /// Waits until no others run.
    pub async fn only(&self, wanted: &[u64]) {
        let only = async {
            while self.processes() != wanted {
                tokio::task::yield_now().await;
            }
        };
        within("the end of the others", only).await;
    }

    pub fn end(process: u64, signal: Signal) {
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
        let _ = kill_process(pid, signal);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.processes().into_iter().for_each(|process| World::end(process, Signal::KILL));
    }
}

/// As `config`, with unix sockets too.
fn text(cluster: &FakeCluster, sockets: &Path, more: &str) -> String {
    let (text, sockets) = (config(cluster, more), sockets.display());
    let text = text.replacen("primary: {listen: \"", "primary: {listen: [\"", 1);
    let text =
        text.replacen("\"}\n    replicas", &format!("\", \"unix:{sockets}/pool.sock\"]}}\n    replicas"), 1);
    text.replacen("admin: {", &format!("admin: {{socket: \"{sockets}/admin.sock\", "), 1)
}
