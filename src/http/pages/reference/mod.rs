//! The browsable reference of the API: Swagger UI, which `scripts/swagger-ui` renews, and the description it shows. All that
//! is long lies packed, and goes so over weak links: a twentieth of the description, a quarter of the library.

use super::SPECIFICATION;
use crate::{
    base::{
        messages::{self, Language},
        random,
    },
    http::{exchange, spec},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use poem::{
    Request, Response, Result, Route,
    endpoint::{make, make_sync},
    error::InternalServerError,
    get,
    http::{HeaderMap, HeaderValue, header},
};
use std::{
    io::{self, Read, Write},
    sync::LazyLock,
};

const PAGE: &str = include_str!("page.html");
const VERSION: &str = include_str!("VERSION");
const LIBRARY: &[u8] = include_bytes!("swagger-ui-bundle.js.gz");
const STYLE: &[u8] = include_bytes!("swagger-ui.css.gz");
/// Its address names the library's version.
const FOR_A_YEAR: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// Made when somebody asks: a start has other things to do.
static DESCRIPTION: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(pack(&spec::openapi()).expect("memory takes what is written")));

pub fn routes(pages: Route) -> Route {
    pages
        .at("/docs", get(make(page)))
        .at("/docs/swagger-ui.js", packed("text/javascript; charset=utf-8", FOR_A_YEAR, || Bytes::from_static(LIBRARY)))
        .at("/docs/swagger-ui.css", packed("text/css; charset=utf-8", FOR_A_YEAR, || Bytes::from_static(STYLE)))
        .at(SPECIFICATION, packed("application/json", NO_CACHE, || DESCRIPTION.clone()))
}

/// Scripts run that bear this answer's own word, and nothing else.
async fn page(request: Request) -> Result<Response> {
    let language = exchange::of(&request)?.language;
    let nonce = STANDARD.encode(random::array::<16>());
    let page = PAGE
        .replace("{lang}", if language == Language::French { "fr" } else { "en" })
        .replace("{title}", &messages::text(language, "pages.reference"))
        .replace("{version}", VERSION.trim())
        .replace("{nonce}", &nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; font-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).map_err(InternalServerError)?;
    let answer = Response::builder().content_type("text/html; charset=utf-8");
    let answer = answer.header(header::CACHE_CONTROL, "no-store");
    Ok(answer.header(header::CONTENT_SECURITY_POLICY, policy).body(page))
}

fn packed(kind: &'static str, cached: HeaderValue, bytes: fn() -> Bytes) -> poem::RouteMethod {
    get(make_sync(move |request: Request| {
        let answer = Response::builder().content_type(kind).header(header::CACHE_CONTROL, cached.clone());
        let answer = answer.header(header::VARY, header::ACCEPT_ENCODING.as_str());
        match takes_gzip(request.headers()) {
            true => answer.header(header::CONTENT_ENCODING, "gzip").body(bytes()),
            false => answer.body(unpack(&bytes())),
        }
    }))
}

/// RFC 9110, 12.5.3: named, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let none = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !none
    })
}

fn pack(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("what was packed here or by the build is whole");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_given_to_who_takes_it() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate , gzip"));
        assert!(!takes("gzip;q=0") && !takes("gzip; q=0.000") && !takes("br") && !takes("") && !takes("gzipped"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
