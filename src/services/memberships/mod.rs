//! Which people belong to which organizations, and as what. Ended, never deleted.

mod cache;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Grant, MemberRole, Membership, Resource, Subject},
    documents::{Attempt, Found, Listing, Search, all},
    identities::{self, IDENTITIES, Identity, Kind, Status, stands},
    past::Past,
    scope::{Scopes, refusal},
};
use crate::{
    base::{clock::SharedClock, fault::Fault, metrics::runtime::Looks, random},
    domain::{document::revision, filter::Filter, membership::Move, update::Update},
    ports::documents::{Batch, Change, Conflict, Documents, Expect, Operation},
};
use bson::{DateTime, RawDocument, RawDocumentBuf, rawdoc};
use cache::Cache;
use std::sync::Arc;

pub const MEMBERSHIPS: &str = "system.memberships";
pub(super) const MODULE: Resource<'static> = Resource::Module("memberships");

const LISTING: Listing = Listing {
    collection: MEMBERSHIPS,
    shown: &[
        "_id",
        "_rev",
        "_createdAt",
        "_updatedAt",
        "person",
        "organization",
        "role",
        "status",
        "since",
        "by",
        "ended",
        "endedBy",
    ],
};

/// A membership, as kept.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    #[serde(rename = "_id")]
    pub id: String,
    pub person: String,
    pub organization: String,
    pub role: MemberRole,
    /// `active` or `ended`.
    status: String,
    since: DateTime,
    by: String,
    /// With the person and the organization it is unique: of those that go on there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<DateTime>,
}

pub struct Memberships {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    access: Arc<Access>,
    cache: Cache,
    /// What must not be decided twice at once: who is the last owner, the last administrator.
    pub(super) deciding: tokio::sync::Mutex<()>,
}

impl Memberships {
    pub fn new(documents: Arc<dyn Documents>, clock: SharedClock, access: Arc<Access>) -> Self {
        Self { documents, clock, access, cache: Cache::default(), deciding: tokio::sync::Mutex::default() }
    }

    /// How what is remembered serves.
    pub fn looks(&self) -> Arc<Looks> {
        self.cache.looks.clone()
    }

    /// The memberships that count: of an active person, in active organizations.
    pub async fn memberships_of(&self, person: &str) -> Result<Arc<[Membership]>> {
        self.cache.of(person, self.load(person)).await
    }

    /// The memberships a caller speaks with: all, or the one in the organization acted for.
    pub async fn acting(&self, person: &str, organization: Option<&str>) -> Result<Arc<[Membership]>> {
        let all = self.memberships_of(person).await?;
        let Some(organization) = organization else { return Ok(all) };
        let one: Arc<[_]> = all.iter().filter(|one| one.organization == organization).cloned().collect();
        if one.is_empty() { Err(Error::Forbidden) } else { Ok(one) }
    }

    pub async fn list(&self, caller: &Caller, search: &Search) -> Result<Found> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        LISTING.find(&*self.documents, &grant, Filter::all(), search).await
    }

    pub async fn get(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        let found = self.documents.get(MEMBERSHIPS, id).await?.filter(|found| grant.scope.matches(found));
        found.map(|found| LISTING.show(&found)).ok_or_else(|| unknown(id))
    }

    /// Makes a person a member.
    pub async fn add(
        &self,
        caller: &Caller,
        person: &str,
        organization: &str,
        role: MemberRole,
        attempt: Option<Attempt<'_>>,
    ) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Create, MODULE)?;
        let _deciding = self.deciding.lock().await;
        let operation = self.draft(&caller.actor(), person, organization, role)?;
        self.judge_new(caller, &operation)?;
        self.counts(person, Kind::Person).await?;
        self.counts(organization, Kind::Organization).await?;
        let receipt = attempt.map(|attempt| attempt.receipt(caller, self.clock.now()));
        let (time, origin) = (self.clock.now(), caller.origin());
        let check = Some(Arc::new(Scopes(vec![Some(grant.scope)])) as _);
        let id = operation.id.clone();
        let batch = Batch { time, origin, operations: vec![operation], check, receipt };
        let committed = self.documents.commit(batch).await;
        // After a failure too: whether it is on the disk may be unknown.
        self.cache.forget([person]);
        let committed = committed.map_err(taken)?;
        let id = committed.outcomes.into_iter().next().map_or(id, |outcome| outcome.id);
        self.answer(caller, &id).await
    }

    /// Gives a member another role.
    pub async fn change(
        &self,
        caller: &Caller,
        id: &str,
        role: MemberRole,
        rev: Option<i64>,
    ) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Update, MODULE)?;
        self.turn(caller, &grant, id, Some(role), rev).await
    }

    /// Ends a membership: it stays in the history and counts no more.
    pub async fn end(&self, caller: &Caller, id: &str, rev: Option<i64>) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Delete, MODULE)?;
        self.turn(caller, &grant, id, None, rev).await
    }

    async fn turn(
        &self,
        caller: &Caller,
        grant: &Grant,
        id: &str,
        to: Option<MemberRole>,
        rev: Option<i64>,
    ) -> Result<RawDocumentBuf> {
        let _deciding = self.deciding.lock().await;
        let document = self.documents.get(MEMBERSHIPS, id).await?.filter(|found| grant.scope.matches(found));
        let document = document.ok_or_else(|| unknown(id))?;
        stands(id, &document, rev)?;
        let kept: Kept = read(&document)?;
        if kept.ended.is_some() {
            return Err(Error::Conflict(Fault::new("memberships.ended").with("id", id)));
        }
        let step = Move { from: Some(kept.role), to };
        self.judge(caller, &kept.organization, &kept.person, step, &document)?;
        if step.loses_owner() && self.is_active(&kept.organization).await? && !self.other_owner(&kept).await? {
            let fault = Fault::new("memberships.last_owner").with("organization", &kept.organization);
            return Err(Error::Conflict(fault));
        }
        let now = DateTime::from_millis(self.clock.now().0);
        let set = match to {
            Some(role) => rawdoc! { "role": role.name() },
            None => rawdoc! { "status": "ended", "ended": now, "endedBy": caller.actor() },
        };
        let update = Update::parse(&rawdoc! { "$set": set }).map_err(Error::Invalid)?;
        let expect = revision(&document).map_or(Expect::Present, Expect::Revision);
        let (collection, id) = (MEMBERSHIPS.to_owned(), id.to_owned());
        let operation = Operation { collection, id: id.clone(), expect, change: Change::Update(update) };
        let check = Some(Arc::new(Scopes(vec![Some(grant.scope.clone())])) as _);
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations: vec![operation], check, receipt: None };
        let committed = self.documents.commit(batch).await;
        self.cache.forget([kept.person.as_str()]);
        committed.map_err(|error| refusal(error, || unknown(&id)))?;
        self.answer(caller, &id).await
    }

    /// A membership not yet committed, for whoever makes one in a batch of their own.
    pub(super) fn draft(&self, by: &str, person: &str, organization: &str, role: MemberRole) -> Result<Operation> {
        let now = self.clock.now();
        let kept = Kept {
            id: random::id(now),
            person: person.to_owned(),
            organization: organization.to_owned(),
            role,
            status: "active".to_owned(),
            since: DateTime::from_millis(now.0),
            by: by.to_owned(),
            ended: None,
        };
        let document = bson::serialize_to_raw_document_buf(&kept).map_err(|error| Error::Internal(Box::new(error)))?;
        let (collection, id) = (MEMBERSHIPS.to_owned(), kept.id);
        Ok(Operation { collection, id, expect: Expect::Absent, change: Change::Put(document) })
    }

    /// Whether the caller may hand out or take back this role, over what their policies say; `document` is the
    /// membership, or the invitation to one.
    pub(super) fn judge(
        &self,
        caller: &Caller,
        organization: &str,
        person: &str,
        step: Move,
        document: &RawDocument,
    ) -> Result<()> {
        // Who manages memberships as such stands above the organizations' own ranks.
        let manages = self.access.decide(caller, Action::Manage, MODULE);
        if manages.is_ok_and(|grant| grant.scope.matches(document)) {
            return Ok(());
        }
        let Subject::Identity(proven) = &caller.subject else { return Err(Error::Forbidden) };
        let own = proven.memberships.iter().find(|membership| membership.organization == organization);
        step.allowed(own.map(|membership| membership.role), proven.id == person).map_err(Error::Barred)
    }

    /// As [`Self::judge`], of a membership about to be made.
    pub(super) fn judge_new(&self, caller: &Caller, operation: &Operation) -> Result<()> {
        let Change::Put(document) = &operation.change else { return Err(Error::Forbidden) };
        let kept: Kept = read(document)?;
        let step = Move { from: None, to: Some(kept.role) };
        self.judge(caller, &kept.organization, &kept.person, step, document)
    }

    /// An organization that would be left without an owner if this person went.
    pub(super) async fn orphaned_by(&self, person: &str) -> Result<Option<String>> {
        for document in self.active(&rawdoc! { "person": person, "role": MemberRole::Owner.name() }).await? {
            let kept: Kept = read(&document)?;
            if self.is_active(&kept.organization).await? && !self.other_owner(&kept).await? {
                return Ok(Some(kept.organization));
            }
        }
        Ok(None)
    }

    pub(super) fn forget<'a>(&self, people: impl IntoIterator<Item = &'a str>) {
        self.cache.forget(people);
    }

    pub(super) fn forget_all(&self) {
        self.cache.forget_all();
    }

    /// Refuses what is absent, of another kind or disabled.
    pub(super) async fn counts(&self, id: &str, kind: Kind) -> Result<Identity> {
        let found =
            self.documents.get(IDENTITIES, id).await?.map(|document| identities::read(&document)).transpose()?;
        let found = found.filter(|found| found.kind == kind && found.status == Status::Active);
        found.ok_or_else(|| {
            let field = if kind == Kind::Organization { "organization" } else { "person" };
            Error::Invalid(Fault::new("memberships.not_active").at(field).with("id", id))
        })
    }

    async fn is_active(&self, identity: &str) -> Result<bool> {
        let found = self.documents.get(IDENTITIES, identity).await?;
        Ok(found.map(|document| identities::read(&document)).transpose()?.is_some_and(|i| i.status == Status::Active))
    }

    async fn other_owner(&self, leaving: &Kept) -> Result<bool> {
        let owners = rawdoc! { "organization": leaving.organization.as_str(), "role": MemberRole::Owner.name() };
        for document in self.active(&owners).await? {
            let kept: Kept = read(&document)?;
            if kept.id != leaving.id && self.is_active(&kept.person).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn load(&self, person: &str) -> Result<Arc<[Membership]>> {
        let mut counted = Vec::new();
        let documents = self.active(&rawdoc! { "person": person }).await?;
        if !documents.is_empty() && self.is_active(person).await? {
            for document in documents {
                let Kept { organization, role, .. } = read(&document)?;
                if self.is_active(&organization).await? {
                    counted.push(Membership { organization, role });
                }
            }
        }
        Ok(counted.into())
    }

    /// As [`Self::memberships_of`], at a moment of the past, which catches up with what is read here.
    pub(super) async fn memberships_at(&self, person: &str, past: &mut Past) -> Result<Arc<[Membership]>> {
        let own = Filter::parse(&rawdoc! { "person": person }).map_err(Error::Invalid)?;
        let (mut held, mut counted) = (Vec::new(), Vec::new());
        for now in all(&*self.documents, MEMBERSHIPS, own).await? {
            let Kept { id, organization, .. } = read(&now)?;
            held.push((id, now, self.documents.get(IDENTITIES, &organization).await?));
        }
        past.catch_up(&*self.documents).await?;
        for (id, now, held) in held {
            let Some(then) = past.then(MEMBERSHIPS, &id, Some(now)) else { continue };
            let Kept { organization, role, status, .. } = read(&then)?;
            let held = past.then(IDENTITIES, &organization, held).map(|held| identities::read(&held)).transpose()?;
            if status == "active" && held.is_some_and(|held| held.status == Status::Active) {
                counted.push(Membership { organization, role });
            }
        }
        Ok(counted.into())
    }

    /// Memberships not ended.
    async fn active(&self, of: &RawDocument) -> Result<Vec<RawDocumentBuf>> {
        let mut filter = rawdoc! { "status": "active" };
        of.iter().flatten().for_each(|(name, value)| filter.append(name, value));
        all(&*self.documents, MEMBERSHIPS, Filter::parse(&filter).map_err(Error::Invalid)?).await
    }

    async fn answer(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let document = self.documents.get(MEMBERSHIPS, id).await?.ok_or_else(|| unknown(id))?;
        Ok(LISTING.answer((&self.access, caller), MODULE, &document))
    }

    pub(super) async fn shown(&self, id: &str) -> Result<RawDocumentBuf> {
        let document = self.documents.get(MEMBERSHIPS, id).await?.ok_or_else(|| unknown(id))?;
        Ok(LISTING.show(&document))
    }
}

/// The conflict of a membership that is there already.
pub(super) fn taken(error: crate::ports::Error) -> Error {
    match error {
        crate::ports::Error::Conflict(Conflict::Unique { .. }) => Error::Conflict(Fault::new("memberships.exists")),
        other => refusal(other, || Error::Forbidden),
    }
}

fn read(document: &RawDocument) -> Result<Kept> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

fn unknown(id: &str) -> Error {
    Error::NotFound(Fault::new("memberships.unknown").with("id", id))
}
