//! Subjects' keys: kept, destroyed, and what they sealed.

use super::*;
use crate::{
    backends::documents::embedded::{Embedded, Options},
    base::clock::SystemClock,
    domain::sealing::Cipher,
};

fn store() -> Arc<dyn Documents> {
    let backend = redb::backends::InMemoryBackend::new();
    Arc::new(Embedded::open_over(backend, Options::default(), Arc::new(SystemClock)).unwrap())
}

async fn seals(store: &Arc<dyn Documents>) -> Seals {
    Seals::open(store.clone(), Arc::new(SystemClock)).await.unwrap()
}

fn one(subject: &str) -> HashSet<String> {
    HashSet::from([subject.to_owned()])
}

#[tokio::test]
async fn keys_outlive_the_process_and_end_for_good() {
    let store = store();
    let first = seals(&store).await;
    first.make(one("p")).await.unwrap();
    let sealed = first.seal("p", b"here", b"words").unwrap();
    assert!(!sealed.windows(5).any(|window| window == b"words"));
    assert_ne!(sealed, first.seal("p", b"here", b"words").unwrap(), "nonces repeat");

    // Another start: the key is fetched, and equal values hash alike.
    let second = seals(&store).await;
    assert_eq!(second.open("p", b"here", &sealed).unwrap_err().key, WANTED);
    let keys = second.keys(one("p")).await.unwrap();
    assert_eq!(Cipher::open(&keys, "p", b"here", &sealed), Ok(Some(b"words".to_vec())));
    assert_eq!(first.hash(b"x"), second.hash(b"x"));
    // Bound to its place; whole.
    assert_eq!(second.open("p", b"there", &sealed).unwrap_err().key, "sealing.damaged");
    let mut broken = sealed.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert!(second.open("p", b"here", &broken).is_err());
    for length in 0..sealed.len() {
        assert!(second.open("p", b"here", &sealed[..length]).is_err(), "{length}");
    }

    second.bar("p");
    assert_eq!(second.open("p", b"here", &sealed), Ok(None));
    assert_eq!(second.seal("p", b"here", b"words").unwrap_err().key, "sealing.erasing");
    second.make(one("p")).await.unwrap();
    second.destroy("p").await.unwrap();
    second.destroy("p").await.unwrap();
    second.unbar("p");
    second.fetch("p").await.unwrap();
    assert_eq!(second.open("p", b"here", &sealed), Ok(None));
    assert_eq!(second.seal("p", b"here", b"words").unwrap_err().key, WANTED);
    assert_eq!(store.statistics().await.unwrap().journal_records, 0);
    // Another key of the same person opens nothing of before.
    second.make(one("p")).await.unwrap();
    assert_eq!(second.open("p", b"here", &sealed), Ok(None));
    assert!(second.seal("p", b"here", b"words").is_ok());
}

#[tokio::test]
async fn keys_are_made_once_however_many_want_them() {
    let store = store();
    let seals = [seals(&store).await, seals(&store).await];
    let many: HashSet<String> = (0..1200).map(|number| format!("p{number}")).collect();
    seals[0].make(one("p7")).await.unwrap();
    seals[1].known("p7").is_none().then_some(()).unwrap();
    seals[1].make(many.clone()).await.unwrap();
    seals[0].make(many).await.unwrap();
    let sealed = seals[0].seal("p7", b"", b"x").unwrap();
    assert_eq!(seals[1].open("p7", b"", &sealed), Ok(Some(b"x".to_vec())));
    assert_eq!(store.snapshot().await.unwrap().count(SUBJECTS).unwrap(), 1200);
}

#[tokio::test]
async fn a_key_made_by_another_first_is_taken() {
    let store = store();
    let seals = [seals(&store).await, seals(&store).await];
    // Both have looked, and found none.
    for seals in &seals {
        assert!(matches!(seals.fetch("p").await.unwrap(), Held::None));
    }
    seals[0].make(one("p")).await.unwrap();
    seals[1].make(one("p")).await.unwrap();
    let sealed = seals[0].seal("p", b"", b"x").unwrap();
    assert_eq!(seals[1].open("p", b"", &sealed), Ok(Some(b"x".to_vec())));
}
