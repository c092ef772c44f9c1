//! The keyring: every key of the instance, versioned by purpose, wrapped by the root key in `keyring.json`.

mod file;

pub use file::KeyringError;

use super::instance::Stamp;
use crate::{
    base::{clock::Timestamp, random},
    ports::keys::RootKey,
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use std::path::Path;
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
}

impl Purpose {
    const ALL: [Self; 7] = [
        Self::Data,
        Self::Media,
        Self::TokenSigning,
        Self::AuditSigning,
        Self::BackupSigning,
        Self::Subjects,
        Self::Ca,
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
        }
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

#[derive(Clone)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// Every key a new instance needs; the authority's pair (PKCS#8, certificate DER) is made by its own backend.
    pub fn generate(ca: (Zeroizing<Vec<u8>>, Vec<u8>), now: Timestamp) -> Self {
        let mut keyring = Self { keys: Vec::new() };
        for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Ca) {
            keyring.rotate(purpose, now);
        }
        let (material, public) = ca;
        keyring.keys.push(Key { purpose: Purpose::Ca, version: 1, created_at: now, material, public });
        keyring
    }

    /// Adds a new random version of a symmetric or signing key and returns it.
    pub fn rotate(&mut self, purpose: Purpose, now: Timestamp) -> u32 {
        let version = self.versions(purpose).map(|key| key.version).max().unwrap_or(0) + 1;
        let seed = Zeroizing::new(random::array::<32>());
        let public = match purpose {
            Purpose::TokenSigning | Purpose::AuditSigning | Purpose::BackupSigning => {
                pair(&*seed).public_key().as_ref().to_vec()
            }
            Purpose::Data | Purpose::Media | Purpose::Subjects | Purpose::Ca => Vec::new(),
        };
        self.keys.push(Key { purpose, version, created_at: now, material: Zeroizing::new(seed.to_vec()), public });
        version
    }

    /// Whether there is a key of this purpose: a keyring of an earlier release has none for subjects.
    pub fn has(&self, purpose: Purpose) -> bool {
        self.versions(purpose).next().is_some()
    }

    /// All versions of a purpose, oldest first.
    pub fn versions(&self, purpose: Purpose) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.purpose == purpose)
    }

    /// The version in use.
    pub fn current(&self, purpose: Purpose) -> &Key {
        self.versions(purpose)
            .last()
            .expect("opening a keyring, and then the store of subjects, makes sure of every purpose")
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub async fn open(data: &Path, stamp: &Stamp, root: &dyn RootKey) -> Result<Self, KeyringError> {
        file::read(data, stamp, root).await.and_then(Self::from_keys)
    }

    /// Wraps every key anew and replaces the file in one step.
    pub async fn save(&self, data: &Path, stamp: &Stamp, root: &dyn RootKey) -> Result<(), KeyringError> {
        file::write(data, stamp, root, &self.keys).await
    }

    /// A keyring out of keys that came back from a backup.
    pub fn from_keys(mut keys: Vec<Key>) -> Result<Self, KeyringError> {
        keys.sort_by_key(|key| key.version);
        let keyring = Self { keys };
        // One of an earlier release gets its key for subjects when it is opened to serve.
        for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Subjects) {
            if !keyring.has(purpose) {
                return Err(KeyringError::Incomplete(purpose));
            }
        }
        for key in &keyring.keys {
            if key.purpose != Purpose::Ca && key.material.len() != 32 {
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
