//! The routes by which operators make, list and check backups.

use super::{body::Sent, conditions, envelope::Answer, proof::By, spec::Tag};
use crate::{
    base::{
        fault::Fault,
        messages::{Language, render},
    },
    services::{
        Error, Result,
        backups::{Created, Kind, Listed, Verified},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `full`
    kind: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Checked {
    /// An id or a name; the newest when absent
    backup: Option<String>,
}

#[derive(Serialize, Object)]
struct Made {
    id: String,
    /// Where it is at the target
    place: String,
    documents: u64,
    bytes: u64,
    /// Whether the copy was read back and checked; else its server vouches for its bytes
    reread: bool,
}

#[derive(Serialize, Object)]
struct Found {
    name: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// RFC 3339
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// What is wrong with its header
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Serialize, Object)]
struct Keys {
    /// Public keys: their owners alone can open a backup
    recipients: Vec<String>,
    /// This instance's, every version
    signers: Vec<String>,
}

#[derive(Serialize, Object)]
struct Sound {
    id: String,
    documents: u64,
    records: u64,
    /// Whether it was also decrypted, which the server cannot do
    opened: bool,
}

#[OpenApi(prefix_path = "/api/v1/admin/backups", tag = "Tag::Administration")]
impl Routes {
    /// Make a full backup of this moment, while writes go on
    #[oai(path = "/", method = "post", operation_id = "createBackup")]
    async fn create(&self, by: By, sent: Sent<Wanted>, request: &Request) -> Result<Answer<Made, 201>> {
        conditions::no_attempt(request)?;
        let Wanted { kind } = sent.read()?;
        if let Some(kind) = kind.filter(|kind| kind != Kind::Full.name()) {
            return Err(Error::Invalid(Fault::new("backups.kind").at("kind").with("kind", kind)));
        }
        let Created { name, header, manifest, reread } = by.exchange.state.backups.create(&by.caller).await?;
        let (documents, bytes) = (manifest.documents, manifest.body_bytes);
        Answer::value(&by.exchange, &Made { id: header.id(), place: name, documents, bytes, reread })
    }

    /// List the backups at the target, oldest first
    #[oai(path = "/", method = "get", operation_id = "listBackups")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Found>>> {
        let all = by.exchange.state.backups.list(&by.caller).await?;
        let all: Vec<_> = all.into_iter().map(|listed| Found::of(listed, by.exchange.language)).collect();
        Answer::value(&by.exchange, &all)
    }

    /// Whom backups are sealed to, and who signs them
    #[oai(path = "/keys", method = "get", operation_id = "listBackupKeys")]
    async fn keys(&self, by: By) -> Result<Answer<Keys>> {
        let (recipients, signers) = by.exchange.state.backups.keys(&by.caller)?;
        let recipients = recipients.iter().map(ToString::to_string).collect();
        Answer::value(&by.exchange, &Keys { recipients, signers: signers.iter().map(ToString::to_string).collect() })
    }

    /// Check every byte of a backup against its signature
    #[oai(path = "/verify", method = "post", operation_id = "verifyBackup")]
    async fn verify(&self, by: By, sent: Sent<Checked>) -> Result<Answer<Sound>> {
        let Checked { backup } = sent.read()?;
        let Verified { header, manifest } = by.exchange.state.backups.verify(&by.caller, backup).await?;
        let (documents, records) = (manifest.documents, manifest.records);
        Answer::value(&by.exchange, &Sound { id: header.id(), documents, records, opened: false })
    }
}

impl Found {
    fn of(listed: Listed, language: Language) -> Self {
        let Listed { name, bytes, header } = listed;
        let found = Self { name, bytes, id: None, kind: None, created: None, fault: None };
        match header {
            Ok((header, _)) => Self {
                id: Some(header.id()),
                kind: Some(header.kind.name().to_owned()),
                created: Some(header.created.rfc3339()),
                ..found
            },
            Err(fault) => Self { fault: Some(render(language, &fault)), ..found },
        }
    }
}
