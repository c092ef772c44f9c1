//! The lines inside a backup: canonical Extended JSON, each with its `type`.
//!
//! An image that would not come back byte for byte from its text (a field named like a type, a NaN with a payload)
//! stands as `{"$binary": …}` of its BSON instead.

use crate::{
    base::{clock::Timestamp, environment::Environment, fault::Fault, release},
    domain::json::{self, Limits},
    ports::documents::{Action, Origin, Record, Sequence},
    services::{
        Error, Result,
        instance::Stamp,
        keyring::{Key, Purpose},
    },
};
use bson::{RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, raw::cstr, spec::BinarySubtype};
use zeroize::Zeroizing;

/// Documents are nested at most 100 deep, and one more within a line; those that are deeper travel as BSON.
const LIMITS: Limits = Limits { nesting: 110 };
const NESTING: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub backup: String,
    pub instance: String,
    pub environment: Environment,
    pub lineage: u32,
    pub instance_created: Timestamp,
    pub created: Timestamp,
    pub sequence: Sequence,
    /// Of the program that wrote it.
    pub release: String,
}

/// One line, read.
pub enum Line {
    Meta(Meta),
    Key(Key),
    /// The configuration file's text.
    Configuration(String),
    /// The documents that follow belong to it.
    Collection {
        name: String,
        documents: u64,
    },
    Document(RawDocumentBuf),
    Record(Record),
}

impl Meta {
    pub fn new(stamp: &Stamp, backup: String, created: Timestamp, sequence: Sequence) -> Self {
        Self {
            backup,
            instance: stamp.id.clone(),
            environment: stamp.environment,
            lineage: stamp.lineage,
            instance_created: stamp.created_at,
            created,
            sequence,
            release: release::version().to_owned(),
        }
    }

    pub fn text(&self) -> Result<Vec<u8>> {
        let mut line = started("meta");
        line.append(cstr!("backup"), self.backup.as_str());
        line.append(cstr!("instance"), self.instance.as_str());
        line.append(cstr!("environment"), self.environment.name());
        line.append(cstr!("lineage"), i64::from(self.lineage));
        line.append(cstr!("instanceCreated"), date(self.instance_created));
        line.append(cstr!("created"), date(self.created));
        line.append(cstr!("sequence"), number(self.sequence.0)?);
        line.append(cstr!("release"), self.release.as_str());
        text(&line)
    }
}

/// The text holds the key itself: wipe it.
pub fn key(key: &Key) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = started("key");
    line.append(cstr!("purpose"), key.purpose.name());
    line.append(cstr!("version"), i64::from(key.version));
    line.append(cstr!("createdAt"), date(key.created_at));
    line.append(cstr!("public"), binary(&key.public));
    line.append(cstr!("material"), binary(&key.material));
    let text = text(&line).map(Zeroizing::new);
    drop(Zeroizing::new(line.into_bytes()));
    text
}

pub fn configuration(content: &str) -> Result<Vec<u8>> {
    let mut line = started("configuration");
    line.append(cstr!("text"), content);
    text(&line)
}

pub fn collection(name: &str, documents: u64) -> Result<Vec<u8>> {
    let mut line = started("collection");
    line.append(cstr!("name"), name);
    line.append(cstr!("documents"), number(documents)?);
    text(&line)
}

pub fn document(document: &RawDocument) -> Result<Vec<u8>> {
    let mut line = Vec::with_capacity(2 * document.as_bytes().len() + 64);
    line.extend_from_slice(br#"{"type":"document","document":"#);
    image(document, &mut line)?;
    line.push(b'}');
    Ok(line)
}

pub fn record(record: &Record) -> Result<Vec<u8>> {
    let mut head = started("journal");
    head.append(cstr!("sequence"), number(record.sequence.0)?);
    head.append(cstr!("time"), date(record.time));
    head.append(cstr!("transaction"), number(record.transaction.0)?);
    head.append(cstr!("position"), i64::from(record.position));
    head.append(cstr!("collection"), record.collection.as_str());
    head.append(cstr!("id"), record.id.as_str());
    head.append(
        cstr!("action"),
        match record.action {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        },
    );
    head.append(cstr!("revision"), record.revision);
    let mut tail = RawDocumentBuf::new();
    tail.append(cstr!("actor"), record.origin.actor.as_str());
    tail.append(cstr!("request"), record.origin.request.as_str());
    tail.append(cstr!("trace"), record.origin.trace.as_str());
    if !record.origin.grounds.is_empty() {
        tail.append(cstr!("grounds"), record.origin.grounds.as_str());
    }
    // The images are written where they are: they are nearly all there is.
    let mut line = text(&head)?;
    for (name, document) in [("before", &record.before), ("after", &record.after)] {
        if let Some(document) = document {
            line.pop();
            line.extend_from_slice(format!(",\"{name}\":").as_bytes());
            image(document, &mut line)?;
            line.push(b'}');
        }
    }
    line.pop();
    line.push(b',');
    line.extend_from_slice(text(&tail)?.get(1..).unwrap_or_default());
    Ok(line)
}

/// An image as text; as BSON in base64 where it would not come back from that as it is.
fn image(document: &RawDocument, line: &mut Vec<u8>) -> Result<()> {
    let begun = line.len();
    let written = json::write_canonical(document, line);
    // Nearly all are plain; else reading it back, as within a line, says.
    let comes_back = |text: &[u8]| {
        let line = json::parse(&[br#"{"image":"#, text, b"}"].concat(), LIMITS);
        line.is_ok_and(|line| line.get_document("image").is_ok_and(|back| back == document))
    };
    if written.is_ok() && (json::is_plain(document, NESTING) || comes_back(line.get(begun..).unwrap_or_default())) {
        return Ok(());
    }
    line.truncate(begun);
    json::write_value_canonical(binary(document.as_bytes()), line).map_err(|fault| Error::Internal(Box::new(fault)))
}

fn started(kind: &str) -> RawDocumentBuf {
    let mut line = RawDocumentBuf::new();
    line.append(cstr!("type"), kind);
    line
}

fn date(at: Timestamp) -> bson::DateTime {
    bson::DateTime::from_millis(at.0)
}

fn number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|error| Error::Internal(Box::new(error)))
}

fn binary(bytes: &[u8]) -> RawBsonRef<'_> {
    RawBsonRef::Binary(RawBinaryRef { subtype: BinarySubtype::Generic, bytes })
}

fn text(line: &RawDocument) -> Result<Vec<u8>> {
    json::canonical(line).map_err(|fault| Error::Internal(Box::new(fault)))
}

/// Reads a line; `number` is its place, for the fault.
pub fn parse(bytes: &[u8], number: u64) -> Result<Line> {
    let line = json::parse(bytes, LIMITS).map_err(|error| {
        Error::Damaged(Fault::new("backups.line").with("line", number).with("why", error.into_fault()))
    })?;
    let read = kinds(&line, number);
    // What is left of it held the key itself.
    if matches!(read, Ok(Line::Key(_))) {
        drop(Zeroizing::new(line.into_bytes()));
    }
    read
}

fn kinds(line: &RawDocument, number: u64) -> Result<Line> {
    let fields = Fields::of(line, number)?;
    match fields.text("type")? {
        "meta" => Ok(Line::Meta(fields.meta()?)),
        "key" => Ok(Line::Key(fields.key()?)),
        "configuration" => Ok(Line::Configuration(fields.text("text")?.to_owned())),
        "collection" => {
            Ok(Line::Collection { name: fields.text("name")?.to_owned(), documents: fields.unsigned("documents")? })
        }
        "document" => fields.image("document")?.map(Line::Document).ok_or_else(|| fields.wrong("document")),
        "journal" => Ok(Line::Record(fields.record()?)),
        kind => {
            Err(Error::Refused(Fault::new("backups.line_kind").with("line", number).with("kind", kind.escape_debug())))
        }
    }
}

struct Fields<'a> {
    values: Vec<(&'a str, RawBsonRef<'a>)>,
    number: u64,
}

impl<'a> Fields<'a> {
    fn of(line: &'a RawDocument, number: u64) -> Result<Self> {
        let value = |element: bson::error::Result<(&'a bson::raw::CStr, RawBsonRef<'a>)>| {
            element.map(|(name, value)| (name.as_str(), value))
        };
        let values = line.iter().map(value).collect::<std::result::Result<_, _>>();
        let why = |error| Error::Damaged(Fault::new("backups.line").with("line", number).with("why", error));
        Ok(Self { values: values.map_err(why)?, number })
    }

    fn wrong(&self, name: &str) -> Error {
        Error::Damaged(Fault::new("backups.line_field").at(name).with("line", self.number))
    }

    fn get(&self, name: &str) -> Option<RawBsonRef<'a>> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Result<&'a str> {
        self.get(name).and_then(RawBsonRef::as_str).ok_or_else(|| self.wrong(name))
    }

    fn integer(&self, name: &str) -> Result<i64> {
        self.get(name).and_then(RawBsonRef::as_i64).ok_or_else(|| self.wrong(name))
    }

    fn unsigned(&self, name: &str) -> Result<u64> {
        u64::try_from(self.integer(name)?).map_err(|_| self.wrong(name))
    }

    fn small(&self, name: &str) -> Result<u32> {
        u32::try_from(self.integer(name)?).map_err(|_| self.wrong(name))
    }

    fn date(&self, name: &str) -> Result<Timestamp> {
        let date = self.get(name).and_then(RawBsonRef::as_datetime).ok_or_else(|| self.wrong(name))?;
        Ok(Timestamp(date.timestamp_millis()))
    }

    fn bytes(&self, name: &str) -> Result<&'a [u8]> {
        let binary = self.get(name).and_then(RawBsonRef::as_binary).ok_or_else(|| self.wrong(name))?;
        Ok(binary.bytes)
    }

    /// A document, plain or as the BSON it is.
    fn image(&self, name: &str) -> Result<Option<RawDocumentBuf>> {
        match self.get(name) {
            None => Ok(None),
            Some(RawBsonRef::Document(document)) => Ok(Some(document.to_owned())),
            Some(RawBsonRef::Binary(binary)) => {
                let document = RawDocumentBuf::from_bytes(binary.bytes.to_vec()).map_err(|_| self.wrong(name))?;
                // Every element must be sound, not only the outer length.
                bson::Document::try_from(&*document).map_err(|_| self.wrong(name))?;
                Ok(Some(document))
            }
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn meta(&self) -> Result<Meta> {
        Ok(Meta {
            backup: self.text("backup")?.to_owned(),
            instance: self.text("instance")?.to_owned(),
            environment: self.text("environment")?.parse().map_err(|()| self.wrong("environment"))?,
            lineage: self.small("lineage")?,
            instance_created: self.date("instanceCreated")?,
            created: self.date("created")?,
            sequence: Sequence(self.unsigned("sequence")?),
            release: self.text("release")?.to_owned(),
        })
    }

    fn key(&self) -> Result<Key> {
        Ok(Key {
            purpose: Purpose::from_name(self.text("purpose")?).ok_or_else(|| self.wrong("purpose"))?,
            version: self.small("version")?,
            created_at: self.date("createdAt")?,
            material: Zeroizing::new(self.bytes("material")?.to_vec()),
            public: self.bytes("public")?.to_vec(),
        })
    }

    fn record(&self) -> Result<Record> {
        Ok(Record {
            sequence: Sequence(self.unsigned("sequence")?),
            time: self.date("time")?,
            transaction: Sequence(self.unsigned("transaction")?),
            position: self.small("position")?,
            collection: self.text("collection")?.to_owned(),
            id: self.text("id")?.to_owned(),
            action: match self.text("action")? {
                "create" => Action::Create,
                "update" => Action::Update,
                "delete" => Action::Delete,
                _ => return Err(self.wrong("action")),
            },
            revision: self.integer("revision")?,
            before: self.image("before")?,
            after: self.image("after")?,
            origin: Origin {
                actor: self.text("actor")?.to_owned(),
                request: self.text("request")?.to_owned(),
                trace: self.text("trace")?.to_owned(),
                grounds: self.get("grounds").map_or(Ok(""), |_| self.text("grounds"))?.to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    fn back(document: &bson::Document) -> (Vec<u8>, RawDocumentBuf) {
        let raw = RawDocumentBuf::try_from(document).unwrap();
        let text = super::document(&raw).unwrap();
        let Line::Document(back) = parse(&text, 1).unwrap() else { panic!() };
        assert_eq!(back, raw, "{}", String::from_utf8_lossy(&text));
        (text, back)
    }

    #[test]
    fn images_come_back_byte_for_byte_even_where_text_could_not_say_them() {
        let (text, _) = back(&doc! {"_id": "a", "_rev": 3_i64, "n": 1, "d": 1.0});
        let plain = br#"{"type":"document","document":{"_id":"a","_rev":{"$numberLong":"3"},"n":{"$numberInt":"1"},"d":{"$numberDouble":"1.0"}}}"#;
        assert_eq!(text, plain);
        let mut deep = doc! {};
        for _ in 0..130 {
            deep = doc! {"a": deep};
        }
        for strange in [
            doc! {"x": {"$oid": "not an id"}},
            doc! {"x": {"$date": 1_i64}},
            doc! {"$binary": {"base64": "BQAAAAA=", "subType": "00"}},
            doc! {"x": {"a": 1, "$numberInt": "1"}},
            doc! {"n": f64::from_bits(0x7ff8_0000_0000_0001)},
            deep,
        ] {
            let (text, _) = back(&strange);
            assert!(text.windows(9).any(|window| window == b"\"$binary\""), "{strange}");
        }
    }

    #[test]
    fn records_come_back() {
        let image = |n: i32| Some(RawDocumentBuf::try_from(&doc! {"_id": "x", "n": n}).unwrap());
        for (action, before, after) in [
            (Action::Create, None, image(1)),
            (Action::Update, image(1), image(2)),
            (Action::Update, image(1), Some(RawDocumentBuf::try_from(&doc! {"a": {"$oid": Bson::Null}}).unwrap())),
            (Action::Delete, image(2), None),
        ] {
            let record = Record {
                sequence: Sequence(9),
                time: Timestamp(5),
                transaction: Sequence(8),
                position: 1,
                collection: "c".to_owned(),
                id: "é\"\n".to_owned(),
                action,
                revision: 2,
                before,
                after,
                origin: Origin {
                    actor: "a".to_owned(),
                    request: "r".to_owned(),
                    trace: String::new(),
                    grounds: "g@2".to_owned(),
                },
            };
            let Line::Record(back) = parse(&super::record(&record).unwrap(), 1).unwrap() else { panic!() };
            assert_eq!(back, record);
        }
    }

    #[test]
    fn foreign_lines_say_what_is_wrong() {
        let key = |text: &str| match parse(text.as_bytes(), 7) {
            Err(Error::Damaged(fault) | Error::Refused(fault)) => {
                assert!(fault.params.contains(&("line", "7".to_owned())));
                fault.key
            }
            _ => panic!("{text}"),
        };
        assert_eq!(key("{"), "backups.line");
        assert_eq!(key("{}"), "backups.line_field");
        assert_eq!(key(r#"{"type":"media"}"#), "backups.line_kind");
        assert_eq!(key(r#"{"type":"document"}"#), "backups.line_field");
        assert_eq!(key(r#"{"type":"document","document":[]}"#), "backups.line_field");
        let short = r#"{"type":"document","document":{"$binary":{"base64":"BQAAAAA=","subType":"00"}}}"#;
        assert!(parse(short.as_bytes(), 1).is_ok());
        assert_eq!(key(&short.replace("BQAAAAA=", "DAAAABBhAAEAAAA=")), "backups.line_field");
        assert_eq!(key(&short.replace("BQAAAAA=", "AAAA")), "backups.line_field");
        assert_eq!(key(r#"{"type":"collection","name":"a","documents":{"$numberLong":"-1"}}"#), "backups.line_field");
    }
}
