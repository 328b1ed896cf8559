//! A process of its own, for tests of what all threads share: memory, descriptors, time on the processor.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Names the test that this process was started for.
const ALONE: &str = "PILOTFISH_TEST_ALONE";

/// Plays `scene` in a process in which nothing else runs. `test` is the full name of the test that calls.
pub fn alone(test: &str, scene: impl Future<Output = ()>) {
    if env::var_os(ALONE).is_some_and(|name| name == test) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(scene);
    }
    let itself = env::current_exe().expect("the test binary");
    let run = Command::new(itself).args(["--exact", test, "--nocapture"]).env(ALONE, test).output();
    let output = run.expect("a process");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    // What it measured.
    print!("{out}");
}

/// Tells how much time the workers' threads have spent on a processor. Its files are open beforehand, so that it
/// works when nothing else can be opened.
pub struct WorkersClock(Vec<File>);

impl WorkersClock {
    pub fn new() -> WorkersClock {
        let tasks = fs::read_dir("/proc/self/task").expect("the list of threads");
        let paths = tasks.map(|task| task.expect("a thread").path());
        let is_worker = |path: &PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("worker-"))
        };
        let open = |path: PathBuf| File::open(path.join("schedstat")).expect("its times");
        WorkersClock(paths.filter(is_worker).map(open).collect())
    }

    fn spent(&self) -> Duration {
        let time = |file: &File| {
            let mut text = [0; 128];
            let length = file.read_at(&mut text, 0).expect("a living thread");
            let text = str::from_utf8(&text[..length]).expect("text");
            let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
            Duration::from_nanos(nanoseconds.expect("a number"))
        };
        self.0.iter().map(time).sum()
    }

    /// Asserts that during the next moment the workers have next to nothing to do.
    pub async fn stands_still(&self) {
        const MOMENT: Duration = Duration::from_millis(300);
        let before = self.spent();
        tokio::time::sleep(MOMENT).await;
        let spent = self.spent() - before;
        assert!(spent < MOMENT / 10, "the workers are busy: {spent:?} of {MOMENT:?}");
    }
}

/// The memory of this process that is in use, in bytes.
pub fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}
