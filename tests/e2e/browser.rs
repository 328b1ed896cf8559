//! A real browser, headless, driven over WebDriver: what people see when they open the page.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, LoggingPrefsLogLevel};
use tokio::runtime::Runtime;

use crate::wait::{seconds, until};

/// No step takes longer; a browser on a busy machine is slow to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// It runs as root too, and talks to nobody but pilotfish.
const SWITCHES: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// What the page is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct Eyes {
    pub width: u32,
    pub height: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

pub const DESKTOP: Eyes = Eyes { width: 1280, height: 1400, scheme: "light" };
pub const NIGHT: Eyes = Eyes { scheme: "dark", ..DESKTOP };
pub const PHONE: Eyes = Eyes { width: 360, height: 780, scheme: "light" };

#[derive(Debug)]
pub struct Browser {
    runtime: Runtime,
    driver: Option<WebDriver>,
    service: Child,
    _profile: TempDir,
}

impl Browser {
    pub fn open(eyes: Eyes) -> Browser {
        // The client of the browser's driver wants one, although it speaks no TLS. Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (service, port) = service();
        let profile = TempDir::new().expect("a directory");
        let mut wishes = DesiredCapabilities::chrome();
        let place = format!("--user-data-dir={}", profile.path().display());
        for switch in SWITCHES.into_iter().chain([&*place]) {
            wishes.add_arg(switch).expect("a switch");
        }
        wishes.set_browser_log_level(LoggingPrefsLogLevel::Warning).expect("a level");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let opening = WebDriver::new(format!("http://127.0.0.1:{port}"), wishes);
        let driver = runtime.block_on(async { tokio::time::timeout(PATIENCE, opening).await });
        let driver = driver.expect("a browser in time").expect("a browser");
        let browser = Browser { runtime, driver: Some(driver), service, _profile: profile };
        browser.look_with(eyes);
        browser
    }

    fn wait<T>(&self, step: impl Future<Output = WebDriverResult<T>>) -> T {
        let done = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, step).await });
        done.expect("an end before patience ends").unwrap_or_else(|error| panic!("{error}"))
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("an open browser")
    }

    /// A command of the Chrome DevTools Protocol.
    pub fn command(&self, method: &str, parameters: Value) {
        let cdp = self.driver().cdp();
        self.wait(async { cdp.send_raw(method, parameters).await });
    }

    pub fn look_with(&self, eyes: Eyes) {
        let Eyes { width, height, scheme } = eyes;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.command("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", scheme);
    }

    pub fn visit(&self, url: &str) {
        self.wait(async { self.driver().goto(url).await });
    }

    /// What a script within the page returns.
    pub fn run(&self, script: &str) -> Value {
        self.wait(self.driver().execute(script, Vec::new())).json().clone()
    }

    /// The same for one that calls its last argument when it is done.
    pub fn run_async(&self, script: &str) -> Value {
        self.wait(self.driver().execute_async(script, Vec::new())).json().clone()
    }

    /// Waits until the script returns `true`; anything else is shown when it does not.
    #[track_caller]
    pub fn until(&self, what: &str, within: u64, script: &str) {
        until(what, seconds(within), || match self.run(script) {
            Value::Bool(true) => Ok(()),
            other => Err(other),
        });
    }

    /// Keeps what is seen as `target/screenshots/NAME.png`.
    pub fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        let file: PathBuf = folder.join(format!("{name}.png"));
        self.wait(self.driver().screenshot(&file));
    }

    /// Errors and warnings on the page's console since the last look.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.wait(self.driver().browser_log());
        entries.into_iter().map(|entry| format!("{}: {}", entry.level, entry.message)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // It may have gone by itself: then there is nothing to close.
            let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, driver.quit()).await });
        }
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

/// chromedriver, on a port that it chooses itself. Killed with the tests, should these be killed themselves.
fn service() -> (Child, u16) {
    let mut service = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "chromedriver", "--port=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv, of util-linux");
    let mut lines = BufReader::new(service.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.strip_suffix('.')?.rsplit_once("on port ")?.1.parse().ok());
    // What else it says is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    (service, port.expect("chromedriver, which says its port: deploy/setup browser"))
}
