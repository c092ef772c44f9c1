//! A public authority, as Pebble is one: accounts, orders, refusals; and when it wants a certificate replaced, which this Pebble
//! does not say: a directory before it says so.

use debrouille_appliance::{
    backends::{certificates::acme::Acme, web::https::Https},
    base::{
        clock::{Clock, SystemClock},
        config::Challenge,
        fault::Fault,
        trust,
    },
    domain::certificate::Certificate,
    ports::{
        Error, Result,
        certificates::{Denial, Issuer, Order, Proof, Proofs},
    },
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts the servers"))
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Records where the authority's DNS server is told to have them, or not.
#[derive(Default)]
struct Records {
    wrong: bool,
    shown: Mutex<Vec<Proof>>,
}

#[async_trait::async_trait]
impl Proofs for Records {
    async fn show(&self, proofs: &[Proof]) -> Result<()> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        for proof in proofs {
            let digest = if self.wrong { [0; 32] } else { proof.digest };
            let value = URL_SAFE_NO_PAD.encode(digest);
            let body = format!(r#"{{"host": "_acme-challenge.{}.", "value": "{value}"}}"#, proof.name);
            curl(&["-d", &body, &format!("{}/set-txt", partner("ACME_NAMES_URL"))]);
            self.shown.lock().unwrap().push(proof.clone());
        }
        Ok(())
    }

    async fn withdraw(&self, proofs: &[Proof]) -> Result<()> {
        for proof in proofs {
            let body = format!(r#"{{"host": "_acme-challenge.{}."}}"#, proof.name);
            curl(&["-d", &body, &format!("{}/clear-txt", partner("ACME_NAMES_URL"))]);
        }
        self.shown.lock().unwrap().retain(|shown| !proofs.contains(shown));
        Ok(())
    }
}

fn acme(directory: &str, proofs: Arc<Records>) -> Acme {
    let roots = trust::only(Path::new(&partner("ACME_CA"))).unwrap();
    Acme {
        directory: directory.to_owned(),
        profile: None,
        external: None,
        contact: Some("admin@example.cd".to_owned()),
        challenge: Challenge::Dns,
        proofs,
        https: Arc::new(Https::new(roots, Duration::from_secs(20)).unwrap()),
    }
}

fn told(denial: Denial) -> Fault {
    match denial.error {
        Error::Rejected(fault) | Error::OutOfReach(fault) => fault,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_serves_many_orders_and_a_strange_one_none() {
    let proofs = Arc::new(Records::default());
    let issuer = acme(&partner("ACME_URL"), proofs.clone());
    let now = SystemClock.now();
    let account = issuer.register(now).await.unwrap();
    // Its own: this DNS server keeps the words of another run.
    let name = format!("conformance-{}.example", std::process::id());
    let names = [format!("*.{name}"), name];
    let order = |replaces| Order { account: &account, names: &names, replaces };
    let first = issuer.order(order(None), now).await.unwrap();
    let read = Certificate::read(&first.chain[0]).unwrap();
    assert!(names.iter().all(|name| read.covers(name)) && first.chain.len() > 1, "{read:?}");
    assert!(proofs.shown.lock().unwrap().is_empty(), "a proof was left behind");
    // This authority has never heard of replacing, and issues all the same.
    let second = issuer.order(order(Some(&first.chain[0])), now).await.unwrap();
    assert_ne!(first.chain[0], second.chain[0]);
    assert_eq!(issuer.window(&account, &second.chain[0], now).await.unwrap(), None);

    // Another authority does not know it.
    let foreign = partner("ACME_AGREED_URL");
    let mut other = acme(&foreign, proofs);
    let roots = trust::only(Path::new(&partner("ACME_AGREED_CA"))).unwrap();
    other.https = Arc::new(Https::new(roots, Duration::from_secs(20)).unwrap());
    let place = |url: &str| url.trim_end_matches("/dir").to_owned();
    let moved = String::from_utf8(account.to_vec()).unwrap();
    let moved = moved.replace(&place(&partner("ACME_URL")), &place(&foreign));
    let denial = other.order(Order { account: moved.as_bytes(), names: &names, replaces: None }, now).await;
    assert!(denial.err().unwrap().stranger);
    // Nor does it make one for somebody with whom nothing was agreed.
    assert_eq!(told(other.register(now).await.unwrap_err()).key, "certificates.issuer_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_is_no_certificate_is_said() {
    let now = SystemClock.now();
    let proofs = Arc::new(Records { wrong: true, ..Records::default() });
    let issuer = acme(&partner("ACME_URL"), proofs.clone());
    let account = issuer.register(now).await.unwrap();
    let names = ["unproven.example".to_owned()];
    let fault =
        told(issuer.order(Order { account: &account, names: &names, replaces: None }, now).await.err().unwrap());
    let words = fault.to_string();
    assert!(fault.key == "certificates.issuer_refused" && words.contains("unproven.example"), "{words}");
    assert!(words.contains("unauthorized"), "{words}");
    assert!(proofs.shown.lock().unwrap().is_empty(), "a proof was left behind");

    // Not by DNS: there is no such proof of an address.
    let names = ["127.0.0.1".to_owned()];
    let fault =
        told(issuer.order(Order { account: &account, names: &names, replaces: None }, now).await.err().unwrap());
    assert!(fault.to_string().contains("127.0.0.1"), "{fault}");

    let away = acme("https://127.0.0.1:1/dir", proofs.clone()).register(now).await.unwrap_err();
    assert_eq!(told(away).key, "certificates.issuer_away");
    let denial = issuer.order(Order { account: b"{}", names: &names, replaces: None }, now).await.err().unwrap();
    assert!(matches!(denial.error, Error::Corrupt(_)));
    // An authority that is not trusted.
    let mut untrusted = acme(&partner("ACME_URL"), proofs);
    untrusted.https = Arc::new(Https::new(rustls::RootCertStore::empty(), Duration::from_secs(20)).unwrap());
    assert_eq!(told(untrusted.register(now).await.unwrap_err()).key, "certificates.issuer_away");
}

/// Answers requests over plain HTTP: a path's beginning, and the head's end and body to give.
fn serve(answers: Vec<(&'static str, String)>) -> String {
    listen(answers).0
}

/// Paths, and the bodies sent there.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// The same, and what was sent to it.
fn listen(answers: Vec<(&'static str, String)>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let told = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap() <= 2 {
                    break;
                }
                if let Some(("content-length", bytes)) = line.to_lowercase().split_once(": ") {
                    length = bytes.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let path = first.split(' ').nth(1).unwrap_or_default();
            told.lock().unwrap().push((path.to_owned(), String::from_utf8(body).unwrap()));
            let answer = answers.iter().find(|(beginning, _)| path.starts_with(beginning));
            let answer = answer.map_or("HTTP/1.1 404 Not Found\r\n\r\n", |(_, answer)| answer);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (format!("http://{address}"), seen)
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_wants_one_replaced_and_when_to_be_left_alone_is_understood() {
    let now = SystemClock.now();
    let real = curl(&["--cacert", &partner("ACME_CA"), &partner("ACME_URL")]);
    let mut directory: serde_json::Value = serde_json::from_str(&real).unwrap();
    let window = r#"{"suggestedWindow": {"start": "2026-01-02T04:00:00Z", "end": "2026-01-03T04:00:00Z"}}"#;
    let said = serve(vec![("/renewal/", answer("200 OK\r\nretry-after: 21600", window))]);
    directory["renewalInfo"] = format!("{said}/renewal").into();
    directory["meta"]["profiles"] = serde_json::json!({ "short": "six days" });
    let place = serve(vec![("/dir", answer("200 OK", &directory.to_string()))]);

    let issuer = acme(&format!("{place}/dir"), Arc::new(Records::default()));
    let account = issuer.register(now).await.unwrap();
    let names = ["window.example".to_owned()];
    let first = issuer.order(Order { account: &account, names: &names, replaces: None }, now).await.unwrap();
    let window = issuer.window(&account, &first.chain[0], now).await.unwrap().unwrap();
    assert_eq!(
        (window.start.rfc3339(), window.end.0 - window.start.0),
        ("2026-01-02T04:00:00Z".to_owned(), 86_400_000)
    );
    let again = window.again.0 - now.0;
    assert!((21_590_000..=21_610_000).contains(&again), "{again}");
    // It says so, and then does not confirm what is replaced.
    let order = Order { account: &account, names: &names, replaces: Some(&first.chain[0]) };
    issuer.order(order, now).await.unwrap();

    let problem = r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many"}"#;
    let busy = serve(vec![
        ("/nonce", answer("200 OK\r\nreplay-nonce: bm9uY2U", "")),
        (
            "/account",
            answer("429 Too Many Requests\r\nretry-after: 7200\r\ncontent-type: application/problem+json", problem),
        ),
    ]);
    for (name, path) in [("newNonce", "nonce"), ("newAccount", "account")] {
        directory[name] = format!("{busy}/{path}").into();
    }
    let place = serve(vec![("/dir", answer("200 OK", &directory.to_string()))]);
    let denial = acme(&format!("{place}/dir"), Arc::new(Records::default())).register(now).await.unwrap_err();
    assert_eq!(denial.again.map(|again| again.0 - now.0), Some(7_200_000));
    assert_eq!(told(denial).key, "certificates.issuer_busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_asked_for_by_name_and_nothing_is_replaced_against_an_authoritys_will() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let now = SystemClock.now();
    // A certificate to replace, of whoever.
    let real = acme(&partner("ACME_URL"), Arc::new(Records::default()));
    let account = real.register(now).await.unwrap();
    let names = [format!("kind-{}.example", std::process::id())];
    let held = real.order(Order { account: &account, names: &names, replaces: None }, now).await.unwrap();

    let nonce = "replay-nonce: bm9uY2U";
    let refusal = r#"{"type": "urn:ietf:params:acme:error:malformed", "detail": "not yours to replace"}"#;
    let refusal = answer(&format!("400 Bad Request\r\n{nonce}\r\ncontent-type: application/problem+json"), refusal);
    let (place, seen) = listen(vec![
        ("/nonce", answer(&format!("200 OK\r\n{nonce}"), "")),
        ("/account", answer(&format!("201 Created\r\n{nonce}\r\nlocation: http://127.0.0.1/account/1"), "{}")),
        ("/order", refusal),
    ]);
    let directory = serde_json::json!({
        "newNonce": format!("{place}/nonce"),
        "newAccount": format!("{place}/account"),
        "newOrder": format!("{place}/order"),
        "renewalInfo": format!("{place}/renewal"),
    });
    let at = serve(vec![("/dir", answer("200 OK", &directory.to_string()))]);
    let mut issuer = acme(&format!("{at}/dir"), Arc::new(Records::default()));
    issuer.profile = Some("shortlived".to_owned());
    let account = issuer.register(now).await.unwrap();
    let order = Order { account: &account, names: &names, replaces: Some(&held.chain[0]) };
    assert_eq!(told(issuer.order(order, now).await.err().unwrap()).key, "certificates.issuer_refused");
    let payload = |body: &String| -> serde_json::Value {
        let signed: serde_json::Value = serde_json::from_str(body).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap()).unwrap()).unwrap()
    };
    let seen = seen.lock().unwrap();
    let orders: Vec<_> = seen.iter().filter(|(path, _)| path == "/order").map(|(_, body)| payload(body)).collect();
    assert_eq!(orders.len(), 2, "{orders:?}");
    assert!(
        orders.iter().all(|order| order["profile"] == "shortlived" && order["identifiers"][0]["value"] == names[0])
    );
    assert!(orders[0]["replaces"].is_string() && orders[1]["replaces"].is_null(), "{orders:?}");
}

/// An authority under load refuses a nonce it gave out, as this Pebble does one time in twenty: three times in a row is bad
/// luck, which costs a new order and no certificate.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_nonces_are_refused_is_begun_anew_once() {
    let now = SystemClock.now();
    let nonce = "replay-nonce: bm9uY2U";
    let refusal =
        r#"{"type": "urn:ietf:params:acme:error:badNonce", "detail": "JWS has an invalid anti-replay nonce"}"#;
    let refusal = answer(&format!("400 Bad Request\r\n{nonce}\r\ncontent-type: application/problem+json"), refusal);
    let (place, seen) = listen(vec![
        ("/nonce", answer(&format!("200 OK\r\n{nonce}"), "")),
        ("/account", answer(&format!("201 Created\r\n{nonce}\r\nlocation: http://127.0.0.1/account/1"), "{}")),
        ("/order", refusal),
    ]);
    let directory = serde_json::json!({
        "newNonce": format!("{place}/nonce"),
        "newAccount": format!("{place}/account"),
        "newOrder": format!("{place}/order"),
    });
    let at = serve(vec![("/dir", answer("200 OK", &directory.to_string()))]);
    let issuer = acme(&format!("{at}/dir"), Arc::new(Records::default()));
    let account = issuer.register(now).await.unwrap();
    let names = ["nonce.example".to_owned()];
    let denial = issuer.order(Order { account: &account, names: &names, replaces: None }, now).await.err().unwrap();
    assert_eq!(told(denial).key, "certificates.issuer_out_of_step");
    let orders = seen.lock().unwrap().iter().filter(|(path, _)| path == "/order").count();
    assert_eq!(orders, 6);
}
