//! Every way a request can be wrong, and every way the server can fail: one envelope, the right words, no causes.

use crate::house::{self, Answer, House};
use bson::RawDocumentBuf;
use debrouille_appliance::{
    domain::filter::Filter,
    http::{self, Limits},
    ports::{
        Error, Result,
        documents::{
            Batch, Collection, Committed, Documents, Explain, Load, Page, Query, Record, Resealed, Retention, Sequence,
            Snapshot, Statistics, StorageKey,
        },
    },
};
use poem::{Body, Endpoint, Request, http::Method};
use serde_json::json;
use std::{collections::BTreeMap, io::Read, sync::Arc, time::Duration};

const PLACES: &str = "/api/v1/collections/places/documents";

async fn raw(house: &House, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request =
        Request::builder().method(method).uri_str(path).header("authorization", format!("Bearer {}", house.token));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    house.call(request.body(body)).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn what_is_not_there_or_not_taken() {
    let house = House::open().await;
    for path in ["/api/v1/nothing", "/api/v2/collections", "/nothing", "/api/v1/collections/a/b/c/d", "//", "/api/v1"] {
        house.get(path).await.refused(404, "ROUTE_NOT_FOUND", "http.route");
    }
    let answer = house.delete(PLACES).await;
    answer.refused(405, "METHOD_NOT_ALLOWED", "http.method");
    let mut allowed: Vec<_> = answer.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "POST"]);
    for page in ["/", "/docs", "/readyz", "/api/v1/openapi.json"] {
        let answer = house.delete(page).await;
        answer.refused(405, "METHOD_NOT_ALLOWED", "http.method");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{page}");
        house.ask(Method::HEAD, page, &[], None).await.ok(200);
    }
    let xml = house.ask(Method::GET, "/api/v1/meta", &[("accept", "text/xml")], None).await;
    xml.refused(406, "NOT_ACCEPTABLE", "http.acceptable");
    house.ask(Method::GET, "/api/v1/meta", &[("accept", "text/html, */*;q=0.1")], None).await.ok(200);
    raw(&house, Method::GET, "/api/v1/collections/%ff/count", &[], ()).await.refused(
        400,
        "VALIDATION_ERROR",
        "http.path",
    );
}

#[tokio::test]
async fn bodies_that_cannot_be_read_change_nothing() {
    let limits = Limits { body: 64 << 10, ..Limits::default() };
    let house = House::with(limits).await;
    house.collection(json!({ "name": "places" })).await;
    let post = async |body: Vec<u8>| raw(&house, Method::POST, PLACES, &[JSON], body).await;
    for broken in [&b""[..], b"{", b"{\"data\":{}", b"{\"data\":{\"a\":01}}", b"{\"data\":{\"a\":\"\xff\"}}", b"nul"] {
        let answer = post(broken.to_vec()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (400, "VALIDATION_ERROR"),
            "{broken:?}: {}",
            answer.text
        );
    }
    let nul = post(br#"{"data":{"a\u0000b":1}}"#.to_vec()).await;
    assert_eq!((nul.status.as_u16() / 100, nul.code().as_str()), (4, "VALIDATION_ERROR"), "{}", nul.text);
    for wrong in
        [r#"{"name":"x"}"#, r#"{"data":{},"other":{}}"#, r#"{"data":[]}"#, r#"{"data":1}"#, r#"{"data":{},"meta":1}"#]
    {
        post(wrong.into()).await.refused(422, "VALIDATION_ERROR", "http.envelope");
    }
    post(b"{}".to_vec()).await.refused(422, "VALIDATION_ERROR", "http.envelope");
    let deep = format!(r#"{{"data":{{"a":{}1{}}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let deep = post(deep.into_bytes()).await;
    assert_eq!((deep.status.as_u16() / 100, deep.refusal().2.as_str()), (4, "json.depth"), "{}", deep.text);
    let large = format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(70 << 10));
    post(large.clone().into_bytes()).await.refused(413, "PAYLOAD_TOO_LARGE", "http.body_size");
    // The same without a length announced.
    let chunks: Vec<_> = large.into_bytes().chunks(1000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let body = Body::from_bytes_stream(futures_util::stream::iter(chunks));
    let answer = raw(&house, Method::POST, PLACES, &[JSON], body).await;
    answer.refused(413, "PAYLOAD_TOO_LARGE", "http.body_size");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let answer = raw(&house, Method::POST, PLACES, &[("content-type", kind)], "{\"data\":{}}").await;
        answer.refused(415, "UNSUPPORTED_MEDIA_TYPE", "http.media_type");
    }
    let integer = post(br#"{"data":{"n":9223372036854775808}}"#.to_vec()).await;
    assert_eq!(integer.refusal(), (422, "VALIDATION_ERROR".to_owned(), "json.integer".to_owned()));
    assert_eq!(house.get("/api/v1/collections/places/count").await.data()["count"], 0, "something was written");
}

#[tokio::test]
async fn a_document_has_a_largest_size() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let large = house.post(PLACES, json!({ "a": "x".repeat((1 << 20) + 1) })).await;
    large.refused(413, "PAYLOAD_TOO_LARGE", "documents.too_large");
    house.put(&format!("{PLACES}/x"), json!({ "a": "x".repeat(1 << 19) })).await.ok(201);
    let grown = house.patch(&format!("{PLACES}/x"), json!({ "b": "x".repeat(1 << 19) })).await;
    grown.refused(413, "PAYLOAD_TOO_LARGE", "documents.too_large");
}

#[tokio::test]
async fn words_are_in_the_callers_language() {
    let house = House::open().await;
    let message = async |headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri_str("/api/v1/nothing");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        house.call(request.finish()).await.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(message(&[]).await.starts_with("Cette adresse"));
    assert!(message(&[("accept-language", "en-GB, fr;q=0.5")]).await.starts_with("There is no"));
    assert!(message(&[("accept-language", "en"), ("x-locale", "fr")]).await.starts_with("Cette adresse"));
}

#[tokio::test]
async fn ids_go_in_and_come_out() {
    let house = House::open().await;
    let id = "0191d3a0-0000-7000-8000-000000000001";
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let answer =
        house.ask(Method::GET, "/api/v1/nothing", &[("x-request-id", id), ("traceparent", &parent)], None).await;
    assert_eq!((answer.header("x-request-id"), answer.header("x-trace-id")), (id, trace));
    assert_eq!(answer.header("x-span-id").len(), 16);
    assert_eq!(answer.json()["meta"], json!({ "requestId": id, "traceId": trace }));
    let own = house.ask(Method::GET, "/api/v1/meta", &[("x-request-id", "<script>"), ("traceparent", "x")], None).await;
    assert!(uuid::Uuid::parse_str(own.header("x-request-id")).is_ok());
    assert_eq!(own.header("x-trace-id").len(), 32);
    assert_ne!(own.header("x-trace-id"), house.get("/api/v1/meta").await.header("x-trace-id"));
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let house = House::open().await;
    for path in ["/api/v1/meta", "/api/v1/nothing", "/", "/docs", "/api/v1/openapi.json", "/readyz"] {
        let answer = house.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(!answer.text.contains(env!("CARGO_PKG_VERSION")), "{path} tells the release");
    }
}

#[tokio::test]
async fn the_reference_needs_no_internet_and_lists_every_route() {
    let house = House::open().await;
    let document = house.get("/api/v1/openapi.json").await.ok(200).json();
    assert!(document["paths"]["/api/v1/collections/{collection}/documents/{id}"]["get"].is_object());
    assert_eq!(document["info"]["version"], "v1");
    let page = house.get("/docs").await.ok(200);
    assert!(page.header("content-type").starts_with("text/html"));
    let named: Vec<&str> = page.text.split("=\"/docs/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    for outside in ["http:", "https:", "=\"//", "@import"] {
        assert!(!page.text.contains(outside), "{outside}");
    }
    // Its scripts bear the word of this one answer.
    let nonce = |page: &Answer| {
        let (_, rest) = page.header("content-security-policy").split_once("'nonce-").unwrap();
        rest.split('\'').next().unwrap().to_owned()
    };
    assert_eq!(page.text.matches("<script").count(), page.text.matches(&nonce(&page)).count());
    assert_ne!(nonce(&page), nonce(&house.get("/docs").await));
    assert!(house.ask(Method::GET, "/docs", &[("accept-language", "en")], None).await.text.contains("lang=\"en\""));
    for file in named {
        assert!(house.get(&format!("/docs/{file}")).await.ok(200).header("cache-control").contains("immutable"));
    }
}

#[tokio::test]
async fn what_is_long_comes_packed_to_who_can_unpack_it() {
    let house = House::open().await;
    for (path, part) in [("/docs/swagger-ui.js", 3), ("/docs/swagger-ui.css", 6), ("/api/v1/openapi.json", 20)] {
        let get = async |takes: &str| {
            let request = Request::builder().uri_str(path).header("accept-encoding", takes).finish();
            let mut response = house.respond(request).await;
            let coding = response.header("content-encoding").map(str::to_owned);
            assert_eq!(response.header("vary"), Some("accept-encoding"), "{path}");
            (response.take_body().into_vec().await.unwrap(), coding)
        };
        let (plain, coding) = get("gzip;q=0").await;
        assert_eq!(coding, None, "{path}");
        let (packed, coding) = get("br, gzip").await;
        assert_eq!(coding.as_deref(), Some("gzip"), "{path}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain && plain.len() > part * packed.len(), "{path}: {} {}", plain.len(), packed.len());
    }
}

#[tokio::test]
async fn readiness_follows_health() {
    let house = House::open().await;
    assert_eq!(house.get("/readyz").await.ok(200).text, r#"{"status":"ready"}"#);
    assert_eq!(house.get("/api/v1/health").await.data()["status"], "up");
    house.health.enter(debrouille_appliance::services::health::Phase::Draining);
    house.get("/readyz").await.ok(503);
    assert_eq!(house.get("/api/v1/health").await.data()["status"], "down");
}

/// A store that fails the way it is told to.
struct Failing(fn() -> Error, Duration);

const SECRET: &str = "page 7 of /var/lib/secret is broken";

impl Failing {
    async fn fail<T>(&self) -> Result<T> {
        tokio::time::sleep(self.1).await;
        Err((self.0)())
    }
}

#[async_trait::async_trait]
impl Documents for Failing {
    async fn commit(&self, _: Batch) -> Result<Committed> {
        self.fail().await
    }
    async fn get(&self, _: &str, _: &str) -> Result<Option<RawDocumentBuf>> {
        self.fail().await
    }
    async fn find(&self, _: Query) -> Result<Page> {
        self.fail().await
    }
    async fn count(&self, _: &str, _: Arc<Filter>) -> Result<(u64, Explain)> {
        self.fail().await
    }
    async fn describe(&self, _: &str) -> Result<Option<Collection>> {
        self.fail().await
    }
    async fn collections(&self) -> Result<Vec<Collection>> {
        self.fail().await
    }
    async fn records(&self, _: Sequence, _: usize) -> Result<Vec<Record>> {
        self.fail().await
    }
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        self.fail().await
    }
    async fn statistics(&self) -> Result<Statistics> {
        self.fail().await
    }
    async fn load(&self, _: Load) -> Result<()> {
        self.fail().await
    }
    async fn scrub(&self, _: u64) -> Result<u64> {
        self.fail().await
    }
    async fn take_keys(&self, _: Vec<StorageKey>) -> Result<()> {
        self.fail().await
    }
    async fn sealed_by(&self) -> Result<BTreeMap<u32, u64>> {
        self.fail().await
    }
    async fn reseal(&self, _: u64) -> Result<Resealed> {
        self.fail().await
    }
    async fn trim(&self, _: Retention) -> Result<u64> {
        self.fail().await
    }
    async fn close(&self) -> Result<()> {
        self.fail().await
    }
}

/// What a request of the machine's own user gets from a store that fails.
async fn failing(error: fn() -> Error, after: Duration) -> Answer {
    local(Request::builder().uri_str(format!("{PLACES}/x")).finish(), error, after).await
}

async fn local(mut request: Request, error: fn() -> Error, after: Duration) -> Answer {
    let (stamp, keyring) = house::keys();
    let limits = Limits { request: Duration::from_millis(200), ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Failing(error, after));
    let router = http::router(house::state(store, &stamp, &keyring, folder.path(), limits).await);
    request.extensions_mut().insert(http::peer::LocalPeer { uid: 0, pid: None });
    let mut response = router.get_response(request).await;
    let text = response.take_body().into_string().await.unwrap();
    Answer { status: response.status(), headers: response.headers().clone(), text }
}

#[tokio::test]
async fn a_failure_never_shows_its_cause() {
    let broken = failing(|| Error::Corrupt(SECRET.to_owned()), Duration::ZERO).await;
    broken.refused(500, "INTERNAL_ERROR", "http.internal");
    assert!(!broken.text.contains("secret"), "{}", broken.text);
    assert_eq!(broken.json()["error"]["details"]["kind"], "integrity");
    assert_eq!(broken.json()["meta"]["traceId"], broken.header("x-trace-id"));
    let away = failing(|| Error::Unavailable(SECRET.to_owned()), Duration::ZERO).await;
    away.refused(503, "UNAVAILABLE", "http.unavailable");
    assert!(!away.header("retry-after").is_empty() && !away.text.contains("secret"), "{}", away.text);
    failing(|| Error::Full(SECRET.to_owned()), Duration::ZERO).await.refused(507, "STORAGE_FULL", "http.storage_full");
}

#[tokio::test]
async fn a_panic_is_answered() {
    let answer = failing(|| panic!("{SECRET}"), Duration::ZERO).await;
    answer.refused(500, "INTERNAL_ERROR", "http.internal");
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let answer = failing(|| Error::Full(String::new()), Duration::from_secs(30)).await;
    answer.refused(503, "UNAVAILABLE", "http.unavailable");
}

#[tokio::test]
async fn a_backup_takes_as_long_as_it_takes() {
    let request = Request::builder().method(Method::POST).uri_str("/api/v1/admin/backups");
    let request = request.content_type("application/json").body(json!({ "data": {} }).to_string());
    let answer = local(request, || Error::Full(String::new()), Duration::from_millis(600)).await;
    answer.refused(507, "STORAGE_FULL", "http.storage_full");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let body = Body::from_bytes_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>());
    let request = Request::builder().method(Method::POST).uri_str(PLACES).content_type("application/json").body(body);
    let answer = local(request, || Error::Full(String::new()), Duration::ZERO).await;
    answer.refused(503, "UNAVAILABLE", "http.unavailable");
}

#[tokio::test]
async fn what_only_the_server_says_of_a_caller_is_dropped() {
    let (stamp, keyring) = house::keys();
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Failing(|| Error::Full(String::new()), Duration::ZERO));
    let router = http::router(house::state(store, &stamp, &keyring, folder.path(), Limits::default()).await);
    let request = Request::builder()
        .uri_str("/api/v1/collections")
        .header("x-identity-id", "root")
        .header("x-trust-level", "100");
    let response = router.get_response(request.finish()).await;
    assert_eq!(response.status().as_u16(), 401);
}
