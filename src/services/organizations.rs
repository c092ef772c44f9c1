//! Organizations: identities without a password, for which people act.

use super::{
    Error, Result,
    access::{Access, Action, Caller, Grant, MemberRole, Resource, Subject},
    documents::{Attempt, Found, Listing, Search},
    identities::{self, IDENTITIES, Identity, Kind},
    memberships::Memberships,
    scope::{Scopes, refusal},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random,
    },
    domain::{
        contact,
        document::{malformed, revision},
        filter::Filter,
    },
    ports::{
        self,
        documents::{Batch, Conflict, Documents, Expect},
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use std::sync::Arc;

const MODULE: Resource<'static> = Resource::Module("organizations");
const LISTING: Listing = Listing {
    collection: IDENTITIES,
    shown: &[
        "_id",
        "_rev",
        "_createdAt",
        "_updatedAt",
        "kind",
        "name",
        "legalId",
        "email",
        "phone",
        "locale",
        "status",
    ],
};

/// An organization to make.
#[derive(Debug, Default)]
pub struct New {
    pub name: String,
    pub legal_id: Option<String>,
    pub locale: Option<String>,
    /// The person who will own it; absent: the caller.
    pub owner: Option<String>,
}

pub struct Organizations {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    access: Arc<Access>,
    memberships: Arc<Memberships>,
}

impl Organizations {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        access: Arc<Access>,
        memberships: Arc<Memberships>,
    ) -> Self {
        Self { documents, clock, access, memberships }
    }

    /// Makes an organization and its first owner, both or neither.
    pub async fn create(&self, caller: &Caller, new: New, attempt: Option<Attempt<'_>>) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Create, MODULE)?;
        let now = self.clock.now();
        let organization = draft(&new, now)?;
        let (owner, named) = match (&new.owner, &caller.subject) {
            (Some(owner), _) => (owner.as_str(), true),
            (None, Subject::Identity(proven)) => (proven.id.as_str(), false),
            (None, _) => return Err(Error::Invalid(Fault::new("organizations.owner").at("owner"))),
        };
        let _deciding = self.memberships.deciding.lock().await;
        self.memberships.counts(owner, Kind::Person).await?;
        let membership = self.memberships.draft(&caller.actor(), owner, &organization.id, MemberRole::Owner)?;
        if named {
            // Who makes an organization may own it; making others own it is managing memberships.
            self.memberships.judge_new(caller, &membership)?;
        }
        let receipt = attempt.map(|attempt| attempt.receipt(caller, now));
        let operations = vec![identities::put(&organization), membership];
        let check = Some(Arc::new(Scopes(vec![Some(grant.scope), None])) as _);
        let batch = Batch { time: now, origin: caller.origin(), operations, check, receipt };
        let committed = self.documents.commit(batch).await;
        self.memberships.forget([owner]);
        let committed = committed.map_err(|error| taken(error, &organization))?;
        let made = committed.outcomes.into_iter().next().map_or(organization.id, |outcome| outcome.id);
        self.answer(caller, &made).await
    }

    pub async fn list(&self, caller: &Caller, search: &Search) -> Result<Found> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        LISTING.find(&*self.documents, &grant, organizations()?, search).await
    }

    pub async fn get(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        Ok(LISTING.show(&self.require(&grant, id).await?))
    }

    /// From `{name?, legalId?, locale?}`; null takes away what may be absent.
    pub async fn change(
        &self,
        caller: &Caller,
        id: &str,
        changes: &RawDocument,
        rev: Option<i64>,
    ) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Update, MODULE)?;
        let document = self.require(&grant, id).await?;
        identities::stands(id, &document, rev)?;
        let mut organization = identities::read(&document)?;
        apply(&mut organization, changes).map_err(Error::Invalid)?;
        let expect = revision(&document).map_or(Expect::Present, Expect::Revision);
        let operations = vec![identities::set(&organization, expect)?];
        let check = Some(Arc::new(Scopes(vec![Some(grant.scope)])) as _);
        let batch = Batch { time: self.clock.now(), origin: caller.origin(), operations, check, receipt: None };
        self.documents.commit(batch).await.map_err(|error| taken(error, &organization))?;
        self.answer(caller, id).await
    }

    async fn require(&self, grant: &Grant, id: &str) -> Result<RawDocumentBuf> {
        let (found, ours) = (self.documents.get(IDENTITIES, id).await?, organizations()?);
        found.filter(|found| ours.matches(found) && grant.scope.matches(found)).ok_or_else(|| unknown(id))
    }

    async fn answer(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let document = self.documents.get(IDENTITIES, id).await?.ok_or_else(|| unknown(id))?;
        Ok(LISTING.answer((&self.access, caller), MODULE, &document))
    }
}

fn draft(new: &New, now: Timestamp) -> Result<Identity> {
    let mut organization = Identity::organization(random::id(now));
    organization.name = Some(contact::name(&new.name).map_err(Error::Invalid)?);
    organization.legal_id = new.legal_id.as_deref().map(contact::legal_id).transpose().map_err(Error::Invalid)?;
    organization.locale = new.locale.as_deref().map(contact::locale).transpose().map_err(Error::Invalid)?;
    organization.handles = organization.handles();
    Ok(organization)
}

fn apply(organization: &mut Identity, changes: &RawDocument) -> std::result::Result<(), Fault> {
    for entry in changes {
        let (name, value) = entry.map_err(malformed)?;
        match (name.as_str(), value) {
            ("name", RawBsonRef::String(text)) => organization.name = Some(contact::name(text)?),
            ("legalId", RawBsonRef::String(text)) => organization.legal_id = Some(contact::legal_id(text)?),
            ("legalId", RawBsonRef::Null) => organization.legal_id = None,
            ("locale", RawBsonRef::String(text)) => organization.locale = Some(contact::locale(text)?),
            ("locale", RawBsonRef::Null) => organization.locale = None,
            ("name" | "legalId" | "locale", _) => return Err(Fault::new("identities.text").at(name.as_str())),
            (other, _) => return Err(Fault::new("organizations.field").at(other)),
        }
    }
    Ok(())
}

fn organizations() -> Result<Filter> {
    Filter::parse(&rawdoc! { "kind": Kind::Organization.name() }).map_err(Error::Invalid)
}

fn taken(error: ports::Error, organization: &Identity) -> Error {
    match error {
        ports::Error::Conflict(Conflict::Unique { .. }) => {
            let id = organization.legal_id.as_deref().unwrap_or_default();
            Error::Conflict(Fault::new("organizations.legal_id_taken").at("legalId").with("id", id))
        }
        other => refusal(other, || unknown(&organization.id)),
    }
}

fn unknown(id: &str) -> Error {
    Error::NotFound(Fault::new("organizations.unknown").with("id", id))
}
