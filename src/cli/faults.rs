//! A panic as a line of the log: where it was, and what it says of itself.
//!
//! What becomes of it is for the part to say in which it is caught ([`stats`](crate::stats)); this is for whoever mends it.

use std::panic::{PanicHookInfo, set_hook};
use std::thread;

/// More of a message says no more.
const MOST_CHARS: usize = 200;

/// From now on every panic is logged, caught or not.
pub fn log_panics() {
    set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.map(without_quotes).unwrap_or_default();
    tracing::error!(place, reason = message, thread = thread::current().name(), "panicked");
}

/// The first line of a message, without what it quotes: that may be a client's, or a secret.
fn without_quotes(message: &str) -> String {
    const MARKS: [char; 3] = ['"', '\'', '`'];
    let line: String = message.lines().next().unwrap_or_default().chars().take(MOST_CHARS).collect();
    match (line.find(MARKS), line.rfind(MARKS)) {
        // One mark alone may have lost its other to the limit.
        (Some(first), Some(last)) if first == last => format!("{}…", &line[..first]),
        (Some(first), Some(last)) => format!("{}…{}", &line[..first], &line[last + 1..]),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::panic::take_hook;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_a_message_quotes_is_left_out() {
        let long = "x".repeat(300);
        for (message, told) in [
            (
                "index out of bounds: the len is 3 but the index is 5",
                "index out of bounds: the len is 3 but the index is 5",
            ),
            ("called `Result::unwrap()` on an `Err` value: \"secret\"", "called …"),
            (
                "byte index 1 is not a char boundary; it is inside 'é' of `é secret`",
                "byte index 1 is not a char boundary; it is inside …",
            ),
            ("no \"such thing\" here\nsecret", "no … here"),
            ("an open `secret", "an open …"),
            (&long, &long[..MOST_CHARS]),
            ("", ""),
        ] {
            assert_eq!(without_quotes(message), told);
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_one_line_with_its_place() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let before = take_hook();
        log_panics();
        let panic = || tracing::subscriber::with_default(subscriber, || panic!("the password is \"secret\""));
        let outcome = thread::Builder::new().name("worker-7".to_owned()).spawn(panic).unwrap().join();
        set_hook(before);
        assert!(outcome.is_err());
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(said.trim_end()).expect("one line");
        let told = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
        assert_eq!((line["level"].as_str(), told("message")), (Some("ERROR"), "panicked".to_owned()));
        assert_eq!((told("thread"), told("reason")), ("worker-7".to_owned(), "the password is …".to_owned()));
        assert!(told("place").starts_with(&format!("{}:", file!())), "{line}");
    }
}
