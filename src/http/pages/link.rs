//! The console's two pages that a letter's link opens: another password chosen, an address proven. The token stands in
//! the link's fragment, which the page's own script alone reads.

use super::{hash, scripts, style};
use crate::{
    base::messages::{self, Language},
    http::exchange,
};
use poem::{
    Endpoint, Request, Response, Result,
    endpoint::make,
    http::{HeaderValue, header},
};

const PAGE: &str = include_str!("link.html");

/// What one page is for.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub path: &'static str,
    action: &'static str,
    /// For the browser's store of passwords.
    autocomplete: &'static str,
    /// The keys of its title, its reason and what it says when all went well.
    texts: [&'static str; 4],
}

pub const LINKS: [Link; 2] = [
    Link {
        path: "/console/recover",
        action: "/api/v1/auth/recover/confirm",
        autocomplete: "new-password",
        texts: ["pages.recover", "pages.recover_why", "pages.recover_password", "pages.recover_done"],
    },
    Link {
        path: "/console/verify",
        action: "/api/v1/auth/verify",
        autocomplete: "current-password",
        texts: ["pages.verify", "pages.verify_why", "pages.verify_password", "pages.verify_done"],
    },
];

impl Link {
    pub fn page(self) -> impl Endpoint {
        make(move |request| self.answer(request))
    }

    async fn answer(self, request: Request) -> Result<Response> {
        let page = self.render(exchange::of(&request)?.language);
        let policy = HeaderValue::try_from(policy(&page)).map_err(poem::error::InternalServerError)?;
        let answer = Response::builder().content_type("text/html; charset=utf-8");
        Ok(answer.header(header::CONTENT_SECURITY_POLICY, policy).body(page))
    }

    fn render(self, language: Language) -> String {
        let text = |key: &'static str| messages::text(language, key);
        let [title, why, password, done] = self.texts;
        let tag = if language == Language::French { "fr" } else { "en" };
        let values = [
            ("{lang}", tag.to_owned()),
            ("{title}", text(title)),
            ("{why}", text(why)),
            ("{script}", text("pages.script")),
            ("{action}", self.action.to_owned()),
            ("{password}", text(password)),
            ("{autocomplete}", self.autocomplete.to_owned()),
            ("{button}", text("pages.button")),
            ("{done}", text(done)),
            ("{absent}", text("pages.absent")),
            ("{failed}", text("pages.failed")),
        ];
        values.iter().fold(PAGE.to_owned(), |page, (name, value)| page.replace(name, value))
    }
}

/// Its own script and style, its own server, nothing else; shown within no other page.
fn policy(page: &str) -> String {
    let script = scripts(page).map(hash).collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src {script}; style-src {}; connect-src 'self'; form-action 'none'; base-uri 'none'; \
         frame-ancestors 'none'",
        style(page)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_whole_in_both_languages() {
        for link in LINKS {
            for language in [Language::French, Language::English] {
                let page = link.render(language);
                assert!(page.contains(&format!("action=\"{}\"", link.action)), "{page}");
                for name in ["lang", "title", "why", "script", "password", "button", "done", "absent", "failed"] {
                    assert!(!page.contains(&format!("{{{name}}}")), "{name} was not filled in");
                }
                // What stands in an attribute or a text must not end it.
                let texts = link.texts.map(|key| messages::text(language, key));
                assert!(texts.iter().all(|text| !text.contains(['"', '<', '&'])), "{texts:?}");
                let policy = policy(&page);
                assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
            }
        }
    }
}
