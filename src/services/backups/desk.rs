//! Where backups are asked for: permission first, one made at a time, the work off the request's thread.

use super::{
    Created, Listed, Recipient, Request, Signer, Trust, Verified, create, list, locate, newest, signers, verify,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    ports::{documents::Documents, objects::Objects},
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        audit::{Audit, Event},
        instance::Stamp,
        keyring::Keyring,
    },
};
use std::sync::Arc;

pub struct Backups {
    documents: Arc<dyn Documents>,
    target: Arc<dyn Objects>,
    stamp: Stamp,
    keyring: Arc<Keyring>,
    recipients: Vec<Recipient>,
    clock: SharedClock,
    access: Arc<Access>,
    audit: Arc<Audit>,
    running: Arc<tokio::sync::Mutex<()>>,
}

impl Backups {
    /// `to`: where backups go, and who can open them.
    pub fn new(
        documents: Arc<dyn Documents>,
        to: (Arc<dyn Objects>, Vec<Recipient>),
        stamp: Stamp,
        keyring: Arc<Keyring>,
        clock: SharedClock,
        access: Arc<Access>,
        audit: Arc<Audit>,
    ) -> Self {
        let (target, recipients) = to;
        Self { documents, target, stamp, keyring, recipients, clock, access, audit, running: Arc::default() }
    }

    /// A full backup of this moment, read back and checked before it bears its name.
    pub async fn create(&self, caller: &Caller) -> Result<Created> {
        self.access.decide(caller, Action::Create, Resource::Module("backups"))?;
        let Ok(running) = self.running.clone().try_lock_owned() else {
            return Err(Error::Conflict(Fault::new("backups.running")));
        };
        self.audit.record(caller, Event::new("backups.create").with("target", self.target.place())).await?;
        // What was done up to here is under a checkpoint that travels with it.
        self.audit.seal().await?;
        let snapshot = self.documents.snapshot().await?;
        let (target, stamp, keyring) = (self.target.clone(), self.stamp.clone(), self.keyring.clone());
        let (recipients, now) = (self.recipients.clone(), self.clock.now());
        let made = blocking(move || {
            let _running = running;
            let request = Request { stamp: &stamp, keyring: &keyring, recipients: &recipients, now };
            create(&request, &*snapshot, &*target, &mut |_| Ok(()))
        })
        .await;
        let told = match &made {
            // Anchors the newest: an older backup cannot pass for it.
            Ok(Created { name, header, manifest }) => Event::new("backups.created")
                .object(format!("backups/{}", header.id()))
                .with("name", name.as_str())
                .with("sequence", header.upto.0)
                .with("manifest", hex::encode(manifest.hash())),
            Err(error) => Event::new("backups.created").failed(error.to_string()),
        };
        self.audit.record(caller, told).await?;
        made
    }

    /// Whom backups are sealed to, and the keys that sign them.
    pub fn keys(&self, caller: &Caller) -> Result<(Vec<Recipient>, Vec<Signer>)> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        Ok((self.recipients.clone(), signers(&self.keyring)))
    }

    /// Every backup at the target, oldest first.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Listed>> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        let target = self.target.clone();
        blocking(move || list(&*target)).await
    }

    /// Checks every byte of a backup, the newest by default, against this instance's own signature.
    pub async fn verify(&self, caller: &Caller, wanted: Option<String>) -> Result<Verified> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        let (target, keyring) = (self.target.clone(), self.keyring.clone());
        let found = blocking(move || {
            let name = locate(&*target, wanted.as_deref())?;
            verify(&*target, &name, Trust::Signers(&signers(&keyring)))
        })
        .await;
        let told = match &found {
            Ok(sound) => Event::new("backups.verify").object(format!("backups/{}", sound.header.id())),
            Err(error) => Event::new("backups.verify").failed(error.to_string()),
        };
        self.audit.record(caller, told).await?;
        found
    }

    /// When the newest sound backup of this instance was made: what the journal may let go of, and what alerts go by.
    pub async fn newest(&self) -> Result<Option<Timestamp>> {
        let (target, instance, keyring) = (self.target.clone(), self.stamp.id.clone(), self.keyring.clone());
        let found = blocking(move || newest(&*target, &instance, Trust::Signers(&signers(&keyring)))).await?;
        Ok(found.map(|(header, _)| header.created))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(Box::new(error)))?
}
