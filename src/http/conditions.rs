//! `If-Match` and `If-None-Match` (RFC 9110, 13.1), in revisions; the idempotency key.

use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        documents::{Attempt, Match},
    },
};
use poem::{Request, http::HeaderMap};

/// Letters of an idempotency key, at most.
const LONGEST_KEY: usize = 255;

/// What a write assumes.
pub fn expected(headers: &HeaderMap) -> Result<Match> {
    let (if_match, if_none) = (tags(headers, "if-match")?, tags(headers, "if-none-match")?);
    match (if_match.as_deref(), if_none.as_deref()) {
        (None, None) => Ok(Match::Any),
        (Some("*"), None) => Ok(Match::Present),
        (Some(tags), None) => Ok(Match::Revisions(revisions(tags, "If-Match", false)?)),
        (None, Some("*")) => Ok(Match::Absent),
        (_, Some(_)) => Err(Error::Unreadable(Fault::new("http.condition").at("If-None-Match"))),
    }
}

/// The one revision a write assumes, where several make no sense.
pub fn expected_one(headers: &HeaderMap) -> Result<Option<i64>> {
    match expected(headers)? {
        Match::Any | Match::Present => Ok(None),
        Match::Revisions(revisions) => match revisions.as_slice() {
            [one] => Ok(Some(*one)),
            _ => Err(Error::Unreadable(Fault::new("http.condition").at("If-Match"))),
        },
        Match::Absent => Err(Error::Unreadable(Fault::new("http.condition").at("If-None-Match"))),
    }
}

/// The same, of what may not be there yet.
pub fn expected_or_new(headers: &HeaderMap) -> Result<Match> {
    let expected = expected(headers)?;
    if expected != Match::Absent {
        expected_one(headers)?;
    }
    Ok(expected)
}

/// Whether the caller already has this revision.
pub fn has(headers: &HeaderMap, revision: Option<i64>) -> Result<bool> {
    match tags(headers, "if-none-match")?.as_deref() {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(tags) => {
            let held = revisions(tags, "If-None-Match", true)?;
            Ok(revision.is_some_and(|revision| held.contains(&revision)))
        }
    }
}

/// A condition's tags, of all its lines (RFC 9110, 5.3). One that cannot be read must not count as none.
fn tags(headers: &HeaderMap, name: &'static str) -> Result<Option<String>> {
    let lines = headers
        .get_all(name)
        .iter()
        .map(|line| line.to_str().map(str::trim))
        .collect::<std::result::Result<Vec<_>, _>>();
    let lines = lines.map_err(|_| Error::Unreadable(Fault::new("http.condition").at(name)))?;
    Ok((!lines.is_empty()).then(|| lines.join(", ")))
}

/// `"3", "4"`. A weak tag counts only where weak comparison is asked for; one that is no revision of ours never holds.
fn revisions(tags: &str, header: &'static str, weak: bool) -> Result<Vec<i64>> {
    let fault = || Error::Unreadable(Fault::new("http.condition").at(header));
    let mut revisions = Vec::new();
    for tag in tags.split(',').map(str::trim) {
        let (is_weak, tag) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
        let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(fault)?;
        if let (Ok(revision), true) = (inner.parse(), weak || !is_weak) {
            revisions.push(revision);
        }
    }
    Ok(revisions)
}

/// The attempt a client named with `Idempotency-Key`.
pub fn attempt<'a>(request: &'a Request, body: &'a [u8]) -> Result<Option<Attempt<'a>>> {
    let Some(key) = request.headers().get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let fault =
        || Error::Unreadable(Fault::new("http.idempotency_key").at("Idempotency-Key").with("limit", LONGEST_KEY));
    let key = key.ok_or_else(fault)?;
    Ok(Some(Attempt { method: request.method().as_str(), path: request.uri().path(), key, body }))
}

/// Where no answer can be kept for a retry, who counts on one is told.
pub fn no_attempt(request: &Request) -> Result<()> {
    match request.headers().contains_key("idempotency-key") {
        true => Err(Error::Unreadable(Fault::new("http.idempotency_unkept").at("Idempotency-Key"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::HeaderValue;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn conditions_of_a_write() {
        let of = |name, value| expected(&headers(name, value)).ok();
        assert_eq!(expected(&HeaderMap::new()).ok(), Some(Match::Any));
        assert_eq!(of("if-match", "*"), Some(Match::Present));
        assert_eq!(of("if-none-match", "*"), Some(Match::Absent));
        assert_eq!(of("if-match", "\"3\""), Some(Match::Revisions(vec![3])));
        assert_eq!(of("if-match", "\"3\", \"12\""), Some(Match::Revisions(vec![3, 12])));
        assert_eq!(of("if-match", "W/\"3\""), Some(Match::Revisions(vec![])));
        assert_eq!(of("if-match", "\"other\""), Some(Match::Revisions(vec![])));
        let mut odd = headers("if-match", "\"99\"");
        odd.append("if-match", HeaderValue::from_static("\"3\""));
        assert_eq!(expected(&odd).ok(), Some(Match::Revisions(vec![99, 3])));
        odd.append("if-match", HeaderValue::from_bytes(b"\"\xe9\"").unwrap());
        assert!(expected(&odd).is_err(), "what cannot be read was taken for no condition");
        for bad in ["3", "\"3", "", "\"3\" \"4\""] {
            assert_ne!(of("if-match", bad), Some(Match::Revisions(vec![3])), "{bad}");
        }
        assert_eq!(of("if-match", "3"), None);
        assert_eq!(of("if-none-match", "\"3\""), None);
    }

    #[test]
    fn conditions_of_a_read() {
        assert!(has(&headers("if-none-match", "W/\"3\", \"9\""), Some(3)).unwrap());
        assert!(has(&headers("if-none-match", "*"), Some(3)).unwrap());
        assert!(!has(&headers("if-none-match", "\"3\""), Some(4)).unwrap());
        assert!(!has(&HeaderMap::new(), Some(4)).unwrap());
    }
}
