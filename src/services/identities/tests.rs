//! What an earlier release left behind, and hashes of others, on the real engine.

use super::*;
use crate::{
    backends::documents::embedded::{Embedded, Options},
    base::{
        clock::{Clock, FixedClock},
        environment::Environment,
    },
    domain::migration,
    ports::documents::{Build, COLLECTIONS},
    services::{bench::Bench, instance, migrations::Migrations},
};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};

async fn commit(
    store: &dyn Documents,
    collection: &str,
    id: &str,
    document: RawDocumentBuf,
) -> crate::ports::Result<()> {
    let (collection, id, change) = (collection.to_owned(), id.to_owned(), Change::Put(document));
    let operations = vec![Operation { collection, id, expect: Expect::Any, change }];
    let (time, origin) = (Timestamp(1), Caller::system().origin());
    store.commit(Batch { time, origin, operations, check: None, receipt: None }).await.map(|_| ())
}

const PASSWORD: &str = "correct horse battery staple";

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

async fn people() -> (Bench, Identity) {
    let bench = Bench::of(Environment::Development).await;
    let ana = bench.identities.add(&Caller::system(), "ana@example.cd", secret(PASSWORD), Vec::new()).await.unwrap();
    (bench, ana)
}

#[tokio::test]
async fn what_was_proven_before_a_reset_does_not_undo_it() {
    let (bench, ana) = people().await;
    let system = Caller::system();
    let proven = bench.identities.prove(&system, "ana@example.cd", secret(PASSWORD)).await.unwrap();
    bench.clock.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let reset = bench.identities.change_password(&system, &ana.id, secret("another horse battery staple")).await;
    let reset = reset.unwrap();
    let late = |since| {
        let (identities, id) = (bench.identities.clone(), ana.id.clone());
        async move {
            identities.change_with(&Caller::system(), (&id, since), rawdoc! { "password": "mine" }, vec![], None).await
        }
    };
    assert!(matches!(late(Some(proven.tokens_from)).await, Err(Error::InvalidProof("identity changed"))));
    let kept = bench.identities.require(&ana.id).await.unwrap();
    assert_eq!(kept.password, reset.password);
    assert_eq!(late(Some(kept.tokens_from)).await.unwrap().password.as_deref(), Some("mine"));
}

#[tokio::test]
async fn identities_of_an_earlier_release_are_found_and_unique_as_before() {
    let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
    let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
    let store: Arc<dyn Documents> = Arc::new(store.unwrap());
    let before = rawdoc! { "indexes": [{ "keys": { "email": 1 }, "unique": true }, { "keys": { "tokensFrom": 1 } }] };
    commit(&*store, COLLECTIONS, IDENTITIES, before).await.unwrap();
    for name in ["a", "b"] {
        let old = rawdoc! { "kind": "PERSON", "email": format!("{name}@example.org"), "roles": ["admin"],
        "status": "active", "password": bson::RawBson::Null, "tokensFrom": 0_i64 };
        commit(&*store, IDENTITIES, name, old).await.unwrap();
    }
    for _ in 0..2 {
        let migrations = Migrations::new(store.clone(), clock.clone(), migration::declared().unwrap());
        migrations.up(&Caller::system(), None, &|_| {}).await.unwrap();
        instance::furnish(&*store, clock.now()).await.unwrap();
    }
    let states = || async { store.describe(IDENTITIES).await.unwrap().unwrap().indexes };
    while states().await.iter().any(|index| matches!(index.progress, Build::Building { .. })) {
        tokio::task::yield_now().await;
    }
    assert!(states().await.iter().all(|index| index.progress == Build::Ready), "an index found doubles");
    let identities = Bench::over(Environment::Development, clock, store.clone()).await.identities;
    assert_eq!(identities.require(" A@example.ORG").await.unwrap().id, "a");
    let again = identities.add(&Caller::system(), "b@example.org", secret(PASSWORD), vec![]).await;
    assert!(matches!(again, Err(Error::Conflict(fault)) if fault.key == "identities.email_taken"));
}

#[tokio::test]
async fn a_hash_is_verified_at_its_own_cost_and_replaced_by_one_of_ours() {
    let (Bench { identities, documents: store, clock, .. }, added) = people().await;
    let cheap = Argon2::new(Algorithm::Argon2i, Version::V0x13, Params::new(1024, 1, 2, None).unwrap());
    let hash = cheap.hash_password_with_salt(b"short", &[3; 16]).unwrap().to_string();
    foreign::check(&hash).unwrap();
    let update = Update::parse(&rawdoc! { "$set": { "password": hash.as_str() } }).unwrap();
    let (collection, change) = (IDENTITIES.to_owned(), Change::Update(update));
    let operations = vec![Operation { collection, id: added.id.clone(), expect: Expect::Present, change }];
    let (time, origin) = (clock.now(), Caller::system().origin());
    store.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
    let kept = || async { identities.require(&added.id).await.unwrap().password.unwrap() };
    assert!(identities.prove(&Caller::system(), "ana@example.cd", secret("shorT")).await.is_err());
    assert_eq!(kept().await, hash, "a wrong password changed what is kept");
    for _ in 0..2 {
        identities.prove(&Caller::system(), "ana@example.cd", secret("short")).await.unwrap();
        assert!(kept().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }
}

/// Nobody learns which account exists by the work its login costs.
#[tokio::test]
async fn an_unknown_account_costs_what_a_known_one_does() {
    let (Bench { identities, .. }, _) = people().await;
    let bob = identities.add(&Caller::system(), "bob@example.cd", secret(PASSWORD), Vec::new()).await.unwrap();
    identities.set_status(&Caller::system(), &bob.id, Status::Disabled).await.unwrap();
    for (who, password) in [
        ("ana@example.cd", "not her password at all"),
        ("nobody@example.cd", PASSWORD),
        ("Not an address", PASSWORD),
        ("bob@example.cd", PASSWORD),
    ] {
        let before = identities.passwords.jobs();
        let proven = identities.prove(&Caller::system(), who, secret(password)).await;
        assert!(matches!(proven, Err(Error::Unauthorized)), "{who}");
        assert_eq!(identities.passwords.jobs() - before, 1, "{who}");
    }
}

#[tokio::test]
async fn a_renewed_hash_ends_no_session() {
    let (Bench { identities, documents, clock, .. }, ana) = people().await;
    // Hashed before passwords were normalised, and for less than now.
    let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
    let weak = weak.hash_password_with_salt(b"short", b"sixteen bytes...").unwrap().to_string();
    let update = Update::parse(&rawdoc! { "$set": { "password": weak.as_str() } }).unwrap();
    let (collection, change) = (IDENTITIES.to_owned(), Change::Update(update));
    let operations = vec![Operation { collection, id: ana.id.clone(), expect: Expect::Present, change }];
    let (time, origin) = (clock.now(), Caller::system().origin());
    documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
    identities.prove(&Caller::system(), "ana@example.cd", secret("short")).await.unwrap();
    let kept = identities.require(&ana.id).await.unwrap();
    assert!(kept.password.unwrap().contains("m=19456,t=2"));
    assert_eq!(kept.tokens_from, ana.tokens_from, "the sessions of a renewed hash ended");
}
