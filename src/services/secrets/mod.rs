//! Secrets: how old each key of the keyring is, and its successor, which loses no request and no session.
//!
//! ```text
//! rotate ─► audited ─► keyring with one more version, on disk ─► everyone who holds it: seals and signs with the new one,
//!                                                                 opens and believes the old ones
//! ```

mod due;
mod root;

pub use due::Periods;
pub use root::Vault;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Resource},
    audit::{Audit, Event},
    certificates::{Bundle, Certificates, Served},
    keyring::{Key, Keyring, KeyringError, Purpose},
    sessions::Sessions,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    ports::{
        certificates::{Authorities, Authority},
        documents::{Documents, Resealed},
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

const MODULE: Resource<'static> = Resource::Module("secrets");

pub struct Secrets {
    pub keyring: Arc<Keyring>,
    pub documents: Arc<dyn Documents>,
    /// The store of subjects' keys.
    pub subjects: Arc<dyn Documents>,
    pub sessions: Arc<Sessions>,
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
    pub clock: SharedClock,
    pub periods: Periods,
    pub maker: Arc<dyn Authorities>,
    /// Where the instance serves: who shows a certificate.
    pub certificates: OnceLock<Arc<Certificates>>,
    /// One change at a time.
    pub vault: Arc<tokio::sync::Mutex<Vault>>,
}

/// A key as it stands.
pub struct Status {
    pub purpose: Purpose,
    /// The version in use.
    pub version: u32,
    pub created: Timestamp,
    /// When it is rotated by itself.
    pub due: Option<Timestamp>,
    /// Versions kept beside it, to open or believe what they sealed or signed.
    pub older: usize,
    /// Of a key that seals a store: pages by the version that seals them.
    pub pages: Option<BTreeMap<u32, u64>>,
}

pub struct Rotated {
    pub key: Arc<Key>,
    /// Versions that count no more.
    pub revoked: Vec<u32>,
}

impl Secrets {
    /// Where the root key comes from, and every key.
    pub async fn status(&self, caller: &Caller) -> Result<(String, Vec<Status>)> {
        self.access.decide(caller, Action::View, MODULE)?;
        let mut all = Vec::new();
        for purpose in self.held() {
            let pages = match self.store(purpose) {
                Some(store) => Some(store.sealed_by().await?),
                None => None,
            };
            let (key, versions) = (self.keyring.current(purpose), self.keyring.versions(purpose).count());
            let due = self.periods.due(&key);
            let (version, created) = (key.version, key.created_at);
            all.push(Status { purpose, version, created, due, older: versions - 1, pages });
        }
        Ok((self.vault.lock().await.source(), all))
    }

    /// Gives a key its successor. `revoke`: the versions before, in somebody else's hands, count no more from now on.
    pub async fn rotate(&self, caller: &Caller, purpose: &str, revoke: bool) -> Result<Rotated> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        self.succeed(caller, read(purpose)?, revoke).await
    }

    async fn succeed(&self, caller: &Caller, purpose: Purpose, revoke: bool) -> Result<Rotated> {
        if let Purpose::Tls | Purpose::Acme = purpose {
            return Err(Error::Refused(Fault::new("secrets.ordered").with("purpose", purpose.name())));
        }
        if revoke {
            self.revocable(purpose)?;
        }
        let vault = self.vault.lock().await;
        // The log must not tell of a key that could not be kept.
        vault.prove().await?;
        if purpose == Purpose::AuditSigning {
            // The log names each key in its turn.
            self.audit.seal().await?;
        }
        let now = self.clock.now();
        let next = self.keyring.clone();
        let version = match purpose {
            Purpose::Ca => {
                let Authority { certificate, key } = self.maker.create(now)?;
                next.add(purpose, now, (key, certificate))
            }
            _ => next.rotate(purpose, now),
        };
        let before: Vec<u32> = next.versions(purpose).map(|key| key.version).filter(|old| *old != version).collect();
        let revoked = if revoke { before } else { Vec::new() };
        next.retain(purpose, |version| !revoked.contains(&version));
        let key = next.current(purpose);
        let event = Event::new("secrets.rotate")
            .object(format!("keys/{}", purpose.name()))
            .with("version", version)
            .with("public", hex::encode(&key.public))
            .with("revoked", revoked.clone());
        self.audit.record(caller, event).await?;
        vault.save(&next).await?;
        // Before anyone seals with it: a later rotation must not make another of the same version.
        self.keyring.adopt(&next);
        self.put_to_use(&vault, purpose).await?;
        tracing::info!(purpose = purpose.name(), version, ?revoked, "key rotated");
        Ok(Rotated { key, revoked })
    }

    /// What earlier versions of other keys sealed or signed needs them still.
    fn revocable(&self, purpose: Purpose) -> Result<()> {
        match purpose {
            Purpose::TokenSigning if self.sessions.use_shared_secret() => {
                Err(Error::Refused(Fault::new("secrets.shared_secret")))
            }
            Purpose::TokenSigning | Purpose::BackupSigning | Purpose::Ca => Ok(()),
            _ => Err(Error::Refused(Fault::new("secrets.irrevocable").with("purpose", purpose.name()))),
        }
    }

    /// Tells those who do not look at the keyring each time.
    async fn put_to_use(&self, vault: &Vault, purpose: Purpose) -> Result<()> {
        if purpose == Purpose::TokenSigning {
            self.sessions.take_keys(&self.keyring);
        }
        if let Some(store) = self.store(purpose) {
            store.take_keys(self.keyring.storage_keys(purpose)).await?;
        }
        if purpose != Purpose::Ca {
            return Ok(());
        }
        // Whatever becomes of the file, connections must see the new one.
        let renewed = match self.certificates.get() {
            Some(certificates) => certificates.renew_own().await,
            None => Ok(()),
        };
        vault.publish(&self.authorities().pem())?;
        renewed
    }

    /// Seals a part of what a store holds anew under the key in use, from a place on (0: the beginning).
    pub async fn rewrite(&self, caller: &Caller, purpose: &str, from: u64) -> Result<Resealed> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        let purpose = read(purpose)?;
        let no_store = || Error::Refused(Fault::new("secrets.no_store").with("purpose", purpose.name()));
        let store = self.store(purpose).ok_or_else(no_store)?;
        if from == 0 {
            let event = Event::new("secrets.rewrite").object(format!("keys/{}", purpose.name()));
            let event = event.with("version", self.keyring.current(purpose).version);
            self.audit.record(caller, event).await?;
            // Where a rotation was cut short before the store had its key.
            store.take_keys(self.keyring.storage_keys(purpose)).await?;
        }
        Ok(store.reseal(from).await?)
    }

    /// What anyone is given to trust.
    pub fn authorities(&self) -> Bundle {
        Bundle(self.keyring.authorities(self.clock.now()))
    }

    /// The certificate shown over HTTPS.
    pub fn certificate(&self, caller: &Caller) -> Result<Served> {
        self.access.decide(caller, Action::View, MODULE)?;
        self.certificates()?.served().ok_or_else(unserved)
    }

    /// Another certificate, under another key, shown at once.
    pub async fn renew_certificate(&self, caller: &Caller) -> Result<Served> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        let certificates = self.certificates()?;
        self.audit.record(caller, Event::new("certificates.renew")).await?;
        certificates.renew().await?;
        certificates.served().ok_or_else(unserved)
    }

    fn certificates(&self) -> Result<&Arc<Certificates>> {
        self.certificates.get().ok_or_else(unserved)
    }

    /// What there are keys for.
    fn held(&self) -> impl Iterator<Item = Purpose> {
        Purpose::ALL.into_iter().filter(|purpose| self.keyring.has(*purpose))
    }

    fn store(&self, purpose: Purpose) -> Option<&Arc<dyn Documents>> {
        match purpose {
            Purpose::Data => Some(&self.documents),
            Purpose::Subjects => Some(&self.subjects),
            _ => None,
        }
    }
}

fn read(purpose: &str) -> Result<Purpose> {
    let unknown = || Error::Invalid(Fault::new("secrets.purpose").at("purpose").with("purpose", purpose));
    Purpose::from_name(purpose).ok_or_else(unknown)
}

/// None is shown while nobody serves: each start makes one.
fn unserved() -> Error {
    Error::OutOfReach(Fault::new("certificates.unserved"))
}

impl From<KeyringError> for Error {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Root(error) => error.into(),
            KeyringError::Unreadable { source, .. } => crate::ports::Error::from(source).into(),
            other => Self::Internal(Box::new(other)),
        }
    }
}
