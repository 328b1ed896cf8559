//! A real Prometheus that scrapes a pilotfish every second and evaluates the rules that are shipped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::balancer::Balancer;
use crate::child::Beside;
use crate::cluster::NET;
use crate::wait::{seconds, until, until_true};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/pilotfish-rules.yml");
/// Last octet of its address.
const OCTET: u8 = 8;

#[derive(Debug)]
pub struct Prometheus {
    child: Beside,
    address: SocketAddr,
    directory: TempDir,
}

impl Prometheus {
    /// One that has scraped this pilotfish.
    pub fn watching(balancer: &Balancer) -> Prometheus {
        let directory = TempDir::new().expect("a directory");
        let address: SocketAddr = format!("{NET}.{OCTET}:9090").parse().expect("an address");
        let configuration = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{RULES}']\n\
             scrape_configs:\n  - job_name: pilotfish\n    static_configs: [{{targets: ['{}']}}]\n",
            balancer.admin()
        );
        std::fs::write(directory.path().join("prometheus.yml"), configuration).expect("a configuration");
        let flag = |name: &str, file: &str| format!("--{name}={}", directory.path().join(file).display());
        let child = Beside::start(
            "prometheus",
            &[
                &flag("config.file", "prometheus.yml"),
                &flag("storage.tsdb.path", "data"),
                &format!("--web.listen-address={address}"),
            ],
            &directory.path().join("log"),
        );
        let mut prometheus = Prometheus { child, address, directory };
        until_true("Prometheus has scraped pilotfish", seconds(30), || {
            assert!(prometheus.child.runs(), "{}", prometheus.log());
            TcpStream::connect(address).is_ok() && prometheus.number("up{job=\"pilotfish\"}") == Some(1.0)
        });
        prometheus
    }

    /// What an instant query gives: its series, each with its value.
    ///
    /// # Panics
    /// When the expression cannot be evaluated.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        self.ask(expression).unwrap_or_else(|answer| panic!("{expression}: {answer}"))
    }

    fn ask(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let query = form_urlencoded::byte_serialize(expression.as_bytes()).collect::<String>();
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(seconds(10))).map_err(|error| error.to_string())?;
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        let body: Value = serde_json::from_str(body).map_err(|_| body.to_owned())?;
        // Until the storage is open it answers with an error.
        let series = body["data"]["result"].as_array().ok_or_else(|| body.to_string())?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        Ok(series.iter().map(|one| (one["metric"].clone(), number(&one["value"][1]))).collect())
    }

    /// The value of the first series, if there is one.
    pub fn number(&self, expression: &str) -> Option<f64> {
        self.ask(expression).ok()?.first().map(|(_, value)| *value)
    }

    /// `pending`, `firing`, or nothing.
    pub fn alert(&self, name: &str) -> Option<String> {
        let series = self.query(&format!("ALERTS{{alertname=\"{name}\"}}"));
        series.first().map(|(labels, _)| labels["alertstate"].as_str().unwrap_or_default().to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_alert(&self, name: &str, state: Option<&str>, within: Duration) {
        until(&format!("{name} is {state:?}"), within, || match self.alert(name) {
            now if now.as_deref() == state => Ok(()),
            now => Err(now),
        });
    }
}
