//! How many requests a caller may make, and where a caller is: through the real router, as connections bring them.

use crate::house::{Answer, EMAIL, House, PASSWORD};
use debrouille_appliance::{
    base::clock::FixedClock,
    http::peer::{LocalPeer, Peer},
};
use poem::{Request, http::Method};
use serde_json::json;
use std::sync::{Arc, atomic::Ordering};

const PROXY: &str = "10.0.0.1";
const META: &str = "/api/v1/meta";

fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock(1_800_000_000_000.into()))
}

impl House {
    /// A request without proof, over a connection from `peer`.
    async fn visit(&self, peer: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let remote = std::net::SocketAddr::new(peer.parse().unwrap(), 40_000);
        let local = "192.0.2.254:443".parse().unwrap();
        let request =
            Request::builder().uri_str(path).extension(Peer::Network { local, remote, tls: true, certificate: None });
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.call(request.finish()).await
    }
}

/// Limit, remaining, seconds until full.
fn standing(answer: &Answer) -> [u32; 3] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
        .map(|name| answer.header(name).parse().unwrap_or_else(|_| panic!("no {name}: {}", answer.text)))
}

#[tokio::test]
async fn the_hundred_and_first_request_of_a_minute_is_refused() {
    let clock = clock();
    let house = House::limited(clock.clone(), 100, &[]).await;
    for left in (0..100).rev() {
        let answer = house.get(META).await.ok(200);
        assert_eq!(standing(&answer)[..2], [100, left]);
    }
    let refused = house.get(META).await;
    refused.refused(429, "RATE_LIMIT", "http.rate_limit");
    assert_eq!((refused.header("retry-after"), standing(&refused)), ("1", [100, 0, 60]));
    assert!(!refused.header("x-request-id").is_empty() && !refused.header("x-trust-level").is_empty());
    clock.0.fetch_add(1000, Ordering::Relaxed);
    house.get(META).await.ok(200);
    house.get(META).await.refused(429, "RATE_LIMIT", "http.rate_limit");
    // Others are not concerned, nor are pages.
    house.visit("192.0.2.1", META, &[]).await.ok(200);
    assert_eq!(house.get("/readyz").await.ok(200).header("x-ratelimit-limit"), "");
}

#[tokio::test]
async fn refusals_and_absent_routes_count_and_say_so() {
    let house = House::limited(clock(), 10, &[]).await;
    assert_eq!(standing(&house.get("/api/v1/nothing").await)[1], 9);
    assert_eq!(standing(&house.delete(META).await)[1], 8);
    assert_eq!(standing(&house.ask(Method::GET, META, &[("accept", "text/xml")], None).await)[1], 7);
    assert_eq!(standing(&house.post("/api/v1/collections", json!({ "name": 1 })).await)[1], 6);
}

#[tokio::test]
async fn an_address_is_limited_whatever_it_claims() {
    let house = House::limited(clock(), 5, &[]).await;
    let spoofs = ["1.1.1.1", "2.2.2.2", "10.0.0.1", "unknown", ""];
    for (n, spoof) in spoofs.iter().enumerate() {
        let forwarded = format!("for={spoof}");
        let headers = [("x-forwarded-for", *spoof), ("forwarded", forwarded.as_str()), ("x-real-ip", spoof)];
        let answer = house.visit("203.0.113.9", META, &headers).await.ok(200);
        assert_eq!(standing(&answer)[1], 4 - u32::try_from(n).unwrap());
    }
    house.visit("203.0.113.9", META, &[("x-forwarded-for", "3.3.3.3")]).await.refused(
        429,
        "RATE_LIMIT",
        "http.rate_limit",
    );
    // A token that proves nothing is no identity.
    let invalid = [("authorization", "Bearer a.b.c"), ("x-identity-id", "somebody")];
    house.visit("203.0.113.9", META, &invalid).await.refused(429, "RATE_LIMIT", "http.rate_limit");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_is_a_caller() {
    let house = House::limited(clock(), 5, &[]).await;
    let left = async |said: &str| standing(&house.visit(PROXY, META, &[("x-forwarded-for", said)]).await)[1];
    assert_eq!([left("198.51.100.1").await, left("1.1.1.1, 198.51.100.1").await], [4, 3]);
    assert_eq!(left("198.51.100.2").await, 4);
    assert_eq!([left("2001:db8::1").await, left("[2001:db8::2]:99").await], [4, 3], "one /64");
    assert_eq!(standing(&house.visit("198.51.100.1", META, &[]).await)[1], 2, "the same without the proxy");
    assert_eq!([left("nonsense").await, left("198.51.100.1, nonsense").await], [4, 3], "the proxy's own");
}

#[tokio::test]
async fn routes_and_batches_have_their_price() {
    let house = House::limited(clock(), 100, &["POST /api/v1/collections/{collection}/import=1"]).await;
    house.collection(json!({ "name": "places" })).await;
    let import = || house.ask(Method::POST, "/api/v1/collections/places/import", &[], Some(json!({})));
    assert_eq!(standing(&import().await), [1, 0, 60]);
    import().await.refused(429, "RATE_LIMIT", "http.rate_limit");
    let before = standing(&house.get(META).await)[1];
    let operations: Vec<_> =
        (0..35).map(|n| json!({ "action": "create", "collection": "places", "document": { "n": n } })).collect();
    let batch = house.post("/api/v1/batch", json!({ "operations": operations })).await;
    assert_eq!(standing(&batch.ok(200))[1], before - 4);
}

#[tokio::test]
async fn the_control_socket_is_not_limited() {
    let house = House::limited(clock(), 1, &[]).await;
    for _ in 0..5 {
        let process = LocalPeer { uid: 0, pid: None };
        let request = Request::builder().uri_str("/api/v1/collections").extension(process);
        let answer = house.call(request.extension(Peer::Local(process)).finish()).await.ok(200);
        assert_eq!((answer.header("x-ratelimit-limit"), answer.header("x-identity-id")), ("", ""));
    }
}

#[tokio::test]
async fn without_a_limit_nothing_is_said_of_one() {
    let house = House::open().await;
    let answer = house.get(META).await.ok(200);
    assert_eq!(answer.header("x-ratelimit-limit"), "");
    let again = house.login(EMAIL, PASSWORD).await.ok(200);
    assert_eq!(again.header("x-ratelimit-limit"), "");
}
