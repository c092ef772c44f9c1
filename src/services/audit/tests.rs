//! The sealer over the embedded engine; and every tampering with an export, found and named.

mod proofs;
mod sound;
mod witness;

use super::{entry::number, *};
use crate::{
    backends::documents::embedded::{Embedded, Options},
    base::{clock::FixedClock, environment::Environment},
    domain::checkpoint::{Checkpoint, Note},
    services::{
        access::{self, Proven, Subject},
        export::Export,
        instance,
    },
};
use redb::backends::InMemoryBackend;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use zeroize::Zeroizing;

const START: i64 = 1_800_000_000_000;
const PERSON: &str = "01985c2e-0000-7000-8000-000000000001";

struct Log {
    documents: Arc<dyn Documents>,
    clock: Arc<FixedClock>,
    stamp: Stamp,
    keyring: Arc<Keyring>,
    audit: Audit,
}

impl Log {
    async fn open() -> Self {
        let clock = Arc::new(FixedClock(START.into()));
        let store = Embedded::open_over(InMemoryBackend::new(), Options::default(), clock.clone()).unwrap();
        let documents: Arc<dyn Documents> = Arc::new(store);
        instance::furnish(&*documents, Timestamp(START)).await.unwrap();
        let keyring = Arc::new(Keyring::generate((Zeroizing::new(vec![1]), vec![1]), Timestamp(1)));
        let stamp = Stamp::new(Environment::Development, Timestamp(1));
        let audit = audit(&documents, &clock, &stamp, &keyring);
        Self { documents, clock, stamp, keyring, audit }
    }

    /// As after the process died: nothing but what is stored.
    fn restart(&mut self) {
        self.audit = audit(&self.documents, &self.clock, &self.stamp, &self.keyring);
    }

    async fn tell(&self, count: u64) {
        let caller = Caller::system();
        let mut done = 0;
        while done < count {
            let some = (done..count).take(1000);
            let event = |n: u64| Event::new("test.event").object(format!("thing {n}")).with("n", n);
            let operations = some.map(|n| self.audit.operation(&caller, event(n)).unwrap()).collect::<Vec<_>>();
            done += operations.len() as u64;
            self.audit.commit(&caller, operations).await.unwrap();
        }
    }

    async fn export(&self) -> Vec<String> {
        let mut lines = self.audit.export(&Caller::system()).await.unwrap();
        let chunks = std::iter::from_fn(|| lines.pull(&Caller::system()));
        let text: Vec<u8> = chunks.flat_map(|chunk| chunk.unwrap()).collect();
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    fn keys(&self) -> Vec<Signer> {
        self.audit.signers()
    }

    async fn entries(&self) -> Vec<Entry> {
        let lines = self.export().await;
        lines.iter().filter_map(|line| Entry::parse(line)).collect()
    }
}

fn audit(documents: &Arc<dyn Documents>, clock: &Arc<FixedClock>, stamp: &Stamp, keyring: &Arc<Keyring>) -> Audit {
    let settings = Settings { keep_days: 10, ..Settings::default() };
    let access = access::bare(documents.clone(), clock.clone());
    Audit::new(documents.clone(), clock.clone(), stamp.clone(), keyring.clone(), settings, access)
}

fn verify(lines: &[impl AsRef<str>], keys: Vec<Signer>, against: Vec<Note>) -> Verdict {
    let mut verifier = Verifier::new(keys, against);
    lines.iter().for_each(|line| verifier.line(line.as_ref().as_bytes()));
    verifier.finish()
}

async fn change(documents: &Arc<dyn Documents>, collection: &str, id: &str, change: Change, caller: &Caller) {
    let operations = vec![Operation { collection: collection.into(), id: id.into(), expect: Expect::Any, change }];
    let batch = Batch { time: Timestamp(START + 5), origin: caller.origin(), operations, check: None, receipt: None };
    documents.commit(batch).await.unwrap();
}

fn person() -> Caller {
    let subject = Subject::Identity(Proven::session(PERSON.into(), "s".into(), Vec::new()));
    Caller { subject, request: "r".into(), trace: "t".into(), ..Caller::system() }
}

#[tokio::test]
async fn changes_and_events_become_entries_in_their_order_without_naming_anybody() {
    let log = Log::open().await;
    change(&log.documents, "system.collections", "patients", Change::Put(rawdoc! {}), &Caller::system()).await;
    change(&log.documents, "patients", "marie@example.org", Change::Put(rawdoc! { "secret": "x" }), &person()).await;
    log.audit.record(&person(), Event::new("auth.login").about(PERSON).with("device", "phone")).await.unwrap();
    change(&log.documents, "patients", "marie@example.org", Change::Put(rawdoc! { "secret": "y" }), &person()).await;
    change(&log.documents, "patients", "marie@example.org", Change::Delete, &person()).await;
    change(&log.documents, "system.sessions", "s", Change::Put(rawdoc! {}), &person()).await;
    log.audit.seal().await.unwrap();
    let lines = log.export().await;
    let all = lines.join("\n");
    for hidden in [PERSON, "marie", "secret"] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    let entries: Vec<Entry> = lines.iter().filter_map(|line| Entry::parse(line)).collect();
    assert_eq!(entries[0].action, "audit.epoch");
    let mine: Vec<&Entry> = entries.iter().filter(|entry| entry.who.starts_with('~')).collect();
    let actions: Vec<&str> = mine.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["documents.create", "auth.login", "documents.update", "documents.delete"]);
    assert_eq!(mine[1].subject.as_ref(), Some(&mine[1].who));
    assert_eq!((mine[0].request.as_str(), mine[0].trace.as_str()), ("r", "t"));
    assert_eq!(mine[0].after, mine[2].before);
    assert_ne!(mine[2].before, mine[2].after);
    assert_eq!(mine[2].after, mine[3].before);
    assert_eq!(mine[3].revision, Some(3));
    let verdict = verify(&lines, log.keys(), Vec::new());
    assert_eq!((verdict.wrong.as_slice(), verdict.vouched), (&[][..], true));
    // The waiting room is empty.
    assert_eq!(log.documents.describe(PENDING).await.unwrap().unwrap().documents, 0);
}

#[tokio::test]
async fn nothing_new_writes_nothing() {
    let log = Log::open().await;
    log.audit.seal().await.unwrap();
    let before = log.documents.statistics().await.unwrap().sequence;
    for _ in 0..3 {
        assert_eq!(log.audit.seal().await.unwrap(), 0);
    }
    assert_eq!(log.documents.statistics().await.unwrap().sequence, before);
}

#[tokio::test]
async fn a_restart_at_any_moment_loses_and_doubles_nothing() {
    let mut log = Log::open().await;
    let mut told = 0;
    for round in 0..40_u64 {
        log.tell(round * 37 % 300).await;
        told += round * 37 % 300;
        match round % 4 {
            0 => log.restart(),
            1 => drop(log.audit.seal().await.unwrap()),
            // Cut in the midst of a seal, wherever it was.
            2 => {
                let cut = std::time::Duration::from_micros(round * 300);
                drop(tokio::time::timeout(cut, log.audit.seal()).await);
                log.restart();
            }
            _ => {}
        }
    }
    let lines = log.export().await;
    assert_eq!(verify(&lines, log.keys(), Vec::new()).wrong, []);
    let entries: Vec<Entry> = lines.iter().filter_map(|line| Entry::parse(line)).collect();
    assert!(entries.iter().zip(0..).all(|(entry, index)| entry.index == index));
    assert_eq!(entries.iter().filter(|entry| entry.action == "test.event").count() as u64, told);
    let held = log.audit.load().await.unwrap();
    let kept = log.audit.state.lock().await.clone().unwrap();
    assert_eq!((held.edge, held.note, held.position <= kept.position), (kept.edge, kept.note, true));
}

#[tokio::test]
async fn proofs_hold_for_any_entry_and_any_earlier_tree() {
    let log = Log::open().await;
    let caller = Caller::system();
    let mut notes: Vec<Note> = Vec::new();
    for _ in 0..5 {
        log.tell(160).await;
        log.audit.seal().await.unwrap();
        notes.push(log.audit.checkpoint(&caller).await.unwrap().parse().unwrap());
    }
    for index in [0, 1, 255, 256, 511, 512, 700] {
        let proof = log.audit.prove(&caller, index).await.unwrap();
        let hashes: Vec<String> = proof
            .hashes
            .iter()
            .map(|hash| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash))
            .collect();
        let mut document = json!({ "proof": {
            "index": index, "size": proof.size, "entry": proof.entry, "hashes": hashes,
            "checkpoint": proof.checkpoint, "keys": [],
        }});
        let verdict = verify_proof(&document, &log.keys()).unwrap();
        assert_eq!((verdict.wrong.as_slice(), verdict.vouched), (&[][..], true));
        assert!(!verify_proof(&document, &[]).unwrap().wrong.is_empty(), "nobody vouched");
        document["proof"]["entry"] = proof.entry.replace("allowed", "denied").into();
        assert_eq!(verify_proof(&document, &log.keys()).unwrap().wrong[0].kind, Kind::Edited);
    }
    let last = notes.last().unwrap().checkpoint.clone();
    for note in &notes {
        let then = &note.checkpoint;
        let (to, path) = log.audit.consistency(&caller, then.size, Some(last.size)).await.unwrap();
        assert!(crate::domain::merkle::verify_consistency(then.size, to, &then.root, &last.root, &path));
    }
    assert!(matches!(log.audit.prove(&caller, 1_000_000).await, Err(Error::NotFound(_))));
    // Reading is told, once a minute.
    let read = log.entries().await.iter().filter(|entry| entry.action == "audit.read").count();
    assert_eq!(read, 3, "checkpoint, proof, export");
}

#[tokio::test]
async fn a_restored_instance_opens_an_epoch_and_is_no_fork() {
    let mut log = Log::open().await;
    log.tell(300).await;
    log.audit.seal().await.unwrap();
    let before: Note = log.audit.checkpoint(&Caller::system()).await.unwrap().parse().unwrap();
    // What the first line of history went on to: signed, and lost by the restore.
    let size = before.checkpoint.size + 40;
    let later = Checkpoint { size, root: [9; 32], ..before.checkpoint.clone() };
    let signer = log.keys().remove(0);
    let pair = log.keyring.current(Purpose::AuditSigning).signer();
    let later = later.signed(&signer, |text| pair.sign(text).as_ref().to_vec());
    log.stamp.lineage = 2;
    log.restart();
    log.tell(50).await;
    let lines = log.export().await;
    let epoch =
        lines.iter().filter_map(|line| Entry::parse(line)).rfind(|entry| entry.action == "audit.epoch").unwrap();
    assert_eq!(epoch.details.as_ref().unwrap()["continues"]["size"], before.checkpoint.size);
    let verdict = verify(&lines, log.keys(), vec![before.clone(), later.parse().unwrap()]);
    assert_eq!(verdict.wrong, []);
    assert!(verdict.origin.ends_with("/2"), "{}", verdict.origin);
    let lost = size - before.checkpoint.size;
    assert_eq!(verdict.restored, [Restored { from: before.checkpoint.size, lost, lineage: 1 }]);
    // Without the epoch's word for it, it would be a fork.
    let root = hex::encode(before.checkpoint.root);
    let forged: Vec<String> = lines.iter().map(|line| line.replace(&root, &hex::encode([1; 32]))).collect();
    assert!(!verify(&forged, log.keys(), Vec::new()).wrong.is_empty());
}

#[tokio::test]
async fn a_rotated_key_is_told_and_both_keys_verify() {
    let mut log = Log::open().await;
    log.tell(300).await;
    log.audit.seal().await.unwrap();
    let old = log.keys();
    for version in [2, 3] {
        log.keyring.rotate(Purpose::AuditSigning, Timestamp(2));
        if version == 3 {
            log.restart();
        }
        log.tell(300).await;
        let lines = log.export().await;
        let newest = log.keys().split_off(version - 1);
        assert_eq!(newest.len(), 1);
        assert_eq!(verify(&lines, newest, Vec::new()).wrong, []);
        let told = lines.iter().filter_map(|line| Entry::parse(line)).filter(|entry| entry.action == "audit.key");
        assert_eq!(told.count(), version - 1);
        let by_the_first = verify(&lines, old.clone(), Vec::new()).wrong;
        match version {
            2 => assert_eq!(by_the_first, [], "the one before signs too"),
            _ => assert_eq!(by_the_first[0].kind, Kind::Unsigned, "a key the auditor should have learnt since"),
        }
    }
}

#[tokio::test]
async fn pruned_entries_leave_their_proof_and_only_a_told_pruning_counts() {
    let log = Log::open().await;
    log.tell(1000).await;
    log.audit.seal().await.unwrap();
    let early: Note = log.audit.checkpoint(&Caller::system()).await.unwrap().parse().unwrap();
    log.clock.0.fetch_add(11 * 86_400_000, Relaxed);
    log.tell(100).await;
    log.audit.seal().await.unwrap();
    let gone = log.audit.prune().await.unwrap();
    assert!((900..=1100).contains(&gone), "{gone}");
    assert_eq!(log.audit.prune().await.unwrap(), 0);
    let lines = log.export().await;
    let verdict = verify(&lines, log.keys(), vec![early]);
    assert_eq!((verdict.wrong.as_slice(), verdict.pruned), (&[][..], gone));
    assert!(matches!(log.audit.prove(&Caller::system(), 300).await, Err(Error::NotFound(_))));
    log.audit.prove(&Caller::system(), 1050).await.unwrap();
    // An entry taken out and said to be pruned is missing all the same.
    let mut forged = lines.clone();
    let place = forged.iter().position(|line| line.starts_with("{\"index\":1040,")).unwrap();
    forged[place] = json!({ "pruned": { "from": 1040, "to": 1041 } }).to_string();
    let wrong = verify(&forged, log.keys(), Vec::new()).wrong;
    assert_eq!((wrong[0].kind, wrong[0].index), (Kind::Missing, 1040));
}

#[tokio::test]
async fn a_store_changed_behind_its_back_is_found_by_an_export() {
    let log = Log::open().await;
    log.tell(600).await;
    log.audit.seal().await.unwrap();
    let system = Caller::system();
    for (index, gone) in [(100, false), (590, false), (300, true)] {
        let id = entry::id(index);
        let mut document = bson::Document::try_from(&*log.documents.get(ENTRIES, &id).await.unwrap().unwrap()).unwrap();
        let text = document.get_str("entry").unwrap().replace("thing", "other");
        document.insert("entry", text);
        let put = match gone {
            true => Change::Delete,
            false => Change::Put(RawDocumentBuf::try_from(&document).unwrap()),
        };
        change(&log.documents, ENTRIES, &id, put, &system).await;
    }
    let wrong = verify(&log.export().await, log.keys(), Vec::new()).wrong;
    let wrong: Vec<_> = wrong.iter().map(|wrong| (wrong.index, wrong.kind)).collect();
    assert_eq!(wrong, [(100, Kind::Edited), (300, Kind::Missing), (590, Kind::Edited)]);
}

#[tokio::test]
async fn the_log_is_searched_newest_first_a_page_at_a_time() {
    let log = Log::open().await;
    log.tell(250).await;
    log.audit.record(&person(), Event::new("auth.login").failed("wrong password").about(PERSON)).await.unwrap();
    log.audit.seal().await.unwrap();
    let caller = Caller::system();
    let search = Search { action: Some("test.".into()), limit: Some(100), ..Search::default() };
    let (mut cursor, mut indexes) = (None, Vec::new());
    loop {
        let found = log.audit.list(&caller, &Search { cursor, ..search.clone() }).await.unwrap();
        indexes.extend(found.entries.iter().map(|text| Entry::parse(text).unwrap().index));
        cursor = found.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(indexes.len(), 250);
    assert!(indexes.is_sorted_by(|one, other| one > other));
    let (audit, asker) = (&log.audit, &caller);
    let found = |search: Search| async move { audit.list(asker, &search).await.unwrap().entries.len() };
    assert_eq!(found(Search { who: Some(PERSON.into()), ..Search::default() }).await, 1);
    assert_eq!(found(Search { outcome: Some("failed".into()), ..Search::default() }).await, 1);
    assert_eq!(found(Search { object: Some("thing 7".into()), ..Search::default() }).await, 1);
    assert_eq!(found(Search { to: Some(Timestamp(START)), ..Search::default() }).await, 0);
    assert!(found(Search { from: Some(Timestamp(START)), ..Search::default() }).await > 99);
    for wrong in [
        Search { outcome: Some("maybe".into()), ..Search::default() },
        Search { cursor: Some("x".into()), ..Search::default() },
        Search { limit: Some(0), ..Search::default() },
    ] {
        assert!(log.audit.list(&caller, &wrong).await.is_err());
    }
}

#[tokio::test]
async fn reading_goes_on_where_nothing_can_be_written_and_is_told_later() {
    let mut log = Log::open().await;
    log.tell(3).await;
    log.audit.seal().await.unwrap();
    let documents = std::mem::replace(&mut log.audit.documents, closed().await);
    log.audit.record_reading(&person(), Event::new("documents.export").object("places")).await.unwrap();
    assert!(log.audit.record(&person(), Event::new("backups.create")).await.is_err(), "no audit, no action");
    assert!(log.audit.tell_repeats(false).await.is_err());
    log.audit.documents = documents;
    log.clock.0.fetch_add(5000, Relaxed);
    log.audit.tell_repeats(false).await.unwrap();
    let entries = log.entries().await;
    let late: Vec<_> = entries.iter().filter(|entry| entry.action == "documents.export").collect();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].details.as_ref().unwrap()["at"], Timestamp(START).rfc3339());
    assert!(late[0].who.starts_with('~'));
}

/// A store that takes nothing any more.
async fn closed() -> Arc<dyn Documents> {
    let log = Log::open().await;
    log.documents.close().await.unwrap();
    log.documents
}

#[test]
fn ids_are_numbers_in_order() {
    assert_eq!((entry::id(7).len(), number(&entry::id(u64::MAX))), (20, Some(u64::MAX)));
    assert!(entry::id(99) < entry::id(100) && entry::id(u64::MAX).as_str() < state::HEAD);
}
