//! People who add themselves, where the operator lets them.

use super::{Identities, Identity, New, people::put};
use crate::{
    base::fault::Fault,
    ports::{
        self,
        documents::{Batch, Conflict},
    },
    services::{Error, Result, access::Caller},
};

impl Identities {
    /// Makes an account whose address nobody has verified. The answer is the same when there is one already: it does
    /// not tell who has an account.
    pub async fn register(&self, caller: &Caller, new: New) -> Result<()> {
        let identity = self.candidate(new).await?;
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations: vec![put(&identity)], check: None, receipt: None };
        match self.documents.commit(batch).await {
            Ok(_) | Err(ports::Error::Conflict(Conflict::Unique { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Who registers, not yet kept.
    pub(in crate::services) async fn candidate(&self, mut new: New) -> Result<Identity> {
        self.registers()?;
        if new.password.is_none() {
            return Err(Error::Invalid(Fault::new("identities.password").at("password")));
        }
        new.roles.clear();
        self.prepare(new, false).await
    }

    /// A person not yet kept, with the hash of their password.
    pub(in crate::services) async fn prepare(&self, mut new: New, email_verified: bool) -> Result<Identity> {
        let password = new.password.take();
        let mut identity = self.draft(&new, self.clock.now())?;
        identity.email_verified = email_verified;
        if let Some(password) = password {
            identity.password = Some(self.hash(&identity, password).await?);
        }
        Ok(identity)
    }

    /// Whether an address, in its one spelling, has an account.
    pub(in crate::services) async fn has(&self, email: &str) -> Result<bool> {
        Ok(self.find(&format!("email:{email}")).await?.is_some())
    }

    /// Whether people may add themselves at all.
    pub fn registers(&self) -> Result<()> {
        match self.settings.registration {
            true => Ok(()),
            false => Err(Error::Barred(Fault::new("identities.registration_off"))),
        }
    }
}
