//! A root key held by this process: from a file readable by the service alone, or a systemd credential.
//!
//! The text form is one line, `debrouille-root-key-1:` and 32 bytes in unpadded base64url. Wrapping is
//! AES-256-GCM under HKDF-SHA256(root key), nonce ‖ ciphertext ‖ tag.

use crate::{
    base::{fault::Fault, files, random},
    ports::{
        self, Result,
        keys::{RootKeeper, RootKey},
    },
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

const PREFIX: &str = "debrouille-root-key-1:";
const NONCE: usize = 12;

pub struct LocalRootKey {
    key: Zeroizing<[u8; 32]>,
    source: String,
}

/// Why a root key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    /// Others than the service can read it.
    #[error("{path}: mode {mode:o} lets others read it")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path}: not a root key of format 1")]
    Malformed { path: PathBuf },
}

impl LocalRootKey {
    /// Makes a new key in a new file, mode 0600.
    pub fn create(path: &Path) -> std::result::Result<Self, KeyFileError> {
        let key = Zeroizing::new(random::array::<32>());
        let line = Zeroizing::new(format!("{PREFIX}{}\n", URL_SAFE_NO_PAD.encode(*key)));
        files::create(path, line.as_bytes(), 0o600)
            .map_err(|source| KeyFileError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { key, source: source(path) })
    }

    /// Makes a new key in a file of no folder, which is gone with the process: what a kill leaves behind stays shut. Read
    /// by its path for as long as the file is open.
    pub fn unnamed() -> io::Result<(std::fs::File, PathBuf)> {
        let key = Zeroizing::new(random::array::<32>());
        files::unnamed("root-key", Zeroizing::new(format!("{PREFIX}{}\n", URL_SAFE_NO_PAD.encode(*key))).as_bytes())
    }

    pub fn from_file(path: &Path) -> std::result::Result<Self, KeyFileError> {
        let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        Ok(Self { key: read(path)?, source: source(path) })
    }

    /// The credential `root-key` of `$CREDENTIALS_DIRECTORY`; systemd itself guards its mode.
    pub fn from_credential(folder: &Path) -> std::result::Result<Self, KeyFileError> {
        Ok(Self { key: read(&folder.join("root-key"))?, source: "systemd credential root-key".to_owned() })
    }

    fn cipher(&self) -> Result<RandomizedNonceKey> {
        let mut derived = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<sha2::Sha256>::new(None, &*self.key)
            .expand(b"debrouille keyring wrap v1", &mut *derived)
            .expect("32 bytes are within HKDF's reach");
        RandomizedNonceKey::new(&AES_256_GCM, &*derived).map_err(|error| ports::Error::Backend(Box::new(error)))
    }
}

fn source(path: &Path) -> String {
    format!("file {}", path.display())
}

fn read(path: &Path) -> std::result::Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| KeyFileError::Unreadable { path: path.to_owned(), source })?;
    let malformed = || KeyFileError::Malformed { path: path.to_owned() };
    let encoded = text.trim_end().strip_prefix(PREFIX).ok_or_else(malformed)?;
    let mut key = Zeroizing::new([0; 32]);
    match URL_SAFE_NO_PAD.decode_slice(encoded, &mut *key) {
        Ok(32) => Ok(key),
        _ => Err(malformed()),
    }
}

#[async_trait::async_trait]
impl RootKey for LocalRootKey {
    fn source(&self) -> String {
        self.source.clone()
    }

    async fn wrap(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .cipher()?
            .seal_in_place_append_tag(Aad::from(context), &mut sealed)
            .map_err(|error| ports::Error::Backend(Box::new(error)))?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let wrong = || ports::Error::Corrupt(format!("a wrapped key does not open with {}", self.source));
        let (nonce, sealed) = wrapped.split_at_checked(NONCE).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = self.cipher()?.open_in_place(nonce, Aad::from(context), &mut plain).map_err(|_| wrong())?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// Keeps it in a file; without one, somebody else does.
pub struct LocalKeeper(pub Option<PathBuf>);

impl LocalKeeper {
    /// Where a successor waits. A crash may leave it there: of the two, the one that opens the keyring is the root key.
    pub fn successor(path: &Path) -> PathBuf {
        let mut next = path.as_os_str().to_owned();
        next.push(".next");
        next.into()
    }

    fn path(&self) -> Result<&Path> {
        self.0.as_deref().ok_or_else(|| ports::Error::Rejected(Fault::new("secrets.root_elsewhere")))
    }

    /// A link is followed: the key may lie on another disk for a reason.
    pub fn of(path: Option<PathBuf>) -> Self {
        Self(path.map(|path| path.canonicalize().unwrap_or(path)))
    }
}

#[async_trait::async_trait]
impl RootKeeper for LocalKeeper {
    async fn prove(&self, file: Option<&Path>) -> Result<()> {
        if file.is_some() { Ok(()) } else { self.path().map(drop) }
    }

    async fn prepare(&self, file: Option<&Path>) -> Result<Arc<dyn RootKey>> {
        let path = match file {
            Some(file) => file.to_owned(),
            None => {
                let next = Self::successor(self.path()?);
                // One that never came into use.
                match std::fs::remove_file(&next) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(backend(error)),
                    _ => next,
                }
            }
        };
        let key = LocalRootKey::create(&path).map_err(|error| match error {
            KeyFileError::Unreadable { path, source } if file.is_some() => {
                let fault = Fault::new("secrets.root_file").at(path.display().to_string()).with("cause", source);
                ports::Error::Rejected(fault)
            }
            error => backend(error),
        })?;
        if file.is_none() {
            // Where root asked for it, whoever reads the one in use must be able to read it.
            let owner = self.path()?;
            std::fs::File::open(&path).and_then(|made| files::adopt(&made, owner)).map_err(backend)?;
        }
        Ok(Arc::new(key))
    }

    async fn settle(&self, opened: &dyn RootKey) -> Result<Option<Arc<dyn RootKey>>> {
        let next = self.0.as_deref().map(Self::successor);
        match next.filter(|next| opened.source() == source(next)) {
            Some(_) => self.replace().await.map(Some),
            None => Ok(None),
        }
    }

    async fn replace(&self) -> Result<Arc<dyn RootKey>> {
        let path = self.path()?;
        let next = Self::successor(path);
        let key = LocalRootKey { source: source(path), ..LocalRootKey::from_file(&next).map_err(backend)? };
        std::fs::rename(&next, path).map_err(backend)?;
        // It has taken the place: were this a failure, the keyring would be wrapped by a key that is gone.
        if let Err(error) = files::sync_folder(path) {
            tracing::warn!(%error, "the root key's place is not known to be on disk");
        }
        Ok(Arc::new(key))
    }
}

fn backend(error: impl std::error::Error + Send + Sync + 'static) -> ports::Error {
    ports::Error::Backend(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn wraps_for_itself_and_its_context_alone() {
        let folder = tempfile::tempdir().unwrap();
        let one = LocalRootKey::create(&folder.path().join("one")).unwrap();
        let two = LocalRootKey::create(&folder.path().join("two")).unwrap();
        let wrapped = one.wrap(b"data 1", b"secret").await.unwrap();
        let again = LocalRootKey::from_file(&folder.path().join("one")).unwrap();
        assert_eq!(&**again.unwrap(b"data 1", &wrapped).await.unwrap(), b"secret");
        assert!(matches!(one.unwrap(b"data 2", &wrapped).await, Err(ports::Error::Corrupt(_))));
        assert!(matches!(two.unwrap(b"data 1", &wrapped).await, Err(ports::Error::Corrupt(_))));
        for place in 0..wrapped.len() {
            let mut flipped = wrapped.clone();
            flipped[place] ^= 1;
            assert!(one.unwrap(b"data 1", &flipped).await.is_err(), "a flip at {place} passed");
        }
        assert!(one.unwrap(b"data 1", &wrapped[..5]).await.is_err());
    }

    #[test]
    fn refuses_a_key_others_can_read_or_another_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        LocalRootKey::create(&path).unwrap();
        assert!(matches!(LocalRootKey::create(&path), Err(KeyFileError::Unreadable { .. })), "overwrote a key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(LocalRootKey::from_file(&path), Err(KeyFileError::Exposed { mode: 0o640, .. })));
        let other = folder.path().join("other");
        files::create(&other, b"hello", 0o600).unwrap();
        assert!(matches!(LocalRootKey::from_file(&other), Err(KeyFileError::Malformed { .. })));
    }
}
