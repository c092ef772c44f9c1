//! For unit tests: the services that the others stand on, over a store in memory and a clock that stands still.
#![cfg(test)]

use super::{
    access::Access,
    audit::{Audit, Settings},
    identities::{self, Identities},
    instance::{self, Stamp},
    keyring::Keyring,
    mfa::{Mfa, Site},
    policies::Policies,
    sealing::Seals,
    sessions::Sessions,
    throttle::Throttle,
    trust::Trust,
};
use crate::{
    backends::{
        documents::embedded::{Embedded, Options},
        keys::local::LocalRootKey,
    },
    base::{
        clock::{Clock, FixedClock},
        environment::Environment,
        fault::Fault,
    },
    domain::trust::Rules,
    ports::{
        self,
        documents::Documents,
        keys::RootKey,
        mail::{Letter, Mailer},
    },
};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};
use zeroize::Zeroizing;

/// A mail server that says what it is told to, fine, later or never, once it is not held.
#[derive(Default)]
pub struct Post {
    pub says: AtomicU8,
    pub letters: Mutex<Vec<Letter>>,
    /// A letter is on its way.
    pub begun: tokio::sync::Notify,
    pub held: tokio::sync::Mutex<()>,
}

#[async_trait::async_trait]
impl Mailer for Post {
    async fn send(&self, letter: &Letter) -> ports::Result<()> {
        self.begun.notify_one();
        let _held = self.held.lock().await;
        match self.says.load(Ordering::Relaxed) {
            0 => self.letters.lock().unwrap().push(letter.clone()),
            1 => return Err(ports::Error::Unavailable("later".to_owned())),
            _ => return Err(ports::Error::Rejected(Fault::new("mail.letter"))),
        }
        Ok(())
    }
}

pub struct Bench {
    pub clock: Arc<FixedClock>,
    pub documents: Arc<dyn Documents>,
    pub stamp: Stamp,
    pub keyring: Keyring,
    pub trust: Arc<Trust>,
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
    pub sessions: Arc<Sessions>,
    pub identities: Arc<Identities>,
}

impl Bench {
    pub async fn of(environment: Environment) -> Self {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
        let documents: Arc<dyn Documents> = Arc::new(store.unwrap());
        instance::furnish(&*documents, clock.now()).await.unwrap();
        Self::over(environment, clock, documents).await
    }

    /// Where the operator decided otherwise.
    pub async fn with(environment: Environment, settings: identities::Settings) -> Self {
        let Self { clock, documents, stamp, keyring, trust, access, audit, sessions, .. } = Self::of(environment).await;
        let (people, throttle) = (sessions.clone(), Arc::new(Throttle::new(clock.clone())));
        let (rights, log) = (access.clone(), audit.clone());
        let identities =
            Identities::new(documents.clone(), clock.clone(), people, throttle, trust.clone(), rights, log);
        let identities = Arc::new(identities.with(settings));
        Self { clock, documents, stamp, keyring, trust, access, audit, sessions, identities }
    }

    /// Over a store as somebody left it.
    pub async fn over(environment: Environment, clock: Arc<FixedClock>, documents: Arc<dyn Documents>) -> Self {
        let stamp = Stamp::new(environment, clock.now());
        let keyring = Keyring::generate((Zeroizing::default(), Vec::new()), clock.now());
        let store = || documents.clone();
        let trust = Arc::new(Trust::new(store(), clock.clone(), Rules::default()));
        let access = Arc::new(Access::new(environment, clock.clone(), trust.clone()));
        let apart = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
        let seals = Arc::new(Seals::open(Arc::new(apart.unwrap()), clock.clone()).await.unwrap());
        let (keys, settings) = (Arc::new(keyring.clone()), Settings::default());
        let audit = Audit::new(store(), clock.clone(), stamp.clone(), keys, settings, access.clone());
        let audit = Arc::new(audit);
        let policies = Policies::new(store(), clock.clone(), environment, access.clone(), seals, audit.clone());
        policies.load().await.unwrap();
        let sessions = Sessions::new(store(), clock.clone(), &stamp, &keyring, trust.clone(), audit.clone());
        let sessions = Arc::new(sessions);
        let throttle = Arc::new(Throttle::new(clock.clone()));
        let (people, rights, log) = (sessions.clone(), access.clone(), audit.clone());
        let identities = Identities::new(store(), clock.clone(), people, throttle, trust.clone(), rights, log);
        let identities = Arc::new(identities);
        Self { clock, documents, stamp, keyring, trust, access, audit, sessions, identities }
    }

    pub fn mfa(&self) -> Arc<Mfa> {
        let (store, time, audit) = (self.documents.clone(), self.clock.clone(), self.audit.clone());
        let (who, open) = (self.identities.clone(), self.sessions.clone());
        let site = Site::new(&["localhost".to_owned()], 443, &[]).unwrap();
        Arc::new(Mfa::new(store, time, who, open, self.stamp.environment, audit, site))
    }

    /// As another instance, or this one restarted, has them over the same store.
    pub fn sessions(&self, stamp: &Stamp, keyring: &Keyring) -> Sessions {
        let (store, clock) = (self.documents.clone(), self.clock.clone());
        Sessions::new(store, clock, stamp, keyring, self.trust.clone(), self.audit.clone())
    }

    pub fn wait(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

/// A root key that can be away: it wraps so many times more.
pub struct Root {
    pub key: LocalRootKey,
    pub wraps: AtomicUsize,
}

impl Root {
    pub fn create(path: &Path) -> Arc<Self> {
        Arc::new(Self { key: LocalRootKey::create(path).unwrap(), wraps: AtomicUsize::new(usize::MAX) })
    }

    pub fn leave(&self, wraps: usize) {
        self.wraps.store(wraps, Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl RootKey for Root {
    fn source(&self) -> String {
        self.key.source()
    }

    async fn wrap(&self, context: &[u8], plain: &[u8]) -> ports::Result<Vec<u8>> {
        let left = self.wraps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| ports::Error::OutOfReach(Fault::new("vault.sealed")))?;
        self.key.wrap(context, plain).await
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> ports::Result<Zeroizing<Vec<u8>>> {
        self.key.unwrap(context, wrapped).await
    }
}
