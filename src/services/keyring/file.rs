//! `keyring.json`, format 1: each key wrapped by the root key, bound to instance, environment, purpose and version.

use super::{Key, Purpose};
use crate::{
    base::{clock::Timestamp, environment::Environment, files},
    ports::{self, keys::RootKey},
    services::instance::Stamp,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

const FORMAT: u32 = 1;
const FILE: &str = "keyring.json";

#[derive(serde::Serialize, serde::Deserialize)]
struct File {
    format: u32,
    instance: String,
    environment: Environment,
    keys: Vec<Entry>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    purpose: Purpose,
    version: u32,
    created_at: Timestamp,
    public: String,
    wrapped: String,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0}: not a keyring")]
    Malformed(PathBuf),
    #[error("{path}: format {found}, newer than {FORMAT}")]
    Newer { path: PathBuf, found: u32 },
    /// Of another instance or environment than the data directory.
    #[error("{0}: the keyring of another instance")]
    Foreign(PathBuf),
    /// The root key tried is not the one that wrapped it, or the file is damaged.
    #[error("{path}: does not open with {source_tried}")]
    WrongRoot { path: PathBuf, source_tried: String },
    #[error("no usable key for {0:?}")]
    Incomplete(Purpose),
    #[error("the root key is out of reach: {0}")]
    Root(ports::Error),
}

/// What a wrapped key is bound to; the public part too, so that none can be swapped.
fn context(stamp: &Stamp, purpose: Purpose, version: u32, created: Timestamp, public: &str) -> Vec<u8> {
    let fields = (FORMAT, &stamp.id, stamp.environment, purpose, version, created, public);
    serde_json::to_vec(&fields).expect("plain values")
}

pub(super) async fn write(
    data: &Path,
    stamp: &Stamp,
    root: &dyn RootKey,
    keys: &[Arc<Key>],
) -> Result<(), KeyringError> {
    let mut entries = Vec::with_capacity(keys.len());
    for key in keys {
        let public = STANDARD.encode(&key.public);
        let context = context(stamp, key.purpose, key.version, key.created_at, &public);
        let wrapped = root.wrap(&context, &key.material).await.map_err(KeyringError::Root)?;
        entries.push(Entry {
            purpose: key.purpose,
            version: key.version,
            created_at: key.created_at,
            public,
            wrapped: STANDARD.encode(wrapped),
        });
    }
    let file = File { format: FORMAT, instance: stamp.id.clone(), environment: stamp.environment, keys: entries };
    let text = serde_json::to_vec_pretty(&file).expect("plain JSON");
    let path = data.join(FILE);
    files::replace(&path, &text).map_err(|source| KeyringError::Unreadable { path, source })
}

pub(super) async fn read(data: &Path, stamp: &Stamp, root: &dyn RootKey) -> Result<Vec<Key>, KeyringError> {
    let path = data.join(FILE);
    let bytes = std::fs::read(&path).map_err(|source| KeyringError::Unreadable { path: path.clone(), source })?;
    let malformed = || KeyringError::Malformed(path.clone());
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    match value.get("format").and_then(serde_json::Value::as_u64).map(u32::try_from) {
        Some(Ok(FORMAT)) => {}
        Some(Ok(found)) if found > FORMAT => return Err(KeyringError::Newer { path, found }),
        _ => return Err(malformed()),
    }
    let file: File = serde_json::from_value(value).map_err(|_| malformed())?;
    if file.instance != stamp.id || file.environment != stamp.environment {
        return Err(KeyringError::Foreign(path));
    }
    let mut keys = Vec::with_capacity(file.keys.len());
    for entry in file.keys {
        let wrapped = STANDARD.decode(&entry.wrapped).map_err(|_| malformed())?;
        let public = STANDARD.decode(&entry.public).map_err(|_| malformed())?;
        let context = context(stamp, entry.purpose, entry.version, entry.created_at, &entry.public);
        let material = root.unwrap(&context, &wrapped).await.map_err(|error| match error {
            ports::Error::Corrupt(_) => KeyringError::WrongRoot { path: path.clone(), source_tried: root.source() },
            other => KeyringError::Root(other),
        })?;
        let (purpose, version, created_at) = (entry.purpose, entry.version, entry.created_at);
        keys.push(Key { purpose, version, created_at, material, public });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::{super::Keyring, *};
    use crate::backends::keys::local::LocalRootKey;
    use zeroize::Zeroizing;

    #[tokio::test]
    async fn comes_back_with_its_root_key_and_stamp_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let root = LocalRootKey::create(&data.join("root.key")).unwrap();
        let stranger = LocalRootKey::create(&data.join("other.key")).unwrap();
        let stamp = Stamp::new(Environment::Production, Timestamp(1));
        let keyring = Keyring::generate((Zeroizing::new(b"pkcs8".to_vec()), b"der".to_vec()), Timestamp(2));
        assert_eq!(keyring.rotate(Purpose::Data, Timestamp(3)), 2);
        keyring.save(data, &stamp, &root).await.unwrap();

        let back = Keyring::open(data, &stamp, &root).await.unwrap();
        assert_eq!(back.current(Purpose::Data).version, 2);
        assert_eq!(back.current(Purpose::Data).material, keyring.current(Purpose::Data).material);
        assert_eq!(&**back.current(Purpose::Ca).material, b"pkcs8");

        let wrong = Keyring::open(data, &stamp, &stranger).await.err().unwrap();
        assert!(matches!(wrong, KeyringError::WrongRoot { .. }), "{wrong}");
        let elsewhere = Stamp { environment: Environment::Staging, ..stamp.clone() };
        assert!(matches!(Keyring::open(data, &elsewhere, &root).await, Err(KeyringError::Foreign(_))));

        // A new authority's turn comes once clients could be told of it; at once where there is no other.
        let announced = Timestamp(4);
        back.add(Purpose::Ca, announced, (Zeroizing::new(b"next".to_vec()), b"next".to_vec()));
        let until = announced.plus_seconds(super::super::ANNOUNCED);
        let signs = |at: Timestamp| back.issuing(at).version;
        assert_eq!((signs(announced), signs(Timestamp(until.0 - 1)), signs(until)), (1, 1, 2));
        assert_eq!((back.authorities(announced).len(), back.authorities(until).len()), (2, 1));
        back.retain(Purpose::Ca, |version| version != 1);
        assert_eq!(signs(announced), 2);

        // A changed field that is not wrapped itself is still noticed.
        let text = std::fs::read_to_string(data.join(FILE)).unwrap();
        std::fs::write(data.join(FILE), text.replacen("\"version\": 2", "\"version\": 7", 1)).unwrap();
        assert!(matches!(Keyring::open(data, &stamp, &root).await, Err(KeyringError::WrongRoot { .. })));
    }
}
