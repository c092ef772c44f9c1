//! Accounts of another system, a line each, with the password hashes it kept. What is wrong with a line is reported
//! and the rest goes on.

use super::{Identities, Identity, Kind, MODULE, New, foreign, people, read};
use crate::{
    base::fault::Fault,
    domain::{
        document::revision,
        json::{self, Line},
        policy::MemberRole,
    },
    ports::{
        self,
        documents::{Batch, Expect, Operation},
    },
    services::{
        Error, Result,
        access::{Action, Caller, Grant, Role},
        documents::{LineFault, Progress, failed_operation},
        memberships,
        scope::Scopes,
    },
};
use std::{collections::HashSet, sync::Arc};

/// Lines written at once, and operations they may take together.
const CHUNK: usize = 200;
const MOST_OPERATIONS: usize = 500;
/// Memberships of one line.
const MOST_MEMBERSHIPS: usize = 100;

/// A line: `{email?, phone?, name?, locale?, emailVerified?, roles?, passwordHash?, memberships?}`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Account {
    email: Option<String>,
    phone: Option<String>,
    name: Option<String>,
    locale: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default)]
    roles: Vec<Role>,
    password_hash: Option<String>,
    #[serde(default)]
    memberships: Vec<Belonging>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Belonging {
    /// The organization's id.
    organization: String,
    role: MemberRole,
}

/// An import under way: feed it lines, write when it asks for it and at the end.
pub struct Import<'a> {
    identities: &'a Identities,
    /// A line whose person exists changes their name, language and contacts and adds memberships; else it is refused.
    upsert: bool,
    taken: Vec<(u64, Account)>,
    last: u64,
    progress: Progress,
    faults: Vec<LineFault>,
}

/// What one line asks of the store.
struct Draft {
    line: u64,
    identity: Identity,
    created: bool,
    operations: Vec<Operation>,
}

/// Both rights an import may need.
struct Rights {
    people: Grant,
    memberships: Option<Grant>,
}

impl Identities {
    /// Who may not import is told here, before a line is read.
    pub fn import(&self, caller: &Caller, upsert: bool) -> Result<Import<'_>> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        let (taken, faults) = (Vec::new(), Vec::new());
        Ok(Import { identities: self, upsert, taken, last: 0, progress: Progress::default(), faults })
    }
}

impl Import<'_> {
    /// Takes a line; whether there is enough to be written.
    pub fn take(&mut self, line: Line) -> bool {
        self.last = line.number;
        match parse(&line) {
            Ok(account) => self.taken.push((line.number, account)),
            Err(error) => self.fail(line.number, error),
        }
        self.taken.len() >= CHUNK
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The faults found since the last time.
    pub fn faults(&mut self) -> Vec<LineFault> {
        std::mem::take(&mut self.faults)
    }

    /// Writes what was taken, within the rights of this moment.
    pub async fn write(&mut self, caller: &Caller) -> Result<()> {
        let access = &self.identities.access;
        let rights = Rights {
            people: access.decide(caller, Action::Manage, MODULE)?,
            memberships: access.decide(caller, Action::Manage, memberships::MODULE).ok(),
        };
        let _deciding = self.identities.memberships.deciding.lock().await;
        let (mut drafts, mut operations) = (Vec::new(), 0);
        for (line, account) in std::mem::take(&mut self.taken) {
            match self.draft(caller, &rights, line, account).await {
                Ok(draft) => {
                    operations += draft.operations.len();
                    drafts.push(draft);
                }
                Err(error @ (Error::Internal(_) | Error::Unavailable(_) | Error::Corrupt(_) | Error::Full)) => {
                    return Err(error);
                }
                Err(error) => self.fail(line, error),
            }
            if operations >= MOST_OPERATIONS {
                self.commit(caller, &rights, std::mem::take(&mut drafts)).await?;
                operations = 0;
            }
        }
        self.commit(caller, &rights, drafts).await?;
        self.progress.line = self.last;
        Ok(())
    }

    async fn draft(&self, caller: &Caller, rights: &Rights, line: u64, account: Account) -> Result<Draft> {
        let identities = self.identities;
        let Account { email, phone, name, locale, email_verified, roles, password_hash, memberships } = account;
        // Roles are over the instance: who manages some identities hands none out.
        if !(roles.is_empty() || rights.people.is_everything()) {
            return Err(Error::Forbidden);
        }
        let (new, now) = (New { email, phone, name, locale, password: None, roles }, identities.clock.now());
        let mut identity = identities.draft(&new, now)?;
        if let Some(hash) = &password_hash {
            foreign::check(hash).map_err(Error::Invalid)?;
        }
        identity.email_verified = email_verified && identity.email.is_some();
        identity.password = password_hash;
        let known = if self.upsert { self.known(rights, &identity).await? } else { None };
        let (identity, operation, created) = match known {
            Some((kept, expect)) => {
                let merged = merged(kept.clone(), identity);
                if merged.handles() != kept.handles() || merged.email_verified != kept.email_verified {
                    super::not_oneself(caller, &identities.managed(caller, &kept.id).await?)?;
                }
                let operation = people::set(&merged, expect)?;
                (merged, operation, false)
            }
            None => {
                let operation = people::put(&identity);
                (identity, operation, true)
            }
        };
        let mut operations = vec![operation];
        operations.extend(self.belong(caller, rights, &identity, created, memberships).await?);
        Ok(Draft { line, identity, created, operations })
    }

    /// The person of a line who is there already.
    async fn known(&self, rights: &Rights, identity: &Identity) -> Result<Option<(Identity, Expect)>> {
        for handle in identity.handles.iter().skip(1) {
            if let Some(document) = self.identities.find(handle).await? {
                if !rights.people.scope.matches(&document) {
                    return Err(Error::Forbidden);
                }
                let expect = revision(&document).map_or(Expect::Present, Expect::Revision);
                return Ok(Some((read(&document)?, expect)));
            }
        }
        Ok(None)
    }

    async fn belong(
        &self,
        caller: &Caller,
        rights: &Rights,
        identity: &Identity,
        created: bool,
        wanted: Vec<Belonging>,
    ) -> Result<Vec<Operation>> {
        if wanted.len() > MOST_MEMBERSHIPS {
            let fault = Fault::new("identities.import_memberships").at("memberships").with("limit", MOST_MEMBERSHIPS);
            return Err(Error::Invalid(fault));
        }
        let memberships = &self.identities.memberships;
        let held = if created { Arc::default() } else { memberships.memberships_of(&identity.id).await? };
        let (mut operations, mut seen) = (Vec::new(), HashSet::new());
        for Belonging { organization, role } in wanted {
            if rights.memberships.is_none() {
                return Err(Error::Forbidden);
            }
            let there = held.iter().any(|membership| membership.organization == organization);
            if there || !seen.insert(organization.clone()) {
                continue;
            }
            memberships.counts(&organization, Kind::Organization).await?;
            operations.push(memberships.draft(&caller.actor(), &identity.id, &organization, role)?);
        }
        Ok(operations)
    }

    /// A line that is turned away leaves the chunk, and the others are tried again.
    async fn commit(&mut self, caller: &Caller, rights: &Rights, mut drafts: Vec<Draft>) -> Result<()> {
        while !drafts.is_empty() {
            let operations: Vec<_> = drafts.iter().flat_map(|draft| draft.operations.iter().cloned()).collect();
            let scopes = operations.iter().map(|operation| match operation.collection == super::IDENTITIES {
                true => Some(rights.people.scope.clone()),
                false => rights.memberships.as_ref().map(|grant| grant.scope.clone()),
            });
            let check = Some(Arc::new(Scopes(scopes.collect())) as _);
            let (time, origin) = (self.identities.clock.now(), caller.origin());
            let batch = Batch { time, origin, operations, check, receipt: None };
            let committed = self.identities.documents.commit(batch).await;
            self.identities.memberships.forget(drafts.iter().map(|draft| draft.identity.id.as_str()));
            match committed {
                Ok(_) => {
                    let created = drafts.iter().filter(|draft| draft.created).count() as u64;
                    self.progress.created += created;
                    self.progress.updated += drafts.len() as u64 - created;
                    return Ok(());
                }
                Err(error) => {
                    let place = failed_operation(&error).or((drafts.len() == 1).then_some(0));
                    let Some(at) = place.and_then(|place| owner(&drafts, place)) else { return Err(error.into()) };
                    if !matches!(error, ports::Error::Conflict(_) | ports::Error::Rejected(_)) {
                        return Err(error.into());
                    }
                    let draft = drafts.remove(at);
                    let error = self.identities.taken(error, &draft.identity).await;
                    self.fail(draft.line, error);
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, line: u64, error: Error) {
        self.progress.failed += 1;
        self.faults.push(LineFault { line, error });
    }
}

/// What a line says over what is kept; a password, roles and the status stay as they are.
fn merged(kept: Identity, line: Identity) -> Identity {
    let email = line.email.or(kept.email.clone());
    Identity {
        email_verified: line.email_verified || (kept.email_verified && email == kept.email),
        email,
        phone: line.phone.or(kept.phone),
        name: line.name.or(kept.name),
        locale: line.locale.or(kept.locale),
        ..kept
    }
}

fn parse(line: &Line) -> Result<Account> {
    let Some(text) = &line.text else {
        return Err(Error::TooLarge(Fault::new("import.line").with("line", line.number)));
    };
    let document = json::parse(text, json::Limits::default())?;
    bson::deserialize_from_slice(document.as_bytes())
        .map_err(|error| Error::Invalid(Fault::new("http.data").at("account").with("reason", error)))
}

/// The line an operation belongs to.
fn owner(drafts: &[Draft], mut place: usize) -> Option<usize> {
    drafts.iter().position(|draft| match place.checked_sub(draft.operations.len()) {
        Some(rest) => {
            place = rest;
            false
        }
        None => true,
    })
}
