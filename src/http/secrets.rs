//! The routes of secrets: how old the instance's keys are, their rotation, the root key's successor. No key leaves by them.

use super::{body::Sent, conditions, envelope::Answer, proof::By, spec::Tag};
use crate::{
    base::clock::Timestamp,
    services::{
        Result,
        secrets::{Rotated, Status},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub struct Routes;

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Secrets {
    /// Where the key that wraps all others comes from
    root_key: String,
    keys: Vec<SecretKey>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct SecretKey {
    /// `data`, `media`, `token-signing`, `audit-signing`, `backup-signing`, `subjects` or `ca`
    purpose: String,
    /// The version in use
    version: u32,
    /// RFC 3339
    created_at: String,
    /// When it is rotated by itself, RFC 3339; absent: never
    #[serde(skip_serializing_if = "Option::is_none")]
    rotates_at: Option<String>,
    /// Versions kept to open or believe what they sealed or signed
    older: u32,
    /// Of a store: its pages by the version that seals them
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<BTreeMap<String, u64>>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// `data`, `media`, `token-signing`, `audit-signing`, `backup-signing`, `subjects` or `ca`
    purpose: String,
    /// The versions before count no more from now on: of `token-signing`, `backup-signing` and `ca` alone
    #[serde(default)]
    #[oai(default)]
    revoke: bool,
}

#[derive(Serialize, Object)]
struct RotatedKey {
    purpose: String,
    version: u32,
    /// The public key in hex, where it has one
    #[serde(skip_serializing_if = "String::is_empty")]
    public: String,
    /// Versions that count no more
    revoked: Vec<u32>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct RewrittenPart {
    /// `data` or `subjects`
    purpose: String,
    /// Where to begin: 0, then what the answer before says
    from: u64,
}

#[derive(Serialize, Object)]
struct Rewritten {
    /// Where the next part begins; 0: all is done
    next: u64,
    /// Pages in all
    total: u64,
    /// Pages of this part that were sealed anew
    rewritten: u64,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Wrapping {
    /// A file that is not there yet, to be made with the new root key in it; absent: it takes the place of the one in use
    file: Option<String>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Wrapped {
    root_key: String,
}

#[OpenApi(prefix_path = "/api/v1/admin/secrets", tag = "Tag::Administration")]
impl Routes {
    /// How old each key of the instance is, and when it is rotated
    #[oai(path = "/", method = "get", operation_id = "listSecrets")]
    async fn status(&self, by: By) -> Result<Answer<Secrets>> {
        let (root_key, keys) = by.exchange.state.secrets.status(&by.caller).await?;
        Answer::value(&by.exchange, &Secrets { root_key, keys: keys.into_iter().map(SecretKey::of).collect() })
    }

    /// Give a key its successor
    #[oai(path = "/rotate", method = "post", operation_id = "rotateSecret")]
    async fn rotate(&self, by: By, sent: Sent<Rotation>, request: &Request) -> Result<Answer<RotatedKey>> {
        conditions::no_attempt(request)?;
        let Rotation { purpose, revoke } = sent.read()?;
        let Rotated { key, revoked } = by.exchange.state.secrets.rotate(&by.caller, &purpose, revoke).await?;
        let public = hex::encode(&key.public);
        Answer::value(&by.exchange, &RotatedKey { purpose, version: key.version, public, revoked })
    }

    /// Seal a part of a store anew under the key in use
    #[oai(path = "/rewrite", method = "post", operation_id = "rewriteSecret")]
    async fn rewrite(&self, by: By, sent: Sent<RewrittenPart>, request: &Request) -> Result<Answer<Rewritten>> {
        conditions::no_attempt(request)?;
        let RewrittenPart { purpose, from } = sent.read()?;
        let done = by.exchange.state.secrets.rewrite(&by.caller, &purpose, from).await?;
        Answer::value(&by.exchange, &Rewritten { next: done.next, total: done.total, rewritten: done.moved })
    }

    /// Wrap every key under a new root key; for who is on the machine itself
    #[oai(path = "/rewrap", method = "post", operation_id = "rewrapSecrets")]
    async fn rewrap(&self, by: By, sent: Sent<Wrapping>, request: &Request) -> Result<Answer<Wrapped>> {
        conditions::no_attempt(request)?;
        let Wrapping { file } = sent.read()?;
        let file = file.map(std::path::PathBuf::from);
        let root_key = by.exchange.state.secrets.rewrap(&by.caller, file.as_deref()).await?;
        Answer::value(&by.exchange, &Wrapped { root_key })
    }
}

impl SecretKey {
    fn of(status: Status) -> Self {
        let Status { purpose, version, created, due, older, pages } = status;
        let named = |pages: BTreeMap<u32, u64>| pages.into_iter().map(|(version, pages)| (version.to_string(), pages));
        Self {
            purpose: purpose.name().to_owned(),
            version,
            created_at: created.rfc3339(),
            rotates_at: due.map(Timestamp::rfc3339),
            older: u32::try_from(older).unwrap_or(u32::MAX),
            pages: pages.map(|pages| named(pages).collect()),
        }
    }
}
