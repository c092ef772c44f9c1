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

async fn seals(store: &Arc<dyn Documents>) -> Arc<Seals> {
    Arc::new(Seals::open(store.clone(), Arc::new(SystemClock)).await.unwrap())
}

fn sealer(seals: &Arc<Seals>) -> Sealer {
    Sealer::new(seals.clone())
}

fn one(subject: &str) -> HashSet<String> {
    HashSet::from([subject.to_owned()])
}

#[tokio::test]
async fn what_equal_values_are_found_by_stays_whatever_is_missing_beside_it() {
    let store = store();
    let before = seals(&store).await.hashes().hash(b"x");
    for missing in [ERASURES, SUBJECTS] {
        let (collection, id) = (COLLECTIONS.to_owned(), missing.to_owned());
        let gone = Operation { collection, id, expect: Expect::Any, change: Change::Delete };
        commit(&*store, Timestamp(1), vec![gone]).await.unwrap();
        assert_eq!(seals(&store).await.hashes().hash(b"x"), before, "{missing}");
        assert!(store.describe(missing).await.unwrap().is_some(), "made again");
    }
}

#[tokio::test]
async fn keys_outlive_the_process_and_end_for_good() {
    let store = store();
    let seals = [seals(&store).await, seals(&store).await];
    let [first, second] = [sealer(&seals[0]), sealer(&seals[1])];
    seals[0].make(one("p")).await.unwrap();
    let sealed = first.seal("p", b"here", b"words").unwrap();
    assert!(!sealed.windows(5).any(|window| window == b"words"));
    assert_ne!(sealed, first.seal("p", b"here", b"words").unwrap(), "nonces repeat");

    // Another start: the key is fetched, and equal values hash alike.
    assert_eq!(second.open("p", b"here", &sealed).unwrap_err().key, WANTED);
    let keys = seals[1].keys(one("p")).await.unwrap();
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

    seals[1].bar("p");
    assert_eq!(second.open("p", b"here", &sealed), Ok(None));
    assert_eq!(second.seal("p", b"here", b"words").unwrap_err().key, "sealing.erasing");
    seals[1].make(one("p")).await.unwrap();
    seals[1].destroy("p").await.unwrap();
    seals[1].destroy("p").await.unwrap();
    seals[1].unbar("p");
    seals[1].fetch("p").await.unwrap();
    assert_eq!(second.open("p", b"here", &sealed), Ok(None));
    assert_eq!(store.statistics().await.unwrap().journal_records, 0);
    // Another key of the same person opens nothing of before.
    seals[1].make(one("p")).await.unwrap();
    assert_eq!(second.open("p", b"here", &sealed), Ok(None));
    assert!(second.seal("p", b"here", b"words").is_ok());
}

#[tokio::test]
async fn what_is_sealed_for_who_has_no_key_is_written_by_nobody() {
    let seals = seals(&store()).await;
    let sealer = sealer(&seals);
    assert!(sealer.conclude().is_ok());
    let sealed = sealer.seal("p", b"here", b"words").unwrap();
    assert_eq!(sealer.conclude().unwrap_err().key, WANTED);
    // A later operation of the batch meets it as any other.
    assert_eq!(sealer.open("p", b"here", &sealed), Ok(Some(b"words".to_vec())));
    assert_eq!(sealer.take(), one("p"));
    assert!(sealer.conclude().is_ok());
    seals.make(one("p")).await.unwrap();
    let kept = sealer.seal("p", b"here", b"words").unwrap();
    assert!(sealer.conclude().is_ok());
    let after = Sealer::new(seals);
    assert_eq!(after.open("p", b"here", &kept), Ok(Some(b"words".to_vec())));
    assert_eq!(after.open("p", b"here", &sealed), Ok(None), "by a key kept nowhere");
}

/// Who read, or made, a key before it was destroyed comes back with it after.
#[tokio::test]
async fn a_key_that_was_destroyed_does_not_come_back() {
    let store = store();
    let [seals, other] = [seals(&store).await, seals(&store).await];
    other.make(one("p")).await.unwrap();
    let (erasures, read) = (seals.erasures("p"), store.get(SUBJECTS, "p").await.unwrap().unwrap());
    let late = || Key::read(&read).unwrap();
    seals.bar("p");
    seals.found("p", late(), erasures);
    assert!(matches!(seals.fetch("p").await.unwrap(), Held::Ending));
    seals.destroy("p").await.unwrap();
    let within = seals.erasures("p");
    seals.unbar("p");
    assert!(seals.remember("p", Held::Key(Arc::new(late())), erasures).is_none(), "it is to be read again");
    seals.found("p", late(), erasures);
    seals.found("p", late(), within);
    assert!(matches!(seals.fetch("p").await.unwrap(), Held::None), "a destroyed key is back in memory");
    // What would be sealed under it could not be opened after a restart.
    seals.make(one("p")).await.unwrap();
    let sealed = sealer(&seals).seal("p", b"", b"x").unwrap();
    other.unbar("p");
    other.fetch("p").await.unwrap();
    assert_eq!(sealer(&other).open("p", b"", &sealed), Ok(Some(b"x".to_vec())));
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
    let sealed = sealer(&seals[0]).seal("p7", b"", b"x").unwrap();
    assert_eq!(sealer(&seals[1]).open("p7", b"", &sealed), Ok(Some(b"x".to_vec())));
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
    let sealed = sealer(&seals[0]).seal("p", b"", b"x").unwrap();
    assert_eq!(sealer(&seals[1]).open("p", b"", &sealed), Ok(Some(b"x".to_vec())));
}
