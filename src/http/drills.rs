//! The routes of restore drills: what they came to, kept; a restored copy held against what lives here.

use super::{
    body::Sent,
    conditions,
    envelope::{Answer, Free},
    proof::By,
    spec::Tag,
};
use crate::{
    base::clock::Timestamp,
    services::{
        Result,
        drills::{Compared, Copied, Kept, Sample},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub struct Routes;

/// A drill that was made.
#[derive(Serialize, Object)]
struct Drill {
    id: String,
    /// RFC 3339
    ended: String,
    passed: bool,
    /// Until it could have served
    #[serde(rename = "rtoMillis", skip_serializing_if = "Option::is_none")]
    #[oai(rename = "rtoMillis")]
    rto_millis: Option<u64>,
    /// Age of what would not have come back
    #[serde(rename = "rpoSeconds", skip_serializing_if = "Option::is_none")]
    #[oai(rename = "rpoSeconds")]
    rpo_seconds: Option<u64>,
    /// As it was signed
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip)]
    report: Option<Value>,
}

/// Where a restored copy ends, and digests of some of its documents.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Copy {
    #[serde(default)]
    #[oai(default)]
    lineage: u32,
    #[serde(default)]
    #[oai(default)]
    sequence: u64,
    #[serde(default)]
    #[oai(default)]
    samples: Vec<CopiedDocument>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct CopiedDocument {
    collection: String,
    id: String,
    /// SHA-256 of the document as it is stored, in hex
    digest: String,
}

#[derive(Serialize, Object)]
struct Comparison {
    lineage: u32,
    /// The newest change
    sequence: u64,
    /// When it was made, RFC 3339
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// The newest backup it knows of
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<Anchored>,
    /// Absent: the copy cannot be compared
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<CopyHeld>,
}

#[derive(Serialize, Object)]
struct Anchored {
    backup: String,
    /// Where it ends
    sequence: u64,
    /// The hash of its manifest, in hex
    manifest: String,
}

#[derive(Serialize, Object)]
struct CopyHeld {
    /// Documents of each collection as of where the copy ends
    counts: BTreeMap<String, u64>,
    equal: u64,
    /// Changed since
    changed: u64,
    different: Vec<DifferentDocument>,
}

#[derive(Serialize, Object)]
struct DifferentDocument {
    collection: String,
    id: String,
}

#[OpenApi(prefix_path = "/api/v1/admin/backups/drills", tag = "Tag::Administration")]
impl Routes {
    /// List the restore drills, newest first
    #[oai(path = "/", method = "get", operation_id = "listDrills")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Drill>>> {
        let all = by.exchange.state.drills.list(&by.caller).await?;
        let all: Vec<_> = all.into_iter().map(|(kept, report)| Drill::of(kept, Some(report))).collect();
        Answer::value(&by.exchange, &all)
    }

    /// Keep the signed report of a restore drill: `{report, signature}` as the drill wrote it
    #[oai(path = "/", method = "post", operation_id = "recordDrill")]
    async fn record(&self, by: By, sent: Sent<Free>, request: &Request) -> Result<Answer<Drill, 201>> {
        conditions::no_attempt(request)?;
        let kept = by.exchange.state.drills.record(&by.caller, sent.read()?).await?;
        Answer::value(&by.exchange, &Drill::of(kept, None))
    }

    /// Hold a restored copy against this instance: counts, and digests of what nobody changed since
    #[oai(path = "/compare", method = "post", operation_id = "compareDrill")]
    async fn compare(&self, by: By, sent: Sent<Copy>) -> Result<Answer<Comparison>> {
        let Copy { lineage, sequence, samples } = sent.read()?;
        let sample = |CopiedDocument { collection, id, digest }| Sample { collection, id, digest };
        let samples = samples.into_iter().map(sample).collect();
        let copied = Copied::new(lineage, sequence, samples);
        let compared = by.exchange.state.drills.compare(&by.caller, copied).await?;
        Answer::value(&by.exchange, &Comparison::of(compared))
    }
}

impl Drill {
    fn of(kept: Kept, report: Option<Value>) -> Self {
        let Kept { id, ended, passed, rto_millis, rpo_seconds } = kept;
        Self { id, ended: ended.rfc3339(), passed, rto_millis, rpo_seconds, report }
    }
}

impl Comparison {
    fn of(compared: Compared) -> Self {
        let different = |(collection, id)| DifferentDocument { collection, id };
        Self {
            lineage: compared.lineage,
            sequence: compared.sequence.0,
            time: compared.time.map(Timestamp::rfc3339),
            anchor: compared.anchor.map(|anchor| Anchored {
                backup: anchor.backup,
                sequence: anchor.sequence.0,
                manifest: anchor.manifest,
            }),
            held: compared.held.map(|held| CopyHeld {
                counts: held.counts,
                equal: held.equal,
                changed: held.changed,
                different: held.different.into_iter().map(different).collect(),
            }),
        }
    }
}
