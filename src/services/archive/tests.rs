//! Archives written and read, interleaved and damaged; what metadata says and cannot say.

use super::*;
use bson::{RawDocumentBuf, rawdoc};

fn namespace(collection: &str) -> Namespace {
    Namespace { database: "d".to_owned(), collection: collection.to_owned() }
}

fn collection(name: &str) -> Collection {
    let metadata = Metadata::default().write(name);
    Collection { namespace: namespace(name), kind: "collection".to_owned(), metadata }
}

fn documents(count: i32) -> Vec<RawDocumentBuf> {
    (0..count).map(|n| rawdoc! { "_id": n, "text": "é".repeat(n as usize % 50) }).collect()
}

/// A document's collection, its number and its bytes.
type Found = (String, u64, Vec<u8>);

/// Every document, and the error it ends with.
fn read(bytes: &[u8]) -> (Vec<Found>, Option<Fault>) {
    let mut found = Vec::new();
    let mut all = || {
        let mut reader = Reader::open(bytes)?;
        while let Some(part) = reader.part()? {
            if let Part::Document { namespace, document } = part {
                found.push((namespace.to_string(), document.number, document.bytes.to_vec()));
            }
        }
        Ok(())
    };
    let fault = match all() {
        Ok(()) => None,
        Err(Error::Damaged(fault) | Error::Invalid(fault) | Error::Refused(fault)) => Some(fault),
        Err(other) => panic!("{other}"),
    };
    (found, fault)
}

fn sample() -> Vec<u8> {
    let mut writer = Writer::start(Vec::new(), &[collection("a"), collection("empty"), collection("b")]).unwrap();
    for (name, count) in [("a", 100), ("empty", 0), ("b", 3)] {
        writer.begin(&namespace(name)).unwrap();
        documents(count).iter().for_each(|document| writer.document(document.as_bytes()).unwrap());
    }
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let (found, fault) = read(&sample());
    assert_eq!(fault, None);
    let wanted = documents(100).into_iter().map(|document| ("d.a", document));
    let wanted: Vec<_> = wanted.chain(documents(3).into_iter().map(|document| ("d.b", document))).collect();
    assert_eq!(found.len(), wanted.len());
    for ((name, _, bytes), (wanted_name, wanted)) in found.iter().zip(&wanted) {
        assert_eq!((name.as_str(), bytes.as_slice()), (*wanted_name, wanted.as_bytes()));
    }
    assert_eq!(found.last().unwrap().1, 3, "numbered within its collection");
    assert_eq!(Reader::open(&*sample()).unwrap().collections()[1].namespace, namespace("empty"));
}

/// As two threads of mongodump leave it; Go's checksum of "a" in bytes is known from elsewhere.
#[test]
fn blocks_of_several_collections_may_alternate() {
    assert_eq!(CRC.checksum(b"123456789"), 0x995d_c9bb_df19_39fa, "as Go's crc64.ECMA has it");
    let mut bytes = Writer::start(Vec::new(), &[collection("a"), collection("b")]).unwrap().finish().unwrap();
    let header = |name: &str, end: bool, checksum: u64| {
        let header = rawdoc! { "db": "d", "collection": name, "EOF": end, "CRC": checksum.cast_signed() };
        header.into_bytes()
    };
    let rows = documents(4);
    let mut sums = [CRC.digest(), CRC.digest()];
    for (turn, row) in rows.iter().enumerate() {
        bytes.extend(header(["a", "b"][turn % 2], false, 0));
        bytes.extend(row.as_bytes());
        bytes.extend(TERMINATOR);
        sums[turn % 2].update(row.as_bytes());
    }
    let [a, b] = sums.map(crc::Digest::<u64>::finalize);
    let end = |bytes: &mut Vec<u8>, name, sum| {
        bytes.extend(header(name, true, sum));
        bytes.extend(TERMINATOR);
    };
    let mut wrong = bytes.clone();
    end(&mut bytes, "b", b);
    end(&mut bytes, "a", a);
    let (found, fault) = read(&bytes);
    assert_eq!((found.len(), fault), (4, None));
    assert_eq!(
        found.iter().map(|(name, number, _)| (name.as_str(), *number)).collect::<Vec<_>>(),
        [("d.a", 1), ("d.b", 1), ("d.a", 2), ("d.b", 2)]
    );
    end(&mut wrong, "b", a);
    assert_eq!(read(&wrong).1.unwrap().key, "archive.checksum");
    // One that ended goes on, or never came.
    let mut again = bytes.clone();
    again.extend(header("a", false, 0));
    assert_eq!(read(&again).1.unwrap().key, "archive.block");
    let only = Writer::start(Vec::new(), &[collection("a")]).unwrap().finish().unwrap();
    assert_eq!(read(&only).1.unwrap().key, "archive.unfinished");
    let view = Collection { kind: "view".to_owned(), ..collection("v") };
    assert_eq!(read(&Writer::start(Vec::new(), &[view]).unwrap().finish().unwrap()).1, None);
}

#[test]
fn damage_is_found_wherever_it_is() {
    let sound = sample();
    for length in 0..sound.len() {
        let (found, fault) = read(&sound[..length]);
        let fault = fault.unwrap_or_else(|| panic!("cut at {length} and not noticed"));
        assert!(found.len() <= 103 && !fault.params.is_empty() || fault.key == "archive.foreign", "{fault}");
    }
    // A bit in documents shows by the checksum, at the latest.
    let start = sound.len() - sample_end();
    let (whole, mut seen) = (read(&sound).0, 0);
    for place in (start..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        let (found, fault) = read(&bytes);
        // Where it says nothing, nothing of what is read has changed.
        assert!(fault.is_some() || found == whole, "flip at {place}");
        seen += usize::from(fault.is_some());
    }
    assert!(seen > (sound.len() - start) / 7 * 9 / 10, "{seen}");
    assert_eq!(read(b"BSON? No.").1.unwrap().key, "archive.foreign");
    let mut later = sound.clone();
    let at = later.windows(3).position(|bytes| bytes == b"0.1").unwrap();
    later[at + 2] = b'2';
    assert_eq!(read(&later).1.unwrap().key, "archive.version");
}

/// Bytes from the first block on.
fn sample_end() -> usize {
    let start = Writer::start(Vec::new(), &[collection("a"), collection("empty"), collection("b")]).unwrap();
    sample().len() - start.finish().unwrap().len()
}

#[test]
fn a_bson_file_is_documents_alone() {
    let bytes: Vec<u8> = documents(5).iter().flat_map(|document| document.as_bytes().to_vec()).collect();
    let count = |bytes: &[u8]| {
        let mut documents = Documents::new(bytes);
        let mut last = 0;
        loop {
            match documents.document() {
                Ok(Some(document)) => last = document.number,
                Ok(None) => return Ok(last),
                Err(Error::Damaged(fault)) => return Err((last, fault.key)),
                Err(other) => panic!("{other}"),
            }
        }
    };
    assert_eq!(count(&bytes), Ok(5));
    assert_eq!(count(&bytes[..bytes.len() - 1]), Err((4, "archive.cut")));
    assert_eq!(count(&sample()), Err((0, "archive.length")));
}

#[test]
fn indexes_come_as_far_as_they_can_be_said() {
    let text = r#"{"options": {"capped": true, "size": {"$numberInt": "5"}, "validator": false}, "indexes": [
        {"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"},
        {"v": 2, "key": {"a.b": {"$numberDouble": "-1.0"}, "c": 1}, "name": "ab", "unique": true, "ns": "d.a"},
        {"v": 2, "key": {"s": {"$numberLong": "1"}}, "name": "s", "sparse": true, "background": true},
        {"v": 2, "key": {"t": 1}, "name": "ttl", "expireAfterSeconds": {"$numberInt": "0"}},
        {"v": 2, "key": {"_fts": "text", "_ftsx": 1}, "name": "words"},
        {"v": 2, "key": {"$**": 1}, "name": "wild"},
        {"v": 2, "key": {"u": 1}, "name": "us", "unique": true, "sparse": true}
    ], "uuid": "00", "collectionName": "a", "type": "collection"}"#;
    let metadata = Metadata::read(text).unwrap();
    let keys = |keys: &[(&str, i64)]| keys.iter().map(|(path, way)| ((*path).to_owned(), *way)).collect::<Vec<_>>();
    let index = |name: &str, of: &[(&str, i64)], unique| Index { name: name.to_owned(), keys: keys(of), unique };
    assert_eq!(metadata.indexes, [index("ab", &[("a.b", -1), ("c", 1)], true), index("s", &[("s", 1)], false)]);
    let beyond: Vec<_> = metadata
        .beyond
        .iter()
        .map(|beyond| match beyond {
            Beyond::Option(name) => name.clone(),
            Beyond::Index { name, because } => format!("{name} ({because})"),
        })
        .collect();
    let wanted = ["capped", "size", "ttl (expireAfterSeconds)", "words (_fts: text)", "wild ($**: ?)", "us (sparse)"];
    assert_eq!(beyond, wanted);
    let again = Metadata::read(&metadata.write("a")).unwrap();
    assert_eq!((again.indexes, again.beyond), (metadata.indexes, Vec::new()));
    assert_eq!(Metadata::read(""), Some(Metadata::default()));
    assert_eq!(Metadata::read("{"), None);
}
