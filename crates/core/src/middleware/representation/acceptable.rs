//! `Accept`: which of a route's media types the answer has, 406 where none is acceptable (RFC 9110, 12.5.1).
//!
//! Before the handler, so that a change is not made whose answer would be refused. Errors are problem documents whatever
//! `Accept` says: a client that cannot read why is told the status at least.
//!
//! Assumes that a cache in between obeys `Vary` where a route lets it keep answers: another would give one client's media
//! type to the next. Most routes let nobody.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use http::header::ACCEPT;

use crate::error::{Error, codes};
use crate::extract::MediaType;
use crate::middleware::headers::vary;
use crate::module::Route;
use crate::shared::choices;

/// Chooses the media type; a handler that has several takes it as [`MediaType`].
pub(in crate::middleware) fn enter(route: &Route, request: &mut Request) -> Result<(), Error> {
    if route.produces.is_empty() {
        return Ok(());
    }
    let chosen = choose(request.headers(), route.produces).ok_or_else(|| {
        let detail = format!("This can be answered as {}.", route.produces.join(", "));
        Error::new(&codes::NOT_ACCEPTABLE).detail(detail)
    })?;
    if route.produces.len() > 1 {
        request.extensions_mut().insert(MediaType(chosen));
    }
    Ok(())
}

/// Says that another `Accept` may get another answer.
pub(in crate::middleware) fn leave(route: &Route, response: &mut Response) {
    if route.produces.len() > 1 {
        vary(response.headers_mut(), "Accept");
    }
}

/// The offer of the greatest weight, the first of equals.
fn choose(headers: &HeaderMap, offers: &[&'static str]) -> Option<&'static str> {
    if choices(headers, &ACCEPT).next().is_none() {
        return offers.first().copied(); // anything
    }
    let weighed =
        offers.iter().map(|offer| (*offer, weight(headers, offer))).filter(|(_, weight)| *weight > 0);
    weighed.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(offer, _)| offer)
}

/// What the most exact range that fits says of `offer`. A range's parameters are not looked at: ours have none.
fn weight(headers: &HeaderMap, offer: &str) -> u16 {
    let fitting =
        choices(headers, &ACCEPT).filter_map(|(range, weight)| Some((exactness(range, offer)?, weight)));
    fitting.max().map_or(0, |(_, weight)| weight)
}

fn exactness(range: &str, offer: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(offer) {
        return Some(2);
    }
    // `*` alone is what old Java clients send.
    let (kind, "*") = range.split_once('/').unwrap_or((range, range)) else { return None };
    let same = offer.split_once('/').is_some_and(|(own, _)| own.eq_ignore_ascii_case(kind));
    if same { Some(1) } else { (kind == "*").then_some(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<&'static str> {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        choose(&headers, &["application/json", "application/x-ndjson", "text/csv"])
    }

    #[test]
    fn h_05_the_most_exact_range_decides_and_the_first_of_equals_wins() {
        assert_eq!(choose(&HeaderMap::new(), &["application/json"]), Some("application/json"));
        for (accept, expected) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("application/*", Some("application/json")),
            ("APPLICATION/JSON; charset=utf-8", Some("application/json")),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some("application/json")),
            ("text/csv", Some("text/csv")),
            ("text/*;q=0.9, application/x-ndjson;q=0.8", Some("text/csv")),
            ("*/*, application/json;q=0", Some("application/x-ndjson")),
            ("application/json;q=0.1, */*;q=0.2", Some("application/x-ndjson")),
            ("application/json;q=0", None),
            ("*/*;q=0", None),
            ("text/html, image/*", None),
            ("*", Some("application/json")),
            ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", Some("application/json")),
            ("text/csv;q=.9, *;q=.8", Some("text/csv")),
            ("text/csv;q=0.80199, */*;q=0.8", Some("text/csv")),
            ("*;q=0", None),
            ("application/problem+json", None),
            ("application", None),
            ("q=x;q=y", Some("application/json")), // nothing that can be understood
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }
}
