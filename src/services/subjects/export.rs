//! Everything that is held about someone, line by line, as it stands at one moment: what it is, the person, what the
//! appliance keeps of them, their documents opened, what happened to them, the audit log's entries, and a signature.

use super::{
    Room, Signed, Subject, Subjects,
    about::{PARTS, told},
    concerning, may,
};
use crate::{
    base::fault::Fault,
    domain::{
        filter::Filter,
        json,
        path::{elements, field},
    },
    ports::documents::{Action as Deed, Record, Sequence, Snapshot},
    services::{
        Error, Result,
        access::{Access, Caller},
        audit::{self, Event},
        export::Export,
        identities::IDENTITIES,
        keyring::{Key, Purpose},
        sealing::{Keys, Seals},
        trust::TRUST,
    },
};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf, cstr, raw::CString, rawdoc};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Documents or records read at once.
const CHUNK: usize = 500;
/// What is told of an identity: no secret is ever among them.
const TOLD: [&str; 14] = [
    "_id",
    "kind",
    "email",
    "emailVerified",
    "phone",
    "name",
    "locale",
    "legalId",
    "handles",
    "roles",
    "status",
    "_rev",
    "_createdAt",
    "_updatedAt",
];
/// What an export does not hold.
const ABSENT: [&str; 1] = ["media"];

/// The lines, chunk by chunk.
pub struct Lines {
    snapshot: Arc<dyn Snapshot>,
    access: Arc<Access>,
    seals: Arc<Seals>,
    /// Of the subject, as it began.
    erasures: u64,
    subject: Subject,
    identity: Option<RawDocumentBuf>,
    trust: Option<RawDocumentBuf>,
    /// Under which the audit log knows the subject.
    pseudonyms: Vec<String>,
    /// Each with the documents in it that concern the subject.
    rooms: Vec<(Room, Filter)>,
    keys: Keys,
    signer: Arc<Key>,
    instance: String,
    at: String,
    hash: Sha256,
    counts: BTreeMap<&'static str, u64>,
    stage: Stage,
}

enum Stage {
    Header,
    /// A collection of the appliance's own, and the last document read of it.
    Own(usize, Option<String>),
    /// The room, and the last document read of it.
    Documents(usize, Option<String>),
    Journal(Sequence),
    Audit(Option<String>),
    Certificate,
    Over,
}

impl Subjects {
    pub async fn export(&self, caller: &Caller, who: &str) -> Result<Lines> {
        self.may(caller)?;
        let (subject, _) = self.survey(who).await?;
        let erasures = self.seals.erasures(&subject.id);
        let event = Event::new("subjects.export");
        let event = match &subject.identity {
            Some(identity) => event.about(identity.id.as_str()),
            // An id that somebody chose may name them.
            None => event.with("subject", self.audit.pseudonym(&subject.id)),
        };
        self.audit.record(caller, event).await?;
        // The rooms after the snapshot: how its documents are sealed cannot have changed between.
        let snapshot = self.documents.snapshot().await?;
        let mut rooms = Vec::new();
        for room in self.rooms().await? {
            let theirs = concerning(&room.sealing, &subject.id)?;
            rooms.push((room, theirs));
        }
        Ok(Lines {
            identity: self.documents.get(IDENTITIES, &subject.id).await?,
            trust: self.documents.get(TRUST, &subject.id).await?,
            pseudonyms: self.pseudonyms(&subject),
            rooms,
            keys: self.seals.keys(HashSet::from([subject.id.clone()])).await?,
            signer: self.keyring.current(Purpose::AuditSigning),
            instance: self.stamp.id.clone(),
            at: self.clock.now().rfc3339(),
            access: self.access.clone(),
            seals: self.seals.clone(),
            erasures,
            snapshot,
            subject,
            hash: Sha256::new(),
            counts: BTreeMap::new(),
            stage: Stage::Header,
        })
    }

    /// Of the id, and of the words that were tried for it: an address at a login, asked for at a recovery.
    fn pseudonyms(&self, subject: &Subject) -> Vec<String> {
        let mut all = vec![self.audit.pseudonym_of(&subject.id)];
        if let Some(identity) = &subject.identity {
            let words = identity.handles.iter().chain(&identity.email).chain(&identity.phone);
            all.extend(words.map(|word| self.audit.pseudonym(word)));
        }
        all
    }
}

impl Lines {
    fn chunk(&mut self, caller: &Caller) -> Result<Vec<u8>> {
        may(&self.access, caller)?;
        // An erasure that begins meanwhile ends it: what was read before is nobody's any more.
        if self.seals.erasures(&self.subject.id) != self.erasures {
            return Err(Error::Conflict(Fault::new("sealing.erasing").with("subject", &self.subject.id)));
        }
        let mut text = Vec::new();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Header => self.header(&mut text)?,
            Stage::Own(part, after) => self.own(part, after, &mut text)?,
            Stage::Documents(room, after) => self.documents(room, after, &mut text)?,
            Stage::Journal(after) => self.journal(after, &mut text)?,
            Stage::Audit(after) => self.audit(after, &mut text)?,
            Stage::Certificate => {
                let signed = self.certificate();
                let signed = serde_json::to_vec(&signed).map_err(|error| Error::Internal(Box::new(error)))?;
                text.extend_from_slice(&signed);
                text.push(b'\n');
                Stage::Over
            }
            Stage::Over => Stage::Over,
        };
        Ok(text)
    }

    fn header(&mut self, text: &mut Vec<u8>) -> Result<Stage> {
        let mut absent = bson::RawArrayBuf::new();
        ABSENT.iter().for_each(|what| absent.push(*what));
        let header = rawdoc! {
            "type": "header",
            "version": 1,
            "instance": self.instance.as_str(),
            "subject": self.subject.id.as_str(),
            "at": self.at.as_str(),
            "absent": absent,
        };
        self.line("header", &header, text)?;
        if let Some(identity) = self.identity.take() {
            self.tell("identity", shown(&identity), text)?;
            let level = i32::from(self.access.trust(&self.subject.id));
            let mut trust = rawdoc! { "level": level };
            if let Some(record) = self.trust.take() {
                trust.append(cstr!("record"), told(&record, &self.subject, &["score", "at", "events", "adjusted"]));
            }
            self.tell("trust", trust, text)?;
        }
        Ok(Stage::Own(0, None))
    }

    fn own(&mut self, place: usize, after: Option<String>, text: &mut Vec<u8>) -> Result<Stage> {
        let Some(part) = PARTS.get(place) else { return Ok(Stage::Documents(0, None)) };
        let documents = self.snapshot.documents(part.collection, after.as_deref(), CHUNK)?;
        for document in &documents {
            for told in part.tell(document, &self.subject) {
                self.tell(part.kind, told, text)?;
            }
        }
        Ok(match last(&documents)? {
            Some(last) => Stage::Own(place, Some(last)),
            None => Stage::Own(place + 1, None),
        })
    }

    fn documents(&mut self, room: usize, after: Option<String>, text: &mut Vec<u8>) -> Result<Stage> {
        let Some((Room { name, .. }, _)) = self.rooms.get(room) else { return Ok(Stage::Journal(Sequence(0))) };
        let name = name.clone();
        let documents = self.snapshot.documents(&name, after.as_deref(), CHUNK)?;
        for document in &documents {
            if let Some(opened) = self.opened(room, document)? {
                let line = rawdoc! { "type": "document", "collection": name.as_str(), "document": opened };
                self.line("document", &line, text)?;
            }
        }
        Ok(match last(&documents)? {
            Some(last) => Stage::Documents(room, Some(last)),
            None => Stage::Documents(room + 1, None),
        })
    }

    /// A document about the subject, opened, or one it owns or is named in among others, without what is sealed for
    /// somebody else. `None`: none of them.
    fn opened(&self, room: usize, document: &RawDocument) -> Result<Option<RawDocumentBuf>> {
        let Some((Room { sealing, .. }, theirs)) = self.rooms.get(room) else { return Ok(None) };
        let corrupt = |fault: Fault| Error::Corrupt(fault.to_string());
        if sealing.subject_of(document) == Some(&self.subject.id) {
            return sealing.open(document, &self.keys).map(Some).map_err(corrupt);
        }
        if !theirs.matches(document) {
            return Ok(None);
        }
        let stripped = sealing.strip(document, &self.keys).map_err(corrupt)?;
        sealing.open(&stripped, &self.keys).map(Some).map_err(corrupt)
    }

    fn journal(&mut self, after: Sequence, text: &mut Vec<u8>) -> Result<Stage> {
        let records = self.snapshot.records(after, CHUNK)?;
        let Some(last) = records.last() else { return Ok(Stage::Audit(None)) };
        let next = last.sequence;
        for record in &records {
            if let Some(line) = self.change(record)? {
                self.line("change", &line, text)?;
            }
        }
        Ok(Stage::Journal(next))
    }

    /// Entries as they were sealed, so that they can be held against the log.
    fn audit(&mut self, after: Option<String>, text: &mut Vec<u8>) -> Result<Stage> {
        let documents = self.snapshot.documents(audit::ENTRIES, after.as_deref(), CHUNK)?;
        for document in &documents {
            let people = field(document, "people").and_then(RawBsonRef::as_array).into_iter().flat_map(elements);
            let theirs = people.filter_map(RawBsonRef::as_str).any(|who| self.pseudonyms.iter().any(|own| own == who));
            if let (true, Some(entry)) = (theirs, field(document, "entry").and_then(RawBsonRef::as_str)) {
                let start = text.len();
                text.extend_from_slice(format!("{{\"type\":\"audit\",\"audit\":{entry}}}\n").as_bytes());
                self.count("audit", text.get(start..).unwrap_or_default());
            }
        }
        Ok(last(&documents)?.map_or(Stage::Certificate, |last| Stage::Audit(Some(last))))
    }

    /// What the subject did, and what was done to what is about it: of others no more than that it was done.
    fn change(&self, record: &Record) -> Result<Option<RawDocumentBuf>> {
        let room = self.rooms.iter().position(|(room, _)| room.name == record.collection);
        let image = |image: &Option<RawDocumentBuf>| -> Result<Option<RawDocumentBuf>> {
            match (image, room) {
                (Some(image), Some(room)) => self.opened(room, image),
                (Some(image), None) if record.collection == IDENTITIES && record.id == self.subject.id => {
                    Ok(Some(shown(image)))
                }
                _ => Ok(None),
            }
        };
        let (before, after) = (image(&record.before)?, image(&record.after)?);
        if before.is_none() && after.is_none() && record.origin.actor != self.subject.id {
            return Ok(None);
        }
        let action = match record.action {
            Deed::Create => "create",
            Deed::Update => "update",
            Deed::Delete => "delete",
        };
        let mut line = rawdoc! {
            "type": "change",
            "time": DateTime::from_millis(record.time.0),
            "collection": record.collection.as_str(),
            "action": action,
            "revision": record.revision,
            "own": record.origin.actor == self.subject.id,
        };
        // Of others' documents only that it was done: an id may name them.
        if before.is_some() || after.is_some() {
            line.append(cstr!("id"), record.id.as_str());
        }
        if let Some(before) = before {
            line.append(cstr!("before"), before);
        }
        if let Some(after) = after {
            line.append(cstr!("after"), after);
        }
        Ok(Some(line))
    }

    /// The last line: how many there were before it, and what they hash to.
    fn certificate(&self) -> Signed {
        let certificate = json!({
            "type": "export",
            "version": 1,
            "instance": self.instance,
            "subject": self.subject.id,
            "at": self.at,
            "lines": self.counts.values().sum::<u64>(),
            "counts": self.counts,
            "sha256": hex::encode(self.hash.clone().finalize()),
        });
        Signed::new(certificate, &self.signer)
    }

    /// What is told of one thing, under the name of its kind.
    fn tell(&mut self, kind: &'static str, told: RawDocumentBuf, text: &mut Vec<u8>) -> Result<()> {
        let mut line = rawdoc! { "type": kind };
        line.append(CString::try_from(kind).map_err(|error| Error::Internal(Box::new(error)))?, told);
        self.line(kind, &line, text)
    }

    fn line(&mut self, kind: &'static str, document: &RawDocument, text: &mut Vec<u8>) -> Result<()> {
        let start = text.len();
        json::write_relaxed(document, text).map_err(|fault| Error::Internal(Box::new(fault)))?;
        text.push(b'\n');
        self.count(kind, text.get(start..).unwrap_or_default());
        Ok(())
    }

    fn count(&mut self, kind: &'static str, line: &[u8]) {
        self.hash.update(line);
        *self.counts.entry(kind).or_default() += 1;
    }
}

impl Export for Lines {
    fn pull(&mut self, caller: &Caller) -> Option<Result<Vec<u8>>> {
        if let Stage::Over = self.stage {
            return None;
        }
        let chunk = self.chunk(caller);
        if chunk.is_err() {
            self.stage = Stage::Over;
        }
        Some(chunk)
    }
}

/// The id to go on after; `None` at the end.
fn last(documents: &[RawDocumentBuf]) -> Result<Option<String>> {
    let id = |document: &RawDocumentBuf| document.get_str("_id").map(str::to_owned);
    documents.last().map(id).transpose().map_err(|error| Error::Internal(Box::new(error)))
}

fn shown(identity: &RawDocument) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    let fields = identity.iter().map_while(std::result::Result::ok);
    fields.filter(|(name, _)| TOLD.contains(&name.as_str())).for_each(|(name, value)| out.append(name, value));
    out
}
