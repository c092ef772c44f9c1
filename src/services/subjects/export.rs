//! Everything that is held about someone, line by line, as it stands at one moment: what it is, the person, their
//! documents opened, what happened to them, and a signature over all of it.

use super::{Room, Signed, Subject, Subjects};
use crate::{
    base::fault::Fault,
    domain::{json, path::field, sealing::OWNER},
    ports::documents::{Action as Deed, Record, Sequence, Snapshot},
    services::{
        Error, Result,
        access::Caller,
        audit::Event,
        identities::IDENTITIES,
        keyring::{Key, Purpose},
        sealing::Keys,
        sessions::SESSIONS,
    },
};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{collections::HashSet, sync::Arc};

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

/// The lines, chunk by chunk. Blocking: pull it from a blocking thread, through to the end, for it holds a snapshot.
pub struct Lines {
    snapshot: Arc<dyn Snapshot>,
    subject: Subject,
    identity: Option<RawDocumentBuf>,
    rooms: Vec<Room>,
    keys: Keys,
    signer: Key,
    instance: String,
    at: String,
    hash: Sha256,
    count: u64,
    stage: Stage,
}

enum Stage {
    Header,
    Sessions(Option<String>),
    /// The room, and the last document read of it.
    Documents(usize, Option<String>),
    Journal(Sequence),
    Certificate,
    Over,
}

impl Subjects {
    pub async fn export(&self, caller: &Caller, who: &str) -> Result<Lines> {
        self.may(caller)?;
        let (subject, _) = self.survey(who).await?;
        let event = Event::new("subjects.export");
        let event = match &subject.identity {
            Some(identity) => event.about(identity.id.as_str()),
            // An id that somebody chose may name them.
            None => event.with("subject", self.audit.pseudonym(&subject.id)),
        };
        self.audit.record(caller, event).await?;
        // The rooms after the snapshot: how its documents are sealed cannot have changed between.
        let snapshot = self.documents.snapshot().await?;
        Ok(Lines {
            identity: self.documents.get(IDENTITIES, &subject.id).await?,
            rooms: self.rooms().await?,
            keys: self.seals.keys(HashSet::from([subject.id.clone()])).await?,
            signer: self.keyring.current(Purpose::AuditSigning).clone(),
            instance: self.stamp.id.clone(),
            at: self.clock.now().rfc3339(),
            snapshot,
            subject,
            hash: Sha256::new(),
            count: 0,
            stage: Stage::Header,
        })
    }
}

impl Lines {
    fn chunk(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Header => self.header(&mut text)?,
            Stage::Sessions(after) => self.sessions(after, &mut text)?,
            Stage::Documents(room, after) => self.documents(room, after, &mut text)?,
            Stage::Journal(after) => self.journal(after, &mut text)?,
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
        self.line(&header, text)?;
        if let Some(identity) = self.identity.take() {
            self.line(&rawdoc! { "type": "identity", "identity": told(&identity) }, text)?;
        }
        Ok(Stage::Sessions(None))
    }

    fn sessions(&mut self, after: Option<String>, text: &mut Vec<u8>) -> Result<Stage> {
        let documents = self.snapshot.documents(SESSIONS, after.as_deref(), CHUNK)?;
        for session in &documents {
            if names(session, "identity", &self.subject.id) {
                self.line(&rawdoc! { "type": "session", "session": session.clone() }, text)?;
            }
        }
        Ok(match last(&documents)? {
            Some(last) => Stage::Sessions(Some(last)),
            None => Stage::Documents(0, None),
        })
    }

    fn documents(&mut self, room: usize, after: Option<String>, text: &mut Vec<u8>) -> Result<Stage> {
        let Some(Room { name, .. }) = self.rooms.get(room) else { return Ok(Stage::Journal(Sequence(0))) };
        let name = name.clone();
        let documents = self.snapshot.documents(&name, after.as_deref(), CHUNK)?;
        for document in &documents {
            if let Some(opened) = self.opened(room, document)? {
                self.line(&rawdoc! { "type": "document", "collection": name.as_str(), "document": opened }, text)?;
            }
        }
        Ok(match last(&documents)? {
            Some(last) => Stage::Documents(room, Some(last)),
            None => Stage::Documents(room + 1, None),
        })
    }

    /// A document about the subject, opened, or one it owns, without what is sealed for somebody else. `None`: neither.
    fn opened(&self, room: usize, document: &RawDocument) -> Result<Option<RawDocumentBuf>> {
        let Some(Room { sealing, .. }) = self.rooms.get(room) else { return Ok(None) };
        let corrupt = |fault: Fault| Error::Corrupt(fault.to_string());
        if sealing.subject_of(document) == Some(&self.subject.id) {
            return sealing.open(document, &self.keys).map(Some).map_err(corrupt);
        }
        if !names(document, OWNER, &self.subject.id) {
            return Ok(None);
        }
        let stripped = sealing.strip(document, &self.keys).map_err(corrupt)?;
        sealing.open(&stripped, &self.keys).map(Some).map_err(corrupt)
    }

    fn journal(&mut self, after: Sequence, text: &mut Vec<u8>) -> Result<Stage> {
        let records = self.snapshot.records(after, CHUNK)?;
        let Some(last) = records.last() else { return Ok(Stage::Certificate) };
        let next = last.sequence;
        for record in &records {
            if let Some(line) = self.change(record)? {
                self.line(&line, text)?;
            }
        }
        Ok(Stage::Journal(next))
    }

    /// What the subject did, and what was done to what is about it: of others no more than that it was done.
    fn change(&self, record: &Record) -> Result<Option<RawDocumentBuf>> {
        let room = self.rooms.iter().position(|room| room.name == record.collection);
        let image = |image: &Option<RawDocumentBuf>| -> Result<Option<RawDocumentBuf>> {
            match (image, room) {
                (Some(image), Some(room)) => self.opened(room, image),
                (Some(image), None) if record.collection == IDENTITIES && record.id == self.subject.id => {
                    Ok(Some(told(image)))
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
            "id": record.id.as_str(),
            "action": action,
            "revision": record.revision,
            "own": record.origin.actor == self.subject.id,
        };
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
            "lines": self.count,
            "sha256": hex::encode(self.hash.clone().finalize()),
        });
        Signed::new(certificate, &self.signer)
    }

    fn line(&mut self, document: &RawDocument, text: &mut Vec<u8>) -> Result<()> {
        let start = text.len();
        json::write_relaxed(document, text).map_err(|fault| Error::Internal(Box::new(fault)))?;
        text.push(b'\n');
        self.hash.update(text.get(start..).unwrap_or_default());
        self.count += 1;
        Ok(())
    }
}

impl Iterator for Lines {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Stage::Over = self.stage {
            return None;
        }
        let chunk = self.chunk();
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

fn names(document: &RawDocument, name: &str, id: &str) -> bool {
    field(document, name).and_then(RawBsonRef::as_str) == Some(id)
}

fn told(identity: &RawDocument) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    let fields = identity.iter().map_while(std::result::Result::ok);
    fields.filter(|(name, _)| TOLD.contains(&name.as_str())).for_each(|(name, value)| out.append(name, value));
    out
}
