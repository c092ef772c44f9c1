//! Guessing at passwords through the login route: slow, and alike for accounts that exist and that do not.

use crate::house::{Answer, EMAIL, House, PASSWORD};
use debrouille_appliance::{base::clock::FixedClock, http::peer::Peer};
use poem::{Request, http::Method};
use serde_json::json;
use std::sync::{Arc, atomic::Ordering};

async fn login(house: &House, peer: &str, email: &str, password: &str) -> Answer {
    let remote = std::net::SocketAddr::new(peer.parse().unwrap(), 40_000);
    let request = Request::builder().method(Method::POST).uri_str("/api/v1/auth/login");
    let request = request
        .extension(Peer::Network { local: remote, remote, tls: true, certificate: None })
        .content_type("application/json");
    house.call(request.body(json!({ "data": { "email": email, "password": password } }).to_string())).await
}

/// Status, code, and how long to wait.
fn told(answer: &Answer) -> (u16, String, String) {
    (answer.status.as_u16(), answer.code(), answer.header("retry-after").to_owned())
}

const HERE: &str = "203.0.113.9";
const WRONG: &str = "certainly not the password";

#[tokio::test]
async fn an_account_that_exists_and_one_that_does_not_are_delayed_alike() {
    let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
    let house = House::limited(clock.clone(), 0, &[]).await;
    let mut seen = Vec::new();
    for (peer, email) in [("203.0.113.1", EMAIL), ("203.0.113.2", "nobody@example.org"), ("203.0.113.3", "no address")]
    {
        let mut answers = Vec::new();
        for _ in 0..7 {
            let answer = login(&house, peer, email, WRONG).await;
            answers.push((told(&answer), answer.json()["error"].clone()));
        }
        clock.0.fetch_add(1000, Ordering::Relaxed);
        for _ in 0..2 {
            let answer = login(&house, peer, email, WRONG).await;
            answers.push((told(&answer), answer.json()["error"].clone()));
        }
        // While the delay runs the right password is not looked at either: it would tell.
        let answer = login(&house, peer, email, PASSWORD).await;
        answers.push((told(&answer), answer.json()["error"].clone()));
        seen.push(answers);
    }
    assert_eq!((&seen[0], &seen[0]), (&seen[1], &seen[2]));
    let codes: Vec<_> = seen[0].iter().map(|(told, _)| told.1.as_str()).collect();
    assert_eq!(codes[..5], ["AUTH_UNAUTHORIZED"; 5]);
    assert_eq!(codes[5..], ["RATE_LIMIT", "RATE_LIMIT", "AUTH_UNAUTHORIZED", "RATE_LIMIT", "RATE_LIMIT"]);
    assert_eq!(seen[0][8].0.2, "2");
    // The owner elsewhere is not concerned.
    login(&house, HERE, EMAIL, PASSWORD).await.ok(200);
}

#[tokio::test]
async fn fifty_wrong_logins_at_once_are_five() {
    let house = Arc::new(House::open().await);
    let burst = async |email: &'static str, password: &'static str| {
        let tasks = (0..50).map(|_| {
            let house = house.clone();
            tokio::spawn(async move { login(&house, HERE, email, password).await.status.as_u16() })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut counts = [0; 3];
        for task in tasks {
            match task.await.unwrap() {
                200 => counts[0] += 1,
                401 => counts[1] += 1,
                429 => counts[2] += 1,
                other => panic!("{other}"),
            }
        }
        counts
    };
    assert_eq!(burst(EMAIL, PASSWORD).await, [50, 0, 0], "right ones take turns");
    let [_, checked, refused] = burst("nobody@example.org", WRONG).await;
    assert!((5..=7).contains(&checked) && checked + refused == 50, "{checked} checked");
}
