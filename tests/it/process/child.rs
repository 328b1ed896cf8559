//! The real program in a process of its own, which ends with the test whichever way that goes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::within;

/// The program with arguments, and nothing in its environment that would change what it does.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn output(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit, not a signal"), text(stdout), text(stderr))
}

/// A configuration in a folder that goes with it.
#[derive(Debug)]
pub struct File {
    folder: TempDir,
}

impl File {
    pub fn new(text: &str) -> File {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.yaml"), text).expect("a file");
        File { folder }
    }

    /// Puts another file beside it.
    pub fn beside(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    pub fn path(&self) -> String {
        self.folder.path().join("config.yaml").display().to_string()
    }
}

/// Serves this cluster on ports of its own, checking it often; `more` are further keys.
pub fn config(cluster: &FakeCluster, more: &str) -> String {
    let endpoints: Vec<String> = cluster.endpoints().iter().map(ToString::to_string).collect();
    let listen = || SocketAddr::new(own_address(), 0);
    format!(
        "clusters:\n  - patroni:\n      endpoints: [{}]\n      interval: 100ms\n      fast_interval: 20ms\n      \
         timeout: 3s\n    primary: {{listen: \"{}\"}}\n    replicas: {{listen: \"{}\"}}\n\
         admin: {{listen: \"{}\"}}\nworkers: 2\nmax_sessions: 200\n{more}\n",
        endpoints.join(", "),
        listen(),
        listen(),
        listen()
    )
}

#[derive(Debug)]
pub struct Pilotfish {
    pub pid: Pid,
    lines: Arc<Mutex<Vec<String>>>,
    news: watch::Receiver<usize>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Its configuration, for changes.
    pub file: File,
}

impl Pilotfish {
    pub fn run(config: &str) -> Pilotfish {
        Pilotfish::run_with(config, |_| {})
    }

    pub fn run_with(config: &str, change: impl FnOnce(&mut Command)) -> Pilotfish {
        Pilotfish::run_program(env!("CARGO_BIN_EXE_pilotfish").as_ref(), File::new(config), change)
    }

    /// Another file with the program in it.
    pub fn run_program(program: &Path, file: File, change: impl FnOnce(&mut Command)) -> Pilotfish {
        let mut command = Command::new(program);
        command.args(["run", "--config", &file.path()]).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let pid = Pid::from_child(&child);
        let (heard, news) = watch::channel(0);
        let lines = Arc::<Mutex<Vec<String>>>::default();
        if let Some(stderr) = child.stderr.take() {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines() {
                    let Ok(line) = line else { return };
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    heard.send_modify(|count| *count += 1);
                }
            });
        }
        let (ended, exit) = watch::channel(None);
        thread::spawn(move || ended.send_replace(child.wait().ok()));
        Pilotfish { pid, lines, news, exit, file }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it runs");
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a log line in JSON that is as wanted.
    pub async fn line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut news = self.news.clone();
        let search = async {
            loop {
                news.borrow_and_update();
                let lines = self.lines();
                let parsed = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
                if let Some(found) = { parsed }.find(|line| wanted(line)) {
                    return found;
                }
                let heard = news.changed().await;
                heard.unwrap_or_else(|_| panic!("it said no more, and nothing of {what}: {lines:#?}"));
            }
        };
        within(what, search).await
    }

    /// Waits for what `wanted` makes of a line of any form.
    pub async fn text_line<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let mut news = self.news.clone();
        let search = async {
            loop {
                news.borrow_and_update();
                if let Some(found) = self.lines().iter().find_map(|line| wanted(line)) {
                    return found;
                }
                news.changed().await.unwrap_or_else(|_| panic!("it said no more, and nothing of {what}"));
            }
        };
        within(what, search).await
    }

    pub async fn says(&self, message: &str) -> Value {
        self.line(message, |line| line["message"] == message).await
    }

    /// Where the pool of that name listens, as the log tells it.
    pub async fn pool(&self, name: &str) -> SocketAddr {
        let line =
            self.line("a listener", |line| line["message"] == "listening" && line["pool"] == name).await;
        line["listen"].as_str().and_then(|listen| listen.parse().ok()).expect("an address")
    }

    pub async fn admin(&self) -> SocketAddr {
        let line = self.line("the page", |line| line["page"].is_string()).await;
        let page = line["page"].as_str().expect("a URL");
        page.trim_start_matches("http://")
            .trim_start_matches("https://")
            .trim_end_matches('/')
            .parse()
            .expect("an address")
    }

    /// Waits for its end: the exit code.
    pub async fn exit(&self) -> i32 {
        let mut exit = self.exit.clone();
        let status = within("the end of the process", exit.wait_for(Option::is_some)).await;
        status.expect("somebody waits").expect("a status").code().expect("an exit, not a signal")
    }

    /// Whether it has ended, and how.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).expect("it runs");
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(name).map(|name| name.trim_end().to_owned()).collect()
    }

    /// The kernel's number of the thread of that name.
    pub fn thread(&self, name: &str) -> i32 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).expect("it runs");
        let paths = tasks.map(|task| task.expect("a thread").path());
        let named = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let path = { paths }.find(named).unwrap_or_else(|| panic!("a thread {name}"));
        path.file_name().and_then(|number| number.to_str()?.parse().ok()).expect("a number")
    }

    /// Kilobytes of memory that it holds.
    pub fn memory_kb(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }
}

impl Drop for Pilotfish {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        if thread::panicking() {
            eprintln!("it said:\n{}", self.lines().join("\n"));
        }
    }
}
