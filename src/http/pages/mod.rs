//! Pages and what has no envelope: the front door, the pages that letters lead to, the one that makes this server trusted, the browsable reference, readiness.

mod authority;
mod link;
mod reference;

use super::{
    State,
    exchange::{self},
    ops,
};
use crate::base::messages;
use base64::{Engine, engine::general_purpose::STANDARD};
use poem::{EndpointExt, Request, Response, Result, Route, endpoint::make, get, http::HeaderValue};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What every page takes.
pub const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");
const SPECIFICATION: &str = "/api/v1/openapi.json";

/// Whether a path under the API's prefix is a page's.
pub fn holds(path: &str) -> bool {
    path == SPECIFICATION
}

pub fn routes(state: &Arc<State>) -> Route {
    let pages = authority::routes(Route::new(), state);
    let pages = reference::routes(pages);
    let pages = link::LINKS.into_iter().fold(pages, |pages, link| pages.at(link.path, get(link.page())));
    pages.at("/", get(make(front))).at("/readyz", get(ops::ready).data(state.health.clone()))
}

async fn front(request: Request) -> Result<Response> {
    let language = exchange::of(&request)?.language;
    let text = |key| messages::text(language, key);
    let tag = match language {
        messages::Language::French => "fr",
        messages::Language::English => "en",
    };
    let page = format!(
        "<!doctype html><html lang=\"{tag}\"><meta charset=\"utf-8\"><title>Débrouille Appliance</title>\
         <h1>Débrouille Appliance</h1><p>{}</p><p><a href=\"/docs\">{}</a></p>\
         <p><a href=\"/console/authority\">{}</a></p></html>",
        text("pages.front"),
        text("pages.reference"),
        text("pages.authority_link"),
    );
    Ok(Response::builder().content_type("text/html; charset=utf-8").body(page))
}

/// What stands between each `<script>` and its end; a script may name the tag in a string.
fn scripts(page: &str) -> impl Iterator<Item = &str> {
    let mut rest = page;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once("<script")?;
        let (_, after) = after.split_once('>')?;
        let (script, after) = after.split_once("</script>")?;
        rest = after;
        Some(script)
    })
}

/// What stands in a page, as its policy names it.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

/// What stands between a page's `<style>` and its end, as its policy names it.
fn style(page: &str) -> String {
    let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
    style.map(|(style, _)| hash(style)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_names_the_tag_is_one_script() {
        let page = "<html><script a=1>let a = '<script x>';</script><p></p><script>b()</script></html>";
        assert_eq!(scripts(page).collect::<Vec<_>>(), ["let a = '<script x>';", "b()"]);
    }
}
