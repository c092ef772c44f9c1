//! Recoveries against a clock that is moved by hand and a mailer that fails on demand, on the real engine.

use super::*;
use crate::{
    base::{clock::FixedClock, environment::Environment},
    ports::documents::Expect,
    services::{
        access::Role,
        bench::{Bench, Post},
        identities::{Changes, New},
        keys::{Keys, Wanted},
        mfa::{self, Again, Method},
        sessions::Sessions,
    },
};
use std::sync::atomic::Ordering;

const PASSWORD: &str = "correct horse battery staple";
const ANOTHER: &str = "another horse, another staple";
const EMAIL: &str = "admin@example.cd";

struct Desk {
    clock: Arc<FixedClock>,
    documents: Arc<dyn Documents>,
    sessions: Arc<Sessions>,
    identities: Arc<Identities>,
    keys: Keys,
    recoveries: Recoveries,
    post: Arc<Post>,
}

async fn bench() -> Desk {
    let bench = Bench::of(Environment::Production).await;
    let mfa = bench.mfa();
    let Bench { clock, documents, access, sessions, identities, audit, .. } = bench;
    let (store, time, open, who) = (documents.clone(), clock.clone(), sessions.clone(), identities.clone());
    let keys = Keys::new(store.clone(), time.clone(), access.clone(), open, who, mfa, audit.clone());
    let (post, page) = (Arc::<Post>::default(), "https://example.cd/recover".to_owned());
    let recoveries = Recoveries::new(store, time, identities.clone(), audit, Some(post.clone()), page);
    identities.add(&Caller::system(), EMAIL, secret(PASSWORD), vec![Role::Admin]).await.unwrap();
    Desk { clock, documents, sessions, identities, keys, recoveries, post }
}

impl Desk {
    fn wait(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    async fn asked(&self) -> Option<String> {
        self.asked_for(" Admin@Example.cd").await
    }

    async fn asked_for(&self, email: &str) -> Option<String> {
        self.recoveries.ask(&Caller::system(), email).await.unwrap();
        let before = self.post.letters.lock().unwrap().len();
        self.recoveries.deliver().await.unwrap();
        let letters = self.post.letters.lock().unwrap();
        let text = &letters.get(before)?.text;
        Some(text.split("#token=").nth(1)?.split_whitespace().next()?.to_owned())
    }

    async fn confirm(&self, token: &str) -> Result<Identity> {
        self.recoveries.confirm(&Caller::system(), token, secret(ANOTHER)).await
    }

    async fn waiting(&self) -> u64 {
        self.documents.describe(OUTBOX).await.unwrap().unwrap().documents
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn gone(answer: Result<Identity>) -> bool {
    matches!(answer, Err(Error::Gone(_)))
}

#[tokio::test]
async fn a_link_sets_another_password_once() {
    let bench = bench().await;
    let identity = bench.identities.prove(&Caller::system(), EMAIL, secret(PASSWORD)).await.unwrap();
    let granted = bench.sessions.open(&Caller::system(), identity, "phone", &[Method::Pwd, Method::Mfa]).await.unwrap();
    bench.wait(1);
    let token = bench.asked().await.unwrap();
    let letter = bench.post.letters.lock().unwrap()[0].clone();
    assert_eq!(letter.to, EMAIL);
    assert!(letter.text.starts_with("Bonjour") && letter.text.contains("Hello"), "{}", letter.text);
    bench.confirm(&token).await.unwrap();
    assert!(bench.sessions.verify(&granted.access).is_err(), "a session outlived the password");
    assert!(bench.identities.prove(&Caller::system(), EMAIL, secret(PASSWORD)).await.is_err());
    assert!(bench.identities.prove(&Caller::system(), EMAIL, secret(ANOTHER)).await.is_ok());
    assert!(gone(bench.confirm(&token).await), "a link was good twice");
    assert_eq!(bench.waiting().await, 0);
}

#[tokio::test]
async fn of_fifty_at_once_one_wins() {
    let bench = bench().await;
    let token = bench.asked().await.unwrap();
    let answers = futures_util::future::join_all((0..50).map(|_| bench.confirm(&token))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.into_iter().filter(Result::is_err).all(gone));
}

#[tokio::test]
async fn a_link_ends_with_its_time_a_newer_one_or_a_change() {
    let bench = bench().await;
    let token = bench.asked().await.unwrap();
    bench.wait(LIFE);
    assert!(gone(bench.confirm(&token).await), "a link outlived its quarter of an hour");
    bench.recoveries.deliver().await.unwrap();
    assert_eq!(bench.documents.describe(RECOVERIES).await.unwrap().unwrap().documents, 0, "it was not let go");

    let (first, second) = (bench.asked().await.unwrap(), {
        bench.wait(PAUSE);
        bench.asked().await.unwrap()
    });
    assert!(gone(bench.confirm(&first).await), "two links lived");
    bench.identities.change_password(&Caller::system(), EMAIL, secret(PASSWORD)).await.unwrap();
    assert!(gone(bench.confirm(&second).await), "a link outlived a change of password");
    assert!(gone(bench.confirm("made up").await) && gone(bench.confirm("").await));
    assert!(bench.identities.prove(&Caller::system(), EMAIL, secret(PASSWORD)).await.is_ok());
}

#[tokio::test]
async fn a_link_proves_the_address_it_was_sent_to_and_no_other() {
    let bench = bench().await;
    let unproven = New { email: Some("new@example.cd".to_owned()), password: Some(secret(PASSWORD)), ..New::default() };
    bench.identities.create(&Caller::system(), unproven, None).await.unwrap();
    let token = bench.asked_for("new@example.cd").await.unwrap();
    let confirmed = bench.confirm(&token).await.unwrap();
    assert!(confirmed.email_verified);

    // Beside a second factor of an address nobody proved it may be of two people: an administrator looks.
    let other = New { email: Some("other@example.cd".to_owned()), password: Some(secret(PASSWORD)), ..New::default() };
    let id = bench.identities.create(&Caller::system(), other, None).await.unwrap();
    let id = id.get_str("_id").unwrap().to_owned();
    let begun = bench.asked_for("other@example.cd").await.unwrap();
    let factors = bson::rawdoc! { "_id": &*id, "recovery": ["a hash"], "passkeys": [] };
    let (collection, change) = (mfa::FACTORS.to_owned(), Change::Put(factors));
    let factors = Operation { collection, id: id.clone(), expect: Expect::Absent, change };
    bench.recoveries.outbox.commit(&Caller::system(), vec![factors]).await.unwrap();
    assert!(!bench.confirm(&begun).await.unwrap().email_verified);
    bench.wait(PAUSE);
    assert_eq!(bench.asked_for("other@example.cd").await, None);
    assert!(bench.documents.get(mfa::FACTORS, &id).await.unwrap().is_some(), "a letter took a second factor away");

    bench.wait(PAUSE);
    let token = bench.asked_for("new@example.cd").await.unwrap();
    let change = Changes::read(&rawdoc! { "email": "newer@example.cd" }).unwrap();
    bench.identities.change_person(&Caller::system(), &confirmed.id, change, None).await.unwrap();
    assert!(gone(bench.confirm(&token).await), "a link sent to an address that is the account's no more");
}

#[tokio::test]
async fn what_an_administrator_handed_over_no_stranger_ends() {
    let bench = bench().await;
    let handed = bench.recoveries.hand_over(&Caller::system(), EMAIL).await.unwrap();
    bench.wait(PAUSE + 1);
    assert_eq!(bench.asked().await, None);
    bench.confirm(&handed.token).await.unwrap();
    assert!(bench.asked().await.is_some());
}

#[tokio::test]
async fn keys_made_before_a_recovery_end_with_it() {
    let bench = bench().await;
    let wanted = Wanted { name: "k".to_owned(), ..Wanted::default() };
    let again = Again { password: None, answer: None };
    let (_, words) = bench.keys.create(&Caller::system(), EMAIL, wanted, again).await.unwrap();
    let words = words.unwrap();
    bench.keys.verify(&words).await.unwrap();
    let token = bench.asked().await.unwrap();
    bench.confirm(&token).await.unwrap();
    assert!(bench.keys.verify(&words).await.is_err(), "a key outlived the recovery");
}

#[tokio::test]
async fn a_password_against_the_rules_does_not_use_the_link_up() {
    let bench = bench().await;
    let token = bench.asked().await.unwrap();
    let short = bench.recoveries.confirm(&Caller::system(), &token, secret("fifteen chars..")).await;
    assert!(matches!(short, Err(Error::Invalid(_))), "{short:?}");
    bench.confirm(&token).await.unwrap();
}

#[tokio::test]
async fn only_an_active_person_gets_a_letter_and_everyone_the_same_answer() {
    let bench = bench().await;
    bench.identities.add(&Caller::system(), "b@example.cd", secret(PASSWORD), Vec::new()).await.unwrap();
    bench.identities.set_status(&Caller::system(), "b@example.cd", Status::Disabled).await.unwrap();
    bench.identities.add_machine(&Caller::system(), "job", Vec::new()).await.unwrap();
    bench.identities.add_vouched(&Caller::system(), "c@example.cd").await.unwrap();
    for email in ["nobody@example.cd", "b@example.cd", "c@example.cd", "job", "not an address"] {
        bench.recoveries.ask(&Caller::system(), email).await.unwrap();
    }
    // As much is written for who does not exist as for who does.
    assert_eq!(bench.waiting().await, 3);
    assert_eq!(bench.recoveries.deliver().await.unwrap(), 0);
    assert_eq!(bench.waiting().await, 0);
    assert!(bench.recoveries.hand_over(&Caller::system(), "job").await.is_err());
}

#[tokio::test]
async fn who_is_asked_for_often_gets_a_letter_a_minute() {
    let bench = bench().await;
    assert!(bench.asked().await.is_some());
    assert!(bench.asked().await.is_none());
    bench.wait(PAUSE);
    assert!(bench.asked().await.is_some());
}

#[tokio::test]
async fn asked_anew_while_one_that_failed_is_being_sent_there_is_a_letter_a_minute() {
    let bench = bench().await;
    bench.post.says.store(1, Ordering::Relaxed);
    assert!(bench.asked().await.is_none());
    bench.post.begun.notified().await;
    bench.post.says.store(0, Ordering::Relaxed);
    bench.wait(PAUSE);
    let meanwhile = async || {
        let held = bench.post.held.lock().await;
        bench.post.begun.notified().await;
        bench.recoveries.ask(&Caller::system(), EMAIL).await.unwrap();
        drop(held);
    };
    let ((), sent) = tokio::join!(meanwhile(), bench.recoveries.deliver());
    assert_eq!(sent.unwrap(), 1);
    assert!(bench.asked().await.is_none(), "whoever asks again and again floods somebody's mail");
    // What was asked for meanwhile is answered by the letter that was under way.
    bench.wait(PAUSE);
    assert_eq!((bench.recoveries.deliver().await.unwrap(), bench.waiting().await), (0, 0));
    assert!(bench.asked().await.is_some());
}

#[tokio::test]
async fn asked_anew_a_letter_that_failed_waits_a_minute_and_no_more() {
    let bench = bench().await;
    bench.post.says.store(1, Ordering::Relaxed);
    assert!(bench.asked().await.is_none());
    for _ in 0..4 {
        bench.wait(960);
        assert!(bench.asked().await.is_none());
    }
    bench.post.says.store(0, Ordering::Relaxed);
    assert!(bench.asked().await.is_none(), "a letter that failed was tried again at once");
    bench.wait(PAUSE);
    assert_eq!(bench.recoveries.deliver().await.unwrap(), 1);
}

#[tokio::test]
async fn a_letter_is_tried_again_and_given_up_in_the_end() {
    let bench = bench().await;
    bench.post.says.store(1, Ordering::Relaxed);
    assert!(bench.asked().await.is_none());
    assert_eq!(bench.waiting().await, 1, "what could not leave was lost");
    bench.post.says.store(0, Ordering::Relaxed);
    assert_eq!(bench.recoveries.deliver().await.unwrap(), 0, "it was tried again at once");
    bench.wait(PAUSE);
    assert_eq!(bench.recoveries.deliver().await.unwrap(), 1);
    assert_eq!(bench.waiting().await, 0);

    bench.wait(PAUSE);
    bench.post.says.store(2, Ordering::Relaxed);
    assert!(bench.asked().await.is_none());
    assert_eq!(bench.waiting().await, 0, "what never will pass is kept");

    bench.wait(PAUSE);
    bench.post.says.store(1, Ordering::Relaxed);
    assert!(bench.asked().await.is_none());
    for _ in 0..20 {
        bench.wait(640);
        bench.recoveries.deliver().await.unwrap();
    }
    assert_eq!(bench.waiting().await, 0, "it is tried for ever");
}

#[tokio::test]
async fn an_administrator_hands_over_what_replaces_a_sent_one() {
    let bench = bench().await;
    let sent = bench.asked().await.unwrap();
    let handed = bench.recoveries.hand_over(&Caller::system(), EMAIL).await.unwrap();
    assert_eq!(*handed.link, format!("https://example.cd/recover#token={}", *handed.token));
    assert!(gone(bench.confirm(&sent).await));
    let kept = bench.documents.get(RECOVERIES, &handed.identity.id).await.unwrap().unwrap();
    assert!(!format!("{kept:?}").contains(&*handed.token), "the token is in the store");
    bench.confirm(&handed.token).await.unwrap();
}
