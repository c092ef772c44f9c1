//! The routes by which auditors read the log: entries, checkpoints, proofs, the whole as lines.

use super::{
    envelope::{Answer, Free},
    lines::{Exported, download, ndjson},
    proof::By,
    spec::Tag,
};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::{json, merkle::Hash},
    services::{
        Error, Result,
        audit::{Proof, Search},
        documents,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use poem_openapi::{Object, OpenApi, param::Query};
use serde::Serialize;

pub struct Routes;

#[derive(Serialize, Object)]
struct Checkpoint {
    /// A signed note (C2SP)
    checkpoint: String,
    /// The public keys that sign, the one in use last
    keys: Vec<String>,
}

#[derive(Serialize, Object)]
struct Proven {
    index: u64,
    /// The entry's text, as hashed
    entry: String,
    /// Entries of the tree it is in
    size: u64,
    /// Siblings from the leaf to the root, in base64
    hashes: Vec<String>,
    checkpoint: String,
    keys: Vec<String>,
}

#[derive(Serialize, Object)]
struct Consistent {
    from: u64,
    to: u64,
    /// In base64
    hashes: Vec<String>,
}

#[OpenApi(prefix_path = "/api/v1/audit", tag = "Tag::Audit")]
impl Routes {
    /// Look entries up, newest first
    #[oai(path = "/", method = "get", operation_id = "listAudit")]
    #[allow(clippy::too_many_arguments, reason = "each is a parameter of the URL")]
    async fn list(
        &self,
        by: By,
        /// An identity or its pseudonym, as who acted or whom it is about
        who: Query<Option<String>>,
        /// The same, as who acted alone
        actor: Query<Option<String>>,
        /// How the action begins
        action: Query<Option<String>>,
        /// `collection/id`, or another name
        object: Query<Option<String>>,
        /// `collection/id`: what changed or showed it, and what may have for it went over the whole collection
        document: Query<Option<String>>,
        /// `allowed`, `denied` or `failed`
        outcome: Query<Option<String>>,
        /// RFC 3339
        from: Query<Option<String>>,
        /// RFC 3339; itself not
        to: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Answer<Vec<Free>>> {
        let search = Search {
            who: who.0,
            actor: actor.0,
            action: action.0,
            object: object.0,
            document: document.0,
            outcome: outcome.0,
            from: time("from", from.0)?,
            to: time("to", to.0)?,
            limit: limit.0.map(|limit| limit as usize),
            cursor: cursor.0,
        };
        let found = by.exchange.state.audit.list(&by.caller, &search).await?;
        let entries = found.entries.iter().map(|text| json::parse(text.as_bytes(), json::Limits::default()));
        let entries = entries.collect::<std::result::Result<_, _>>()?;
        let (limit, next, total, explain) = (found.limit, found.next, None, Default::default());
        Answer::page(&by.exchange, &documents::Found { documents: entries, limit, next, total, explain })
    }

    /// The newest checkpoint, signed
    #[oai(path = "/checkpoint", method = "get", operation_id = "auditCheckpoint")]
    async fn checkpoint(&self, by: By) -> Result<Answer<Checkpoint>> {
        let audit = &by.exchange.state.audit;
        let checkpoint = audit.checkpoint(&by.caller).await?;
        Answer::value(&by.exchange, &Checkpoint { checkpoint, keys: keys(&by) })
    }

    /// Prove that an entry is in the log
    #[oai(path = "/prove", method = "get", operation_id = "proveAudit")]
    async fn prove(&self, by: By, index: Query<u64>) -> Result<Answer<Proven>> {
        let proof = by.exchange.state.audit.prove(&by.caller, index.0).await?;
        let Proof { index, entry, size, hashes, checkpoint } = proof;
        let proven = Proven { index, entry, size, hashes: texts(&hashes), checkpoint, keys: keys(&by) };
        Answer::value(&by.exchange, &proven)
    }

    /// Prove that a later tree continues an earlier one
    #[oai(path = "/consistency", method = "get", operation_id = "compareAudit")]
    async fn consistency(
        &self,
        by: By,
        from: Query<u64>,
        /// All entries when absent
        to: Query<Option<u64>>,
    ) -> Result<Answer<Consistent>> {
        let (to, hashes) = by.exchange.state.audit.consistency(&by.caller, from.0, to.0).await?;
        Answer::value(&by.exchange, &Consistent { from: from.0, to, hashes: texts(&hashes) })
    }

    /// The whole log as lines, to be verified elsewhere
    #[oai(path = "/export", method = "get", operation_id = "exportAudit")]
    async fn export(&self, by: By) -> Result<Exported> {
        let lines = by.exchange.state.audit.export(&by.caller).await?;
        Ok(Exported(ndjson(download(by, lines))))
    }
}

fn keys(by: &By) -> Vec<String> {
    by.exchange.state.audit.signers().iter().map(ToString::to_string).collect()
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| STANDARD.encode(hash)).collect()
}

fn time(name: &'static str, text: Option<String>) -> Result<Option<Timestamp>> {
    let read = |text: String| {
        let read = bson::DateTime::parse_rfc3339_str(&text).map(|time| Timestamp(time.timestamp_millis()));
        read.map_err(|_| Error::Invalid(Fault::new("base.unreadable_time").at(name).with("value", text)))
    };
    text.map(read).transpose()
}
