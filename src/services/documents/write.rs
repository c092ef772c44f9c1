//! One document made, replaced, changed or deleted.

use super::{
    Documents,
    rules::{Judge, Judged, Rules, refusal},
};
use crate::{
    base::{clock::Timestamp, fault::Fault, random},
    domain::{
        document::{Content, SystemFields, check_id, check_name, malformed, revision},
        path::Path,
        sealing,
        update::Update,
    },
    ports::{
        self,
        documents::{Batch, Change, Check, Committed, Conflict, Expect, Operation, Origin, Outcome, Receipt},
    },
    services::{
        Error, Result,
        access::{Action, Caller, Grant, Resource},
        sealing::Sealer,
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, collections::HashSet, sync::Arc};

/// How long a retry gets the first answer, in seconds.
pub const RECEIPT_SECONDS: i64 = 24 * 3600;

/// A request that may be retried: a key the client chose for this route, and what identifies the body.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub key: &'a str,
    pub body: &'a [u8],
}

/// What the caller assumes of the document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Match {
    #[default]
    Any,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match` with revisions; any of them will do, none never holds.
    Revisions(Vec<i64>),
}

#[derive(Debug, Clone)]
pub struct Written {
    pub id: String,
    pub revision: i64,
    pub created: bool,
    pub document: Option<RawDocumentBuf>,
}

impl From<Outcome> for Written {
    fn from(outcome: Outcome) -> Self {
        let Outcome { id, revision, created, document } = outcome;
        Self { id, revision, created, document }
    }
}

impl Documents {
    pub async fn create(
        &self,
        caller: &Caller,
        collection: &str,
        document: &RawDocument,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Written> {
        let draft = self.target(caller, collection, Action::Create).await?.create(document, SystemFields::Refuse)?;
        self.commit_one(caller, draft, attempt).await
    }

    /// Made when absent, if the caller may.
    pub async fn replace(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        document: &RawDocument,
        when: &Match,
    ) -> Result<Written> {
        let target = self.target(caller, collection, Action::Update).await?;
        let draft = target.replace(Some(id), document, SystemFields::Refuse)?;
        self.commit_when(caller, draft, when, None).await
    }

    /// `patch` is a JSON Merge Patch, or update operators when its first field is one.
    pub async fn patch(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        patch: &RawDocument,
        when: &Match,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Written> {
        let draft = self.target(caller, collection, Action::Update).await?.patch(id, patch)?;
        self.commit_when(caller, draft, when, attempt).await
    }

    pub async fn delete(&self, caller: &Caller, collection: &str, id: &str, when: &Match) -> Result<Written> {
        let draft = self.target(caller, collection, Action::Delete).await?.delete(id)?;
        self.commit_when(caller, draft, when, None).await
    }

    async fn commit_when(
        &self,
        caller: &Caller,
        mut draft: Draft,
        when: &Match,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Written> {
        draft.operation.expect = match when {
            Match::Any => draft.operation.expect,
            Match::Absent => Expect::Absent,
            Match::Present => Expect::Present,
            Match::Revisions(revisions) => Expect::Revision(self.revision_among(&draft.operation, revisions).await?),
        };
        let creates = matches!(draft.operation.change, Change::Put(_));
        let id = draft.operation.id.clone();
        self.commit_one(caller, draft, attempt).await.map_err(|error| match error {
            // A condition that fails is told as such (RFC 9110, 13.1), but only where the request could have
            // succeeded without it (13.2.1): changing what is not there could not.
            Error::Conflict(fault) if *when == Match::Absent && fault.key == "documents.exists" => {
                Error::Precondition(fault)
            }
            Error::NotFound(fault) if creates && *when != Match::Any && fault.key == "documents.missing" => {
                Error::Precondition(Fault::new("documents.missing").with("id", id))
            }
            other => other,
        })
    }

    /// The one revision to expect: of several the caller accepts, the one the document has.
    async fn revision_among(&self, operation: &Operation, revisions: &[i64]) -> Result<i64> {
        match revisions {
            [] => Ok(0),
            [one] => Ok(*one),
            [first, ..] => {
                let stored = self.store.get(&operation.collection, &operation.id).await?;
                let stored = stored.and_then(|document| revision(&document));
                Ok(stored.filter(|revision| revisions.contains(revision)).unwrap_or(*first))
            }
        }
    }

    async fn commit_one(&self, caller: &Caller, draft: Draft, attempt: Option<Attempt<'_>>) -> Result<Written> {
        let (collection, rules) = (draft.operation.collection.clone(), draft.judged.rules.clone());
        let committed = self.commit(caller, vec![draft], attempt).await.map_err(|error| {
            refusal(error).map_fault(|mut fault| {
                fault.params.retain(|(name, _)| *name != "operation");
                fault
            })
        })?;
        let outcome = committed.outcomes.into_iter().next();
        let written =
            outcome.map(Written::from).ok_or_else(|| Error::Internal("a commit without an outcome".into()))?;
        let mut written = self.opened(&rules, written).await?;
        // A retry may find another collection of the same name, with other fields sealed.
        written.document = written.document.filter(|document| !committed.replayed || !sealing::shows(document));
        // As the caller may see it now: a retry is answered long after, and who writes does not always read.
        if let Some(document) = written.document.take() {
            let views = self.access.decide(caller, Action::View, Resource::Collection(&collection)).ok();
            written.document = views.as_ref().and_then(|views| views.show(&document).map(Cow::into_owned));
            // The entry of the write says who had it in hand then; shown again, it is read.
            if let (Some(views), Some(_), true) = (&views, &written.document, committed.replayed) {
                self.tell_one(caller, (&collection, &written.id), (views, &rules), &document).await?;
            }
        }
        Ok(written)
    }

    pub(super) async fn commit(
        &self,
        caller: &Caller,
        drafts: Vec<Draft>,
        attempt: Option<Attempt<'_>>,
    ) -> ports::Result<Committed> {
        let time = self.clock.now();
        let receipt = attempt.map(|attempt| attempt.receipt(caller, time));
        let sealed = drafts.iter().any(|draft| !draft.judged.rules.sealing.is_nothing());
        let subjects = if sealed { self.subjects(&drafts).await? } else { HashSet::new() };
        let (operations, judged): (Vec<_>, Vec<_>) =
            drafts.into_iter().map(|draft| (draft.operation, draft.judged)).unzip();
        let sealer = Arc::new(Sealer::new(self.seals.clone()));
        let judge = Judge { judged, sealer: sealer.clone() };
        let origin = Origin { grounds: judge.grounds(), ..caller.origin() };
        let check: Arc<dyn Check> = Arc::new(judge);
        let batch = Batch { time, origin, operations, check: Some(check), receipt };
        if !sealed {
            return self.store.commit(batch).await;
        }
        self.seals.commit(&*self.store, subjects, batch, &sealer).await
    }

    /// Whose the documents are and will be, as far as can be told before.
    async fn subjects(&self, drafts: &[Draft]) -> ports::Result<HashSet<String>> {
        let mut subjects = HashSet::new();
        for Draft { operation, judged } in drafts {
            let sealing = &judged.rules.sealing;
            if sealing.is_nothing() {
                continue;
            }
            let stored = self.store.get(&operation.collection, &operation.id).await?;
            let before = stored.as_deref().and_then(|stored| sealing.subject_of(stored));
            let after = match &operation.change {
                // The owner of a document already there stays.
                Change::Put(document) if before.is_none() || !sealing.is_owner() => {
                    sealing.subject_of(document).filter(|_| sealing.concerns(document))
                }
                Change::Put(_) | Change::Update(_) | Change::Delete => None,
            };
            subjects.extend(before.into_iter().chain(after).map(str::to_owned));
        }
        Ok(subjects)
    }

    /// What a commit answers, as people read it.
    pub(super) async fn opened(&self, rules: &Rules, mut written: Written) -> Result<Written> {
        if let Some(document) = written.document.take() {
            written.document = self.seals.opened(&rules.sealing, vec![document]).await?.pop();
        }
        Ok(written)
    }
}

/// An operation with its judge, not yet committed.
#[derive(Clone)]
pub(super) struct Draft {
    pub operation: Operation,
    pub judged: Judged,
}

/// A collection a caller writes to, and what the caller may do there.
pub(super) struct Target<'a> {
    caller: &'a Caller,
    collection: &'a str,
    rules: Arc<Rules>,
    now: Timestamp,
    views: Option<Arc<Grant>>,
    creates: Option<Arc<Grant>>,
    updates: Option<Arc<Grant>>,
    deletes: Option<Arc<Grant>>,
}

impl Documents {
    /// Asks the right first: who may not write does not learn what exists.
    pub(super) async fn target<'a>(
        &self,
        caller: &'a Caller,
        collection: &'a str,
        action: Action,
    ) -> Result<Target<'a>> {
        self.access.decide(caller, action, Resource::Collection(collection))?;
        let rules = self.rules(collection).await?;
        let may = |action| self.access.decide(caller, action, Resource::Collection(collection)).ok().map(Arc::new);
        Ok(Target {
            caller,
            collection,
            rules,
            now: self.clock.now(),
            views: may(Action::View),
            creates: may(Action::Create),
            updates: may(Action::Update),
            deletes: may(Action::Delete),
        })
    }
}

impl Target<'_> {
    fn draft(
        &self,
        id: String,
        expect: Expect,
        change: Change,
        creates: Option<Arc<Grant>>,
        changes: Option<Arc<Grant>>,
    ) -> Draft {
        let (views, rules) = (self.views.clone(), self.rules.clone());
        let judged = Judged { id: id.clone(), creates, changes, views, rules };
        Draft { operation: Operation { collection: self.collection.to_owned(), id, expect, change }, judged }
    }

    pub fn create(&self, document: &RawDocument, system: SystemFields) -> Result<Draft> {
        let creates = self.creates.clone().ok_or(Error::Forbidden)?;
        let Content { id, body } = Content::read(document, system).map_err(Error::Invalid)?;
        let id = id.unwrap_or_else(|| random::id(self.now));
        let body = self.owned(body)?;
        Ok(self.draft(id, Expect::Absent, Change::Put(body), Some(creates), None))
    }

    /// `id` from the address, or the document's own.
    pub fn replace(&self, id: Option<&str>, document: &RawDocument, system: SystemFields) -> Result<Draft> {
        let changes = self.updates.clone().ok_or(Error::Forbidden)?;
        let creates = self.creates.clone();
        // What the caller may not write would be gone: a document is replaced whole.
        if changes.masks_writes() {
            return Err(Error::Barred(Fault::new("access.replace")));
        }
        let content = Content::read(document, system).map_err(Error::Invalid)?;
        let id = match (id, content.id) {
            (Some(id), given) => {
                check_id(id).map_err(Error::Invalid)?;
                same_id(id, given.as_deref()).map_err(Error::Invalid)?;
                id.to_owned()
            }
            (None, given) => given.unwrap_or_else(|| random::id(self.now)),
        };
        let body = self.owned(content.body)?;
        Ok(self.draft(id, Expect::Any, Change::Put(body), creates, Some(changes)))
    }

    pub fn patch(&self, id: &str, patch: &RawDocument) -> Result<Draft> {
        let changes = self.updates.clone().ok_or(Error::Forbidden)?;
        let update = read_patch(&self.rules, id, patch).map_err(Error::Invalid)?;
        // What comes of a hidden field would tell of it: under another name, or by how it took the change.
        let reads = |path: &Path| self.views.as_ref().is_some_and(|views| views.reads(path));
        if let Some(path) = update.depends_on().iter().find(|path| !reads(path)) {
            return Err(Error::Barred(Fault::new("access.field_read").at(path.to_string()).with("field", path)));
        }
        // Nor does it matter whether the value would change: who may neither read nor write would learn that.
        if let Some(path) = update.touches().iter().find(|path| !reads(path) && !changes.writes(path)) {
            return Err(Error::Barred(Fault::new("access.field_write").at(path.to_string()).with("field", path)));
        }
        Ok(self.draft(id.to_owned(), Expect::Present, Change::Update(update), None, Some(changes)))
    }

    pub fn delete(&self, id: &str) -> Result<Draft> {
        let changes = self.deletes.clone().ok_or(Error::Forbidden)?;
        Ok(self.draft(id.to_owned(), Expect::Present, Change::Delete, None, Some(changes)))
    }

    /// The body with its dates read and its owner named; the store keeps the owner of a document already there.
    fn owned(&self, body: RawDocumentBuf) -> Result<RawDocumentBuf> {
        let mut body = match &self.rules.schema {
            Some(schema) => schema.dates(body).map_err(Error::Invalid)?,
            None => body,
        };
        body.append(bson::cstr!("_owner"), self.caller.owner());
        if let Some(organization) = &self.caller.organization {
            body.append(bson::cstr!("_organization"), organization.as_str());
        }
        Ok(body)
    }
}

impl Attempt<'_> {
    pub(crate) fn receipt(&self, caller: &Caller, now: Timestamp) -> Receipt {
        let actor = caller.actor();
        let organization = caller.organization.as_deref().unwrap_or_default();
        let route = [self.method, self.path, self.key].map(str::as_bytes);
        Receipt {
            key: digest(&[&[actor.as_bytes(), organization.as_bytes()], &route[..]].concat()),
            fingerprint: digest(&[self.body]),
            expires: now.plus_seconds(RECEIPT_SECONDS),
        }
    }
}

/// SHA-256 over the parts, each behind its length, in hex.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn same_id(id: &str, given: Option<&str>) -> std::result::Result<(), Fault> {
    match given {
        Some(given) if given != id => {
            Err(Fault::new("documents.id_differs").at("_id").with("given", given).with("id", id))
        }
        _ => Ok(()),
    }
}

fn read_patch(rules: &Rules, id: &str, patch: &RawDocument) -> std::result::Result<Update, Fault> {
    let operators =
        patch.iter().next().is_some_and(|entry| entry.is_ok_and(|(name, _)| name.as_str().starts_with('$')));
    if operators { read_operators(rules, patch) } else { read_merge(rules, id, patch) }
}

fn read_merge(rules: &Rules, id: &str, patch: &RawDocument) -> std::result::Result<Update, Fault> {
    let content = Content::read(patch, SystemFields::Refuse)?;
    same_id(id, content.id.as_deref())?;
    let body = match &rules.schema {
        Some(schema) => schema.dates(content.body)?,
        None => content.body,
    };
    Update::merge(&body)
}

/// Operators name paths; the server's own fields are not among them. What they set has its dates read.
fn read_operators(rules: &Rules, patch: &RawDocument) -> std::result::Result<Update, Fault> {
    let mut read = RawDocumentBuf::new();
    for entry in patch {
        let (operator, fields) = entry.map_err(malformed)?;
        let RawBsonRef::Document(fields) = fields else {
            read.append(operator, fields);
            continue;
        };
        let mut converted = RawDocumentBuf::new();
        for entry in fields {
            let (path, value) = entry.map_err(malformed)?;
            check_name(root(path.as_str()))?;
            if let ("$rename", RawBsonRef::String(to)) = (operator.as_str(), value) {
                check_name(root(to))?;
            }
            match &rules.schema {
                Some(schema) if ["$set", "$min", "$max"].contains(&operator.as_str()) => {
                    converted.append(path, schema.dates_at(path.as_str(), value)?);
                }
                _ => converted.append(path, value),
            }
        }
        read.append(operator, converted);
    }
    Update::parse(&read)
}

fn root(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

/// The place of the operation a store turned away, to name it to the caller.
pub(in crate::services) fn failed_operation(error: &ports::Error) -> Option<usize> {
    match error {
        ports::Error::Conflict(
            Conflict::Exists { operation, .. }
            | Conflict::Missing { operation, .. }
            | Conflict::Revision { operation, .. }
            | Conflict::Unique { operation, .. }
            | Conflict::Unknown { operation, .. },
        ) => Some(*operation),
        ports::Error::Rejected(fault) => {
            let (_, place) = fault.params.iter().find(|(name, _)| *name == "operation")?;
            place.parse().ok()
        }
        _ => None,
    }
}
