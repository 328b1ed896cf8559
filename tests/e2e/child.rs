//! A program beside the tests: killed with them, and with the value that stands for it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

#[derive(Debug)]
pub struct Beside(Child);

impl Beside {
    /// Starts a program whose words go to `log`.
    pub fn start(program: &str, arguments: &[&str], log: &Path) -> Beside {
        let log = std::fs::File::create(log).expect("a log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Beside(command.spawn().expect("setpriv, of util-linux"))
    }

    pub fn runs(&mut self) -> bool {
        self.0.try_wait().expect("our child").is_none()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
