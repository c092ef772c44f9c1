//! Policies: kept as documents, checked whole before they count, in force from the moment a change is answered.

mod explain;
mod who;

pub use explain::{Asked, Explained, Said};
pub use who::Whom;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Resource, Role},
    audit::Audit,
    documents::{Match, all},
    sealing::Seals,
};
use crate::{
    base::{clock::SharedClock, environment::Environment, fault::Fault},
    domain::{
        collection::{Definition, check_name},
        document::revision,
        filter::Filter,
        policy::{Facts, Policy, PolicySet, Target, first},
        sealing::Sealing,
    },
    ports::documents::{Batch, COLLECTIONS, Change, Documents, Expect, Operation},
};
use bson::{RawDocument, RawDocumentBuf, cstr, rawdoc};
use std::sync::Arc;

pub const POLICIES: &str = "system.policies";
/// Policies, at most: all are held in memory, and each about a collection is asked at every request to it.
pub const MOST: usize = 1000;

pub struct Policies {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    environment: Environment,
    access: Arc<Access>,
    seals: Arc<Seals>,
    audit: Arc<Audit>,
    /// One change at a time: what each leaves behind is looked at whole.
    changing: tokio::sync::Mutex<()>,
    looking_back: tokio::sync::Mutex<()>,
}

/// Changes of a collection's own policies, to commit with the collection's.
pub(super) struct Changes<'a> {
    pub operations: Vec<Operation>,
    policies: &'a Policies,
    _changing: tokio::sync::MutexGuard<'a, ()>,
}

impl Changes<'_> {
    /// Brings them into force, once committed.
    pub async fn adopt(self) -> Result<()> {
        self.policies.load().await
    }
}

/// A policy as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    pub name: String,
    pub revision: i64,
    /// With the server's own fields.
    pub document: RawDocumentBuf,
}

impl Policies {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        environment: Environment,
        access: Arc<Access>,
        seals: Arc<Seals>,
        audit: Arc<Audit>,
    ) -> Self {
        Self {
            documents,
            clock,
            environment,
            access,
            seals,
            audit,
            changing: tokio::sync::Mutex::default(),
            looking_back: tokio::sync::Mutex::default(),
        }
    }

    /// Brings every kept policy into force. One that cannot be read stops the start: what it would have allowed or
    /// not is unknown.
    pub async fn load(&self) -> Result<()> {
        let policies = self.kept().await.and_then(|kept| kept.iter().map(read).collect::<Result<Vec<_>>>());
        // What is in force is then unknown: nobody is allowed anything by what may have been taken back.
        self.access.adopt(PolicySet::new(policies.as_ref().map_or(&[][..], Vec::as_slice).iter().cloned()));
        policies.map(drop)
    }

    pub async fn list(&self, caller: &Caller) -> Result<Vec<Kept>> {
        self.access.decide(caller, Action::View, Resource::Module("policies"))?;
        self.kept().await
    }

    pub async fn get(&self, caller: &Caller, name: &str) -> Result<Kept> {
        self.access.decide(caller, Action::View, Resource::Module("policies"))?;
        self.find(name).await?.ok_or_else(|| unknown(name))
    }

    /// Makes or replaces a policy that is as expected.
    pub async fn put(
        &self,
        caller: &Caller,
        name: &str,
        document: &RawDocument,
        expected: &Match,
    ) -> Result<(Kept, bool)> {
        self.access.decide(caller, Action::Manage, Resource::Module("policies"))?;
        let policy = Policy::read(name, document).map_err(Error::Invalid)?;
        let _changing = self.changing.lock().await;
        self.askable_where_it_covers(&policy).await?;
        let kept = self.kept().await?;
        let made = !kept.iter().any(|kept| kept.name == name);
        if made && kept.len() >= MOST {
            return Err(Error::Conflict(Fault::new("policies.count").with("limit", MOST)));
        }
        let body = policy.body().to_owned();
        self.stays_open(kept.iter().filter(|kept| kept.name != name), Some(policy))?;
        let expect = match expected {
            Match::Any => Expect::Any,
            Match::Absent => Expect::Absent,
            Match::Present => Expect::Present,
            // None of several would be the one that is meant.
            Match::Revisions(revisions) => Expect::Revision(revisions.first().copied().unwrap_or_default()),
        };
        let committed = self.commit(caller, name, expect, Change::Put(body)).await;
        // After a failure too: whether it is on the disk may be unknown.
        self.load().await?;
        committed?;
        let kept = self.find(name).await?.ok_or_else(|| unknown(name))?;
        Ok((kept, made))
    }

    pub async fn delete(&self, caller: &Caller, name: &str, rev: Option<i64>) -> Result<()> {
        self.access.decide(caller, Action::Manage, Resource::Module("policies"))?;
        let _changing = self.changing.lock().await;
        let kept = self.kept().await?;
        if !kept.iter().any(|kept| kept.name == name) {
            return Err(unknown(name));
        }
        self.stays_open(kept.iter().filter(|kept| kept.name != name), None)?;
        let expect = rev.map_or(Expect::Present, Expect::Revision);
        let committed = self.commit(caller, name, expect, Change::Delete).await;
        self.load().await?;
        committed
    }

    /// The operations by which a collection so defined comes to have these policies and no others of its own (`None`:
    /// those it has); they are held until they are committed and taken in.
    pub(super) async fn changes(
        &self,
        caller: &Caller,
        definition: &Definition,
        wanted: Option<&[RawDocumentBuf]>,
    ) -> Result<Changes<'_>> {
        let (collection, sealing) = (definition.name.as_str(), Sealing::of(definition));
        if wanted.is_some_and(|wanted| !wanted.is_empty()) {
            self.access.decide(caller, Action::Manage, Resource::Module("policies"))?;
        }
        let changing = self.changing.lock().await;
        let Some(wanted) = wanted else {
            for policy in self.access.policies().about(Resource::Collection(collection)) {
                self.askable(policy, collection, &sealing)?;
            }
            return Ok(Changes { operations: Vec::new(), policies: self, _changing: changing });
        };
        let policies = wanted.iter().enumerate().map(|(place, document)| own(collection, place, document));
        let policies = policies.collect::<Result<Vec<_>>>()?;
        let kept = self.kept().await?;
        let (mut operations, mut others) = (Vec::new(), Vec::new());
        for policy in &policies {
            self.askable(policy, collection, &sealing)?;
        }
        for kept in &kept {
            let policy = read(kept)?;
            let is_own = policy.target == Target::Collection(collection.to_owned());
            if !is_own && policy.target.covers(Resource::Collection(collection)) {
                self.askable(&policy, collection, &sealing)?;
            }
            let stays = policies.iter().any(|policy| policy.name == kept.name);
            match (is_own, stays) {
                (true, false) => operations.push(operation(&kept.name, Expect::Any, Change::Delete)),
                (false, true) => return Err(Error::Conflict(Fault::new("policies.taken").with("name", &kept.name))),
                (true, true) => {}
                (false, false) => others.push(policy),
            }
        }
        if others.len() + policies.len() > MOST {
            return Err(Error::Conflict(Fault::new("policies.count").with("limit", MOST)));
        }
        if !policies.is_empty() {
            PolicySet::new(others.into_iter().chain(policies.iter().cloned())).check().map_err(Error::Conflict)?;
        }
        let put = |policy: &Policy| operation(&policy.name, Expect::Any, Change::Put(policy.body().to_owned()));
        operations.extend(policies.iter().map(put));
        Ok(Changes { operations, policies: self, _changing: changing })
    }

    /// A collection's own policies.
    pub(super) fn of(&self, collection: &str) -> Vec<RawDocumentBuf> {
        let policies = self.access.policies();
        let about = policies.about(Resource::Collection(collection));
        let own = about.filter(|policy| policy.target == Target::Collection(collection.to_owned()));
        own.map(|policy| named(&policy.name, policy.body())).collect()
    }

    async fn askable_where_it_covers(&self, policy: &Policy) -> Result<()> {
        for document in all(&*self.documents, COLLECTIONS, Filter::all()).await? {
            let name = document.get_str("_id").unwrap_or_default();
            if check_name(name).is_ok() && policy.target.covers(Resource::Collection(name)) {
                let definition = Definition::read(name, &document).map_err(|fault| Error::Internal(Box::new(fault)))?;
                self.askable(policy, name, &Sealing::of(&definition))?;
            }
        }
        Ok(())
    }

    /// What is read is looked for in the store, which finds what is sealed by equality alone. Writes are judged on the
    /// document opened: of them anything may be asked.
    fn askable(&self, policy: &Policy, collection: &str, sealing: &Sealing) -> Result<()> {
        if !policy.actions.contains(&Action::View) {
            return Ok(());
        }
        let asked = policy.scope.sample().map_err(Error::Invalid)?;
        let answerable = sealing.translate((*asked).clone(), &self.seals.hashes());
        answerable.map(drop).map_err(|fault| {
            let sealed = Fault::new("policies.sealed").at(format!("where.{}", fault.path)).with("field", &fault.path);
            Error::Invalid(sealed.with("policy", &policy.name).with("collection", collection))
        })
    }

    /// Refuses a change after which no administrator could change it back, in any environment or with little trust, or
    /// after which requests would be too dear.
    fn stays_open<'a>(&self, others: impl Iterator<Item = &'a Kept>, changed: Option<Policy>) -> Result<()> {
        let mut policies = others.map(read).collect::<Result<Vec<_>>>()?;
        let grows = changed.is_some();
        policies.extend(changed);
        let policies = PolicySet::new(policies);
        // What goes makes nothing dearer.
        if grows {
            policies.check().map_err(Error::Conflict)?;
        }
        let administrator = Facts {
            identity: "",
            roles: &[Role::Admin],
            memberships: &[],
            restriction: None,
            trust: 0,
            environment: self.environment,
            now: self.clock.now(),
        };
        let clauses = policies.decide(&administrator, Action::Manage, Resource::Module("policies"));
        match clauses.is_empty() {
            true => Err(Error::Refused(Fault::new("policies.lockout"))),
            false => Ok(()),
        }
    }

    async fn find(&self, name: &str) -> Result<Option<Kept>> {
        if Policy::check_name(name).is_err() {
            return Ok(None);
        }
        self.documents.get(POLICIES, name).await?.map(kept).transpose()
    }

    async fn kept(&self) -> Result<Vec<Kept>> {
        all(&*self.documents, POLICIES, Filter::all()).await?.into_iter().map(kept).collect()
    }

    async fn commit(&self, caller: &Caller, name: &str, expect: Expect, change: Change) -> Result<()> {
        let (time, origin) = (self.clock.now(), caller.origin());
        let operations = vec![operation(name, expect, change)];
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }
}

/// The documents an instance starts with.
pub(super) fn founding() -> impl Iterator<Item = Operation> {
    first().into_iter().map(|(name, document)| operation(name, Expect::Any, Change::Put(document)))
}

fn operation(name: &str, expect: Expect, change: Change) -> Operation {
    Operation { collection: POLICIES.to_owned(), id: name.to_owned(), expect, change }
}

/// A policy given with its collection: it names no other, and is called by the collection's name when it has none.
fn own(collection: &str, place: usize, document: &RawDocument) -> Result<Policy> {
    let at = |fault: Fault| {
        let path = format!("policies.{place}.{}", fault.path);
        Error::Invalid(fault.at(path))
    };
    let given = document.get_str("name").ok();
    let name = given.map_or_else(|| format!("{}-{place}", collection.replace('_', "-")), str::to_owned);
    let mut whole = named(&name, document);
    if document.get("collection").is_ok_and(|named| named.is_none()) {
        whole.append(cstr!("collection"), collection);
    }
    let policy = Policy::read(&name, &whole).map_err(at)?;
    match policy.target == Target::Collection(collection.to_owned()) {
        true => Ok(policy),
        false => Err(at(Fault::new("policies.elsewhere").at("collection").with("collection", collection))),
    }
}

/// The document with its name first.
fn named(name: &str, document: &RawDocument) -> RawDocumentBuf {
    let mut named = rawdoc! { "name": name };
    let fields = document.iter().map_while(std::result::Result::ok);
    fields.filter(|(field, _)| field.as_str() != "name").for_each(|(field, value)| named.append(field, value));
    named
}

fn kept(document: RawDocumentBuf) -> Result<Kept> {
    let name = document.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?.to_owned();
    Ok(Kept { name, revision: revision(&document).unwrap_or_default(), document })
}

fn read(kept: &Kept) -> Result<Policy> {
    Policy::read(&kept.name, &kept.document).map_err(|fault| Error::Internal(Box::new(fault)))
}

fn unknown(name: &str) -> Error {
    Error::NotFound(Fault::new("policies.unknown").with("name", name))
}
