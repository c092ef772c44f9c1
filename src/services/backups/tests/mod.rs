//! What the tests of backups stand on: a store of their own making, an instance, a folder.

mod beside;
mod faults;
mod format;
mod gone;
mod making;
mod restore;
mod rewrap;
mod shipping;
mod ships;

use super::{
    file::Signing,
    restore::{Anchor, Asked, Plan, Tally, Wanted, with_images},
    *,
};
use crate::{
    backends::{
        documents::embedded::{Embedded, Options},
        objects::folder::Folder,
    },
    base::{
        clock::{FixedClock, Timestamp},
        environment::Environment,
    },
    ports::{
        self,
        documents::{
            Action, Batch, COLLECTIONS, Change, Documents, Expect, Load, Operation, Origin, Record, Sequence, Snapshot,
        },
    },
    services::{
        instance::Stamp,
        keyring::{Key, Keyring, Purpose},
    },
};
use bson::{Bson, RawDocumentBuf, doc};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};
use zeroize::Zeroizing;

/// What a store would show at one moment.
#[derive(Default, Clone, PartialEq, Debug)]
struct Memory {
    sequence: Sequence,
    collections: BTreeMap<String, Vec<RawDocumentBuf>>,
    records: Vec<Record>,
}

impl Snapshot for Memory {
    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn collections(&self) -> ports::Result<Vec<String>> {
        Ok(self.collections.keys().cloned().collect())
    }

    fn documents(&self, collection: &str, after: Option<&str>, limit: usize) -> ports::Result<Vec<RawDocumentBuf>> {
        let id = |document: &RawDocumentBuf| document.get_str("_id").unwrap().to_owned();
        let later = |document: &&RawDocumentBuf| after.is_none_or(|after| id(document).as_str() > after);
        Ok(self.collections[collection].iter().filter(later).take(limit).cloned().collect())
    }

    fn count(&self, collection: &str) -> ports::Result<u64> {
        Ok(self.collections[collection].len() as u64)
    }

    fn get(&self, collection: &str, id: &str) -> ports::Result<Option<RawDocumentBuf>> {
        Ok(self.collections[collection].iter().find(|document| document.get_str("_id").unwrap() == id).cloned())
    }

    fn records(&self, after: Sequence, limit: usize) -> ports::Result<Vec<Record>> {
        Ok(self.records.iter().filter(|record| record.sequence > after).take(limit).cloned().collect())
    }
}

impl Memory {
    /// With the images that are the documents' own, as a store puts them in.
    fn whole(mut self) -> Self {
        let stands = self.clone();
        self.records = whole(self.records, &stands).unwrap();
        self
    }
}

fn whole(records: Vec<Record>, stands: &dyn Snapshot) -> ports::Result<Vec<Record>> {
    let mut whole = Vec::new();
    with_images(records, stands, &mut |part| {
        whole.extend(part);
        Ok(())
    })?;
    Ok(whole)
}

/// As a restore does it.
fn put_in(store: &Embedded, handle: &tokio::runtime::Handle, part: Load) -> ports::Result<()> {
    let load = |part| handle.block_on(store.load(part));
    let Load::Records(records) = part else { return load(part) };
    let stands = handle.block_on(store.snapshot())?;
    with_images(records, &*stands, &mut |records| load(Load::Records(records)))
}

fn raw(document: bson::Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

/// Every type a document can hold, and one image that no text can say.
fn memory(rows: usize) -> Memory {
    let mut memory = Memory { sequence: Sequence(rows as u64 + 3), ..Memory::default() };
    memory.collections.insert("system.collections".to_owned(), vec![raw(doc! {"_id": "places", "_rev": 1_i64})]);
    memory.collections.insert("system.empty".to_owned(), Vec::new());
    let mut places = Vec::new();
    for n in 0..rows {
        let document = raw(doc! {
            "_id": format!("{n:08}"), "_rev": 7_i64, "_createdAt": bson::DateTime::from_millis(n as i64 - 5),
            "name": "Kinshasa «\n\u{1F600}\"", "n": n as i32, "big": i64::MAX, "x": n as f64 / 3.0, "nan": f64::NAN,
            "decimal": Bson::Decimal128("1.50".parse().unwrap()), "list": [1, 1.0, null_document()],
            "bytes": Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![n as u8; 16] }),
        });
        memory.records.push(Record {
            sequence: Sequence(n as u64 + 2),
            time: Timestamp(1_700_000_000_000 + n as i64),
            transaction: Sequence(n as u64 + 1),
            position: 1,
            collection: "places".to_owned(),
            id: format!("{n:08}"),
            action: if n % 2 == 0 { Action::Create } else { Action::Delete },
            revision: 7,
            before: (n % 2 == 1).then(|| document.clone()),
            after: (n % 2 == 0).then(|| document.clone()),
            origin: Origin {
                actor: "someone".to_owned(),
                request: "r".to_owned(),
                trace: "t".to_owned(),
                grounds: "g".to_owned(),
            },
        });
        places.push(document);
    }
    places.push(raw(doc! {"_id": "strange", "x": {"$oid": 5}, "text": "é".repeat(3_000_000)}));
    memory.collections.insert("places".to_owned(), places);
    memory
}

fn null_document() -> Bson {
    Bson::Document(doc! {"null": Bson::Null, "": true})
}

struct Instance {
    stamp: Stamp,
    keyring: Keyring,
    identity: Identity,
    recipients: Vec<Recipient>,
    place: tempfile::TempDir,
    folder: Folder,
}

fn instance(environment: Environment) -> Instance {
    let keyring = Keyring::generate((Zeroizing::new(b"pkcs8".to_vec()), b"der".to_vec()), Timestamp(5));
    let identity = Identity::generate(signers(&keyring));
    let escrow = Identity::generate(Vec::new());
    let recipients = vec![escrow.recipient().clone(), identity.recipient().clone()];
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    Instance { stamp: Stamp::new(environment, Timestamp(1)), keyring, identity, recipients, place, folder }
}

impl Instance {
    fn signing(&self) -> Signing {
        Signing::of(&self.keyring.versions(Purpose::BackupSigning).collect::<Vec<_>>()).unwrap()
    }

    /// A full one of the beginning of time, after none.
    fn request(&self) -> Request<'_> {
        Request {
            stamp: &self.stamp,
            keyring: &self.keyring,
            recipients: &self.recipients,
            now: Timestamp(0),
            span: Span::Full,
            previous: [0; 32],
            configuration: None,
        }
    }

    fn back_up(&self, snapshot: &dyn Snapshot, now: i64) -> Result<Created> {
        let request = Request {
            now: Timestamp(1_764_000_000_000 + now),
            previous: newest(&self.folder, &self.stamp.id, Trust::Anyone, (None, Timestamp(i64::MAX)))?
                .map_or([0; 32], |(_, before)| before.hash()),
            configuration: Some("[instance]\nenvironment = \"staging\"\n"),
            ..self.request()
        };
        create(&request, snapshot, &self.folder, &mut |_| Ok(()))
    }

    fn restore(&self, name: &str, environment: Environment) -> Result<(Memory, Vec<Key>, Meta)> {
        let signers = signers(&self.keyring);
        let wanted = Wanted::Backup(name.to_owned());
        let (identity, trust) = (&self.identity, Trust::Signers(&signers));
        let asked = Asked { wanted: &wanted, identity, trust, environment, instance: None, anchor: None };
        let restore = Restore::begin(&self.folder, asked, &mut |_| Ok(()))?;
        assert_eq!(restore.configuration(), Some("[instance]\nenvironment = \"staging\"\n"));
        let (keys, meta) = (restore.keys().to_vec(), restore.meta().clone());
        let mut memory = Memory::default();
        let mut ended = false;
        let mut put = |load| {
            assert!(!ended);
            match load {
                Load::Documents { collection, documents } => {
                    memory.collections.entry(collection).or_default().extend(documents);
                }
                Load::Records(records) => memory.records.extend(records),
                Load::Changes(_) => panic!("a full backup alone"),
                Load::End(sequence) => {
                    memory.sequence = sequence;
                    ended = true;
                }
            }
            Ok(())
        };
        restore.load(&[], &mut put, &mut |_| Ok(()))?;
        assert!(ended);
        Ok((memory.whole(), keys, meta))
    }

    /// Names in the target, the unfinished ones too.
    fn files(&self) -> usize {
        std::fs::read_dir(self.place.path()).unwrap().count()
    }
}

fn fault(error: Error) -> Fault {
    match error {
        Error::Damaged(fault) | Error::Refused(fault) | Error::NotFound(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn engine() -> Embedded {
    let clock = Arc::new(FixedClock(AtomicI64::new(1_000)));
    Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock).unwrap()
}

fn batch(operations: Vec<Operation>) -> Batch {
    Batch { time: Timestamp(5), origin: Origin::default(), operations, check: None, receipt: None }
}
