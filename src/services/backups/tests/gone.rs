//! What is gone at a target, cut short, or put there by another: what follows does not count on it.

use super::{
    super::{
        Kind, Recipient, Request, Restore, Span, State, Trust, create, list, newest,
        restore::{Asked, Wanted},
        signers,
    },
    instance, memory,
    ships::*,
};
use crate::{
    backends::objects::folder::Folder,
    base::{clock::Clock, environment::Environment, fault::Fault},
    ports::{
        self,
        objects::{FORBIDDEN, Object, Objects, Upload},
    },
    services::{
        Error,
        access::Caller,
        instance::Stamp,
        keyring::{Keyring, Purpose},
    },
};
use std::{
    fs,
    io::{Cursor, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use zeroize::Zeroizing;

async fn state(ships: &Ships) -> State {
    ships.backups.states.read("near").await.unwrap()
}

fn path(ships: &Ships, name: &str) -> PathBuf {
    ships.folders[0].path().join(name)
}

/// An hour's segments lost with the disk they were on, or the end of one.
#[tokio::test]
async fn a_segment_goes_on_from_what_is_still_there() {
    let ships = Ships::new().await;
    for lose in [
        |path: PathBuf| fs::remove_file(path).unwrap(),
        |path: PathBuf| {
            let whole = fs::read(&path).unwrap();
            fs::write(path, &whole[..whole.len() / 2]).unwrap();
        },
    ] {
        ships.settle("near").await;
        ships.commit("a").await;
        assert_eq!(ships.ship("near").await, Some(Kind::Segment));
        assert_eq!(ships.ship("near").await, None);
        lose(path(&ships, &state(&ships).await.segment.unwrap().name));
        // Though nothing was written since.
        assert_eq!(ships.ship("near").await, Some(Kind::Segment));
        let chain = ships.chains(0).pop().unwrap();
        let (last, full) = (chain.segments.last().unwrap(), &chain.full);
        assert_eq!(
            (last.header.after, last.header.upto),
            (full.header.upto, state(&ships).await.segment.unwrap().upto)
        );
    }
}

#[tokio::test]
async fn people_s_keys_that_are_gone_are_sent_anew() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    fs::remove_dir_all(path(&ships, "subjects")).unwrap();
    ships.commit("a").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    assert_eq!(ships.keys(0), [Kind::Full]);
    ships.commit("b").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    assert_eq!(ships.keys(0), [Kind::Full], "once");
}

/// The place is open to whoever may put there, and headers are in the clear.
#[tokio::test]
async fn forged_full_backups_take_the_place_of_no_true_one() {
    let ships = Ships::new().await;
    for day in 0..10 {
        ships.commit(&format!("a{day}")).await;
        ships.settle("near").await;
        ships.bench.wait(DAY);
    }
    let retained =
        async || ships.backups.plan(&Caller::system(), None).await.unwrap().targets.remove(0).retained.unwrap();
    let before = retained().await;
    assert!(before.kept.len() > 9 && before.damaged.is_empty(), "{before:?}");
    let keyring = Keyring::generate((Zeroizing::new(b"theirs".to_vec()), b"der".to_vec()), ships.bench.clock.now());
    let stamp = Stamp { lineage: 9, ..ships.bench.stamp.clone() };
    let recipients: [Recipient; 1] = [ships.identity.recipient().clone()];
    let snapshot = ships.bench.documents.snapshot().await.unwrap();
    for _ in 0..40 {
        ships.bench.wait(DAY / 4);
        let request = Request {
            stamp: &stamp,
            keyring: &keyring,
            recipients: &recipients,
            now: ships.bench.clock.now(),
            span: Span::Full,
            previous: [0; 32],
            configuration: None,
        };
        create(&request, &*snapshot, &Folder::at(ships.folders[0].path()), &mut |_| Ok(())).unwrap();
    }
    let after = retained().await;
    assert_eq!((after.kept, after.dropped), (before.kept, before.dropped));
    assert_eq!(after.damaged.len(), 40);
}

#[tokio::test]
async fn a_full_backup_nobody_can_open_any_more_is_found_by_its_name() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    let full = state(&ships).await.full.unwrap();
    let length = fs::metadata(path(&ships, &full.name)).unwrap().len();
    fs::write(path(&ships, &full.name), vec![0; usize::try_from(length).unwrap()]).unwrap();
    ships.commit("a").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment), "it is there, and as long as it was");
    for _ in 0..13 {
        ships.backups.reread("near").await.unwrap();
        ships.bench.wait(7 * DAY);
    }
    assert_eq!(state(&ships).await.damaged.remove(0).name, full.name);
    ships.commit("b").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
}

/// Some, or all, may not be read.
struct Cold<F>(Folder, F);

fn forbidden() -> Option<ports::Error> {
    Some(ports::Error::Rejected(Fault::new(FORBIDDEN).with("right", "s3:GetObject")))
}

impl<F: Fn(&str) -> Option<ports::Error> + Send + Sync> Objects for Cold<F> {
    fn place(&self) -> String {
        self.0.place()
    }
    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        self.0.beneath(name)
    }
    fn put_new(&self, name: &str) -> ports::Result<Box<dyn Upload>> {
        self.0.put_new(name)
    }
    fn get(&self, name: &str, from: u64) -> ports::Result<Option<Box<dyn Read + Send>>> {
        (self.1)(name).map_or_else(|| self.0.get(name, from), Err)
    }
    fn list(&self) -> ports::Result<Vec<Object>> {
        self.0.list()
    }
    fn size(&self, name: &str) -> ports::Result<Option<u64>> {
        self.0.size(name)
    }
    fn delete(&self, name: &str) -> ports::Result<bool> {
        self.0.delete(name)
    }
}

#[tokio::test]
async fn one_that_may_not_be_read_hides_no_other() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    ships.commit("a").await;
    ships.settle("near").await;
    let folder = || Folder::at(ships.folders[0].path());
    let listed = list(&Cold(folder(), |name: &str| forbidden().filter(|_| name.contains("-full-")))).unwrap();
    let readable: Vec<_> = listed.iter().map(|listed| listed.header.is_ok()).collect();
    assert_eq!(readable.iter().filter(|readable| !**readable).count(), 1, "{listed:?}");
    assert!(readable.len() > 1);
    let nothing = list(&Cold(folder(), |_: &str| forbidden()));
    assert!(matches!(&nothing, Err(Error::Invalid(fault)) if fault.key == FORBIDDEN), "{nothing:?}");
    // Nor is one that cannot be read to its end none at all.
    let signers = signers(&ships.bench.keyring);
    let newest = |objects: &dyn Objects| {
        newest(objects, &ships.bench.stamp.id, Trust::Signers(&signers), (Some(Kind::Full), ships.bench.clock.now()))
    };
    assert!(matches!(newest(&folder()), Ok(Some(_))));
    // Each is read once to be listed.
    let (all, read) = (list(&folder()).unwrap().len(), AtomicUsize::new(0));
    let failing = |_: &str| {
        let fails = read.fetch_add(1, Ordering::Relaxed) >= all;
        fails.then(|| ports::Error::Backend("the disk fails".into()))
    };
    assert!(matches!(newest(&Cold(folder(), failing)), Err(Error::Internal(_))));
}

/// What can be read may hang on what cannot.
#[tokio::test]
async fn where_some_may_not_be_read_nothing_goes() {
    let ships = Ships::new().await;
    let retained =
        async || ships.backups.plan(&Caller::system(), None).await.unwrap().targets.remove(0).retained.unwrap();
    for day in 0..40 {
        ships.commit(&format!("a{day}")).await;
        ships.settle("near").await;
        ships.bench.wait(DAY);
    }
    assert!(!retained().await.dropped.is_empty());
    ships.mood(0, COLD);
    let cold = retained().await;
    assert!(cold.dropped.is_empty() && cold.damaged.len() > 30, "{cold:?}");
}

/// Answers one reading with other bytes than all others.
struct Fickle {
    place: Folder,
    other: Vec<u8>,
    /// Readings until then.
    left: AtomicUsize,
}

impl Objects for Fickle {
    fn place(&self) -> String {
        self.place.place()
    }
    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        self.place.beneath(name)
    }
    fn put_new(&self, name: &str) -> ports::Result<Box<dyn Upload>> {
        self.place.put_new(name)
    }
    fn get(&self, name: &str, from: u64) -> ports::Result<Option<Box<dyn Read + Send>>> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            0 => Ok(Some(Box::new(Cursor::new(self.other.clone())))),
            _ => self.place.get(name, from),
        }
    }
    fn list(&self) -> ports::Result<Vec<Object>> {
        self.place.list()
    }
    fn size(&self, name: &str) -> ports::Result<Option<u64>> {
        self.place.size(name)
    }
    fn delete(&self, name: &str) -> ports::Result<bool> {
        self.place.delete(name)
    }
}

/// Whoever holds the place may show one file while it is proven and another while it is opened.
#[test]
fn keys_of_a_file_that_was_not_proven_never_come_back() {
    let (ours, theirs) = (instance(Environment::Staging), instance(Environment::Staging));
    let made = ours.back_up(&memory(2), 0).unwrap();
    // Alike but for the keys.
    let configuration = Some("[instance]\nenvironment = \"staging\"\n");
    let request = Request { keyring: &theirs.keyring, now: made.header.created, configuration, ..ours.request() };
    let forged = create(&request, &memory(2), &theirs.folder, &mut |_| Ok(())).unwrap();
    let other = fs::read(theirs.place.path().join(&forged.name)).unwrap();
    let signers = signers(&ours.keyring);
    let asked = Asked {
        wanted: &Wanted::Latest,
        identity: &ours.identity,
        trust: Trust::Signers(&signers),
        environment: Environment::Staging,
        instance: None,
        anchor: None,
    };
    let mut outcomes = Vec::new();
    for left in 0..8 {
        let (place, other, left) = (Folder::at(ours.place.path()), other.clone(), AtomicUsize::new(left));
        let source = Fickle { place, other, left };
        let back = Restore::begin(&source, asked, &mut |_| Ok(())).and_then(|restore| {
            restore.load(&[], &mut |_| Ok(()), &mut |_| Ok(()))?;
            Ok(restore.keys().to_vec())
        });
        outcomes.push(back.is_ok());
        if let Ok(keys) = back {
            assert!(keys.iter().eq(ours.keyring.keys().iter().map(|key| &**key)), "{outcomes:?}");
        }
    }
    // Each reading was the forged one once; then none was.
    assert!(outcomes.contains(&false) && outcomes.ends_with(&[true, true]), "{outcomes:?}");
}

/// The key that signed it all was stolen: nothing counts on what it signed, and nothing of it goes by itself.
#[tokio::test]
async fn what_a_revoked_key_signed_is_neither_counted_on_nor_dropped() {
    let mut ships = Ships::new().await;
    for day in 0..40 {
        ships.commit(&format!("a{day}")).await;
        ships.settle("near").await;
        ships.bench.wait(DAY);
    }
    ships.backups.prune_target("near").await.unwrap();
    let names = |ships: &Ships| -> Vec<String> {
        list(&Folder::at(ships.folders[0].path())).unwrap().into_iter().map(|listed| listed.name).collect()
    };
    let (before, keys) = (names(&ships), ships.keys(0).len());
    assert!(before.len() > 20 && keys < 32, "{} {keys}", before.len());
    // Nothing is due any more.
    ships.commit("last").await;
    ships.settle("near").await;
    ships.bench.wait(60);
    let revoked = ships.bench.clock.now();
    let version = ships.bench.keyring.rotate(Purpose::BackupSigning, revoked);
    ships.bench.keyring.retain(Purpose::BackupSigning, |kept| kept == version);
    ships.again();
    // At once, not in the night.
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
    ships.commit("since").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    assert!(state(&ships).await.keys_full.unwrap().created >= revoked, "people's keys too");
    for day in 0..40 {
        ships.commit(&format!("b{day}")).await;
        ships.settle("near").await;
        ships.bench.wait(DAY);
        ships.backups.prune_target("near").await.unwrap();
        ships.backups.reread("near").await.unwrap();
    }
    let after = names(&ships);
    assert!(before.iter().all(|name| after.contains(name)), "history is gone");
    assert!(after.len() < before.len() + 80, "what is ours is pruned as ever: {}", after.len());
    assert!(state(&ships).await.damaged.is_empty(), "nobody says it is damaged");
    assert!(ships.keys(0).len() < 34, "people's keys go in time whoever signed them: an erasure holds");
}
