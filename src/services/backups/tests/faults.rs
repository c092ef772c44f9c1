//! Files that are damaged, cut, put together, exchanged, forged or old: each is noticed or does no harm, and is said.

use super::{
    super::{
        contents::Contents,
        file::{Backup, FileKey, Writer},
    },
    *,
};
use crate::ports::objects::Upload;
use std::{
    io::{Cursor, Write},
    panic::catch_unwind,
};

/// Objects in memory.
#[derive(Default, Clone)]
struct Shelf(BTreeMap<String, Vec<u8>>);

impl Objects for Shelf {
    fn place(&self) -> String {
        "shelf".to_owned()
    }
    fn beneath(&self, _: &str) -> Arc<dyn Objects> {
        Arc::new(Self::default())
    }
    fn put_new(&self, _: &str) -> ports::Result<Box<dyn Upload>> {
        Err(ports::Error::Unavailable("read only".to_owned()))
    }
    fn get(&self, name: &str, from: u64) -> ports::Result<Option<Box<dyn Read + Send>>> {
        let bytes = self.0.get(name).map(|bytes| bytes[(from as usize).min(bytes.len())..].to_vec());
        Ok(bytes.map(|bytes| -> Box<dyn Read + Send> { Box::new(Cursor::new(bytes)) }))
    }
    fn list(&self) -> ports::Result<Vec<Object>> {
        Ok(self.0.iter().map(|(name, bytes)| Object { name: name.clone(), bytes: bytes.len() as u64 }).collect())
    }
    fn size(&self, name: &str) -> ports::Result<Option<u64>> {
        Ok(self.0.get(name).map(|bytes| bytes.len() as u64))
    }
    fn delete(&self, _: &str) -> ports::Result<bool> {
        Ok(false)
    }
}

impl Shelf {
    fn of(instance: &Instance) -> Self {
        let files = std::fs::read_dir(instance.place.path()).unwrap().map(|entry| entry.unwrap());
        Self(files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect())
    }
}

/// A store of this many commits, and what it showed after each; they end with it.
async fn grown(commits: usize) -> (Embedded, Vec<Arc<dyn Snapshot>>) {
    let store = engine();
    let put = |collection: &str, id: String, document| Operation {
        collection: collection.to_owned(),
        id,
        expect: Expect::Any,
        change: Change::Put(document),
    };
    let define = put(COLLECTIONS, "c".to_owned(), raw(doc! {"indexes": ["n"]}));
    store.commit(batch(vec![define])).await.unwrap();
    let mut snapshots = Vec::new();
    for n in 0..commits {
        let noise = crate::base::random::array::<400>().map(|byte| format!("{byte:02x}")).concat();
        let document = raw(doc! {"n": n as i32, "noise": noise});
        store.commit(batch(vec![put("c", (n % 7).to_string(), document)])).await.unwrap();
        snapshots.push(store.snapshot().await.unwrap());
    }
    (store, snapshots)
}

/// Full backups of 10 and 30 changes, segments to 20, 30 and 40: the names of all five.
async fn five(instance: &Instance) -> [String; 5] {
    let (_store, snapshots) = grown(40).await;
    // The first change defined the collection.
    let at = |changes: usize| &*snapshots[changes - 2];
    let make = |changes: usize, span: Span| {
        let request = Request {
            stamp: &instance.stamp,
            keyring: &instance.keyring,
            recipients: &instance.recipients,
            now: Timestamp(1_764_000_000_000 + changes as i64 * 1000 + i64::from(span != Span::Full)),
            span,
            previous: newest(&instance.folder, &instance.stamp.id, Trust::Anyone, (None, Timestamp(i64::MAX)))
                .unwrap()
                .map_or([0; 32], |(_, manifest)| manifest.hash()),
            configuration: None,
        };
        create(&request, at(changes), &instance.folder, &mut |_| Ok(())).unwrap().name
    };
    let since = |after| Span::Segment { after: Sequence(after) };
    [make(10, Span::Full), make(20, since(10)), make(30, Span::Full), make(30, since(20)), make(40, since(30))]
}

fn begun(instance: &Instance, shelf: &Shelf, wanted: &Wanted) -> Result<Plan> {
    let signers = signers(&instance.keyring);
    let (identity, trust) = (&instance.identity, Trust::Signers(&signers));
    let asked = Asked { wanted, identity, trust, environment: Environment::Staging, instance: None, anchor: None };
    let restore = Restore::begin(shelf, asked, &mut |_| Ok(()))?;
    // Whatever was chosen holds together.
    let mut last = 0;
    restore.load(&[], &mut |_| Ok(()), &mut |progress| {
        last = progress.done;
        Ok(())
    })?;
    assert!(last > 0);
    Ok(restore.plan().clone())
}

fn keys(faults: &[Fault]) -> Vec<&'static str> {
    faults.iter().map(|fault| fault.key).collect()
}

#[tokio::test]
async fn what_is_no_good_is_set_aside_and_said() {
    let instance = instance(Environment::Staging);
    let [full, first, second_full, second, third] = five(&instance).await;
    let sound = Shelf::of(&instance);
    let latest = |shelf: &Shelf| begun(&instance, shelf, &Wanted::Latest);
    let plan = latest(&sound).unwrap();
    assert_eq!((plan.full.name.as_str(), plan.point.sequence), (second_full.as_str(), Sequence(40)));
    assert_eq!((keys(&plan.notes), plan.older, plan.beyond), (vec![], None, None));

    // The newest full one flipped, cut, gone: the older one with more segments leads as far.
    let mut flipped = sound.clone();
    let bytes = flipped.0.get_mut(&second_full).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut cut = sound.clone();
    cut.0.get_mut(&second_full).unwrap().truncate(middle);
    for shelf in [flipped, cut] {
        let plan = latest(&shelf).unwrap();
        assert_eq!(
            (plan.full.name.as_str(), plan.segments.len(), plan.point.sequence),
            (full.as_str(), 3, Sequence(40))
        );
        assert_eq!(keys(&plan.notes)[..1], ["backups.set_aside"]);
        assert_eq!((plan.older, plan.beyond), (None, None), "nothing was lost");
    }
    let mut gone = sound.clone();
    gone.0.remove(&second_full);
    assert_eq!(latest(&gone).unwrap().point.sequence, Sequence(40));

    // The newest segment no good: what comes back is older than what is listed, which has to be accepted.
    for damage in 0..3 {
        let mut shelf = sound.clone();
        let bytes = shelf.0.get_mut(&third).unwrap();
        match damage {
            0 => bytes.truncate(bytes.len() - 1),
            1 => bytes.push(0),
            _ => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            }
        }
        let plan = latest(&shelf).unwrap();
        assert_eq!(plan.point.sequence, Sequence(30));
        assert_eq!(plan.older.map(|fault| fault.key), Some("backups.older"));
        let exact = begun(&instance, &shelf, &Wanted::Sequence(Sequence(35)));
        assert!(matches!(exact, Err(Error::Damaged(_))), "{exact:?}");
    }
    // Its header unreadable: who looks at its name knows that it is newer.
    let mut shelf = sound.clone();
    shelf.0.get_mut(&third).unwrap()[3] ^= 1;
    assert_eq!(latest(&shelf).unwrap().older.map(|fault| fault.key), Some("backups.newer_unreadable"));

    // A segment between gone: from the full one before it there is no way past.
    let mut hole = sound.clone();
    hole.0.remove(&second);
    assert_eq!(begun(&instance, &hole, &Wanted::Sequence(Sequence(40))).unwrap().full.name, second_full);
    let between = begun(&instance, &hole, &Wanted::Sequence(Sequence(25)));
    assert_eq!(fault(between.unwrap_err()).key, "backups.unreached");
    hole.0.remove(&second_full);
    let plan = latest(&hole).unwrap();
    assert_eq!((plan.point.sequence, plan.older.is_some()), (Sequence(20), true));
    let nothing = Shelf(BTreeMap::from([(first.clone(), sound.0[&first].clone())]));
    assert_eq!(fault(latest(&nothing).unwrap_err()).key, "backups.no_full");
}

#[tokio::test]
async fn files_under_other_names_say_what_they_are() {
    let instance = instance(Environment::Staging);
    let [full, first, second_full, _, third] = five(&instance).await;
    let sound = Shelf::of(&instance);
    // Exchanged: the headers count.
    let mut exchanged = sound.clone();
    exchanged.0.insert(full.clone(), sound.0[&second_full].clone());
    exchanged.0.insert(second_full.clone(), sound.0[&full].clone());
    exchanged.0.insert(first.clone(), sound.0[&third].clone());
    exchanged.0.insert(third.clone(), sound.0[&first].clone());
    let plan = begun(&instance, &exchanged, &Wanted::Latest).unwrap();
    assert_eq!((plan.full.name.as_str(), plan.point.sequence), (full.as_str(), Sequence(40)));
    assert!(keys(&plan.notes).contains(&"backups.renamed"));
    // Replayed: an old one under a newer name does not pass for new.
    let mut replayed = sound.clone();
    replayed.0.insert("29991231T000000Z-full-0198.backup".to_owned(), sound.0[&full].clone());
    let plan = begun(&instance, &replayed, &Wanted::Latest).unwrap();
    assert_eq!((plan.full.name.as_str(), plan.point.sequence), (second_full.as_str(), Sequence(40)));
    // The header of one on the body of another.
    let mut spliced = sound.clone();
    let (head, body) = (&sound.0[&third], &sound.0[&first]);
    let length = u32::from_be_bytes(head[20..24].try_into().unwrap()) as usize;
    spliced.0.insert(third.clone(), [&head[..length], &body[length..]].concat());
    assert_eq!(begun(&instance, &spliced, &Wanted::Latest).unwrap().point.sequence, Sequence(30));
}

#[tokio::test]
async fn segments_of_others_are_not_taken() {
    let mut instance = instance(Environment::Staging);
    let [full, first, ..] = five(&instance).await;
    let mut own = Shelf(BTreeMap::new());
    let sound = Shelf::of(&instance);
    own.0.insert(full.clone(), sound.0[&full].clone());

    // Another instance's, whatever its name: who did not sign stands for nobody.
    let other = super::instance(Environment::Staging);
    let theirs = five(&other).await;
    let mut mixed = own.clone();
    mixed.0.insert(first.clone(), Shelf::of(&other).0[&theirs[1]].clone());
    assert_eq!(begun(&instance, &mixed, &Wanted::Latest).unwrap().point.sequence, Sequence(10));

    // A forged one: our names, our recipients, another key.
    let mut forger = super::instance(Environment::Staging);
    (forger.stamp, forger.recipients) = (instance.stamp.clone(), instance.recipients.clone());
    let forged = five(&forger).await;
    let mut shelf = own.clone();
    shelf.0.insert(forged[1].clone(), Shelf::of(&forger).0[&forged[1]].clone());
    let plan = begun(&instance, &shelf, &Wanted::Latest).unwrap();
    assert_eq!((plan.point.sequence, keys(&plan.notes)), (Sequence(10), vec!["backups.set_aside"]));
    assert!(plan.older.is_some(), "something newer is listed");
    let told = plan.notes[0].to_string();
    assert!(told.contains("signed by"), "{told}");
    let wanted = Wanted::Backup(forged[1].clone());
    assert!(begun(&instance, &shelf, &wanted).is_err());

    // Another lineage's do not go on from it; the same number told twice would, and is found out when its changes are
    // made.
    instance.stamp.lineage = 2;
    let later = five(&instance).await;
    let both = Shelf::of(&instance);
    let mut shelf = own.clone();
    shelf.0.insert(later[1].clone(), both.0[&later[1]].clone());
    let plan = begun(&instance, &shelf, &Wanted::Latest).unwrap();
    assert_eq!((plan.point.lineage, plan.point.sequence, plan.older.is_some()), (1, Sequence(10), true));
    instance.stamp.lineage = 1;
    let twin = five(&instance).await;
    shelf.0.remove(&later[1]);
    shelf.0.insert(twin[1].clone(), Shelf::of(&instance).0[&twin[1]].clone());
    let signers = signers(&instance.keyring);
    let (identity, trust) = (&instance.identity, Trust::Signers(&signers));
    let (wanted, environment) = (Wanted::Latest, Environment::Staging);
    let asked = Asked { wanted: &wanted, identity, trust, environment, instance: None, anchor: None };
    let restore = Restore::begin(&shelf, asked, &mut |_| Ok(())).unwrap();
    let (store, mut parts) = (engine(), Vec::new());
    let mut put = |part| {
        parts.push(part);
        Ok(())
    };
    restore.load(&[], &mut put, &mut |_| Ok(())).unwrap();
    let mut refused = None;
    for part in parts {
        let part = match part {
            Load::Records(records) => Load::Records(whole(records, &*store.snapshot().await.unwrap()).unwrap()),
            part => part,
        };
        if let Err(error) = store.load(part).await {
            refused = Some(error);
            break;
        }
    }
    assert!(
        matches!(&refused, Some(ports::Error::Rejected(fault)) if fault.key == "documents.load_change"),
        "{refused:?}"
    );
}

/// Nothing older passes for the newest a living instance tells of, nor another of the same name.
#[tokio::test]
async fn an_anchor_is_held_to() {
    let instance = instance(Environment::Staging);
    let [.., second, third] = five(&instance).await;
    let mut shelf = Shelf::of(&instance);
    let of = |name: &str| {
        let trust = Trust::Anyone;
        let Verified { header, manifest } = verify(&instance.folder, name, trust).unwrap();
        let (backup, manifest) = (header.id(), hex::encode(manifest.hash()));
        Anchor { instance: instance.stamp.id.clone(), backup, sequence: header.upto, manifest }
    };
    let begin = |shelf: &Shelf, wanted: &Wanted, anchor: &Anchor| {
        let signers = signers(&instance.keyring);
        let (identity, trust, environment) = (&instance.identity, Trust::Signers(&signers), Environment::Staging);
        let asked = Asked { wanted, identity, trust, environment, instance: None, anchor: Some(anchor) };
        Restore::begin(shelf, asked, &mut |_| Ok(())).map(|restore| restore.plan().older.clone().map(|fault| fault.key))
    };
    let anchor = of(&third);
    assert_eq!(begin(&shelf, &Wanted::Latest, &anchor).unwrap(), None);
    let earlier = Wanted::Sequence(Sequence(35));
    assert_eq!(begin(&shelf, &earlier, &anchor).unwrap(), Some("backups.older_anchored"));
    assert_eq!(begin(&shelf, &earlier, &of(&second)).unwrap(), None);
    let another = Anchor { manifest: "00".repeat(32), ..anchor.clone() };
    assert_eq!(fault(begin(&shelf, &Wanted::Latest, &another).unwrap_err()).key, "backups.anchor");
    // Hidden from the listing, it is still known.
    shelf.0.remove(&third);
    assert_eq!(begin(&shelf, &Wanted::Latest, &anchor).unwrap(), Some("backups.older_anchored"));
    let elsewhere = Anchor { instance: "another".to_owned(), ..anchor };
    assert_eq!(begin(&shelf, &Wanted::Latest, &elsewhere).unwrap(), None);
}

/// Two frames of a body in each other's place.
#[test]
fn frames_in_another_order_are_noticed() {
    let instance = instance(Environment::Staging);
    let mut memory = memory(5);
    let noise = Bson::Binary(bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes: crate::base::random::array::<300_000>().to_vec(),
    });
    memory.collections.insert("noise".to_owned(), vec![raw(doc! {"_id": "a", "noise": noise})]);
    let made = instance.back_up(&memory, 0).unwrap();
    let bytes = std::fs::read(instance.place.path().join(&made.name)).unwrap();
    let header = u32::from_be_bytes(bytes[20..24].try_into().unwrap()) as usize;
    let slots = 4 + u32::from_be_bytes(bytes[header..header + 4].try_into().unwrap()) as usize;
    let (body, frame) = (header + slots, 4 + 65_552);
    let mut exchanged = bytes.clone();
    let (first, second) = exchanged[body..body + 2 * frame].split_at_mut(frame);
    first.swap_with_slice(second);
    assert_ne!(bytes, exchanged);
    let shelf = Shelf(BTreeMap::from([(made.name, exchanged)]));
    assert!(matches!(begun(&instance, &shelf, &Wanted::Latest), Err(Error::Damaged(_))));
}

/// Reads a file in every way there is; what of it is believed.
fn believed(bytes: &[u8], identity: &Identity, trust: Trust<'_>) -> (bool, bool) {
    let checked = Backup::open(bytes).and_then(|backup| backup.check(trust)).is_ok();
    let opened = Backup::open(bytes).and_then(|backup| backup.unseal(identity));
    let read = opened.and_then(|content| Contents::new(content).finish(trust)).is_ok();
    (checked, read)
}

/// Ten thousand single bits, anywhere in a full backup and a segment: not one is overlooked, none ends the program.
#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    const FLIPS: usize = 10_000;
    let instance = instance(Environment::Staging);
    let [full, first, ..] = five(&instance).await;
    let shelf = Shelf::of(&instance);
    let signers = signers(&instance.keyring);
    let trust = Trust::Signers(&signers);
    let mut seed = u64::from_le_bytes(crate::base::random::array());
    let mut random = |below: usize| {
        // Xorshift: the seed tells all of it.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for name in [&full, &first] {
        let mut bytes = shelf.0[name].clone();
        assert_eq!(believed(&bytes, &instance.identity, trust), (true, true));
        for _ in 0..FLIPS / 2 {
            let (place, bit) = (random(bytes.len()), 1 << random(8));
            bytes[place] ^= bit;
            let found = catch_unwind(|| believed(&bytes, &instance.identity, trust));
            assert_eq!(found.ok(), Some((false, false)), "byte {place}, bit {bit:#x} of {name}");
            bytes[place] ^= bit;
        }
    }
    // And by the whole way of a restore.
    for _ in 0..100 {
        let mut shelf = shelf.clone();
        let name = [&full, &first][random(2)];
        let bytes = shelf.0.get_mut(name).unwrap();
        let place = random(bytes.len());
        bytes[place] ^= 1 << random(8);
        let Ok(plan) = begun(&instance, &shelf, &Wanted::Sequence(Sequence(20))) else { continue };
        panic!("byte {place} of {name}: {plan:?}");
    }
}

/// A file that is sealed and signed as it should be, and nonsense inside: refused, with a reason.
#[test]
fn nonsense_inside_is_refused() {
    let instance = instance(Environment::Staging);
    let sound = instance.back_up(&memory(1), 0).unwrap();
    let meta = lines::Meta::new(&instance.stamp, sound.header.id(), sound.header.created, sound.header.upto);
    let meta = String::from_utf8(meta.text().unwrap()).unwrap();
    let document = r#"{"type":"document","document":{"_id":"a"}}"#;
    let collection = r#"{"type":"collection","name":"c","documents":{"$numberLong":"1"}}"#;
    for lines in [
        vec![],
        vec![document],
        vec![&*meta, document],
        vec![&*meta, collection],
        vec![&*meta, collection, document, document],
        vec![&*meta, &*meta],
        vec![&*meta, collection, document, r#"{"type":"configuration","text":"late"}"#],
        vec![&*meta, "{"],
        vec![&*meta, r#"{"type":"later"}"#],
    ] {
        let key = FileKey::random();
        let mut writer = Writer::start(Vec::new(), sound.header.clone(), &key, &instance.recipients).unwrap();
        lines.iter().for_each(|line| writer.line(line.as_bytes()).unwrap());
        let signing = instance.signing();
        let documents = lines.iter().filter(|line| **line == document).count() as u64;
        let mut bytes = writer.finish(documents, 0, &signing).unwrap().0;
        bytes.flush().unwrap();
        let shelf = Shelf(BTreeMap::from([(sound.name.clone(), bytes)]));
        let begun = begun(&instance, &shelf, &Wanted::Latest);
        assert!(matches!(begun, Err(Error::Damaged(_) | Error::Refused(_))), "{lines:?}: {begun:?}");
    }
}

/// What a record leaves to its document must be there, and in a segment there are no documents.
#[test]
fn an_image_left_to_a_document_that_is_not_there_is_noticed() {
    let instance = instance(Environment::Staging);
    let stands = memory(2);
    let told = Record { after: None, ..stands.records[0].clone() };
    let left = vec![told.clone(), stands.records[1].clone()];
    assert_eq!(whole(left, &stands).unwrap(), stands.records);
    for wrong in [Record { revision: 6, ..told.clone() }, Record { id: "00000009".to_owned(), ..told.clone() }] {
        let refused = whole(vec![wrong], &stands).unwrap_err();
        assert!(matches!(&refused, ports::Error::Rejected(fault) if fault.key == "backups.image"), "{refused}");
    }

    // What was left out weighs: no part is much larger than others are.
    let large = raw(doc! {"_id": "large", "_rev": 7_i64, "text": "a".repeat(6_000_000)});
    let large = Memory { collections: BTreeMap::from([("places".to_owned(), vec![large])]), ..Memory::default() };
    let (left, mut sizes) = (Record { id: "large".to_owned(), ..told.clone() }, Vec::new());
    let mut put = |part: Vec<Record>| {
        sizes.push(part.len());
        Ok(())
    };
    with_images(vec![left; 7], &large, &mut put).unwrap();
    assert_eq!(sizes, [3, 3, 1]);

    let sound = instance.back_up(&stands, 0).unwrap();
    let header = Header { kind: Kind::Segment, after: Sequence(1), ..sound.header };
    let meta = lines::Meta::new(&instance.stamp, header.id(), header.created, header.upto);
    let key = FileKey::random();
    let mut writer = Writer::start(Vec::new(), header, &key, &instance.recipients).unwrap();
    writer.line(&meta.text().unwrap()).unwrap();
    writer.line(&lines::record(&told).unwrap()).unwrap();
    let signing = instance.signing();
    let bytes = writer.finish(0, 1, &signing).unwrap().0;
    let mut contents = Contents::new(Backup::open(&*bytes).unwrap().unseal_with(&key).unwrap());
    assert!(matches!(contents.next().unwrap(), Some(lines::Line::Meta(_))));
    assert_eq!(fault(contents.next().err().unwrap()).key, "backups.line_kind");
}

/// A segment holds every change it says it holds, and names the backup it goes on from.
#[test]
fn a_segment_that_lacks_a_change_is_set_aside_and_a_strange_predecessor_is_said() {
    let instance = instance(Environment::Staging);
    let full = instance.back_up(&memory(2), 0).unwrap();
    let record = memory(1).records.remove(0);
    let plan = |sequences: &[u64], previous: [u8; 32]| {
        let (kind, backup, after, upto) = (Kind::Segment, [7; 16], Sequence(5), Sequence(7));
        let header = Header { kind, backup, after, upto, previous, ..full.header.clone() };
        let name = super::super::create::name(&header);
        let meta = lines::Meta::new(&instance.stamp, header.id(), header.created, header.upto);
        let mut writer = Writer::start(Vec::new(), header, &FileKey::random(), &instance.recipients).unwrap();
        writer.line(&meta.text().unwrap()).unwrap();
        for sequence in sequences.iter().copied().map(Sequence) {
            let record = Record { sequence, transaction: sequence, ..record.clone() };
            writer.line(&lines::record(&record).unwrap()).unwrap();
        }
        let signing = instance.signing();
        let mut shelf = Shelf::of(&instance);
        shelf.0.insert(name, writer.finish(0, sequences.len() as u64, &signing).unwrap().0);
        let plan = begun(&instance, &shelf, &Wanted::Latest).unwrap();
        (plan.point.sequence.0, plan.notes.iter().map(|note| note.key).collect::<Vec<_>>())
    };
    let previous = full.manifest.hash();
    assert_eq!(plan(&[6, 7], previous), (7, vec![]));
    for lacking in [&[6][..], &[7], &[], &[6, 8]] {
        assert_eq!(plan(lacking, previous), (5, vec!["backups.set_aside"]), "{lacking:?}");
    }
    assert_eq!(plan(&[6, 7], [9; 32]), (7, vec!["backups.predecessor"]));
}
