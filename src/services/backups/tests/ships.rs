//! An instance with two targets that have their moods, for the tests of what is sent.

use super::super::{
    Backups, Kind, Target,
    chain::{Chain, chains},
    list,
};
use crate::{
    backends::{
        documents::embedded::{Embedded, Options},
        objects::folder::Folder,
    },
    base::{clock::Clock, environment::Environment, fault::Fault},
    domain::{filter::Filter, window::Window},
    ports::{
        self,
        documents::{
            Batch, COLLECTIONS, Change, Collection, Committed, Documents, Expect, Explain, Load, Operation, Origin,
            Page, Query, Record, Resealed, Retention, Sequence, Snapshot, Statistics, StorageKey,
        },
        objects::{FORBIDDEN, Object, Objects, Upload},
    },
    services::{access::Caller, audit::Search, backups::Identity, bench::Bench, sealing::Seals},
};
use bson::{RawDocumentBuf, rawdoc};
use std::{
    collections::BTreeMap,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

pub(super) const DAY: i64 = 86_400;
pub(super) const FINE: u8 = 0;
/// Nothing answers.
pub(super) const AWAY: u8 = 1;
/// Only new objects are taken.
pub(super) const WRITES: u8 = 2;
/// Nothing ever answers.
pub(super) const HANGS: u8 = 3;
/// Full backups take until the mood is another.
pub(super) const SLOW: u8 = 4;
/// Full backups but the newest may not be read.
pub(super) const COLD: u8 = 5;

/// A folder that may be away.
pub(super) struct Place {
    folder: Arc<dyn Objects>,
    mood: Arc<AtomicU8>,
}

impl Place {
    fn there(&self, writes: bool) -> ports::Result<()> {
        match self.mood.load(Ordering::Relaxed) {
            AWAY => Err(ports::Error::Unavailable("away".to_owned())),
            WRITES if !writes => Err(ports::Error::Unavailable("forbidden".to_owned())),
            HANGS => {
                std::thread::sleep(Duration::from_secs(10));
                Err(ports::Error::Unavailable("at last".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl Objects for Place {
    fn place(&self) -> String {
        self.folder.place()
    }
    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        self.folder.beneath(name)
    }
    fn put_new(&self, name: &str) -> ports::Result<Box<dyn Upload>> {
        self.there(true)?;
        // Not for ever: a test that fails must end.
        for _ in 0..8000 {
            if name.contains("-full-") && self.mood.load(Ordering::Relaxed) == SLOW {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.folder.put_new(name)
    }
    fn get(&self, name: &str, from: u64) -> ports::Result<Option<Box<dyn Read + Send>>> {
        self.there(false)?;
        let newer = |other: &Object| other.name.contains("-full-") && *other.name > *name;
        let cold = self.mood.load(Ordering::Relaxed) == COLD && name.contains("-full-");
        if cold && self.folder.list()?.iter().any(newer) {
            return Err(ports::Error::Rejected(Fault::new(FORBIDDEN).with("right", "s3:GetObject")));
        }
        self.folder.get(name, from)
    }
    fn list(&self) -> ports::Result<Vec<Object>> {
        self.there(false)?;
        self.folder.list()
    }
    fn size(&self, name: &str) -> ports::Result<Option<u64>> {
        self.there(false)?;
        self.folder.size(name)
    }
    fn delete(&self, name: &str) -> ports::Result<bool> {
        self.there(false)?;
        self.folder.delete(name)
    }
}

/// A store that may be full.
pub(super) struct Full {
    pub(super) store: Arc<dyn Documents>,
    pub(super) full: AtomicBool,
}

#[async_trait::async_trait]
impl Documents for Full {
    async fn commit(&self, batch: Batch) -> ports::Result<Committed> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(ports::Error::Full("no room".to_owned())),
            false => self.store.commit(batch).await,
        }
    }
    async fn get(&self, collection: &str, id: &str) -> ports::Result<Option<RawDocumentBuf>> {
        self.store.get(collection, id).await
    }
    async fn find(&self, query: Query) -> ports::Result<Page> {
        self.store.find(query).await
    }
    async fn count(&self, collection: &str, filter: Arc<Filter>) -> ports::Result<(u64, Explain)> {
        self.store.count(collection, filter).await
    }
    async fn describe(&self, collection: &str) -> ports::Result<Option<Collection>> {
        self.store.describe(collection).await
    }
    async fn collections(&self) -> ports::Result<Vec<Collection>> {
        self.store.collections().await
    }
    async fn records(&self, after: Sequence, limit: usize) -> ports::Result<Vec<Record>> {
        self.store.records(after, limit).await
    }
    async fn snapshot(&self) -> ports::Result<Arc<dyn Snapshot>> {
        self.store.snapshot().await
    }
    async fn load(&self, part: Load) -> ports::Result<()> {
        self.store.load(part).await
    }
    async fn statistics(&self) -> ports::Result<Statistics> {
        self.store.statistics().await
    }
    async fn scrub(&self, from: u64) -> ports::Result<u64> {
        self.store.scrub(from).await
    }
    async fn take_keys(&self, keys: Vec<StorageKey>) -> ports::Result<()> {
        self.store.take_keys(keys).await
    }
    async fn sealed_by(&self) -> ports::Result<BTreeMap<u32, u64>> {
        self.store.sealed_by().await
    }
    async fn reseal(&self, from: u64) -> ports::Result<Resealed> {
        self.store.reseal(from).await
    }
    async fn trim(&self, retention: Retention) -> ports::Result<u64> {
        self.store.trim(retention).await
    }
    async fn close(&self) -> ports::Result<()> {
        self.store.close().await
    }
}

/// An instance with two targets.
pub(super) struct Ships {
    pub(super) bench: Bench,
    pub(super) seals: Arc<Seals>,
    pub(super) folders: [TempDir; 2],
    pub(super) moods: [Arc<AtomicU8>; 2],
    pub(super) identity: Identity,
    pub(super) backups: Backups,
}

pub(super) const TARGETS: [&str; 2] = ["near", "far"];

impl Ships {
    pub(super) async fn new() -> Self {
        Self::over(Bench::of(Environment::Development).await).await
    }

    pub(super) async fn over(bench: Bench) -> Self {
        let keys = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), bench.clock.clone());
        let seals = Arc::new(Seals::open(Arc::new(keys.unwrap()), bench.clock.clone()).await.unwrap());
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (moods, identity) = ([(); 2].map(|()| Arc::new(AtomicU8::new(FINE))), Identity::generate(Vec::new()));
        let backups = process(&bench, &seals, &folders, &moods, &identity);
        Self { bench, seals, folders, moods, identity, backups }
    }

    /// As after a restart.
    pub(super) fn again(&mut self) {
        self.backups = process(&self.bench, &self.seals, &self.folders, &self.moods, &self.identity);
    }

    pub(super) async fn commit(&self, id: &str) {
        let (collection, expect) = (COLLECTIONS.to_owned(), Expect::Any);
        let operations = vec![Operation { collection, id: id.to_owned(), expect, change: Change::Put(rawdoc! {}) }];
        let (time, origin) = (self.bench.clock.now(), Origin::default());
        self.bench.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
    }

    pub(super) async fn ship(&self, target: &str) -> Option<Kind> {
        self.backups.ship(target).await.unwrap().map(|made| made.header.kind)
    }

    /// Until nothing is left to be sent.
    pub(super) async fn settle(&self, target: &str) -> usize {
        let mut sent = 0;
        while self.ship(target).await.is_some() {
            sent += 1;
            self.bench.wait(1);
            assert!(sent < 10, "it ships for ever");
        }
        sent
    }

    pub(super) fn chains(&self, target: usize) -> Vec<Chain> {
        chains(&list(&Folder::at(self.folders[target].path())).unwrap(), &self.bench.stamp.id)
    }

    pub(super) fn keys(&self, target: usize) -> Vec<Kind> {
        let listed = list(&*Folder::at(self.folders[target].path()).beneath("subjects")).unwrap();
        listed.into_iter().map(|listed| listed.header.unwrap().0.kind).collect()
    }

    pub(super) async fn told(&self, action: &str) -> usize {
        self.bench.audit.seal().await.unwrap();
        let search = Search { action: Some(action.to_owned()), ..Search::default() };
        self.bench.audit.list(&Caller::system(), &search).await.unwrap().entries.len()
    }

    pub(super) fn mood(&self, target: usize, mood: u8) {
        self.moods[target].store(mood, Ordering::Relaxed);
    }
}

pub(super) fn process(
    bench: &Bench,
    seals: &Arc<Seals>,
    folders: &[TempDir; 2],
    moods: &[Arc<AtomicU8>; 2],
    identity: &Identity,
) -> Backups {
    within(bench, seals, folders, moods, identity, [None; 2])
}

/// With hours of their own; the far one's are those of segments too.
pub(super) fn within(
    bench: &Bench,
    seals: &Arc<Seals>,
    folders: &[TempDir; 2],
    moods: &[Arc<AtomicU8>; 2],
    identity: &Identity,
    windows: [Option<Window>; 2],
) -> Backups {
    let target = |at: usize| {
        let (folder, mood) = (Arc::new(Folder::at(folders[at].path())), moods[at].clone());
        let objects = Arc::new(Place { folder, mood });
        Target { name: TARGETS[at].to_owned(), objects, window: windows[at], segments_wait: at == 1 }
    };
    let to = (vec![target(0), target(1)], vec![identity.recipient().clone()]);
    let (documents, clock, stamp) = (bench.documents.clone(), bench.clock.clone(), bench.stamp.clone());
    let (keyring, access, audit) = (Arc::new(bench.keyring.clone()), bench.access.clone(), bench.audit.clone());
    Backups::new(documents, to, stamp, keyring, clock, access, audit).beside(seals.clone(), 30)
}
