//! Forgetting someone: deactivated, under another name, without the key of their fields, certified. What is cut short is
//! gone on with; what an older backup brings back is done again.

use super::{CERTIFICATES, Holding, Room, Signed, Subject, Subjects, Traces, concerning, named};
use crate::{
    base::{clock::Timestamp, fault::Fault, random},
    domain::{document::revision, filter::Filter, sort::Sort},
    ports::{
        self,
        documents::{Batch, Change, Conflict, Expect, Operation, Origin, Query},
    },
    services::{
        Error, Result,
        access::Caller,
        audit::Event,
        documents::all,
        identities::{IDENTITIES, Status},
        keyring::Purpose,
    },
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

const DAY: i64 = 86_400;
/// Documents changed in one commit, and bytes of them.
const AT_ONCE: usize = 200;
const AT_ONCE_BYTES: usize = 4 << 20;
/// How often a chunk is read again that others change meanwhile.
const MOST_TRIES: usize = 100;

/// How far to go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Erasing {
    /// Documents about the person alone, and those it owns that are about nobody, are deleted whole.
    pub delete_owned: bool,
}

/// An erasure that is certified.
#[derive(Debug, Clone)]
pub struct Summary {
    pub id: String,
    pub signed: Signed,
}

/// Whom to forget, kept with the subjects' keys: under way until it is certified here.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    #[serde(rename = "_id")]
    id: String,
    subject: String,
    pseudonym: String,
    /// Whether the subject was an identity of the instance.
    identity: bool,
    delete_owned: bool,
    holdings: Vec<Holding>,
    /// Of the appliance's own collections, what there was of an identity.
    #[serde(default)]
    traces: Traces,
    requested_by: String,
    requested_at: Timestamp,
    #[serde(default)]
    erased_at: Option<Timestamp>,
}

/// What an erasure came upon and could not take away.
struct Left {
    /// Documents that were to be deleted whole and are about others too, by collection.
    kept: BTreeMap<String, u64>,
    /// Whether a backup of the subjects' keys from before may outlast every date.
    in_backups: bool,
}

impl Subjects {
    /// Forgets someone. Once it answers, nothing here reads what was sealed.
    pub async fn erase(&self, caller: &Caller, who: &str, erasing: Erasing) -> Result<Summary> {
        self.may(caller)?;
        let _erasing = self.erasing.lock().await;
        let (subject, holdings) = self.survey(who).await?;
        let traces = self.traces(&subject).await?;
        let Subject { id: subject, identity } = subject;
        // First what may be refused: the last administrator stays.
        if identity.is_some() {
            self.identities.set_status(caller, &subject, Status::Disabled).await?;
        }
        let now = self.clock.now();
        let note = Note {
            id: random::id(now),
            subject,
            pseudonym: format!("erased-{}", hex::encode(random::array::<8>())),
            identity: identity.is_some(),
            delete_owned: erasing.delete_owned,
            holdings,
            traces,
            requested_by: caller.actor(),
            requested_at: now,
            erased_at: None,
        };
        self.keep(&note).await?;
        let signed = self.carry_out(caller, &note).await?;
        if let Err(error) = self.renew_backups().await {
            tracing::warn!(%error, "the backup of the subjects' keys is still the one from before the erasure");
        }
        Ok(Summary { id: note.id, signed })
    }

    /// Goes on with what was cut short, and does again what this instance, restored from an older backup, knows
    /// nothing of.
    pub async fn resume(&self) -> Result<()> {
        let _erasing = self.erasing.lock().await;
        let mut open = Vec::new();
        for note in self.notes().await? {
            if self.documents.get(CERTIFICATES, &note.id).await?.is_none() || note.erased_at.is_none() {
                // Whatever keeps the rest from being done, nobody reads it any more.
                self.seals.bar(&note.subject);
                open.push(note);
            }
        }
        let mut failed = None;
        for note in open {
            tracing::info!(erasure = note.id, "an erasure is gone on with");
            if let Err(error) = self.carry_out(&Caller::system(), &note).await {
                // The others are no less urgent.
                tracing::error!(erasure = note.id, %error, "an erasure could not be finished");
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Keeps the backups of the subjects' keys no older than the last erasure.
    pub async fn renew_backups(&self) -> Result<()> {
        let last = self.notes().await?.into_iter().filter_map(|note| note.erased_at).max();
        self.backups.renew_subjects(last).await
    }

    /// Every certificate, the oldest first.
    pub async fn certificates(&self, caller: &Caller) -> Result<Vec<Summary>> {
        self.may(caller)?;
        all(&*self.documents, CERTIFICATES, Filter::all()).await?.iter().map(|document| summary(document)).collect()
    }

    pub async fn certificate(&self, caller: &Caller, id: &str) -> Result<Summary> {
        self.may(caller)?;
        let unknown = || Error::NotFound(Fault::new("subjects.certificate_unknown").with("id", id));
        summary(&self.documents.get(CERTIFICATES, id).await?.ok_or_else(unknown)?)
    }

    /// Each step may be done twice.
    async fn carry_out(&self, caller: &Caller, note: &Note) -> Result<Signed> {
        self.seals.bar(&note.subject);
        if self.documents.get(IDENTITIES, &note.subject).await?.is_some() {
            self.identities.forget(caller, &note.subject, &note.pseudonym).await?;
        }
        // Behind every write that was sealed before the bar: what follows sees them all.
        self.documents.commit(self.batch(caller.origin(), Vec::new())).await?;
        self.seals.destroy(&note.subject).await?;
        let mut kept = BTreeMap::new();
        for room in self.rooms().await? {
            if note.delete_owned {
                let left = self.delete(caller, &room, &note.subject).await?;
                kept.extend((left > 0).then_some((room.name, left)));
            } else if !room.sealing.is_nothing() {
                self.strip(caller, &room, &note.subject).await?;
            }
        }
        let at = note.erased_at.unwrap_or_else(|| self.clock.now());
        let left = Left { kept, in_backups: self.backups.keeps_subjects(at).await };
        let signed = Signed::new(self.certified(note, at, &left), &self.keyring.current(Purpose::AuditSigning));
        self.certify(caller, note, &signed).await?;
        self.keep(&Note { erased_at: Some(at), ..note.clone() }).await?;
        self.seals.unbar(&note.subject);
        Ok(signed)
    }

    /// Takes what nobody can read any more out of the documents.
    async fn strip(&self, caller: &Caller, room: &Room, subject: &str) -> Result<()> {
        let hashes = self.seals.hashes();
        self.sweep(caller, room, &named(room.sealing.subject(), subject), |document| {
            let sealed = room.sealing.is_sealed(document) && room.sealing.subject_of(document) == Some(subject);
            let stripped = sealed.then(|| room.sealing.strip(document, &hashes)).transpose();
            Ok(stripped.map_err(|fault| Error::Internal(Box::new(fault)))?.map(Change::Put))
        })
        .await
    }

    /// Answers how many stay that concern the person: they are about somebody else, or about several.
    async fn delete(&self, caller: &Caller, room: &Room, subject: &str) -> Result<u64> {
        let theirs = concerning(&room.sealing, subject)?;
        self.sweep(caller, room, &theirs, |document| {
            let own = match room.sealing.subject_of(document) {
                Some(named) => named == subject,
                None => room.sealing.names_nobody(document),
            };
            Ok(own.then_some(Change::Delete))
        })
        .await?;
        Ok(self.documents.count(&room.name, Arc::new(theirs)).await?.0)
    }

    /// Changes documents a filter finds, chunk by chunk, each as it was read.
    async fn sweep(
        &self,
        caller: &Caller,
        room: &Room,
        filter: &Filter,
        change: impl Fn(&RawDocument) -> Result<Option<Change>> + Send + Sync,
    ) -> Result<()> {
        let (filter, mut after, mut tries) = (Arc::new(filter.clone()), None, 0);
        loop {
            let (collection, filter) = (room.name.clone(), filter.clone());
            let sort = Sort::default();
            let query = Query { collection, filter, sort, limit: AT_ONCE, after: after.clone() };
            let page = self.documents.find(query).await?;
            match self.sweep_chunk(caller, room, &page.documents, &change).await {
                // Somebody wrote between reading and writing.
                Err(ports::Error::Conflict(Conflict::Revision { .. } | Conflict::Missing { .. }))
                    if tries < MOST_TRIES =>
                {
                    tries += 1;
                    continue;
                }
                Err(ports::Error::Conflict(Conflict::Unknown { .. })) => return Ok(()),
                swept => swept?,
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn sweep_chunk(
        &self,
        caller: &Caller,
        room: &Room,
        documents: &[RawDocumentBuf],
        change: &(impl Fn(&RawDocument) -> Result<Option<Change>> + Send + Sync),
    ) -> ports::Result<()> {
        let (mut operations, mut bytes) = (Vec::new(), 0);
        for document in documents {
            let changed = change(document).map_err(|error| ports::Error::Backend(Box::new(error)))?;
            if let (Some(change), Ok(id)) = (changed, document.get_str("_id")) {
                let size = document.as_bytes().len();
                // Before it is added: one may be as large as a commit may be.
                if bytes + size > AT_ONCE_BYTES {
                    self.commit(caller.origin(), std::mem::take(&mut operations)).await?;
                    bytes = 0;
                }
                bytes += size;
                let expect = Expect::Revision(revision(document).unwrap_or_default());
                operations.push(Operation { collection: room.name.clone(), id: id.to_owned(), expect, change });
            }
        }
        self.commit(caller.origin(), operations).await
    }

    async fn commit(&self, origin: Origin, operations: Vec<Operation>) -> ports::Result<()> {
        if operations.is_empty() {
            return Ok(());
        }
        self.documents.commit(self.batch(origin, operations)).await.map(drop)
    }

    fn batch(&self, origin: Origin, operations: Vec<Operation>) -> Batch {
        Batch { time: self.clock.now(), origin, operations, check: None, receipt: None }
    }

    /// Where an erasure comes to be on record.
    async fn certify(&self, caller: &Caller, note: &Note, signed: &Signed) -> Result<()> {
        let text = serde_json::to_string(signed).map_err(|error| Error::Internal(Box::new(error)))?;
        let (collection, id) = (CERTIFICATES.to_owned(), note.id.clone());
        let change = Change::Put(rawdoc! { "signed": text });
        let operation = Operation { collection, id, expect: Expect::Any, change };
        let mut event = Event::new("subjects.erase").object(format!("certificates/{}", note.id));
        event = if note.identity { event.about(note.subject.as_str()) } else { event };
        let told = self.audit.operation(caller, event.with("deleteOwned", note.delete_owned))?;
        Ok(self.commit(caller.origin(), vec![operation, told]).await?)
    }

    fn certified(&self, note: &Note, at: Timestamp, left: &Left) -> Value {
        // A day for the hour at which old backups are let go, and the journal's own.
        let days = |from: Timestamp, days: u32| from.plus_seconds((i64::from(days) + 1) * DAY).rfc3339();
        // From now: what is done again after a restore is journalled again.
        let journal = days(self.clock.now(), self.periods.journal);
        let in_journal = |what| json!({ "what": what, "until": journal, "longerWhile": "not-backed-up" });
        let mut remains = vec![json!({ "what": "hashes-in-older-backups" })];
        if note.identity {
            remains.push(json!({ "what": "identity-id", "id": note.subject }));
            remains.push(in_journal("identity-in-journal"));
            remains.push(json!({ "what": "identity-in-older-backups" }));
            remains.push(json!({ "what": "audit-under-pseudonym" }));
        }
        if left.in_backups {
            remains.push(json!({ "what": "key-in-backup-of-keys" }));
        }
        let (ended, removed): (Traces, Traces) =
            note.traces.clone().into_iter().partition(|(name, _)| *name == "memberships");
        if !ended.is_empty() {
            remains.push(json!({ "what": "memberships-ended" }));
        }
        remains.push(json!({ "what": "note-of-erasure" }));
        if note.delete_owned {
            remains.push(in_journal("unsealed-fields-in-journal"));
            remains.push(json!({ "what": "unsealed-fields-in-older-backups" }));
        } else {
            remains.push(json!({ "what": "unsealed-fields" }));
        }
        if !left.kept.is_empty() {
            remains.push(json!({ "what": "documents-about-others", "collections": left.kept }));
        }
        json!({
            "type": "erasure",
            "version": 1,
            "id": note.id,
            "instance": self.stamp.id,
            "environment": self.stamp.environment.name(),
            "subject": note.pseudonym,
            "requestedAt": note.requested_at.rfc3339(),
            "requestedBy": note.requested_by,
            "erasedAt": at.rfc3339(),
            "identityPseudonymised": note.identity,
            "keyDestroyed": true,
            "documentsDeleted": note.delete_owned,
            "holdings": note.holdings,
            "removed": removed,
            "ended": ended,
            "unreadableEverywhereFrom": (!left.in_backups).then(|| days(at, self.periods.subjects)),
            "remains": remains,
        })
    }

    async fn keep(&self, note: &Note) -> Result<()> {
        let document = bson::serialize_to_raw_document_buf(note).map_err(|error| Error::Internal(Box::new(error)))?;
        self.seals.note(&note.id, document).await
    }

    async fn notes(&self) -> Result<Vec<Note>> {
        let read = |document: &RawDocumentBuf| {
            bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
        };
        self.seals.notes().await?.iter().map(read).collect()
    }
}

fn summary(document: &RawDocument) -> Result<Summary> {
    let text = |name| document.get_str(name).map_err(|error| Error::Internal(Box::new(error)));
    let (id, text) = (text("_id")?.to_owned(), text("signed")?);
    let signed = serde_json::from_str(text).map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(Summary { id, signed })
}
