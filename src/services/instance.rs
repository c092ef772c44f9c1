//! Which instance this is: its id, environment and lineage, stamped on the data directory, the keyring,
//! tokens and backups. What carries another stamp is refused.

use super::{
    Result as ServiceResult,
    access::Caller,
    audit,
    backups::BACKUPS,
    certificates::ORDERS,
    drills::DRILLS,
    identities::{IDENTITIES, LINKS},
    invitations::INVITATIONS,
    keys::KEYS,
    machines::ASSERTIONS,
    memberships::MEMBERSHIPS,
    mfa::FACTORS,
    policies::{POLICIES, founding},
    recovery::{OUTBOX, RECOVERIES},
    sessions::{REFRESHES, SESSIONS},
    subjects::CERTIFICATES,
    trust::TRUST,
    verification::VERIFICATIONS,
};
use crate::{
    base::{clock::Timestamp, environment::Environment, files, random},
    ports::documents::{Batch, COLLECTIONS, Change, Documents, Expect, Operation},
};
use bson::{RawDocumentBuf, rawdoc};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The newest layout of the data directory this release writes and reads.
pub const FORMAT: u32 = 1;
const FILE: &str = "instance.json";
/// In a data directory that a restore fills, until it is whole.
pub const UNFINISHED: &str = ".restoring";

/// The content of `instance.json`. Not secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    pub format: u32,
    pub id: String,
    pub environment: Environment,
    /// Raised by each restore: the same instance, another line of history.
    pub lineage: u32,
    pub created_at: Timestamp,
    /// `None`: the instance itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Likeness>,
}

/// What is no more than a copy, and never serves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Likeness {
    /// Restored to see whether it can be.
    Drill,
    /// Some collections came back without their documents.
    Partial,
}

#[derive(Debug, thiserror::Error)]
pub enum StampError {
    #[error("{0}: no instance here")]
    Absent(PathBuf),
    /// A restore began here and did not end.
    #[error("{0}: an unfinished restore")]
    Unfinished(PathBuf),
    #[error("{0}: already holds something")]
    Occupied(PathBuf),
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path}: not an instance stamp")]
    Malformed { path: PathBuf },
    /// Written by a later release.
    #[error("{path}: format {found}, newer than {FORMAT}")]
    Newer { path: PathBuf, found: u32 },
    #[error("{path}: belongs to {found}, not to {wanted}")]
    Foreign { path: PathBuf, found: Environment, wanted: Environment },
}

impl Stamp {
    pub fn new(environment: Environment, now: Timestamp) -> Self {
        Self { format: FORMAT, id: random::id(now), environment, lineage: 1, created_at: now, copy: None }
    }

    /// The stamp of a data directory, which must be of `environment` when one is configured.
    pub fn read(data: &Path, environment: Option<Environment>) -> Result<Self, StampError> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let path = data.join(FILE);
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if data.join(UNFINISHED).exists() => StampError::Unfinished(data.to_owned()),
            io::ErrorKind::NotFound => StampError::Absent(data.to_owned()),
            _ => StampError::Unreadable { path: path.clone(), source },
        })?;
        let malformed = |_| StampError::Malformed { path: path.clone() };
        let found = serde_json::from_slice::<Format>(&bytes).map_err(malformed)?.format;
        if found > FORMAT {
            return Err(StampError::Newer { path, found });
        }
        let stamp: Self = serde_json::from_slice(&bytes).map_err(malformed)?;
        match environment {
            Some(wanted) if wanted != stamp.environment => {
                Err(StampError::Foreign { path, found: stamp.environment, wanted })
            }
            _ => Ok(stamp),
        }
    }

    /// Claims an empty (or absent) directory. Written last of all at init: a directory without a stamp is no instance.
    pub fn write(&self, data: &Path) -> Result<(), StampError> {
        let path = data.join(FILE);
        let text = serde_json::to_vec_pretty(self).expect("a stamp is plain JSON");
        files::create(&path, &text, 0o644).map_err(|source| StampError::Unreadable { path, source })
    }
}

/// Makes the directory if it is absent; refuses one that holds anything.
pub fn claim(data: &Path) -> Result<(), StampError> {
    let unreadable = |source| StampError::Unreadable { path: data.to_owned(), source };
    files::private_folder(data).map_err(unreadable)?;
    let mut entries = std::fs::read_dir(data).map_err(unreadable)?;
    match entries.any(|entry| !entry.is_ok_and(|entry| is_of_the_disk(&entry))) {
        false => Ok(()),
        true => Err(StampError::Occupied(data.to_owned())),
    }
}

/// What a file system has at its top: a data directory may be a disk of its own.
pub fn is_of_the_disk(entry: &std::fs::DirEntry) -> bool {
    entry.file_name() == "lost+found"
}

/// What the audit log is written to: there before anything that it tells of.
pub async fn ground(documents: &dyn Documents, now: Timestamp) -> ServiceResult<()> {
    define(documents, now, audit::collections().into()).await
}

/// Defines the appliance's own collections that are not there yet: at init, and after an upgrade that adds one.
pub async fn furnish(documents: &dyn Documents, now: Timestamp) -> ServiceResult<()> {
    let all = own_collections().into_iter().chain(audit::collections());
    define(documents, now, all.collect()).await
}

async fn define(
    documents: &dyn Documents,
    now: Timestamp,
    all: Vec<(&'static str, RawDocumentBuf)>,
) -> ServiceResult<()> {
    for (name, definition) in all {
        let indexes =
            |definition: &RawDocumentBuf| definition.get_array("indexes").map(|indexes| indexes.to_owned()).ok();
        let held = documents.describe(name).await?;
        let new = held.is_none();
        // One of an earlier release gets the indexes it lacks.
        if held.as_ref().is_some_and(|held| indexes(&held.definition) == indexes(&definition)) {
            continue;
        }
        let (collection, id) = (COLLECTIONS.to_owned(), name.to_owned());
        let mut operations = vec![Operation { collection, id, expect: Expect::Any, change: Change::Put(definition) }];
        // Once: an operator who takes one away does not find it back.
        if name == POLICIES && new {
            operations.extend(founding());
        }
        let origin = Caller::system().origin();
        documents.commit(Batch { time: now, origin, operations, check: None, receipt: None }).await?;
    }
    Ok(())
}

fn own_collections() -> Vec<(&'static str, RawDocumentBuf)> {
    vec![
        (
            IDENTITIES,
            rawdoc! { "indexes": [
                { "keys": { "handles": 1 }, "unique": true },
                { "keys": { "tokensFrom": 1 } },
                { "keys": { "kind": 1 } },
            ] },
        ),
        (
            MEMBERSHIPS,
            rawdoc! { "indexes": [
                // Of those that go on, `ended` is absent: one for each person and organization.
                { "keys": { "person": 1, "organization": 1, "ended": 1 }, "unique": true },
                "organization,role",
            ] },
        ),
        (INVITATIONS, rawdoc! { "indexes": [{ "keys": { "hash": 1 }, "unique": true }, "organization"] }),
        (SESSIONS, rawdoc! { "indexes": ["identity", "_updatedAt", "expires"] }),
        (REFRESHES, rawdoc! { "indexes": ["expires"] }),
        (POLICIES, rawdoc! { "indexes": [] }),
        (TRUST, rawdoc! { "indexes": [] }),
        (FACTORS, rawdoc! { "indexes": [] }),
        (KEYS, rawdoc! { "indexes": ["identity", "expires", "public"] }),
        (ASSERTIONS, rawdoc! { "indexes": ["expires"] }),
        (LINKS, rawdoc! { "indexes": ["identity"] }),
        (RECOVERIES, rawdoc! { "indexes": ["hash", "expires"] }),
        (OUTBOX, rawdoc! { "indexes": ["next"] }),
        (VERIFICATIONS, rawdoc! { "indexes": ["email", "hash", "next", "expires"] }),
        (CERTIFICATES, rawdoc! { "indexes": [] }),
        (BACKUPS, rawdoc! { "indexes": [] }),
        (DRILLS, rawdoc! { "indexes": ["at"] }),
        (ORDERS, rawdoc! { "indexes": [] }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_environment_format_or_owner_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(matches!(Stamp::read(&data, None), Err(StampError::Absent(_))));
        claim(&data).unwrap();
        std::fs::create_dir(data.join("lost+found")).unwrap();
        claim(&data).unwrap();
        let stamp = Stamp::new(Environment::Staging, Timestamp(1));
        stamp.write(&data).unwrap();
        assert_eq!(Stamp::read(&data, Some(Environment::Staging)).unwrap(), stamp);
        assert!(matches!(Stamp::read(&data, Some(Environment::Production)), Err(StampError::Foreign { .. })));
        assert!(matches!(claim(&data), Err(StampError::Occupied(_))));
        assert!(stamp.write(&data).is_err(), "overwrote a stamp");
        let path = data.join(FILE);
        std::fs::write(&path, br#"{"format": 9}"#).unwrap();
        assert!(matches!(Stamp::read(&data, None), Err(StampError::Newer { found: 9, .. })));
        std::fs::write(&path, b"{").unwrap();
        assert!(matches!(Stamp::read(&data, None), Err(StampError::Malformed { .. })));
    }
}
