//! People added, listed, read and changed, by others or by themselves.

use super::{IDENTITIES, Identities, Identity, Kind, MODULE, not_oneself, read, unknown};
use crate::{
    base::{clock::Timestamp, fault::Fault, random},
    domain::{
        contact,
        document::{malformed, revision},
        filter::Filter,
        update::Update,
    },
    ports::{
        self,
        documents::{Batch, Change, Conflict, Expect, Operation, Receipt},
    },
    services::{
        Error, Result,
        access::{Action, Caller, Grant, Proven, Role, Subject},
        documents::{Attempt, Found, Listing, Search, every},
        scope::{Scopes, refusal},
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(in crate::services) const LISTING: Listing = Listing {
    collection: IDENTITIES,
    shown: &[
        "_id",
        "_rev",
        "_createdAt",
        "_updatedAt",
        "kind",
        "email",
        "emailVerified",
        "phone",
        "name",
        "locale",
        "legalId",
        "roles",
        "status",
    ],
};
const REUSED: &str = "documents.idempotency_reused";

/// A person to add, as people write it.
#[derive(Debug, Default)]
pub struct New {
    pub email: Option<String>,
    pub phone: Option<String>,
    pub name: Option<String>,
    pub locale: Option<String>,
    /// Absent: nobody gets in by a password.
    pub password: Option<Zeroizing<String>>,
    pub roles: Vec<Role>,
}

/// Fields of a person to set, or to take away.
#[derive(Debug, Default)]
pub struct Changes(Vec<(Field, Option<String>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Email,
    Phone,
    Name,
    Locale,
}

impl Changes {
    /// From `{email?, phone?, name?, locale?}`, null taking away. Anything else is refused: roles, status and
    /// ownership are not the caller's to write.
    pub fn read(document: &RawDocument) -> Result<Self> {
        let mut changes = Self::default();
        for entry in document {
            let (name, value) = entry.map_err(malformed).map_err(Error::Invalid)?;
            let field = match name.as_str() {
                "email" => Field::Email,
                "phone" => Field::Phone,
                "name" => Field::Name,
                "locale" => Field::Locale,
                other => return Err(Error::Invalid(Fault::new("identities.field").at(other))),
            };
            let value = match value {
                RawBsonRef::String(text) => Some(text.to_owned()),
                RawBsonRef::Null => None,
                _ => return Err(Error::Invalid(Fault::new("identities.text").at(name.as_str()))),
            };
            changes.0.push((field, value));
        }
        Ok(changes)
    }

    /// Takes out the address that is to be set, in its one spelling.
    pub(in crate::services) fn take_email(&mut self) -> Result<Option<String>> {
        let place = self.0.iter().position(|(field, value)| *field == Field::Email && value.is_some());
        let email = place.and_then(|place| self.0.remove(place).1);
        email.map(|email| contact::email(&email)).transpose().map_err(Error::Invalid)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it touches what somebody gets in by.
    pub fn contact(&self) -> bool {
        self.0.iter().any(|(field, _)| matches!(field, Field::Email | Field::Phone))
    }
}

impl Identities {
    /// Adds a person.
    pub async fn add(
        &self,
        caller: &Caller,
        email: &str,
        password: Zeroizing<String>,
        roles: Vec<Role>,
    ) -> Result<Identity> {
        let (email, password) = (Some(email.to_owned()), Some(password));
        self.add_once(caller, New { email, password, roles, ..New::default() }, None).await
    }

    /// Adds a person, with roles; a retry of the same attempt answers the first one's.
    pub async fn add_once(&self, caller: &Caller, new: New, attempt: Option<Attempt<'_>>) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::Manage, MODULE)?;
        // Roles are over the instance: who manages some identities hands none out.
        if !(new.roles.is_empty() || grant.is_everything()) {
            return Err(Error::Forbidden);
        }
        // Who manages identities vouches for the address.
        self.put(caller, &grant, new, true, attempt).await
    }

    /// Adds a person, without roles over the instance.
    pub async fn create(&self, caller: &Caller, new: New, attempt: Option<Attempt<'_>>) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Create, MODULE)?;
        let identity = self.put(caller, &grant, New { roles: Vec::new(), ..new }, false, attempt).await?;
        self.answer(caller, &identity.id).await
    }

    /// A receipt's fast hash must not cover the password: the retry proves it against the hash kept.
    async fn put(
        &self,
        caller: &Caller,
        grant: &Grant,
        new: New,
        verified: bool,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Identity> {
        let password = new.password.clone();
        let body = format!("{:?}", (&new.email, &new.phone, &new.name, &new.locale, &new.roles));
        let identity = self.prepare(new, verified).await?;
        let now = self.clock.now();
        let receipt = attempt.map(|attempt| Attempt { body: body.as_bytes(), ..attempt }.receipt(caller, now));
        match self.commit_new(caller, &identity, grant, receipt).await {
            Ok(None) => Ok(identity),
            Ok(Some(first)) => self.again(caller, &first, password).await,
            Err(error) => Err(self.taken(error, &identity).await),
        }
    }

    /// The person an earlier attempt added, to who gives the same password: a guess at it counts as any other.
    async fn again(&self, caller: &Caller, first: &str, password: Option<Zeroizing<String>>) -> Result<Identity> {
        let reused = || Error::Conflict(Fault::new(REUSED));
        match password {
            Some(password) => match self.prove_again(caller, first, password).await {
                Err(Error::Unauthorized) => Err(reused()),
                proven => proven,
            },
            None => Some(self.require(first).await?).filter(|identity| !identity.has_password()).ok_or_else(reused),
        }
    }

    /// The id an earlier attempt with this receipt wrote; `None`: written now.
    async fn commit_new(
        &self,
        caller: &Caller,
        identity: &Identity,
        grant: &Grant,
        receipt: Option<Receipt>,
    ) -> ports::Result<Option<String>> {
        let operations = vec![put(identity)];
        let check = Some(Arc::new(Scopes(vec![Some(grant.scope.clone())])) as _);
        let (time, origin) = (self.clock.now(), caller.origin());
        let committed = self.documents.commit(Batch { time, origin, operations, check, receipt }).await?;
        let first = committed.outcomes.into_iter().next().map(|outcome| outcome.id);
        Ok(first.filter(|_| committed.replayed))
    }

    /// A person not yet kept, with everything in its one spelling.
    pub(super) fn draft(&self, new: &New, now: Timestamp) -> Result<Identity> {
        let mut identity = Identity::blank(random::id(now), Kind::Person);
        identity.email = new.email.as_deref().map(contact::email).transpose().map_err(Error::Invalid)?;
        identity.phone = self.phone(new.phone.as_deref())?;
        identity.name = new.name.as_deref().map(contact::name).transpose().map_err(Error::Invalid)?;
        identity.locale = new.locale.as_deref().map(contact::locale).transpose().map_err(Error::Invalid)?;
        identity.roles.clone_from(&new.roles);
        reachable(&identity)?;
        identity.handles = identity.handles();
        Ok(identity)
    }

    fn phone(&self, text: Option<&str>) -> Result<Option<String>> {
        text.map(|text| contact::phone(text, self.settings.calling_code)).transpose().map_err(Error::Invalid)
    }

    /// A store's refusal of what is unique, told by what somebody else bears already.
    pub(in crate::services) async fn taken(&self, error: ports::Error, identity: &Identity) -> Error {
        if !matches!(error, ports::Error::Conflict(Conflict::Unique { .. })) {
            return refusal(error, || unknown(&identity.id));
        }
        // Two lines of one import may collide with each other: then neither is found yet.
        let number = match (&identity.email, &identity.phone) {
            (None, phone) => phone.as_ref(),
            (_, Some(phone)) => {
                let found = self.find(&format!("phone:{phone}")).await;
                Some(phone).filter(|_| found.is_ok_and(|found| other(found.as_deref(), identity)))
            }
            (_, None) => None,
        };
        if let Some(phone) = number {
            return Error::Conflict(Fault::new("identities.phone_taken").at("phone").with("phone", phone));
        }
        let email = identity.email.as_deref().unwrap_or_default();
        Error::Conflict(Fault::new("identities.email_taken").at("email").with("email", email))
    }

    /// Every person, for the operators' tools.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Identity>> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        let filter = Filter::And(vec![(*grant.scope).clone(), people()?]);
        every(&*self.documents, IDENTITIES, filter, |document| read(&document)).await
    }

    /// An identity by its id, its address or its number, for the operators' tools.
    pub async fn look_up(&self, caller: &Caller, who: &str) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::Manage, MODULE)?;
        self.within(&grant, who).await
    }

    pub async fn search(&self, caller: &Caller, search: &Search) -> Result<Found> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        LISTING.find(&*self.documents, &grant, people()?, search).await
    }

    pub async fn get(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        Ok(LISTING.show(&self.person(&grant, id).await?))
    }

    /// Changes a person. What somebody gets in by is for who manages identities alone.
    pub async fn change_person(
        &self,
        caller: &Caller,
        id: &str,
        changes: Changes,
        rev: Option<i64>,
    ) -> Result<RawDocumentBuf> {
        let action = if changes.contact() { Action::Manage } else { Action::Update };
        let grant = self.access.decide(caller, action, MODULE)?;
        let document = self.person(&grant, id).await?;
        if changes.contact() {
            not_oneself(caller, &self.managed(caller, id).await?)?;
        }
        self.apply(caller, &grant, &document, changes, rev).await
    }

    /// The caller's own identity.
    pub async fn own(&self, caller: &Caller) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        Ok(LISTING.show(&self.person(&grant, own(caller)?).await?))
    }

    /// Changes the caller's own identity; another address or number wants the password, for they are ways in.
    pub async fn change_own(
        &self,
        caller: &Caller,
        changes: Changes,
        password: Option<Zeroizing<String>>,
        rev: Option<i64>,
    ) -> Result<RawDocumentBuf> {
        let grant = self.access.decide(caller, Action::Update, MODULE)?;
        let document = self.person(&grant, own(caller)?).await?;
        if changes.contact() {
            self.prove_contact(caller, password).await?;
        }
        self.apply(caller, &grant, &document, changes, rev).await
    }

    /// The caller, who may change their own address to this one and gave their password with it.
    pub(in crate::services) async fn may_take(
        &self,
        caller: &Caller,
        email: &str,
        password: Option<Zeroizing<String>>,
        rev: Option<i64>,
    ) -> Result<String> {
        let grant = self.access.decide(caller, Action::Update, MODULE)?;
        let document = self.person(&grant, own(caller)?).await?;
        stands(own(caller)?, &document, rev)?;
        takes(&grant, &document, email)?;
        self.prove_contact(caller, password).await
    }

    /// The same of who answers the letter: the right they have by now counts.
    pub(in crate::services) async fn may_still_take(
        &self,
        caller: &Caller,
        document: &RawDocument,
        email: &str,
    ) -> Result<()> {
        let Identity { id, roles, .. } = read(document)?;
        let memberships = self.memberships.acting(&id, None).await?;
        let proven = Proven { id, session: None, key: None, roles, memberships, restriction: None };
        let caller = Caller { subject: Subject::Identity(proven), ..caller.clone() };
        takes(&self.access.decide(&caller, Action::Update, MODULE)?, document, email)
    }

    /// The caller, who gave their password with another way in.
    async fn prove_contact(&self, caller: &Caller, password: Option<Zeroizing<String>>) -> Result<String> {
        let id = own(caller)?;
        let proven = match password {
            Some(password) => self.prove_again(caller, id, password).await,
            None => Err(Error::Unauthorized),
        };
        match proven {
            Err(Error::Unauthorized) => Err(Error::Barred(Fault::new("identities.password_wanted").at("password"))),
            proven => proven.map(|identity| identity.id),
        }
    }

    async fn apply(
        &self,
        caller: &Caller,
        grant: &Grant,
        document: &RawDocument,
        changes: Changes,
        rev: Option<i64>,
    ) -> Result<RawDocumentBuf> {
        let mut identity = read(document)?;
        for (field, value) in changes.0 {
            let text = value.as_deref();
            let read = |read: fn(&str) -> std::result::Result<String, Fault>| {
                text.map(read).transpose().map_err(Error::Invalid)
            };
            match field {
                Field::Email => {
                    let email = read(contact::email)?;
                    identity.email_verified &= email == identity.email;
                    identity.email = email;
                }
                Field::Phone => identity.phone = self.phone(text)?,
                Field::Name => identity.name = read(contact::name)?,
                Field::Locale => identity.locale = read(contact::locale)?,
            }
        }
        reachable(&identity)?;
        // Of the state that was read: what the caller assumes is held against that very one.
        stands(&identity.id, document, rev)?;
        let operation = set(&identity, revision(document).map_or(Expect::Present, Expect::Revision))?;
        let check = Some(Arc::new(Scopes(vec![Some(grant.scope.clone())])) as _);
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations: vec![operation], check, receipt: None };
        match self.documents.commit(batch).await {
            Ok(_) => self.answer(caller, &identity.id).await,
            Err(error) => Err(self.taken(error, &identity).await),
        }
    }

    async fn person(&self, grant: &Grant, id: &str) -> Result<RawDocumentBuf> {
        let people = people()?;
        let found = self.documents.get(IDENTITIES, id).await?;
        found.filter(|found| people.matches(found) && grant.scope.matches(found)).ok_or_else(|| unknown(id))
    }

    async fn answer(&self, caller: &Caller, id: &str) -> Result<RawDocumentBuf> {
        let document = self.documents.get(IDENTITIES, id).await?.ok_or_else(|| unknown(id))?;
        Ok(LISTING.answer((&self.access, caller), MODULE, &document))
    }
}

/// An identity that is not there yet.
pub(in crate::services) fn put(identity: &Identity) -> Operation {
    let document = bson::serialize_to_raw_document_buf(identity).expect("an identity is plain BSON");
    let (collection, id) = (IDENTITIES.to_owned(), identity.id.clone());
    Operation { collection, id, expect: Expect::Absent, change: Change::Put(document) }
}

/// How an identity is named and reached, as it stands now; nothing else of it.
pub(in crate::services) fn set(identity: &Identity, expect: Expect) -> Result<Operation> {
    let mut handles = bson::RawArrayBuf::new();
    identity.handles().into_iter().for_each(|handle| handles.push(handle));
    let mut set = rawdoc! { "handles": handles, "emailVerified": identity.email_verified };
    let mut unset = RawDocumentBuf::new();
    let fields = [
        (bson::cstr!("email"), &identity.email),
        (bson::cstr!("phone"), &identity.phone),
        (bson::cstr!("name"), &identity.name),
        (bson::cstr!("locale"), &identity.locale),
        (bson::cstr!("legalId"), &identity.legal_id),
    ];
    for (name, value) in fields {
        match value {
            Some(value) => set.append(name, value.as_str()),
            None => unset.append(name, true),
        }
    }
    let mut update = rawdoc! { "$set": set };
    if !unset.is_empty() {
        update.append(bson::cstr!("$unset"), unset);
    }
    let update = Update::parse(&update).map_err(Error::Invalid)?;
    let (collection, id) = (IDENTITIES.to_owned(), identity.id.clone());
    Ok(Operation { collection, id, expect, change: Change::Update(update) })
}

/// Whether a document is at the revision the caller assumes.
pub(in crate::services) fn stands(id: &str, document: &RawDocument, rev: Option<i64>) -> Result<()> {
    let actual = revision(document).unwrap_or_default();
    match rev.filter(|rev| actual != *rev) {
        None => Ok(()),
        Some(expected) => {
            let id = id.to_owned();
            Err(ports::Error::Conflict(Conflict::Revision { operation: 0, id, expected, actual }).into())
        }
    }
}

/// Whether a grant covers a person with this address as it does without.
fn takes(grant: &Grant, document: &RawDocument, email: &str) -> Result<()> {
    let mut after = rawdoc! { "email": email };
    let others = document.iter().map_while(std::result::Result::ok).filter(|(name, _)| name.as_str() != "email");
    others.for_each(|(name, value)| after.append(name, value));
    match grant.scope.matches(document) && grant.scope.matches(&after) {
        true => Ok(()),
        false => Err(Error::Forbidden),
    }
}

/// A person without an address or a number could never be told apart from another.
fn reachable(identity: &Identity) -> Result<()> {
    match (&identity.email, &identity.phone) {
        (None, None) => Err(Error::Invalid(Fault::new("identities.unreachable").at("email"))),
        _ => Ok(()),
    }
}

fn people() -> Result<Filter> {
    let people = rawdoc! { "kind": { "$ne": Kind::Organization.name() } };
    Filter::parse(&people).map_err(Error::Invalid)
}

fn other(found: Option<&RawDocument>, identity: &Identity) -> bool {
    found.is_some_and(|found| found.get_str("_id").is_ok_and(|id| id != identity.id))
}

fn own(caller: &Caller) -> Result<&str> {
    match &caller.subject {
        Subject::Identity(proven) => Ok(&proven.id),
        Subject::Anonymous => Err(Error::Unauthorized),
        Subject::Local { .. } | Subject::System => Err(Error::Forbidden),
    }
}
