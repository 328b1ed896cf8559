//! One Patroni node, as far as its REST API goes.
//!
//! Like Python's `BaseHTTPRequestHandler`: HTTP/1.0, one request for each connection, no Content-Length, closed when
//! the answer is out. What it answers is the test's to say at any moment; it keeps what it was asked and when, and how
//! many requests were under way at once.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::within;

/// What comes back for one path.
#[derive(Debug, Clone)]
pub enum Answer {
    /// As Patroni answers.
    Json(u16, String),
    /// These bytes, and the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes again and again, as fast as they are taken.
    Endless(Vec<u8>),
    /// One byte at a time, with a pause before each.
    Drip(Vec<u8>, Duration),
    /// The answer for whoever shows this login (`name:password`); the others are asked for one.
    Login(&'static str, Box<Answer>),
    /// The answer after a while.
    Late(Duration, Box<Answer>),
    /// These bytes, and then the answer.
    Begun(Vec<u8>, Box<Answer>),
    /// Another one each time, from the first to the last and again.
    InTurn(Vec<Answer>),
    Reset,
    Never,
}

impl Answer {
    /// A status line with further headers and a body.
    pub fn http(status: &str, headers: &[&str], body: &[u8]) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        Answer::Bytes([format!("HTTP/1.0 {status}\r\n{headers}\r\n").as_bytes(), body].concat())
    }

    /// Only for whoever shows this login, `name:password`.
    pub fn for_login(self, login: &'static str) -> Answer {
        Answer::Login(login, Box::new(self))
    }

    /// Behind the head of an answer with these headers.
    pub fn behind(self, headers: &[&str]) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        Answer::Begun(format!("HTTP/1.0 200 OK\r\n{headers}\r\n").into_bytes(), Box::new(self))
    }

    pub fn after(self, pause: Duration) -> Answer {
        Answer::Late(pause, Box::new(self))
    }
}

/// What was asked, and when.
#[derive(Debug, Clone)]
pub struct Request {
    pub at: Instant,
    pub line: String,
    pub headers: Vec<String>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.headers.iter().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

#[derive(Debug)]
pub struct Fake {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    requests: Vec<Request>,
    connections: usize,
    /// By path: requests under way now, and the most at once.
    under_way: BTreeMap<String, (usize, usize)>,
}

/// A loopback address that no other test uses, so that a port closed on it stays closed.
pub fn own_address() -> IpAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let [high, low] = TAKEN.fetch_add(1, Relaxed).to_be_bytes();
    let process = std::process::id() % 100;
    IpAddr::from([127, 100 + process as u8, 1 + high, 1 + low % 254])
}

impl Fake {
    pub async fn start() -> Fake {
        Fake::start_on(own_address()).await
    }

    pub async fn start_on(address: IpAddr) -> Fake {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let fake = Fake { address, shared: Arc::default(), listening: Mutex::default() };
        fake.listen(listener);
        fake
    }

    fn listen(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        *self.listening.lock().expect("no panic") = Some(task.abort_handle());
    }

    /// The base URL, as `api_url` has it.
    pub fn api(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, path: &str, answer: Answer) {
        self.state().answers.insert(path.to_owned(), answer);
    }

    /// Connections are refused from now on.
    pub async fn stop(&self) {
        let listening = self.listening.lock().expect("no panic").take();
        listening.expect("it listens").abort();
        let refused = async || while TcpStream::connect(self.address).await.is_ok() {};
        within("the end of a listener", refused()).await;
    }

    /// Listens again after a [`Fake::stop`].
    pub async fn resume(&self) {
        self.listen(TcpListener::bind(self.address).await.expect("its own port"));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no panic")
    }

    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.state().requests.iter().filter(|request| request.path() == path).cloned().collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.state().requests.iter().filter(|request| request.path() == path).count()
    }

    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// The most requests for `path` that were under way at once.
    pub fn most_at_once(&self, path: &str) -> usize {
        self.state().under_way.get(path).map_or(0, |(_, most)| *most)
    }

    /// Waits until `path` has been asked for `more` times, counted from this call.
    pub fn asked(&self, path: &str, more: usize) -> impl Future<Output = ()> {
        let wanted = self.count(path) + more;
        async move {
            let mut news = self.shared.news.subscribe();
            let enough = async {
                while self.count(path) < wanted {
                    news.changed().await.expect("the fake lives");
                }
            };
            within(&format!("{more} requests for {path}"), enough).await;
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.lock().expect("no panic").take() {
            listening.abort();
        }
    }
}

impl State {
    /// The answer for this request.
    fn next(&mut self, path: &str) -> Option<Answer> {
        match self.answers.get_mut(path)? {
            Answer::InTurn(answers) => {
                answers.rotate_left(1);
                answers.last().cloned()
            }
            answer => Some(answer.clone()),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn begin(self: &Arc<Self>, request: Request) -> UnderWay {
        let path = request.path().to_owned();
        let mut state = self.state();
        let (now, most) = state.under_way.entry(path.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        state.requests.push(request);
        drop(state);
        self.news.send_replace(());
        UnderWay { shared: Arc::clone(self), path }
    }
}

/// Counts a request as under way until it goes.
struct UnderWay {
    shared: Arc<Shared>,
    path: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some((now, _)) = self.shared.state().under_way.get_mut(&self.path) {
            *now -= 1;
        }
    }
}

/// A whole record that begins a connection (RFC 8446, section 5.1).
fn is_tls(head: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    matches!(head, [HANDSHAKE, _, _, high, low, rest @ ..] if rest.len() >= u16::from_be_bytes([*high, *low]).into())
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    shared.state().connections += 1;
    let mut head = Vec::new();
    // Whoever begins with TLS waits for an answer before it asks.
    while !head.ends_with(b"\r\n\r\n") && !is_tls(&head) {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines().filter(|line| !line.is_empty()).map(str::to_owned);
    let line = lines.next().unwrap_or_default();
    let request = Request { at: Instant::now(), line, headers: lines.collect() };
    let mut answer = shared.state().next(request.path());
    if let Some(Answer::Login(login, then)) = answer {
        let wanted = format!("Basic {}", BASE64_STANDARD.encode(login));
        let challenge = ["WWW-Authenticate: Negotiate, Basic realm=\"fake\""];
        let knows = request.header("authorization") == Some(wanted.as_str());
        answer = Some(if knows { *then } else { Answer::http("401 Unauthorized", &challenge, b"") });
    }
    let _under_way = shared.begin(request);
    let answer = answer.unwrap_or_else(|| Answer::Json(404, "{}".to_owned()));
    if matches!(answer, Answer::Reset) {
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    let (mut from, mut to) = stream.split();
    tokio::select! {
        // Whoever has asked only reads; more from it is its farewell.
        _ = from.read_u8() => Ok(()),
        given = give(&mut to, answer) => given.and(to.shutdown().await),
    }
}

async fn give(client: &mut (impl AsyncWrite + Unpin), answer: Answer) -> io::Result<()> {
    let mut answer = answer;
    loop {
        answer = match answer {
            Answer::Late(pause, then) => {
                tokio::time::sleep(pause).await;
                *then
            }
            Answer::Begun(bytes, then) => {
                client.write_all(&bytes).await?;
                *then
            }
            _ => break,
        };
    }
    match answer {
        Answer::Json(status, body) => {
            let head = format!(
                "HTTP/1.0 {status} {}\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\n\
                 Date: Mon, 23 Nov 2026 12:44:00 GMT\r\nContent-Type: application/json\r\n\r\n",
                if status == 200 { "OK" } else { "Service Unavailable" }
            );
            client.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await
        }
        Answer::Bytes(bytes) => client.write_all(&bytes).await,
        Answer::Endless(bytes) => loop {
            client.write_all(&bytes).await?;
        },
        Answer::Drip(bytes, pause) => {
            for byte in bytes {
                tokio::time::sleep(pause).await;
                client.write_all(&[byte]).await?;
            }
            Ok(())
        }
        Answer::Login(..)
        | Answer::Late(..)
        | Answer::Begun(..)
        | Answer::InTurn(..)
        | Answer::Reset
        | Answer::Never => std::future::pending().await,
    }
}
