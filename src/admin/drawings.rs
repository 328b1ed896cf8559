//! What is drawn when somebody asks, and what was drawn last for when more is asked than can be drawn.
//!
//! A drawing costs a thousand times what it costs to send it once more, and a crowd that asks for the page would have the
//! whole thread, with probes behind it. So each form has a budget, a part of the thread's time. Within it every answer is of
//! this moment; beyond it the last drawing is given again until there is some of the budget left, which is as many times
//! the cost of one drawing as the budget is a part, and a second at most. Who asks once a second never sees an old one.
//!
//! To have every drawing live for a tenth of a second was the other way. It is simpler, and wrong for whoever changes
//! something and looks at once.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::haproxy::request::Wish;
use super::refusal::Refusal;

/// A form may take one part in so many of the thread's time.
const PART: u32 = 16;
/// Drawing time that a form may save up: more than a page with its scripts asks for at once, less than a probe waits.
const MOST_SAVED: Duration = Duration::from_millis(200);
/// Whatever one drawing has cost, the next is due after this long.
const OLDEST: Duration = Duration::from_secs(1);

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
pub struct Drawings(Mutex<HashMap<Form, Recent>>);

/// Why there is no drawing.
#[derive(Debug)]
pub enum Problem {
    /// The budget for searches is spent.
    Busy,
    Failed(String),
}

/// A form's budget, and its last drawing while the budget is spent.
#[derive(Debug)]
struct Recent {
    budget: Budget,
    drawn: Option<Bytes>,
}

/// Drawing time that is left.
#[derive(Debug, Clone, Copy)]
struct Budget {
    saved: Duration,
    /// Spent beyond what was saved; nothing is saved then.
    owed: Duration,
    at: Instant,
}

impl Drawings {
    fn recent(&self) -> MutexGuard<'_, HashMap<Form, Recent>> {
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
        let begun = Instant::now();
        if let Some(recent) = self.recent().get_mut(&form)
            && recent.budget.is_spent(begun)
        {
            match &recent.drawn {
                Some(drawn) => return Ok(drawn.clone()),
                None if form == Form::Search => return Err(Problem::Busy),
                None => {}
            }
        }
        let drawn = draw().map(Into::into).map_err(|error| Problem::Failed(error.to_string()))?;
        let mut every = self.recent();
        let recent = every.entry(form).or_insert_with(|| Recent { budget: Budget::new(begun), drawn: None });
        let done = Instant::now();
        recent.budget.spend(done, done - begun);
        let is_spent = recent.budget.owed > Duration::ZERO;
        recent.drawn = (is_spent && form != Form::Search).then(|| drawn.clone());
        Ok(drawn)
    }

    /// Something was changed by who may look next.
    pub fn forget(&self) {
        self.recent().values_mut().for_each(|recent| recent.drawn = None);
    }
}

impl Budget {
    fn new(now: Instant) -> Budget {
        Budget { saved: MOST_SAVED, owed: Duration::ZERO, at: now }
    }

    fn is_spent(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.owed > Duration::ZERO
    }

    fn spend(&mut self, now: Instant, cost: Duration) {
        self.fill(now);
        let beyond = cost.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(cost);
        self.owed = (self.owed + beyond).min(OLDEST / PART);
    }

    fn fill(&mut self, now: Instant) {
        let filled = now.saturating_duration_since(self.at) / PART;
        let beyond = filled.saturating_sub(self.owed);
        self.owed = self.owed.saturating_sub(filled);
        self.saved = (self.saved + beyond).min(MOST_SAVED);
        self.at = self.at.max(now);
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

    use super::*;

    #[test]
    fn a_budget_is_a_part_of_the_time_and_what_was_saved() {
        // So many milliseconds later so many are spent, and then so many are left, or owed.
        let story: [(u64, u64, i128); 8] = [
            (0, 150, 50),
            (160, 10, 50),
            (0, 70, -20),
            (160, 0, -10),
            (320, 0, 10),
            (9000, 0, 200),
            // A drawing of a minute is followed by another after a second.
            (0, 60_000, -62),
            (1000, 0, 0),
        ];
        let mut now = Instant::now();
        let mut budget = Budget::new(now);
        for (after_ms, cost_ms, left_ms) in story {
            now += Duration::from_millis(after_ms);
            budget.spend(now, Duration::from_millis(cost_ms));
            let left = budget.saved.as_millis() as i128 - budget.owed.as_millis() as i128;
            assert_eq!(
                (left, budget.is_spent(now)),
                (left_ms, left_ms < 0),
                "{after_ms} ms later, {cost_ms} ms"
            );
        }
    }

    /// Draws until a drawing is no new one, and gives that.
    fn exhaust(drawings: &Drawings, form: Form) -> Result<Bytes, Problem> {
        let mut made = 0;
        loop {
            let before = made;
            let drawn = drawings.draw(form, || {
                made += 1;
                std::thread::sleep(MOST_SAVED / 8);
                Ok::<_, Infallible>(made.to_string())
            });
            if made == before {
                assert!(made > 1, "what was saved is for more than one");
                assert_eq!(drawn.as_ref().map_or(made.to_string(), text), made.to_string());
                return drawn;
            }
            assert!(made < 1000, "there is no end to it");
        }
    }

    fn text(drawn: &Bytes) -> String {
        String::from_utf8_lossy(drawn).into_owned()
    }

    fn new(drawings: &Drawings, form: Form) -> Result<String, Problem> {
        drawings.draw(form, || Ok::<_, Infallible>("new")).map(|drawn| text(&drawn))
    }

    #[test]
    fn a_form_whose_budget_is_spent_gives_its_last_drawing_and_no_other_form_does() {
        let drawings = Drawings::default();
        let last = exhaust(&drawings, Form::Page).expect("the last drawing");
        assert_ne!(text(&last), "new");
        assert_eq!(new(&drawings, Form::Metrics).unwrap(), "new");
        drawings.forget();
        assert_eq!(new(&drawings, Form::Page).unwrap(), "new", "who has changed something sees it");
    }

    #[test]
    fn a_search_is_refused_rather_than_answered_with_anothers() {
        let drawings = Drawings::default();
        assert!(matches!(exhaust(&drawings, Form::Search), Err(Problem::Busy)));
        assert_eq!(new(&drawings, Form::Page).unwrap(), "new");
    }

    #[test]
    fn what_fails_is_told_and_not_kept() {
        let drawings = Drawings::default();
        let failed = drawings.draw(Form::Page, || Err::<String, _>("no ink"));
        assert!(matches!(failed, Err(Problem::Failed(error)) if error == "no ink"));
        assert_eq!(new(&drawings, Form::Page).unwrap(), "new");
    }
}
