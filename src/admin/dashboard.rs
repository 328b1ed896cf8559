//! The page: a drawing of the view, complete and readable without JavaScript.
//!
//! The living part is drawn by one template, for the first answer and for each `page` event alike; the script only puts
//! the new drawing in the place of the old one. The document has one style and one script of its own, [`STYLE`] and
//! [`SCRIPT`], and loads nothing else.

use std::sync::PoisonError;

use askama::Template;

use super::flow::{Flow, flow};
use super::history::{ClusterHistory, MemberHistory, PoolHistory};
use super::incidents::IncidentView;
use super::listing::{EndedView, Search, SessionView};
use super::ring::{COARSE, FINE, Fold, Series};
use super::spark::{SMALL, Spark, WIDE, spark};
use super::view::{ClusterView, MemberView, PoolView, StatusView};
use super::{Sources, figures, listing, view};

/// The text of the document's only `<style>`.
pub const STYLE: &str = include_str!("templates/page.css");
/// The text of the document's only `<script>`.
pub const SCRIPT: &str = include_str!("templates/page.js");
/// Open sessions in one drawing: more are found by searching.
const MOST_SESSIONS: usize = 100;
/// Ended ones.
const MOST_ENDED: usize = 50;

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Page<'a> {
    title: &'a str,
    query: &'a str,
    live: &'a str,
    sessions: &'a str,
    style: &'static str,
    script: &'static str,
}

/// The part that changes by itself.
#[derive(Template)]
#[template(path = "live.html")]
struct Live<'a> {
    status: &'a StatusView,
    title: String,
    say: String,
    clusters: Vec<Scene<'a>>,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct Sessions {
    query: String,
    found: usize,
    total: usize,
    sessions: Vec<SessionView>,
    ended: Vec<EndedView>,
}

/// One cluster with its pictures.
struct Scene<'a> {
    view: &'a ClusterView,
    flow: Flow,
    pools: Vec<PoolScene<'a>>,
    members: Vec<MemberScene<'a>>,
    incidents: Vec<IncidentScene<'a>>,
    held: usize,
    oldest_wait_s: Option<f64>,
}

struct PoolScene<'a> {
    view: &'a PoolView,
    pictures: Vec<Picture>,
}

struct MemberScene<'a> {
    view: &'a MemberView,
    lag: Spark,
    sessions: Spark,
}

struct IncidentScene<'a> {
    view: &'a IncidentView,
    /// Where its steps lie on a line from 0 to 1000, from the first sign to the end.
    marks: Vec<u64>,
}

/// A series with what it is called.
struct Picture {
    name: &'static str,
    span: &'static str,
    peak: String,
    spark: Spark,
}

/// The page as it is now; `query` is what is searched among the sessions.
///
/// # Errors
/// Those of the template.
pub fn draw(sources: &Sources, query: &str) -> askama::Result<String> {
    let status = view::status(sources);
    let live = draw_live(sources, &status)?;
    let sessions = draw_sessions(sources, query)?;
    let title = &title(&status);
    Page { title, query, live: &live, sessions: &sessions, style: STYLE, script: SCRIPT }.render()
}

/// The living part alone.
///
/// # Errors
/// Those of the template.
pub fn draw_live(sources: &Sources, status: &StatusView) -> askama::Result<String> {
    let history = sources.live.history.lock().unwrap_or_else(PoisonError::into_inner);
    let clusters = status.clusters.iter().map(|view| scene(view, history.cluster(view.id))).collect();
    Live { status, title: title(status), say: say(status), clusters }.render()
}

/// The tables of sessions alone.
///
/// # Errors
/// Those of the template.
pub fn draw_sessions(sources: &Sources, query: &str) -> askama::Result<String> {
    let search = Search::new(query);
    let all = listing::sessions(sources);
    let total = all.len();
    let mut sessions: Vec<SessionView> = all.into_iter().filter(|session| session.matches(&search)).collect();
    let found = sessions.len();
    sessions.truncate(MOST_SESSIONS);
    let ended = listing::ends(sources).into_iter().filter(|ended| ended.matches(&search));
    let ended = ended.take(MOST_ENDED).collect();
    Sessions { query: query.to_owned(), found, total, sessions, ended }.render()
}

fn title(status: &StatusView) -> String {
    let of_cluster = |cluster: &ClusterView| {
        format!("{}: {}", cluster.name, cluster.writer.as_deref().unwrap_or("no writer"))
    };
    let names: Vec<String> = status.clusters.iter().map(of_cluster).collect();
    format!("{} · pilotfish", names.join(" · "))
}

/// What a screen reader is told when it changes.
fn say(status: &StatusView) -> String {
    let headline = |cluster: &ClusterView| {
        let what = cluster.headline.as_ref().map_or("", |headline| &*headline.what);
        format!("{}: {what}", cluster.name)
    };
    status.clusters.iter().map(headline).collect::<Vec<_>>().join(" ")
}

fn scene<'a>(view: &'a ClusterView, history: Option<&ClusterHistory>) -> Scene<'a> {
    let of_pool =
        |pool: &PoolView| history.and_then(|history| history.pools.iter().find(|p| p.name == pool.name));
    let pool = |view: &'a PoolView| PoolScene { view, pictures: pictures(of_pool(view)) };
    let waits = view.pools.iter().filter_map(|pool| pool.oldest_wait_s);
    Scene {
        view,
        flow: flow(view),
        pools: view.pools.iter().map(pool).collect(),
        members: view
            .members
            .iter()
            .map(|member| self::member(member, history.and_then(|h| h.members.get(&member.name))))
            .collect(),
        incidents: view.incidents.iter().map(incident).collect(),
        held: view.pools.iter().map(|pool| pool.held).sum(),
        oldest_wait_s: waits.reduce(f64::max),
    }
}

fn pictures(history: Option<&PoolHistory>) -> Vec<Picture> {
    let Some(history) = history else { return Vec::new() };
    let picture = |name, span, spark: Spark, peak: fn(f64) -> String| Picture {
        name,
        span,
        peak: peak(spark.peak),
        spark,
    };
    let count = |peak: f64| format!("{peak:.0}");
    let rate = |peak: f64| format!("{}/s", figures::bytes(peak as u64));
    let fine = |series: &Series, fold| spark(series.fine(), FINE, WIDE, fold);
    vec![
        picture("Sessions", "5 min", fine(&history.sessions, Fold::Greatest), count),
        picture("Bytes out", "5 min", fine(&history.bytes_out_per_s, Fold::Mean), rate),
        picture("Held", "5 min", fine(&history.held, Fold::Greatest), count),
        picture("Sessions", "1 h", spark(history.sessions.coarse(), COARSE, WIDE, Fold::Greatest), count),
    ]
}

fn member<'a>(view: &'a MemberView, history: Option<&MemberHistory>) -> MemberScene<'a> {
    let draw = |series: &dyn Fn(&MemberHistory) -> Spark| history.map(series).unwrap_or_default();
    MemberScene {
        view,
        lag: draw(&|member| spark(member.lag_bytes.fine(), FINE, SMALL, Fold::Greatest)),
        sessions: draw(&|member| spark(member.sessions.fine(), FINE, SMALL, Fold::Greatest)),
    }
}

fn incident(view: &IncidentView) -> IncidentScene<'_> {
    let last = view.steps.last().map_or(0, |step| step.after_ms).max(view.lasted_ms.unwrap_or(0)).max(1);
    let mut marks: Vec<u64> = view.steps.iter().map(|step| step.after_ms * 1000 / last).collect();
    marks.dedup();
    IncidentScene { view, marks }
}

/// What the templates may write after a `|`.
mod filters {
    use askama::Values;

    use crate::admin::figures;

    #[askama::filter_fn]
    pub fn bytes(count: &u64, _: &dyn Values) -> askama::Result<String> {
        Ok(figures::bytes(*count))
    }

    #[askama::filter_fn]
    pub fn rate(bytes: &f64, _: &dyn Values) -> askama::Result<String> {
        Ok(format!("{}/s", figures::bytes(*bytes as u64)))
    }

    #[askama::filter_fn]
    pub fn per_s(rate: &f64, _: &dyn Values) -> askama::Result<String> {
        Ok(format!("{}/s", figures::rate(*rate)))
    }

    #[askama::filter_fn]
    pub fn ago(seconds: &f64, _: &dyn Values) -> askama::Result<String> {
        Ok(figures::ago(*seconds))
    }

    #[askama::filter_fn]
    pub fn millis(ms: &u64, _: &dyn Values) -> askama::Result<String> {
        Ok(figures::millis(*ms))
    }

    #[askama::filter_fn]
    pub fn utc(unix_ms: &u64, _: &dyn Values) -> askama::Result<String> {
        Ok(figures::utc(*unix_ms))
    }

    /// A word of the API for people.
    #[askama::filter_fn]
    pub fn words(word: &str, _: &dyn Values) -> askama::Result<String> {
        Ok(word.replace('_', " "))
    }

    /// How a class is marked, beside its words: by shape first, by colour second.
    #[askama::filter_fn]
    pub fn mark(class: &str, _: &dyn Values) -> askama::Result<&'static str> {
        Ok(match class {
            "writer" => "★",
            "reader" | "standby_leader" => "●",
            "standby" | "unknown" => "○",
            "promoting" | "leaving" => "▲",
            "silent" => "?",
            _ => "✕",
        })
    }
}
