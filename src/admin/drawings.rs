//! What is drawn when somebody asks, and what was drawn last for when more is asked than can be drawn.
//!
//! A drawing costs a thousand times what it costs to send it once more, and a crowd that asks for the page would have the
//! whole thread, with probes behind it. So each form has a budget, a part of the thread's time, and all of them together have
//! less than half of it. Within its budget every answer is of this moment; beyond it the last drawing is given again until the
//! debt is paid, which takes as many times the cost of one drawing as the budget is a part, and five seconds at most. Who
//! asks once a second for what costs less than 40 ms never sees an old one.
//!
//! What counts is the processor's time: on a busy host the thread waits for its turn, for which no form is to blame.
//!
//! To have every drawing live for a tenth of a second was the other way. It is simpler, and wrong for whoever changes
//! something and looks at once. So was one budget for all forms: who asks for one would make the others old.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::haproxy::request::Wish;
use super::refusal::Refusal;
use super::usage::thread_time;

/// A budget is one part in so many of the thread's time. There are eleven (see [`Form::payer`]).
const PART: u32 = 24;
/// Drawing time that a budget may save up: more than a page with its scripts asks for at once, less than a probe waits.
const MOST_SAVED: Duration = Duration::from_millis(100);
/// Whatever one drawing has cost, the next is due after this long.
const OLDEST: Duration = Duration::from_secs(5);

/// All that is drawn on request. There is one drawing of each at a moment, but for searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Page,
    SessionList,
    /// Of the page or the list, with words to look for. Each is another, so none is given again.
    Search,
    Status,
    Sessions,
    Events,
    Ends,
    History,
    Metrics,
    HaproxyMetrics,
    HaproxyRows(Wish),
}

#[derive(Debug, Default)]
pub struct Drawings(Mutex<Book>);

/// What was spent, and what is given again until that is paid.
#[derive(Debug, Default)]
struct Book {
    budgets: HashMap<Form, Budget>,
    last: HashMap<Form, Last>,
    /// A number that grows with every change that is to be seen at once.
    changes: u64,
}

#[derive(Debug)]
struct Last {
    /// `None`: it would be of no use to anybody else.
    drawn: Option<Bytes>,
    until: Instant,
}

/// Why there is no drawing.
#[derive(Debug)]
pub enum Problem {
    /// The budget for searches is spent.
    Busy,
    Failed(String),
}

/// Drawing time that is left.
#[derive(Debug, Clone, Copy)]
struct Budget {
    saved: Duration,
    /// Spent beyond what was saved; nothing is saved then.
    owed: Duration,
    at: Instant,
}

impl Form {
    /// Whose budget it is drawn from: HAProxy's rows, of which there are eight, have one.
    fn payer(self) -> Form {
        match self {
            Form::HaproxyRows(_) => Form::HaproxyRows(Wish::default()),
            form => form,
        }
    }
}

impl Drawings {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `draw` makes now, or the last that was made.
    ///
    /// # Errors
    /// Those of `draw`; for a search also that too many are made.
    pub fn draw<T: Into<Bytes>, E: Display>(
        &self,
        form: Form,
        draw: impl FnOnce() -> Result<T, E>,
    ) -> Result<Bytes, Problem> {
        let changes = {
            let mut book = self.book();
            if let Some(last) = book.last(Instant::now(), form) {
                return last;
            }
            book.changes
        };
        let begun = thread_time();
        let drawn = draw().map(Into::into).map_err(|error| Problem::Failed(error.to_string()))?;
        let cost = thread_time().saturating_sub(begun);
        // What was begun before a change may be of before it.
        if self.book().changes == changes {
            self.spend(Instant::now(), form, cost, &drawn);
        }
        Ok(drawn)
    }

    /// A drawing of this form has cost so much processor time, and is to be given again if that is more than there was.
    pub fn spend(&self, now: Instant, form: Form, cost: Duration, drawn: &Bytes) {
        self.book().spend(now, form, cost, drawn);
    }

    /// Something was changed by who may look next.
    pub fn forget(&self) {
        let mut book = self.book();
        book.changes += 1;
        book.last.clear();
    }
}

impl Book {
    /// What is to be given instead of a new drawing.
    fn last(&mut self, now: Instant, form: Form) -> Option<Result<Bytes, Problem>> {
        // All of them: one that nobody asks for any more would stay.
        self.last.retain(|_, last| now < last.until);
        self.last.get(&form).map(|last| last.drawn.clone().ok_or(Problem::Busy))
    }

    fn spend(&mut self, now: Instant, form: Form, cost: Duration, drawn: &Bytes) {
        let budget = self.budgets.entry(form.payer()).or_insert_with(|| Budget::new(now));
        budget.spend(now, cost);
        if budget.owed > Duration::ZERO {
            let drawn = (form != Form::Search).then(|| drawn.clone());
            self.last.insert(form, Last { drawn, until: now + budget.owed * PART });
        }
    }
}

impl Budget {
    fn new(now: Instant) -> Budget {
        Budget { saved: MOST_SAVED, owed: Duration::ZERO, at: now }
    }

    fn spend(&mut self, now: Instant, cost: Duration) {
        let filled = now.saturating_duration_since(self.at) / PART;
        let beyond = filled.saturating_sub(self.owed);
        self.owed = self.owed.saturating_sub(filled);
        self.saved = (self.saved + beyond).min(MOST_SAVED);
        self.at = self.at.max(now);
        let beyond = cost.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(cost);
        self.owed = (self.owed + beyond).min(OLDEST / PART);
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Problem::Busy => {
                let error = "too many searches at one time; try again in a second";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
                    .with(header::RETRY_AFTER, 1)
                    .into_response()
            }
            Problem::Failed(error) => {
                let error = format!("this cannot be drawn: {error}");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::haproxy::request::{self, Scope};
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// More than may be saved up.
    const MUCH: Duration = Duration::from_secs(1);

    #[test]
    fn a_budget_is_a_part_of_the_time_and_what_was_saved() {
        // So many milliseconds later so many are spent, and then so many are left, or owed.
        let story: [(u32, u32, i128); 8] = [
            (0, 80, 20),
            (240, 10, 20),
            (0, 40, -20),
            (240, 0, -10),
            (480, 0, 10),
            (9000, 0, 100),
            // A drawing of a minute is followed by another after five seconds.
            (0, 60_000, -208),
            (5000, 0, 0),
        ];
        let mut now = Instant::now();
        let mut budget = Budget::new(now);
        for (after_ms, cost_ms, left_ms) in story {
            now += MS * after_ms;
            budget.spend(now, MS * cost_ms);
            let left = budget.saved.as_millis() as i128 - budget.owed.as_millis() as i128;
            assert_eq!(left, left_ms, "{after_ms} ms later, {cost_ms} ms");
        }
    }

    fn wishes() -> impl Iterator<Item = Form> {
        let wish = |bits: u8| Wish {
            form: if bits & 1 == 0 { request::Form::Csv } else { request::Form::Json },
            scope: Scope { up: bits & 2 != 0, no_maint: bits & 4 != 0 },
        };
        (0..8).map(move |bits| Form::HaproxyRows(wish(bits)))
    }

    fn all() -> Vec<Form> {
        use Form::*;
        let single =
            [Page, SessionList, Search, Status, Sessions, Events, Ends, History, Metrics, HaproxyMetrics];
        single.into_iter().chain(wishes()).collect()
    }

    fn text(drawn: &Bytes) -> String {
        String::from_utf8_lossy(drawn).into_owned()
    }

    #[test]
    fn whoever_asks_for_everything_without_a_pause_has_less_than_half_of_the_thread() {
        for cost_ms in [1, 5, 20] {
            let (mut book, begun) = (Book::default(), Instant::now());
            let (mut now, mut drawing) = (begun, Duration::ZERO);
            let mut oldest = Duration::ZERO;
            let mut drawn_at: HashMap<Form, Instant> = HashMap::new();
            while now < begun + 100 * MUCH {
                for form in all() {
                    match book.last(now, form) {
                        Some(_) => oldest = oldest.max(now - drawn_at[&form]),
                        None => {
                            drawing += MS * cost_ms;
                            now += MS * cost_ms;
                            drawn_at.insert(form, now);
                            book.spend(now, form, MS * cost_ms, &Bytes::new());
                        }
                    }
                }
                now += MS;
            }
            let part = drawing.as_secs_f64() / (now - begun).as_secs_f64();
            println!("{cost_ms} ms for each: {part:.3} of the thread, up to {oldest:?} old");
            assert!((0.3..0.5).contains(&part) && oldest <= OLDEST, "{cost_ms} ms: {part}, {oldest:?}");
        }
    }

    #[test]
    fn a_form_whose_budget_is_spent_gives_its_last_drawing_and_no_other_form_does() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.spend(now, Form::Page, MOST_SAVED, &Bytes::from("within"));
        assert!(book.last(now, Form::Page).is_none(), "what was saved is spent, and no more");
        book.spend(now, Form::Page, 10 * MS, &Bytes::from("the last"));
        for (after_ms, expected) in [(0, Some("the last")), (239, Some("the last")), (240, None)] {
            let last = book.last(now + MS * after_ms, Form::Page).map(|last| text(&last.unwrap()));
            assert_eq!(last.as_deref(), expected, "after {after_ms} ms");
            assert!(book.last(now + MS * after_ms, Form::Metrics).is_none());
        }
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_let_go() {
        let (mut book, now) = (Book::default(), Instant::now());
        all().into_iter().for_each(|form| book.spend(now, form, MUCH, &Bytes::from("large")));
        assert_eq!(book.last.len(), all().len());
        assert!(book.last(now + OLDEST, Form::Events).is_none());
        assert!(book.last.is_empty(), "{book:?}");
    }

    #[test]
    fn a_search_is_refused_rather_than_answered_with_anothers() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.spend(now, Form::Search, MUCH, &Bytes::from("secret"));
        assert!(matches!(book.last(now, Form::Search), Some(Err(Problem::Busy))));
        assert!(book.last(now, Form::Page).is_none() && book.last(now + OLDEST, Form::Search).is_none());
    }

    fn new(drawings: &Drawings) -> String {
        text(&drawings.draw(Form::Page, || Ok::<_, Infallible>("new")).unwrap())
    }

    #[test]
    fn who_has_changed_something_sees_it_also_while_somebody_draws() {
        let (drawings, later) = (Drawings::default(), Instant::now() + 1000 * MUCH);
        let spend = || drawings.spend(later, Form::Page, MUCH, &Bytes::from("old"));
        spend();
        assert_eq!(new(&drawings), "old");
        drawings.forget();
        assert_eq!(new(&drawings), "new");
        drawings.forget();
        let during = drawings.draw(Form::Page, || {
            drawings.forget();
            let begun = thread_time();
            while thread_time() < begun + 2 * MOST_SAVED {}
            Ok::<_, Infallible>("old")
        });
        assert_eq!((text(&during.unwrap()), new(&drawings)), ("old".to_owned(), "new".to_owned()));
    }

    #[test]
    fn what_fails_is_told_and_not_kept() {
        let drawings = Drawings::default();
        let failed = drawings.draw(Form::Page, || Err::<String, _>("no ink"));
        assert!(matches!(failed, Err(Problem::Failed(error)) if error == "no ink"));
        assert_eq!(new(&drawings), "new");
    }

    /// A host that is busy with something else makes no drawing old.
    #[test]
    fn time_in_which_the_thread_did_not_run_costs_nothing() {
        let drawings = Drawings::default();
        let slow = drawings.draw(Form::Page, || {
            std::thread::sleep(2 * MOST_SAVED);
            Ok::<_, Infallible>("slow")
        });
        assert_eq!((text(&slow.unwrap()), new(&drawings)), ("slow".to_owned(), "new".to_owned()));
    }
}
