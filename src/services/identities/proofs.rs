//! Identities as the proofs other than a password need them: machines, and changes that go with a proof's own.

use super::*;
use crate::{
    base::random,
    domain::document::revision,
    services::{access::Grant, audit::Event, documents::all, keys, mfa::FACTORS},
};

/// Letters of a machine's name, at most.
const LONGEST_NAME: usize = 63;
/// How often a change is tried again over another's.
const ROUNDS: usize = 16;

impl Identities {
    /// Adds a machine: it gets in by keys alone.
    pub async fn add_machine(&self, caller: &Caller, name: &str, roles: Vec<Role>) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        // Roles are over the instance: who manages some identities hands none out.
        if !grant.is_everything() {
            return Err(Error::Forbidden);
        }
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !first || !rest || name.len() > LONGEST_NAME {
            return Err(Error::Invalid(Fault::new("machines.name").at("name").with("limit", LONGEST_NAME)));
        }
        let mut machine = Identity::blank(random::id(self.clock.now()), Kind::Machine);
        (machine.name, machine.roles) = (Some(name.to_owned()), roles);
        machine.handles = machine.handles();
        match self.keep(caller, &machine).await {
            Ok(()) => Ok(machine),
            Err(Error::Conflict(_)) => {
                Err(Error::Conflict(Fault::new("machines.name_taken").at("name").with("name", name)))
            }
            Err(other) => Err(other),
        }
    }

    /// Adds a person an outside authority vouches for: without a password, without a role.
    pub(in crate::services) async fn add_vouched(&self, caller: &Caller, email: &str) -> Result<Identity> {
        let mut person = Identity::blank(random::id(self.clock.now()), Kind::Person);
        let email = contact::email(email).map_err(Error::Invalid)?;
        (person.email, person.email_verified) = (Some(email.clone()), true);
        person.handles = person.handles();
        match self.keep(caller, &person).await {
            Ok(()) => Ok(person),
            // Somebody was first.
            Err(Error::Conflict(_)) => self.known(&email).await?.ok_or(Error::Unauthorized),
            Err(other) => Err(other),
        }
    }

    async fn keep(&self, caller: &Caller, identity: &Identity) -> Result<()> {
        let (time, origin, operations) = (self.clock.now(), caller.origin(), vec![put(identity)]);
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }

    /// Whom a grant covers; who is out of its sight is as good as nobody.
    pub(in crate::services) async fn within(&self, grant: &Grant, who: &str) -> Result<Identity> {
        let identity = self.require(who).await?;
        let found = self.documents.get(IDENTITIES, &identity.id).await?;
        match found.filter(|found| grant.scope.matches(found)) {
            Some(found) => read(&found),
            None => Err(Error::NotFound(Fault::new("identities.unknown").with("who", who))),
        }
    }

    /// What ends the API keys and machine's keys of an identity, to commit with a change after which every session ends.
    async fn end_keys(&self, caller: &Caller, identity: &str) -> Result<Vec<Operation>> {
        let live = Filter::parse(&rawdoc! { "identity": identity, "revoked": false }).map_err(Error::Invalid)?;
        let mut operations = Vec::new();
        for document in all(&*self.documents, KEYS, live).await? {
            let key = keys::read(&document)?;
            let change = Update::parse(&rawdoc! { "$set": { "revoked": true } }).map_err(Error::Invalid)?;
            let told = Event::new("keys.revoke").about(identity).document(KEYS, &key.id);
            let (collection, change) = (KEYS.to_owned(), Change::Update(change));
            operations.push(Operation { collection, id: key.id, expect: Expect::Present, change });
            operations.push(self.audit.operation(caller, told)?);
        }
        Ok(operations)
    }

    pub(in crate::services) async fn has_factors(&self, identity: &str) -> Result<bool> {
        Ok(self.documents.get(FACTORS, identity).await?.is_some())
    }

    /// Somebody whose proof the caller may change. Roles are over the instance: who manages some identities neither
    /// hands any out nor gets in as who has some.
    pub(in crate::services) async fn managed(&self, caller: &Caller, who: &str) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::Manage, MODULE)?;
        let identity = self.within(&grant, who).await?;
        match identity.roles.is_empty() || grant.is_everything() {
            true => Ok(identity),
            false => Err(Error::Forbidden),
        }
    }

    /// Checks a password by the rules of this identity and answers what to keep of it.
    pub(in crate::services) async fn hash(&self, identity: &Identity, password: Zeroizing<String>) -> Result<String> {
        let (administrator, email) = (identity.roles.contains(&Role::Admin), identity.email.as_deref());
        self.passwords.hash(password, administrator, email.unwrap_or_default()).await
    }

    /// Sets fields together with other writes, all or nothing, and in the same write the moment from which tokens
    /// count. Every session ends but the one to keep. `since`: the `tokens_from` of the proof it goes by; nothing
    /// proven before another change may undo that one.
    pub(in crate::services) async fn change_with(
        &self,
        caller: &Caller,
        (identity, since): (&str, Option<Timestamp>),
        mut set: bson::RawDocumentBuf,
        also: Vec<Operation>,
        keep: Option<&str>,
    ) -> Result<Identity> {
        let from = self.clock.now();
        set.append(bson::cstr!("tokensFrom"), from.0);
        let update = Update::parse(&rawdoc! { "$set": set }).map_err(Error::Invalid)?;
        for _ in 0..ROUNDS {
            let expect = match since {
                Some(since) => self.as_proven(identity, since).await?,
                None => Expect::Present,
            };
            let (collection, id) = (IDENTITIES.to_owned(), identity.to_owned());
            let mut operations = also.clone();
            operations.push(Operation { collection, id, expect, change: Change::Update(update.clone()) });
            operations.extend(keep.map(|session| Sessions::renewed(session, from)).transpose()?);
            let batch = Batch { time: from, origin: caller.origin(), operations, check: None, receipt: None };
            match self.documents.commit(batch).await.map_err(Error::from) {
                // Something else of it changed: its language, its trust.
                Err(Error::Precondition(_)) if since.is_some() => {}
                committed => {
                    committed?;
                    self.sessions.end_all(caller, identity, keep).await?;
                    return self.require(identity).await;
                }
            }
        }
        Err(Error::Unavailable("this identity changes too often".to_owned()))
    }

    /// The revision of an identity whose proof is still the one of that moment.
    async fn as_proven(&self, identity: &str, since: Timestamp) -> Result<Expect> {
        let changed = || Error::InvalidProof("identity changed");
        let kept = self.documents.get(IDENTITIES, identity).await?.ok_or_else(changed)?;
        let now = read(&kept)?;
        if now.tokens_from != since || now.status != Status::Active {
            return Err(changed());
        }
        Ok(revision(&kept).map_or(Expect::Present, Expect::Revision))
    }

    /// As [`Self::change_with`], and every session and every key of theirs ends.
    pub(in crate::services) async fn change_and_end_keys(
        &self,
        caller: &Caller,
        (identity, since): (&str, Option<Timestamp>),
        set: bson::RawDocumentBuf,
        also: Vec<Operation>,
    ) -> Result<Identity> {
        let mut operations = self.end_keys(caller, identity).await?;
        operations.extend(also);
        let changed = self.change_with(caller, (identity, since), set, operations, None).await?;
        // One made between the look and the write was judged by what stood before it.
        let late = self.end_keys(caller, identity).await?;
        if !late.is_empty() {
            let (time, origin) = (self.clock.now(), caller.origin());
            let batch = Batch { time, origin, operations: late, check: None, receipt: None };
            self.documents.commit(batch).await?;
            self.sessions.begin_era();
        }
        Ok(changed)
    }
}
