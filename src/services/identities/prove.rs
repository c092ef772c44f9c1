//! Identities proven by a password, at a login or again; a password changed by who knows the present one.

use super::{IDENTITIES, Identities, Identity, Status, password::Lane, read};
use crate::{
    base::clock::Stopwatch,
    domain::{document::revision, trust, update::Update},
    ports::documents::{Batch, Change, Expect, Operation},
    services::{Error, Result, access::Caller, audit::Event, directory::Vouching, sessions::own},
};
use bson::{RawDocumentBuf, rawdoc};
use zeroize::Zeroizing;

impl Identities {
    /// The identity these words prove, or `Unauthorized` without saying which of them was wrong. `who` is an
    /// e-mail address or a telephone number. Whether the account
    /// exists changes neither the answer, nor its time, nor when it begins to be delayed.
    pub async fn prove(&self, caller: &Caller, who: &str, password: Zeroizing<String>) -> Result<Identity> {
        let account = self.account(who);
        let attempt = self.throttle.attempt("login", &account, caller.address).await?;
        let lane = if attempt.known { Lane::Known } else { Lane::Others };
        let identity = attempt.of(self.check(caller, &account, password, lane).await)?;
        self.trust.note(&identity.id, trust::Event::DayClean);
        Ok(identity)
    }

    /// What was written, under its one spelling, or every other would be another account to guess at.
    fn account(&self, who: &str) -> String {
        let who = if who.contains('@') { who.to_owned() } else { who.trim().to_lowercase() };
        self.handle(&who).unwrap_or_else(|| format!("other:{}", who.trim().to_lowercase()))
    }

    async fn check(&self, caller: &Caller, account: &str, password: Zeroizing<String>, lane: Lane) -> Result<Identity> {
        let found = self.find(account).await?;
        let known = found.as_ref().map(|document| read(document)).transpose()?;
        let here = known.as_ref().is_some_and(Identity::has_password);
        let proven = match self.settings.directory.as_ref().filter(|_| !here) {
            Some(directory) => self.prove_elsewhere(caller, directory, account, password).await,
            None => self.prove_found(found, password, lane).await,
        };
        if let Err(Error::Unauthorized) = &proven {
            if let Some(identity) = known {
                self.trust.note(&identity.id, trust::Event::LoginFailed);
            }
            // By what was tried: whether there is such an account is for nobody to read.
            let tried = self.audit.pseudonym(account);
            let failed = Event::new("auth.login").failed("wrong address or password, or disabled").about(tried);
            self.audit.refused(caller, failed).await;
        }
        proven
    }

    /// Whether the password is this identity's: asked again of who is already known.
    pub async fn prove_again(&self, caller: &Caller, id: &str, password: Zeroizing<String>) -> Result<Identity> {
        let attempt = self.throttle.attempt("again", id, None).await?;
        let found = self.documents.get(IDENTITIES, id).await?;
        let proven = attempt.of(self.prove_found(found, password, Lane::Others).await);
        if let Err(Error::Unauthorized) = &proven {
            let failed = Event::new("auth.again").failed("wrong password").about(id);
            self.audit.refused(caller, failed).await;
        }
        proven
    }

    /// Whether a password is the one somebody not yet kept gave.
    pub(in crate::services) async fn has_proven(
        &self,
        candidate: &Identity,
        password: Zeroizing<String>,
    ) -> Result<bool> {
        Ok(self.passwords.verify(password, candidate.password.clone(), Lane::Others).await?.right)
    }

    /// By the directory: whoever has no password here, whether they exist or not. A failure takes as long as one here.
    async fn prove_elsewhere(
        &self,
        caller: &Caller,
        directory: &Vouching,
        account: &str,
        password: Zeroizing<String>,
    ) -> Result<Identity> {
        let begun = Stopwatch::start();
        let proven = directory.prove(self, caller, account, &password).await;
        if let Err(Error::Unauthorized) = &proven {
            self.passwords.even(begun).await;
        }
        proven
    }

    async fn prove_found(
        &self,
        found: Option<RawDocumentBuf>,
        password: Zeroizing<String>,
        lane: Lane,
    ) -> Result<Identity> {
        let begun = Stopwatch::start();
        let identity = found.as_ref().map(|document| read(document)).transpose()?;
        let kept = identity.as_ref().and_then(|identity| identity.password.clone());
        let verdict = self.passwords.verify(password.clone(), kept, lane).await?;
        match (identity, found) {
            (Some(identity), Some(document)) if verdict.right && identity.status == Status::Active => {
                if verdict.outdated {
                    self.rehash(&identity, revision(&document), password).await?;
                }
                Ok(identity)
            }
            _ => {
                self.passwords.even(begun).await;
                Err(Error::Unauthorized)
            }
        }
    }

    /// Keeps a password as passwords are kept now, unless it changed meanwhile.
    async fn rehash(&self, identity: &Identity, revision: Option<i64>, password: Zeroizing<String>) -> Result<()> {
        let hash = self.passwords.rehash(password).await?;
        let update = Update::parse(&rawdoc! { "$set": { "password": hash } }).map_err(Error::Invalid)?;
        let expect = revision.map_or(Expect::Present, Expect::Revision);
        let (collection, id) = (IDENTITIES.to_owned(), identity.id.clone());
        let operation = Operation { collection, id, expect, change: Change::Update(update) };
        let (time, origin) = (self.clock.now(), Caller::system().origin());
        let batch = Batch { time, origin, operations: vec![operation], check: None, receipt: None };
        match self.documents.commit(batch).await.map_err(Error::from) {
            Err(Error::Precondition(_)) => Ok(()),
            kept => kept.map(drop),
        }
    }

    /// Sets the caller's own password, proven by the one in force, and ends their other sessions.
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        current: Zeroizing<String>,
        new: Zeroizing<String>,
    ) -> Result<()> {
        let (id, session) = own(caller)?;
        let identity = self.prove_again(caller, id, current).await?;
        let hash = self.hash(&identity, new).await?;
        let proven = (identity.id.as_str(), Some(identity.tokens_from));
        self.change_with(caller, proven, rawdoc! { "password": hash }, Vec::new(), Some(session)).await.map(drop)
    }

    /// Measures what hashing may cost on this machine.
    pub async fn calibrate(&self) -> Result<()> {
        self.passwords.calibrate().await
    }
}
