//! Invitations: a person asked into an organization, by a token good for one use and seven days, kept hashed.

use super::{
    Error, Result,
    access::{Access, Action, Caller, Grant, MemberRole, Proven, Subject},
    documents::{Found, Listing, Search, first},
    identities::{self, IDENTITIES, Identities, Identity, Kind, New, Status},
    memberships::{MODULE, Memberships, taken},
    scope::{Scopes, refusal},
};
use crate::{
    base::{clock::SharedClock, fault::Fault, random, secret},
    domain::{contact, document::revision, filter::Filter, membership::Move, update::Update},
    ports::{
        self,
        documents::{Batch, Change, Conflict, Documents, Expect, Operation},
    },
};
use bson::{DateTime, RawDocument, RawDocumentBuf, rawdoc};
use std::sync::Arc;
use zeroize::Zeroizing;

pub const INVITATIONS: &str = "system.invitations";
const LIFE_SECONDS: i64 = 7 * 24 * 3600;
const PENDING: &str = "pending";

const LISTING: Listing = Listing {
    collection: INVITATIONS,
    shown: &[
        "_id",
        "_rev",
        "_createdAt",
        "_updatedAt",
        "organization",
        "role",
        "email",
        "person",
        "status",
        "expires",
        "by",
        "acceptedBy",
    ],
};

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    #[serde(rename = "_id")]
    id: String,
    organization: String,
    role: MemberRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    hash: String,
    /// `pending`, `accepted` or `revoked`.
    status: String,
    expires: DateTime,
    by: String,
}

/// Whom to ask in: one of the two.
#[derive(Debug, Clone)]
pub enum Invited {
    Email(String),
    Person(String),
}

/// An invitation just made; the token is kept nowhere.
pub struct Made {
    pub document: RawDocumentBuf,
    pub token: Zeroizing<String>,
}

/// What someone without an account gives to have one.
#[derive(Debug)]
pub struct Account {
    pub name: String,
    pub password: Zeroizing<String>,
    pub locale: Option<String>,
}

pub struct Invitations {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    access: Arc<Access>,
    identities: Arc<Identities>,
}

impl Invitations {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        access: Arc<Access>,
        identities: Arc<Identities>,
    ) -> Self {
        Self { documents, clock, access, identities }
    }

    pub async fn create(
        &self,
        caller: &Caller,
        organization: &str,
        role: MemberRole,
        invited: Invited,
    ) -> Result<Made> {
        let grant = self.access.decide(caller, Action::Create, MODULE)?;
        let now = self.clock.now();
        let token = secret::make();
        let (email, person) = match invited {
            Invited::Email(email) => (Some(contact::email(&email).map_err(Error::Invalid)?), None),
            Invited::Person(person) => (None, Some(person)),
        };
        let kept = Kept {
            id: random::id(now),
            organization: organization.to_owned(),
            role,
            email,
            person,
            hash: secret::hash(&token),
            status: PENDING.to_owned(),
            expires: DateTime::from_millis(now.plus_seconds(LIFE_SECONDS).0),
            by: caller.actor(),
        };
        let document = bson::serialize_to_raw_document_buf(&kept).map_err(|error| Error::Internal(Box::new(error)))?;
        let step = Move { from: None, to: Some(role) };
        let person = kept.person.as_deref().unwrap_or_default();
        self.memberships().judge(caller, organization, person, step, &document)?;
        self.memberships().counts(organization, Kind::Organization).await?;
        if kept.person.is_some() {
            self.memberships().counts(person, Kind::Person).await?;
        }
        let (collection, id, change) = (INVITATIONS.to_owned(), kept.id.clone(), Change::Put(document));
        let operation = Operation { collection, id, expect: Expect::Absent, change };
        self.commit(caller, vec![operation], vec![Some(grant.scope)]).await.map_err(|e| refusal(e, || unknown("")))?;
        Ok(Made { document: self.shown(&kept.id).await?, token })
    }

    pub async fn list(&self, caller: &Caller, search: &Search) -> Result<Found> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        LISTING.find(&*self.documents, &grant, Filter::all(), search).await
    }

    /// Takes an invitation back.
    pub async fn revoke(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let grant: Grant = self.access.decide(caller, Action::Delete, MODULE)?;
        let found = self.documents.get(INVITATIONS, id).await?.filter(|found| grant.scope.matches(found));
        let document = found.ok_or_else(|| unknown(id))?;
        if read(&document)?.status != PENDING {
            return Err(gone());
        }
        let operation = close(&document, &rawdoc! { "status": "revoked" })?;
        self.commit(caller, vec![operation], vec![Some(grant.scope)]).await.map_err(|error| match error {
            ports::Error::Conflict(Conflict::Revision { .. }) => gone(),
            other => refusal(other, || unknown(id)),
        })?;
        self.shown(id).await
    }

    /// Makes who brings the token a member: a person who has proven themselves and is the one invited, or someone whose
    /// address has no account yet, who gets one.
    pub async fn accept(&self, caller: &Caller, token: &str, account: Option<Account>) -> Result<RawDocumentBuf> {
        let document = self.by_token(token).await?.ok_or_else(|| unknown(""))?;
        let kept = self.pending(&document)?;
        // Made before anything is held: it takes long.
        let (person, made) = self.invitee(caller, &kept, account).await?;
        let _deciding = self.memberships().deciding.lock().await;
        self.stands(&kept, &document).await?;
        let member = self.memberships().draft(&kept.by, &person, &kept.organization, kept.role)?;
        let close = close(&document, &rawdoc! { "status": "accepted", "acceptedBy": person.as_str() })?;
        let id = member.id.clone();
        let operations: Vec<_> = [close, member].into_iter().chain(made.as_ref().map(identities::put)).collect();
        let scopes = vec![None; operations.len()];
        let committed = self.commit(caller, operations, scopes).await;
        self.memberships().forget([person.as_str()]);
        committed.map_err(|error| match error {
            ports::Error::Conflict(Conflict::Revision { .. }) => gone(),
            // Somebody took the address meanwhile: they are to log in.
            ports::Error::Conflict(Conflict::Unique { operation: 2, .. }) => Error::Unauthorized,
            other => taken(other),
        })?;
        self.memberships().shown(&id).await
    }

    async fn invitee(
        &self,
        caller: &Caller,
        kept: &Kept,
        account: Option<Account>,
    ) -> Result<(String, Option<Identity>)> {
        match (&caller.subject, &kept.email) {
            (Subject::Identity(Proven { id, restriction: None, .. }), email) => {
                let person = self.memberships().counts(id, Kind::Person).await?;
                let by_address = email.is_some() && person.email == *email;
                if by_address || kept.person.as_ref() == Some(id) {
                    return Ok((id.clone(), None));
                }
                Err(Error::Barred(Fault::new("invitations.other_person")))
            }
            (Subject::Anonymous, Some(email)) if !self.identities.has(email).await? => {
                let wanted = || Error::Invalid(Fault::new("invitations.account").at("password"));
                let Account { name, password, locale } = account.ok_or_else(wanted)?;
                let (email, name, password) = (Some(email.clone()), Some(name), Some(password));
                let new = New { email, name, locale, password, ..New::default() };
                let identity = self.identities.prepare(new, false).await?;
                Ok((identity.id.clone(), Some(identity)))
            }
            (Subject::Anonymous, _) => Err(Error::Unauthorized),
            _ => Err(Error::Forbidden),
        }
    }

    /// An invitation is worth what its maker may still do, in an organization that still is.
    async fn stands(&self, kept: &Kept, document: &RawDocument) -> Result<()> {
        if self.memberships().counts(&kept.organization, Kind::Organization).await.is_err() {
            return Err(gone());
        }
        let Some(maker) = self.documents.get(IDENTITIES, &kept.by).await? else {
            // The operator, at the machine itself.
            return Ok(());
        };
        let maker = identities::read(&maker)?;
        let proven = Proven {
            memberships: self.memberships().memberships_of(&maker.id).await?,
            id: maker.id,
            session: None,
            key: None,
            roles: maker.roles,
            restriction: None,
        };
        let caller = Caller { subject: Subject::Identity(proven), ..Caller::system() };
        let step = Move { from: None, to: Some(kept.role) };
        let may = self.access.decide(&caller, Action::Create, MODULE);
        let may = may.is_ok_and(|grant| grant.scope.matches(document))
            && self.memberships().judge(&caller, &kept.organization, "", step, document).is_ok();
        if maker.status == Status::Active && may { Ok(()) } else { Err(gone()) }
    }

    fn pending(&self, document: &RawDocument) -> Result<Kept> {
        let kept = read(document)?;
        let lives = kept.status == PENDING && kept.expires.timestamp_millis() > self.clock.now().0;
        if lives { Ok(kept) } else { Err(gone()) }
    }

    async fn by_token(&self, token: &str) -> Result<Option<RawDocumentBuf>> {
        let hash = rawdoc! { "hash": secret::hash(token) };
        Ok(first(&*self.documents, INVITATIONS, &hash, "", 1).await?.pop())
    }

    async fn shown(&self, id: &str) -> Result<RawDocumentBuf> {
        Ok(LISTING.show(&self.documents.get(INVITATIONS, id).await?.ok_or_else(|| unknown(id))?))
    }

    async fn commit(
        &self,
        caller: &Caller,
        operations: Vec<Operation>,
        scopes: Vec<Option<Arc<Filter>>>,
    ) -> ports::Result<()> {
        let (time, origin, check) = (self.clock.now(), caller.origin(), Some(Arc::new(Scopes(scopes)) as _));
        self.documents.commit(Batch { time, origin, operations, check, receipt: None }).await.map(|_| ())
    }

    fn memberships(&self) -> &Memberships {
        self.identities.memberships()
    }
}

/// As it was read: of two who close it at once, one does.
fn close(document: &RawDocument, set: &RawDocument) -> Result<Operation> {
    let id = read(document)?.id;
    let update = Update::parse(&rawdoc! { "$set": set.to_owned() }).map_err(Error::Invalid)?;
    let expect = revision(document).map_or(Expect::Present, Expect::Revision);
    Ok(Operation { collection: INVITATIONS.to_owned(), id, expect, change: Change::Update(update) })
}

fn read(document: &RawDocument) -> Result<Kept> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

fn gone() -> Error {
    Error::Gone(Fault::new("invitations.gone"))
}

fn unknown(id: &str) -> Error {
    Error::NotFound(Fault::new("invitations.unknown").with("id", id))
}
