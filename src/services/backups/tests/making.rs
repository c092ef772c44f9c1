//! Backups made, listed, verified and restored through the service.

use super::*;

#[test]
fn what_is_restored_is_what_was_backed_up() {
    let instance = instance(Environment::Staging);
    let memory = memory(2000);
    let created = instance.back_up(&memory, 0).unwrap();
    let (mut restored, keys, meta) = instance.restore(&created.name, Environment::Staging).unwrap();
    restored.collections.insert("system.empty".to_owned(), Vec::new());
    assert!(restored == memory, "documents or records differ");
    assert_eq!((meta.instance, meta.lineage), (instance.stamp.id.clone(), 1));
    let keyring = Keyring::from_keys(keys).unwrap();
    for (key, back) in instance.keyring.keys().iter().zip(keyring.keys()) {
        assert_eq!((key.purpose, key.version, &key.material), (back.purpose, back.version, &back.material));
        assert_eq!((key.created_at, &key.public), (back.created_at, &back.public));
    }
    assert_eq!((created.manifest.documents, created.manifest.records), (2002, 2000));
}

#[test]
fn backups_are_listed_located_chained_and_verified() {
    let instance = instance(Environment::Staging);
    assert_eq!(fault(locate(&instance.folder, None).unwrap_err()).key, "backups.none");
    let first = instance.back_up(&memory(3), 0).unwrap();
    let second = instance.back_up(&memory(5), 1000).unwrap();
    assert_eq!(first.name, format!("20251124T160000Z-full-{}.backup", first.header.id()));
    assert_eq!((first.header.previous, second.header.previous), ([0; 32], first.manifest.hash()));
    std::fs::write(instance.place.path().join("readme.txt"), b"not a backup").unwrap();
    std::fs::write(instance.place.path().join("zzz.backup"), b"nor this").unwrap();
    let listed = list(&instance.folder).unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].header.as_ref().unwrap_err().key, "backups.not_a_backup");
    let (header, recipients) = listed[2].header.as_ref().unwrap();
    assert_eq!(header, &second.header);
    assert_eq!(recipients[..], instance.recipients.iter().map(Recipient::id).collect::<Vec<_>>());
    assert_eq!(locate(&instance.folder, None).unwrap(), second.name);
    assert_eq!(locate(&instance.folder, Some(&first.header.id())).unwrap(), first.name);
    assert_eq!(locate(&instance.folder, Some(&first.name)).unwrap(), first.name);

    let signers = signers(&instance.keyring);
    let trust = Trust::Signers(&signers);
    assert_eq!(verify(&instance.folder, &first.name, trust).unwrap().manifest, first.manifest);
    assert_eq!(verify_open(&instance.folder, &first.name, &instance.identity, trust).unwrap().manifest, first.manifest);
    assert_eq!(fault(verify(&instance.folder, "absent", trust).unwrap_err()).key, "backups.unknown");

    // The newest one damaged: the chain goes on from the one before.
    let path = instance.place.path().join(&second.name);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(verify(&instance.folder, &second.name, trust).is_err());
    assert_eq!(instance.back_up(&memory(1), 2000).unwrap().header.previous, first.manifest.hash());
}

#[test]
fn another_environment_too_few_recipients_and_strangers_are_refused() {
    let mut instance = instance(Environment::Production);
    let created = instance.back_up(&memory(1), 0).unwrap();
    let refused = instance.restore(&created.name, Environment::Staging).err().unwrap();
    assert_eq!(fault(refused).key, "backups.environment");
    let other = super::tests::instance(Environment::Production);
    let own = signers(&other.keyring);
    let (wanted, identity) = (Wanted::Backup(created.name), &instance.identity);
    let (trust, environment) = (Trust::Signers(&own), Environment::Production);
    let asked = Asked { wanted: &wanted, identity, trust, environment, instance: None, anchor: None };
    let foreign = Restore::begin(&instance.folder, asked, &mut |_| Ok(()));
    assert_eq!(fault(foreign.err().unwrap()).key, "backups.signer");
    instance.recipients.pop();
    assert_eq!(fault(instance.back_up(&memory(1), 1).unwrap_err()).key, "backups.recipients");
    instance.recipients.push(instance.recipients[0].clone());
    assert_eq!(fault(instance.back_up(&memory(1), 1).unwrap_err()).key, "backups.recipients");
    instance.recipients.clear();
    instance.stamp.environment = Environment::Development;
    assert_eq!(fault(instance.back_up(&memory(1), 1).unwrap_err()).key, "backups.recipients");
    assert_eq!(instance.files(), 1);
}

/// A snapshot whose count and documents disagree is a store in trouble: no backup comes of it, and no file.
#[test]
fn a_backup_that_does_not_check_is_never_named() {
    struct Lying(Memory);
    impl Snapshot for Lying {
        fn sequence(&self) -> Sequence {
            self.0.sequence()
        }
        fn collections(&self) -> ports::Result<Vec<String>> {
            self.0.collections()
        }
        fn documents(&self, name: &str, after: Option<&str>, limit: usize) -> ports::Result<Vec<RawDocumentBuf>> {
            self.0.documents(name, after, limit)
        }
        fn count(&self, collection: &str) -> ports::Result<u64> {
            Ok(self.0.count(collection)? + 1)
        }
        fn get(&self, collection: &str, id: &str) -> ports::Result<Option<RawDocumentBuf>> {
            self.0.get(collection, id)
        }
        fn records(&self, after: Sequence, limit: usize) -> ports::Result<Vec<Record>> {
            self.0.records(after, limit)
        }
    }
    let instance = instance(Environment::Staging);
    assert_eq!(fault(instance.back_up(&Lying(memory(2)), 0).unwrap_err()).key, "backups.count");
    assert_eq!(instance.files(), 0);
}

/// The copy is damaged between writing and reading back: it never gets its name.
#[test]
fn a_copy_that_reads_back_otherwise_is_never_named() {
    struct Rotting(Folder, u64);
    struct Upload(Box<dyn crate::ports::objects::Upload>, u64);
    impl std::io::Write for Upload {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    impl crate::ports::objects::Upload for Upload {
        fn reread(&mut self) -> ports::Result<Option<Box<dyn Read + Send>>> {
            let mut bytes = Vec::new();
            self.0.reread()?.unwrap().read_to_end(&mut bytes).unwrap();
            let place = (self.1 as usize * bytes.len() / 8).min(bytes.len() - 1);
            bytes[place] ^= 1;
            Ok(Some(Box::new(std::io::Cursor::new(bytes))))
        }
        fn publish(self: Box<Self>) -> ports::Result<()> {
            self.0.publish()
        }
    }
    impl Objects for Rotting {
        fn place(&self) -> String {
            self.0.place()
        }
        fn beneath(&self, name: &str) -> std::sync::Arc<dyn Objects> {
            self.0.beneath(name)
        }
        fn put_new(&self, name: &str) -> ports::Result<Box<dyn crate::ports::objects::Upload>> {
            Ok(Box::new(Upload(self.0.put_new(name)?, self.1)))
        }
        fn get(&self, name: &str, from: u64) -> ports::Result<Option<Box<dyn Read + Send>>> {
            self.0.get(name, from)
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
    let instance = instance(Environment::Staging);
    let request = instance.request();
    for eighth in 0..=8 {
        let rotting = Rotting(Folder::open(instance.place.path()).unwrap(), eighth);
        assert!(create(&request, &memory(20), &rotting, &mut |_| Ok(())).is_err(), "{eighth}");
        assert_eq!(instance.files(), 0);
    }
}

#[test]
fn a_segment_holds_the_journal_since_and_never_begins_past_a_hole() {
    let instance = instance(Environment::Staging);
    let request = |after| Request {
        now: Timestamp(after as i64),
        span: Span::Segment { after: Sequence(after) },
        previous: [7; 32],
        ..instance.request()
    };
    let mut snapshot = memory(20);
    let made = create(&request(15), &snapshot, &instance.folder, &mut |_| Ok(())).unwrap();
    let Header { kind, after, upto, previous, .. } = made.header;
    assert_eq!((kind, after, upto, previous), (Kind::Segment, Sequence(15), Sequence(23), [7; 32]));
    assert_eq!((made.manifest.documents, made.manifest.records), (0, 6), "records 16 to 21");
    assert!(made.name.contains("-segment-"), "{}", made.name);
    let signers = signers(&instance.keyring);
    let sound = verify_open(&instance.folder, &made.name, &instance.identity, Trust::Signers(&signers)).unwrap();
    assert_eq!(sound.manifest, made.manifest);
    snapshot.records.remove(10);
    let gap = create(&request(11), &snapshot, &instance.folder, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(&gap, Error::Conflict(fault) if fault.key == "backups.journal_gap"), "{gap:?}");
    assert_eq!(instance.files(), 1);
}

#[test]
fn stopped_by_its_caller_it_leaves_nothing() {
    let instance = instance(Environment::Staging);
    let request = instance.request();
    let mut seen = Vec::new();
    let lines = create(&request, &memory(1000), &instance.folder, &mut |progress| {
        seen.push(progress);
        Ok(())
    })
    .unwrap()
    .manifest
    .lines;
    assert_eq!(seen.last(), Some(&Progress { stage: Stage::Checking, done: lines, total: lines }));
    assert!(seen.windows(2).all(|pair| pair[0].stage != pair[1].stage || pair[0].done <= pair[1].done));
    for stop in 0..seen.len() {
        let mut left = stop;
        let stopped = create(&request, &memory(1000), &instance.folder, &mut |_| {
            left = left.checked_sub(1).ok_or_else(|| Error::Unavailable("stopping".to_owned()))?;
            Ok(())
        });
        assert!(matches!(stopped, Err(Error::Unavailable(_))));
    }
    assert_eq!(instance.files(), 1);
}

#[test]
fn a_damaged_backup_is_refused_before_anything_is_restored() {
    let instance = instance(Environment::Staging);
    let mut memory = memory(50);
    let noise = Bson::Binary(bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes: crate::base::random::array::<300_000>().to_vec(),
    });
    memory.collections.insert("noise".to_owned(), vec![raw(doc! {"_id": "a", "noise": noise})]);
    let created = instance.back_up(&memory, 0).unwrap();
    let path = instance.place.path().join(&created.name);
    let sound = std::fs::read(&path).unwrap();
    for eighth in 1..8 {
        let mut bytes = sound.clone();
        bytes[sound.len() * eighth / 8] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        let begun = instance.restore(&created.name, Environment::Staging);
        assert!(matches!(begun.err(), Some(Error::Damaged(_))), "{eighth}");
    }
}

/// Transfers go on between accounts while the backup is made: what is restored is one moment of them, the one the
/// backup names, and its journal tells how it came to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_writes_restores_one_moment() {
    const ACCOUNTS: usize = 300;
    const TOTAL: i64 = ACCOUNTS as i64 * 1000;
    let origin = Arc::new(engine());
    let put = |id: String, amount: i64| Operation {
        collection: "accounts".to_owned(),
        id,
        expect: Expect::Any,
        change: Change::Put(raw(doc! {"amount": amount, "filling": "x".repeat(300)})),
    };
    let define = Operation { collection: COLLECTIONS.to_owned(), ..put("accounts".to_owned(), 0) };
    let define = Operation { change: Change::Put(raw(doc! {"indexes": ["amount"]})), ..define };
    origin.commit(batch(vec![define])).await.unwrap();
    let accounts = (0..ACCOUNTS).map(|n| put(format!("{n:04}"), 1000)).collect();
    origin.commit(batch(accounts)).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (origin, stop) = (origin.clone(), stop.clone());
        async move {
            let mut amounts = vec![1000; ACCOUNTS];
            let mut n = 0_usize;
            while !stop.load(Ordering::Relaxed) {
                let (from, to) = (n * 7 % ACCOUNTS, (n * 13 + 1) % ACCOUNTS);
                n += 1;
                if from != to {
                    amounts[from] -= 3;
                    amounts[to] += 3;
                    let both = [from, to].map(|n| put(format!("{n:04}"), amounts[n]));
                    origin.commit(batch(both.into())).await.unwrap();
                }
            }
            n
        }
    });
    let instance = Arc::new(instance(Environment::Staging));
    while origin.statistics().await.unwrap().sequence < Sequence(ACCOUNTS as u64 + 200) {
        tokio::task::yield_now().await;
    }
    let snapshot = origin.snapshot().await.unwrap();
    let created = tokio::task::spawn_blocking({
        let (instance, snapshot) = (instance.clone(), snapshot.clone());
        move || instance.back_up(&*snapshot, 0).unwrap()
    })
    .await
    .unwrap();
    let during = origin.statistics().await.unwrap().sequence;
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert!(during > created.header.upto, "nothing was written while the backup was made");

    let restored = Arc::new(engine());
    let handle = tokio::runtime::Handle::current();
    let manifest = tokio::task::spawn_blocking({
        let (instance, restored, name) = (instance.clone(), restored.clone(), created.name.clone());
        move || {
            let own = signers(&instance.keyring);
            let (wanted, environment) = (Wanted::Backup(name), Environment::Staging);
            let (identity, trust) = (&instance.identity, Trust::Signers(&own));
            let asked = Asked { wanted: &wanted, identity, trust, environment, instance: None, anchor: None };
            let restore = Restore::begin(&instance.folder, asked, &mut |_| Ok(())).unwrap();
            restore.load(&[], &mut |part| put_in(&restored, &handle, part), &mut |_| Ok(())).unwrap();
            restore.plan().manifests[0].clone()
        }
    })
    .await
    .unwrap();
    assert_eq!(manifest, created.manifest);

    let back = restored.snapshot().await.unwrap();
    assert_eq!(back.sequence(), snapshot.sequence());
    assert_eq!(back.collections().unwrap(), snapshot.collections().unwrap());
    for name in back.collections().unwrap() {
        let rows = back.documents(&name, None, 100_000).unwrap();
        assert!(rows == snapshot.documents(&name, None, 100_000).unwrap(), "{name}");
    }
    let accounts = back.documents("accounts", None, 100_000).unwrap();
    assert_eq!(accounts.iter().map(|account| account.get_i64("amount").unwrap()).sum::<i64>(), TOTAL);
    let records = back.records(Sequence(0), 1_000_000).unwrap();
    assert!(records == snapshot.records(Sequence(0), 1_000_000).unwrap());
    let mut replayed = BTreeMap::new();
    for record in records.into_iter().filter(|record| record.collection == "accounts") {
        replayed.insert(record.id, record.after.unwrap());
    }
    assert!(replayed.into_values().eq(accounts), "the journal tells another story");
}
