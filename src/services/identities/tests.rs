//! What an earlier release left behind, and hashes of others, on the real engine.

use super::*;
use crate::{
    backends::documents::embedded::{Embedded, Options},
    base::{clock::FixedClock, environment::Environment},
    ports::documents::{Build, COLLECTIONS},
    services::{
        instance::{self, Stamp},
        keyring::Keyring,
    },
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

fn store(clock: &SharedClock) -> Arc<dyn Documents> {
    let backend = redb::backends::InMemoryBackend::new();
    Arc::new(Embedded::open_over(backend, Options::default(), clock.clone()).unwrap())
}

fn identities(store: &Arc<dyn Documents>, clock: &SharedClock) -> Identities {
    let stamp = Stamp::new(Environment::Development, Timestamp(1));
    let keyring = Keyring::generate((Zeroizing::default(), Vec::new()), Timestamp(1));
    let sessions = Arc::new(Sessions::new(store.clone(), clock.clone(), &stamp, &keyring));
    Identities::new(store.clone(), clock.clone(), sessions, Arc::new(Access::new(stamp.environment)))
}

#[tokio::test]
async fn identities_of_an_earlier_release_are_found_and_unique_as_before() {
    let clock: SharedClock = Arc::new(FixedClock(1_800_000_000_000.into()));
    let store = store(&clock);
    let before = rawdoc! { "indexes": [{ "keys": { "email": 1 }, "unique": true }, { "keys": { "tokensFrom": 1 } }] };
    commit(&*store, COLLECTIONS, IDENTITIES, before).await.unwrap();
    for name in ["a", "b"] {
        let old = rawdoc! { "kind": "PERSON", "email": format!("{name}@example.org"), "roles": ["admin"],
        "status": "active", "password": bson::RawBson::Null, "tokensFrom": 0_i64 };
        commit(&*store, IDENTITIES, name, old).await.unwrap();
    }
    for _ in 0..2 {
        instance::furnish(&*store, clock.now()).await.unwrap();
    }
    let states = || async { store.describe(IDENTITIES).await.unwrap().unwrap().indexes };
    while states().await.iter().any(|index| matches!(index.progress, Build::Building { .. })) {
        tokio::task::yield_now().await;
    }
    assert!(states().await.iter().all(|index| index.progress == Build::Ready), "an index found doubles");
    let identities = identities(&store, &clock);
    assert_eq!(identities.require(" A@example.ORG").await.unwrap().id, "a");
    let again = identities.add(&Caller::system(), "b@example.org", Zeroizing::new("x".repeat(16)), vec![]).await;
    assert!(matches!(again, Err(Error::Conflict(fault)) if fault.key == "identities.email_taken"));
}

#[tokio::test]
async fn a_hash_is_verified_at_its_own_cost_and_replaced_by_one_of_ours() {
    let clock: SharedClock = Arc::new(FixedClock(1_800_000_000_000.into()));
    let store = store(&clock);
    instance::furnish(&*store, clock.now()).await.unwrap();
    let identities = identities(&store, &clock);
    let cheap = Argon2::new(Algorithm::Argon2i, Version::V0x13, Params::new(1024, 1, 2, None).unwrap());
    let hash = cheap.hash_password_with_salt(b"short", &[3; 16]).unwrap().to_string();
    foreign::check(&hash).unwrap();
    let added =
        identities.add(&Caller::system(), "a@example.org", Zeroizing::new("x".repeat(16)), vec![]).await.unwrap();
    let update = Update::parse(&rawdoc! { "$set": { "password": hash.as_str() } }).unwrap();
    let (collection, change) = (IDENTITIES.to_owned(), Change::Update(update));
    let operations = vec![Operation { collection, id: added.id.clone(), expect: Expect::Present, change }];
    let (time, origin) = (clock.now(), Caller::system().origin());
    store.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
    let kept = || async { identities.require(&added.id).await.unwrap().password.unwrap() };
    assert!(identities.prove("a@example.org", Zeroizing::new("shorT".to_owned())).await.is_err());
    assert_eq!(kept().await, hash, "a wrong password changed what is kept");
    for _ in 0..2 {
        identities.prove("a@example.org", Zeroizing::new("short".to_owned())).await.unwrap();
        assert!(kept().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }
}
