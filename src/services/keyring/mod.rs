//! The keyring: every key of the instance, versioned by purpose, wrapped by the root key in `keyring.json`. Who holds it
//! sees each new key as it comes.

mod file;

pub use file::KeyringError;

use super::instance::Stamp;
use crate::{
    base::{clock::Timestamp, random},
    ports::{documents::StorageKey, keys::RootKey},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};
use zeroize::Zeroizing;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Pages of the database (AES-256).
    Data,
    /// Media files (AES-256).
    Media,
    /// Access tokens (Ed25519 seed).
    TokenSigning,
    /// Audit checkpoints (Ed25519 seed).
    AuditSigning,
    /// Backup manifests (Ed25519 seed).
    BackupSigning,
    /// Pages of the store of subjects' keys (AES-256).
    Subjects,
    /// The internal certificate authority (PKCS#8 of a P-256 key; its certificate is the public part).
    Ca,
    /// The certificate that a public authority issued (PKCS#8).
    Tls,
    /// An account with a public authority (as the ACME library writes it; the authority's URL is the public part).
    Acme,
}

impl Purpose {
    pub const ALL: [Self; 9] = [
        Self::Data,
        Self::Media,
        Self::TokenSigning,
        Self::AuditSigning,
        Self::BackupSigning,
        Self::Subjects,
        Self::Ca,
        Self::Tls,
        Self::Acme,
    ];

    /// As backups write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Media => "media",
            Self::TokenSigning => "token-signing",
            Self::AuditSigning => "audit-signing",
            Self::BackupSigning => "backup-signing",
            Self::Subjects => "subjects",
            Self::Ca => "ca",
            Self::Tls => "tls",
            Self::Acme => "acme",
        }
    }

    /// Whether an instance has one from the beginning: those others agree to come with the first order.
    fn is_own(self) -> bool {
        !matches!(self, Self::Tls | Self::Acme)
    }

    /// Whether it is 32 random bytes.
    fn is_plain(self) -> bool {
        self.is_own() && self != Self::Ca
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// One version of one key. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub purpose: Purpose,
    /// From 1; the highest of a purpose is the one in use, older ones still open what they sealed.
    pub version: u32,
    pub created_at: Timestamp,
    pub material: Zeroizing<Vec<u8>>,
    /// The public part, where there is one: an Ed25519 key, a certificate (DER).
    pub public: Vec<u8>,
}

/// Seconds from a new authority's making to its first certificate, while the old one signs.
pub const ANNOUNCED: i64 = 30 * 86_400;

/// By version.
pub struct Keyring(RwLock<Vec<Arc<Key>>>);

/// As it stands: later keys do not come to it.
impl Clone for Keyring {
    fn clone(&self) -> Self {
        Self::of(self.keys())
    }
}

impl Keyring {
    fn of(keys: Vec<Arc<Key>>) -> Self {
        Self(RwLock::new(keys))
    }

    /// Every key a new instance needs; the authority's pair (PKCS#8, certificate DER) is made by its own backend.
    pub fn generate(ca: (Zeroizing<Vec<u8>>, Vec<u8>), now: Timestamp) -> Self {
        let keyring = Self::of(Vec::new());
        for purpose in Purpose::ALL.into_iter().filter(|purpose| purpose.is_plain()) {
            keyring.rotate(purpose, now);
        }
        keyring.add(Purpose::Ca, now, ca);
        keyring
    }

    /// Adds a new random version of a symmetric or signing key and returns it.
    pub fn rotate(&self, purpose: Purpose, now: Timestamp) -> u32 {
        let seed = Zeroizing::new(random::array::<32>());
        let public = match purpose {
            Purpose::TokenSigning | Purpose::AuditSigning | Purpose::BackupSigning => {
                pair(&*seed).public_key().as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        self.add(purpose, now, (Zeroizing::new(seed.to_vec()), public))
    }

    /// Adds a new version of this material and public part, and returns it.
    pub fn add(&self, purpose: Purpose, now: Timestamp, (material, public): (Zeroizing<Vec<u8>>, Vec<u8>)) -> u32 {
        let version = self.versions(purpose).map(|key| key.version).max().unwrap_or(0) + 1;
        let key = Key { purpose, version, created_at: now, material, public };
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(key));
        version
    }

    /// Keeps of a purpose these versions alone.
    pub fn retain(&self, purpose: Purpose, kept: impl Fn(u32) -> bool) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| key.purpose != purpose || kept(key.version));
    }

    /// Holds what another does from now on.
    pub fn adopt(&self, other: &Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other.keys();
    }

    /// Whether there is a key of this purpose: a keyring of an earlier release has none for subjects, and one for others'
    /// certificates only who ordered one.
    pub fn has(&self, purpose: Purpose) -> bool {
        self.versions(purpose).next().is_some()
    }

    /// All versions of a purpose, oldest first.
    pub fn versions(&self, purpose: Purpose) -> impl Iterator<Item = Arc<Key>> + use<> {
        self.keys().into_iter().filter(move |key| key.purpose == purpose)
    }

    /// When earlier versions of a purpose were revoked, if any were: what they signed before then is theirs, as far as we
    /// know, and nothing they sign counts.
    pub fn revoked_at(&self, purpose: Purpose) -> Option<Timestamp> {
        self.versions(purpose).next().filter(|oldest| oldest.version > 1).map(|oldest| oldest.created_at)
    }

    /// The version in use.
    pub fn current(&self, purpose: Purpose) -> Arc<Key> {
        self.versions(purpose)
            .last()
            .expect("opening a keyring, and then the store of subjects, makes sure of every purpose")
    }

    /// The authority that signs: a new one only once clients have had time to trust it, or where there is no other.
    pub fn issuing(&self, now: Timestamp) -> Arc<Key> {
        let known = |key: &Arc<Key>| key.created_at.plus_seconds(ANNOUNCED) <= now;
        let mut all = self.versions(Purpose::Ca);
        let first = all.next().unwrap_or_else(|| self.current(Purpose::Ca));
        all.filter(known).last().unwrap_or(first)
    }

    /// Certificates of the authorities that are to be trusted: of the one that signs, and of its successors.
    pub fn authorities(&self, now: Timestamp) -> Vec<Vec<u8>> {
        let first = self.issuing(now).version;
        self.versions(Purpose::Ca).filter(|key| key.version >= first).map(|key| key.public.clone()).collect()
    }

    pub fn keys(&self) -> Vec<Arc<Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All versions of a key that seals a store, the one in use last.
    pub fn storage_keys(&self, purpose: Purpose) -> Vec<StorageKey> {
        let material = |key: &Key| key.material.as_slice().try_into().expect("its length is checked when it is opened");
        let key = |key: Arc<Key>| StorageKey { version: key.version, material: Zeroizing::new(material(&key)) };
        self.versions(purpose).map(key).collect()
    }

    pub async fn open(data: &Path, stamp: &Stamp, root: &dyn RootKey) -> Result<Self, KeyringError> {
        file::read(data, stamp, root).await.and_then(Self::from_keys)
    }

    /// Wraps every key anew and replaces the file in one step.
    pub async fn save(&self, data: &Path, stamp: &Stamp, root: &dyn RootKey) -> Result<(), KeyringError> {
        file::write(data, stamp, root, &self.keys()).await
    }

    /// A keyring out of keys that came back from a backup.
    pub fn from_keys(mut keys: Vec<Key>) -> Result<Self, KeyringError> {
        keys.sort_by_key(|key| key.version);
        let keyring = Self::of(keys.into_iter().map(Arc::new).collect());
        // One of an earlier release gets its key for subjects when it is opened to serve.
        for purpose in Purpose::ALL.into_iter().filter(|purpose| purpose.is_own() && *purpose != Purpose::Subjects) {
            if !keyring.has(purpose) {
                return Err(KeyringError::Incomplete(purpose));
            }
        }
        for key in keyring.keys() {
            if key.purpose.is_plain() && key.material.len() != 32 {
                return Err(KeyringError::Incomplete(key.purpose));
            }
        }
        Ok(keyring)
    }
}

impl Key {
    /// The signing pair of an Ed25519 purpose.
    pub fn signer(&self) -> Ed25519KeyPair {
        pair(&self.material)
    }
}

fn pair(seed: &[u8]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("a signing key's material is 32 bytes, checked when opened")
}
