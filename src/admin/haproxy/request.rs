//! Which drawing a path asks for: `/;csv`, `/stats;json;up`, `/haproxy?stats;csv;norefresh` and the like.
//!
//! HAProxy's own statistics are wherever `stats uri` says; these are the places that its documentation, Patroni's
//! templates and exporters use.

use std::convert::Infallible;

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::super::Sources;
use super::super::drawings::Form as Drawing;
use super::super::refusal::Refusal;
use super::row::Row;
use super::{csv, json};

/// Where HAProxy's statistics may be looked for.
const PLACES: [&str; 5] = ["/", "/stats", "/haproxy?stats", "/haproxy-stats", "/haproxy_stats"];

/// How the rows are drawn, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wish {
    pub form: Form,
    pub scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    #[default]
    Csv,
    Json,
}

/// Which servers are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scope {
    /// Only those that are up.
    pub up: bool,
    /// None in maintenance.
    pub no_maint: bool,
}

impl Scope {
    /// Fronts are always listed; of the others those with a wanted state.
    pub fn shows(self, row: &Row) -> bool {
        let status = row.text_in(super::field::Field::Status);
        let is_server = row.object == super::row::Object::Server;
        let up = !self.up || row.object == super::row::Object::Frontend || status.starts_with("UP");
        up && !(self.no_maint && is_server && status.starts_with("MAINT"))
    }
}

/// What `uri` asks for; `None` when it is not about these views.
pub fn wish(uri: &Uri) -> Option<Wish> {
    let (place, words) = uri.path_and_query()?.as_str().split_once(';')?;
    if !PLACES.contains(&place) {
        return None;
    }
    let words: Vec<&str> = words.split(';').collect();
    let form = match () {
        () if words.contains(&"json") => Form::Json,
        () if words.contains(&"csv") => Form::Csv,
        () => return None,
    };
    Some(Wish { form, scope: Scope { up: words.contains(&"up"), no_maint: words.contains(&"no-maint") } })
}

/// The rows as `uri` asks for them, or that there is nothing at this path.
pub fn answer(sources: &Sources, uri: &Uri) -> Response {
    let Some(wish) = wish(uri) else {
        return Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path").into_response();
    };
    let Wish { form, scope } = wish;
    let draw = || {
        let mut rows = super::rows(sources);
        rows.retain(|row| scope.shows(row));
        Ok::<_, Infallible>(match form {
            Form::Csv => csv::draw(&rows),
            Form::Json => json::draw(&rows),
        })
    };
    let kind = match form {
        Form::Csv => "text/plain",
        Form::Json => "application/json",
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    let drawn = sources.live.drawings.draw(Drawing::HaproxyRows(wish), draw);
    drawn.map(|drawn| (headers, drawn)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_and_words_of_haproxy_are_understood() {
        let csv = Wish::default();
        for (path, wished) in [
            ("/;csv", Some(csv)),
            ("/stats;csv", Some(csv)),
            ("/haproxy?stats;csv", Some(csv)),
            ("/haproxy?stats;csv;norefresh", Some(csv)),
            ("/stats;json", Some(Wish { form: Form::Json, ..csv })),
            ("/;csv;up", Some(Wish { scope: Scope { up: true, no_maint: false }, ..csv })),
            ("/;up;no-maint;csv", Some(Wish { scope: Scope { up: true, no_maint: true }, ..csv })),
            ("/;norefresh", None),
            ("/metrics;csv", None),
            ("/csv", None),
        ] {
            assert_eq!(wish(&path.parse().unwrap()), wished, "{path}");
        }
    }
}
