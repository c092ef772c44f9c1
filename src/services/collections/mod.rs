//! Collections: made, listed, described, altered and dropped, each a document of the catalogue.

use super::{
    Error, Result,
    access::{Access, Action, Caller, Resource},
    documents::Attempt,
    policies::{Changes, Policies},
};
use crate::{
    base::{clock::SharedClock, fault::Fault},
    domain::{
        collection::{Definition, check_name},
        document::{malformed, revision},
        schema::Schema,
        sealing,
    },
    ports::documents::{
        self as port, Batch, Build, COLLECTIONS, Change, Conflict, Expect, IndexState, Operation, Receipt,
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use std::sync::Arc;

#[derive(Clone)]
pub struct Collections {
    store: Arc<dyn port::Documents>,
    clock: SharedClock,
    access: Arc<Access>,
    policies: Arc<Policies>,
}

/// A collection as it is told to those who manage it.
#[derive(Debug, Clone)]
pub struct Described {
    pub definition: Definition,
    pub revision: i64,
    pub documents: u64,
    pub indexes: Vec<IndexState>,
    pub policies: Vec<RawDocumentBuf>,
}

impl Collections {
    pub fn new(
        store: Arc<dyn port::Documents>,
        clock: SharedClock,
        access: Arc<Access>,
        policies: Arc<Policies>,
    ) -> Self {
        Self { store, clock, access, policies }
    }

    /// From `{name, schema?, indexes?, classes?, subject?, policies?, audit?}`.
    pub async fn create(
        &self,
        caller: &Caller,
        definition: &RawDocument,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Described> {
        self.may(caller, Action::Manage)?;
        let name = match definition.get("name").map_err(malformed).map_err(Error::Unreadable)? {
            Some(RawBsonRef::String(name)) => name.to_owned(),
            _ => return Err(Error::Invalid(Fault::new("collections.name").at("name").with("name", ""))),
        };
        check_name(&name).map_err(Error::Invalid)?;
        let definition = checked(&name, definition)?;
        let stored = kept(&definition)?;
        let receipt = attempt.map(|attempt| attempt.receipt(caller, self.clock.now()));
        let policies = self.policies.changes(caller, &stored, Some(&definition.policies)).await?;
        self.commit(caller, &name, Expect::Absent, Change::Put(stored.document()), receipt, policies)
            .await
            .map_err(|error| exists(error, &name))?;
        self.describe(caller, &name).await
    }

    pub async fn list(&self, caller: &Caller) -> Result<Vec<Described>> {
        self.may(caller, Action::View)?;
        let all = self.store.collections().await?.into_iter();
        all.filter(|collection| check_name(&collection.name).is_ok()).map(|found| self.described(found)).collect()
    }

    pub async fn describe(&self, caller: &Caller, name: &str) -> Result<Described> {
        self.may(caller, Action::View)?;
        let found = if check_name(name).is_ok() { self.store.describe(name).await? } else { None };
        self.described(found.ok_or_else(|| unknown(name))?)
    }

    /// What is given replaces what was there, field by field; null removes it.
    pub async fn alter(
        &self,
        caller: &Caller,
        name: &str,
        change: &RawDocument,
        rev: Option<i64>,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Described> {
        self.may(caller, Action::Manage)?;
        let now = self.describe(caller, name).await?;
        let altered = checked(name, &merged(&now.definition, change)?)?;
        // Altering what was read: another change in between must not be lost.
        let expect = Expect::Revision(rev.unwrap_or(now.revision));
        let receipt = attempt.map(|attempt| attempt.receipt(caller, self.clock.now()));
        let stored = kept(&altered)?;
        let own = matches!(change.get("policies"), Ok(Some(_))).then_some(altered.policies.as_slice());
        let policies = self.policies.changes(caller, &stored, own).await?;
        self.commit(caller, name, expect, Change::Put(stored.document()), receipt, policies).await?;
        self.describe(caller, name).await
    }

    /// With every document in it, and its policies: another of the same name starts with nobody's rights.
    pub async fn drop(&self, caller: &Caller, name: &str, rev: Option<i64>) -> Result<()> {
        self.may(caller, Action::Manage)?;
        check_name(name).map_err(|_| unknown(name))?;
        let expect = rev.map_or(Expect::Present, Expect::Revision);
        let nothing = checked(name, &RawDocumentBuf::new())?;
        let policies = self.policies.changes(caller, &nothing, Some(&[])).await?;
        self.commit(caller, name, expect, Change::Delete, None, policies).await
    }

    fn may(&self, caller: &Caller, action: Action) -> Result<()> {
        self.access.decide(caller, action, Resource::Module("collections")).map(|_| ())
    }

    fn described(&self, collection: port::Collection) -> Result<Described> {
        let port::Collection { name, definition, documents, mut indexes } = collection;
        let revision = revision(&definition).unwrap_or_default();
        let definition = Definition::read(&name, &definition).map_err(|fault| Error::Internal(Box::new(fault)))?;
        let definition = sealing::shown(definition);
        for (state, given) in indexes.iter_mut().zip(&definition.indexes) {
            state.index.keys.clone_from(&given.keys);
        }
        let policies = self.policies.of(&name);
        Ok(Described { definition, revision, documents, indexes, policies })
    }

    async fn commit(
        &self,
        caller: &Caller,
        name: &str,
        expect: Expect,
        change: Change,
        receipt: Option<Receipt>,
        mut policies: Changes<'_>,
    ) -> Result<()> {
        let collection = COLLECTIONS.to_owned();
        let mut operations = vec![Operation { collection, id: name.to_owned(), expect, change }];
        operations.append(&mut policies.operations);
        let (time, origin) = (self.clock.now(), caller.origin());
        let committed = self.store.commit(Batch { time, origin, operations, check: None, receipt }).await;
        // After a failure too: whether they are on the disk may be unknown.
        policies.adopt().await?;
        match committed {
            Ok(_) => Ok(()),
            Err(crate::ports::Error::Conflict(Conflict::Missing { .. })) => Err(unknown(name)),
            Err(other) => Err(other.into()),
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::NotFound(Fault::new("collections.unknown").with("collection", name))
}

fn exists(error: Error, name: &str) -> Error {
    match error {
        Error::Conflict(fault) if fault.key == "documents.exists" => {
            Error::Conflict(Fault::new("collections.exists").with("collection", name))
        }
        other => other,
    }
}

/// Read, and its schema compiled: nothing enters the catalogue that could not be used.
fn checked(name: &str, document: &RawDocument) -> Result<Definition> {
    let definition = Definition::read(name, document).map_err(Error::Invalid)?;
    if let Some(schema) = &definition.schema {
        Schema::compile(schema).map_err(Error::Invalid)?;
    }
    Ok(definition)
}

/// As the catalogue keeps it.
fn kept(definition: &Definition) -> Result<Definition> {
    sealing::stored(definition.clone()).map_err(Error::Invalid)
}

fn merged(definition: &Definition, change: &RawDocument) -> Result<RawDocumentBuf> {
    let mut merged = RawDocumentBuf::new();
    for entry in change {
        let (name, value) = entry.map_err(malformed).map_err(Error::Unreadable)?;
        merged.append(name, value);
    }
    let current = definition.document();
    for entry in &current {
        let (name, value) = entry.map_err(malformed).map_err(Error::Unreadable)?;
        if matches!(merged.get(name.as_str()), Ok(None)) {
            merged.append(name, value);
        }
    }
    Ok(merged)
}

impl Described {
    /// `ready`, `building` with its progress, or `failed` with the ids that collide.
    pub fn document(&self) -> RawDocumentBuf {
        let mut document = bson::rawdoc! {
            "name": self.definition.name.as_str(),
            "_rev": self.revision,
            "documents": i64::try_from(self.documents).unwrap_or(i64::MAX),
        };
        for (name, value) in self.definition.document().iter().flatten() {
            if name.as_str() != "indexes" {
                document.append(name, value);
            }
        }
        let mut indexes = bson::RawArrayBuf::new();
        for state in &self.indexes {
            let mut index = state.index.document();
            build(&mut index, &state.progress);
            indexes.push(index);
        }
        document.append(bson::cstr!("indexes"), indexes);
        let mut policies = bson::RawArrayBuf::new();
        self.policies.iter().for_each(|policy| policies.push(policy.clone()));
        document.append(bson::cstr!("policies"), policies);
        document
    }
}

fn build(index: &mut RawDocumentBuf, progress: &Build) {
    let figure = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
    match progress {
        Build::Ready => index.append(bson::cstr!("state"), "ready"),
        Build::Building { done, total } => {
            index.append(bson::cstr!("state"), "building");
            index.append(bson::cstr!("done"), figure(*done));
            index.append(bson::cstr!("total"), figure(*total));
        }
        Build::Failed { duplicates, refused } => {
            index.append(bson::cstr!("state"), "failed");
            let mut pairs = bson::RawArrayBuf::new();
            for (one, other) in duplicates {
                let mut pair = bson::RawArrayBuf::new();
                pair.push(one.as_str());
                pair.push(other.as_str());
                pairs.push(pair);
            }
            index.append(bson::cstr!("duplicates"), pairs);
            if let Some((id, reason)) = refused {
                index.append(bson::cstr!("refused"), bson::rawdoc! { "_id": id.as_str(), "reason": reason.as_str() });
            }
        }
    }
}
