//! A directory that says what a test lets it say, and remembers what it was asked.

use super::*;
use crate::{
    base::{clock::Stopwatch, environment::Environment},
    ports,
    services::{access::Role, bench::Bench, identities::Settings},
};
use std::sync::Mutex;
use zeroize::Zeroizing;

const RIGHT: &str = "what the directory knows";

#[derive(Default)]
struct Fake {
    /// By name.
    people: Mutex<Vec<(String, Entry)>>,
    down: Mutex<bool>,
    asked: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl directory::Directory for Fake {
    async fn prove(&self, name: &str, password: &str) -> ports::Result<Option<Entry>> {
        self.asked.lock().unwrap().push(name.to_owned());
        if *self.down.lock().unwrap() {
            return Err(ports::Error::Unavailable("down".to_owned()));
        }
        let people = self.people.lock().unwrap();
        Ok(people.iter().find(|(known, _)| known == name && password == RIGHT).map(|(_, entry)| entry.clone()))
    }
}

struct Desk {
    fake: Arc<Fake>,
    bench: Bench,
}

impl Desk {
    async fn open(create_accounts: bool) -> Self {
        let fake = Arc::new(Fake::default());
        let vouching = Vouching { directory: fake.clone(), create_accounts };
        let settings = Settings { directory: Some(vouching), ..Settings::default() };
        Self { fake, bench: Bench::with(Environment::Production, settings).await }
    }

    fn knows(&self, name: &str, id: &str, emails: &[&str]) {
        let emails = emails.iter().map(|&email| email.to_owned()).collect();
        self.fake.people.lock().unwrap().push((name.to_owned(), Entry { id: id.to_owned(), emails }));
    }

    async fn login(&self, who: &str, password: &str) -> Result<Identity> {
        let password = Zeroizing::new(password.to_owned());
        self.bench.identities.prove(&Caller::system(), who, password).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.asked.lock().unwrap())
    }
}

fn refused(answer: &Result<Identity>) -> bool {
    matches!(answer, Err(Error::Unauthorized))
}

#[tokio::test]
async fn who_has_a_password_here_is_proven_here_alone() {
    let desk = Desk::open(true).await;
    let own = Zeroizing::new("correct horse battery staple".to_owned());
    desk.bench.identities.add(&Caller::system(), "ana@example.cd", own.clone(), vec![Role::Auditor]).await.unwrap();
    desk.knows("ana@example.cd", "1", &["ana@example.cd"]);
    assert!(refused(&desk.login("ana@example.cd", RIGHT).await));
    assert!(desk.login("Ana@Example.cd", &own).await.is_ok());
    assert_eq!(desk.asked(), [""; 0], "a password of ours went to the directory");
    // Nor under a name that leads to her by what the directory says.
    desk.knows("a.ana", "1", &["ana@example.cd"]);
    assert!(refused(&desk.login("a.ana", RIGHT).await));
}

#[tokio::test]
async fn an_account_is_made_only_where_that_is_wanted_and_without_a_role() {
    let closed = Desk::open(false).await;
    closed.knows("eve@example.cd", "1", &["eve@example.cd"]);
    assert!(refused(&closed.login("eve@example.cd", RIGHT).await));
    let desk = Desk::open(true).await;
    desk.knows("eve@example.cd", "1", &["Eve@Example.cd"]);
    assert!(refused(&desk.login("eve@example.cd", "wrong").await));
    let made = desk.login("eve@example.cd", RIGHT).await.unwrap();
    assert_eq!((made.email.as_deref(), made.roles.len(), made.has_password()), (Some("eve@example.cd"), 0, false));
    // Afterwards the entry counts, whatever its address.
    desk.knows("e.eve", "1", &["elsewhere@example.cd"]);
    assert_eq!(desk.login("E.Eve ", RIGHT).await.unwrap().id, made.id);
}

#[tokio::test]
async fn of_several_addresses_the_one_that_was_written_counts() {
    let desk = Desk::open(true).await;
    for name in ["second@example.cd", "plain"] {
        desk.knows(name, name, &["first@example.cd", "second@example.cd"]);
    }
    let made = desk.login("second@example.cd", RIGHT).await.unwrap();
    assert_eq!(made.email.as_deref(), Some("second@example.cd"));
    assert!(refused(&desk.login("plain", RIGHT).await));
    desk.knows("none", "none", &["no address"]);
    assert!(refused(&desk.login("none", RIGHT).await));
}

#[tokio::test]
async fn a_directory_is_asked_for_one_spelling_and_never_without_a_password() {
    let desk = Desk::open(true).await;
    for who in ["Ana@EXAMPLE.cd", " J.Doe ", "4711", "+243 81 000 00 00"] {
        assert!(refused(&desk.login(who, "wrong").await));
    }
    assert_eq!(desk.asked(), ["ana@example.cd", "j.doe", "4711", "+243810000000"]);
    for who in ["j doe", "j*", "*", "j)(uid=*", "jos\u{e9}", "", "email:j*@example.cd", &"x".repeat(65)] {
        assert!(refused(&desk.login(who, RIGHT).await), "{who}");
    }
    for password in ["", &"x".repeat(1025)] {
        assert!(refused(&desk.login("j.doe", password).await));
    }
    assert_eq!(desk.asked(), [""; 0]);
}

#[tokio::test]
async fn a_directory_that_is_down_says_nothing_of_who_exists() {
    let desk = Desk::open(true).await;
    desk.knows("eve@example.cd", "1", &["eve@example.cd"]);
    let known = desk.login("eve@example.cd", RIGHT).await.unwrap();
    *desk.fake.down.lock().unwrap() = true;
    for _ in 0..10 {
        for who in ["eve@example.cd", "nobody@example.cd"] {
            let answer = desk.login(who, RIGHT).await;
            assert!(matches!(answer, Err(Error::Unavailable(_))), "{who}: {answer:?}");
        }
    }
    *desk.fake.down.lock().unwrap() = false;
    assert_eq!(desk.login("eve@example.cd", RIGHT).await.unwrap().id, known.id, "what was not judged was counted");
}

#[tokio::test]
async fn guesses_are_slowed_as_those_at_a_password_here() {
    let desk = Desk::open(true).await;
    desk.knows("j.doe", "1", &["j.doe@example.cd"]);
    for who in ["j.doe", "J.Doe", " j.DOE", "j.doe ", "J.DOE"] {
        assert!(refused(&desk.login(who, "wrong").await));
    }
    let answer = desk.login("j.doe", RIGHT).await;
    assert!(matches!(answer, Err(Error::RateLimit { .. })), "{answer:?}");
    assert_eq!(desk.asked().len(), 5);
}

#[tokio::test]
async fn a_refusal_takes_as_long_as_one_here() {
    let desk = Desk::open(true).await;
    let own = Zeroizing::new("correct horse battery staple".to_owned());
    desk.bench.identities.add(&Caller::system(), "ana@example.cd", own, Vec::new()).await.unwrap();
    desk.bench.identities.calibrate().await.unwrap();
    for who in ["ana@example.cd", "nobody@example.cd", "not a name"] {
        let watch = Stopwatch::start();
        assert!(refused(&desk.login(who, "wrong").await));
        // What every failed proof takes.
        assert!(watch.millis() >= 320, "{who}: {} ms", watch.millis());
    }
}
