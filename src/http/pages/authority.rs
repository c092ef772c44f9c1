//! The console's page that tells how a device comes to trust this server's own authority, and the files it offers. They
//! are public: who does not trust the connection yet compares the fingerprint over another way.

use super::style;
use crate::{
    base::messages::{self, Language},
    http::{State, exchange},
    services::certificates::Bundle,
};
use poem::{
    Request, Response, Result, Route,
    endpoint::make,
    get,
    http::{HeaderValue, header},
};
use std::sync::Arc;

const PAGE: &str = include_str!("authority.html");
const TEXTS: [(&str, &str); 7] = [
    ("{why}", "pages.authority_why"),
    ("{compare}", "pages.authority_compare"),
    ("{windows}", "pages.authority_windows"),
    ("{apple}", "pages.authority_apple"),
    ("{android}", "pages.authority_android"),
    ("{firefox}", "pages.authority_firefox"),
    ("{debian}", "pages.authority_debian"),
];

type File = (&'static str, &'static str, fn(&Bundle) -> Vec<u8>);

const FILES: [File; 3] = [
    ("/console/authority.pem", "application/x-pem-file", |bundle| bundle.pem().into_bytes()),
    ("/console/authority.crt", "application/x-x509-ca-cert", |bundle| bundle.der().to_vec()),
    ("/console/authority.mobileconfig", "application/x-apple-aspen-config", |bundle| {
        bundle.profile("Débrouille Appliance").into_bytes()
    }),
];

pub fn routes(pages: Route, state: &Arc<State>) -> Route {
    let own = state.clone();
    let page = make(move |request| answer(request, own.secrets.authorities()));
    FILES.into_iter().fold(pages.at("/console/authority", get(page)), |pages, (path, kind, write)| {
        let own = state.clone();
        let file = make(move |_| {
            let body = write(&own.secrets.authorities());
            async move { Ok::<_, poem::Error>(Response::builder().content_type(kind).body(body)) }
        });
        pages.at(path, get(file))
    })
}

async fn answer(request: Request, bundle: Bundle) -> Result<Response> {
    let page = render(exchange::of(&request)?.language, &bundle);
    let policy = HeaderValue::try_from(policy(&page)).map_err(poem::error::InternalServerError)?;
    let answer = Response::builder().content_type("text/html; charset=utf-8");
    Ok(answer.header(header::CONTENT_SECURITY_POLICY, policy).body(page))
}

fn render(language: Language, bundle: &Bundle) -> String {
    let tag = if language == Language::French { "fr" } else { "en" };
    let fingerprints: String = bundle.fingerprints().iter().map(|print| format!("<code>{print}</code>\n")).collect();
    let page = PAGE.replace("{lang}", tag).replace("{fingerprints}", &fingerprints);
    let page = page.replace("{title}", &messages::text(language, "pages.authority"));
    TEXTS.into_iter().fold(page, |page, (name, key)| page.replace(name, &messages::text(language, key)))
}

/// Its own style and files, no script.
fn policy(page: &str) -> String {
    let style = style(page);
    format!("default-src 'none'; style-src {style}; form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_in_both_languages() {
        let bundle = Bundle(vec![vec![1], vec![2]]);
        for language in [Language::French, Language::English] {
            let page = render(language, &bundle);
            assert!(bundle.fingerprints().iter().all(|print| page.contains(print)), "{page}");
            let body = page.split_once("</style>").unwrap().1;
            assert!(!body.contains('{'), "{body}");
            // What stands in a text must not end it.
            let texts = TEXTS.map(|(_, key)| messages::text(language, key));
            assert!(texts.iter().all(|text| !text.contains(['<', '&'])), "{texts:?}");
            assert_eq!(policy(&page).matches("'sha256-").count(), 1);
        }
    }
}
