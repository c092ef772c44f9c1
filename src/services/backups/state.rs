//! What is known of each target without asking it: what was last sent, what failed, who is at work. One document per
//! target, so that a target that may only be written to, or is away, is known all the same.

use super::{Created, file::Kind};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::{
        self,
        documents::{Batch, Change, Documents, Expect, Operation, Sequence},
    },
    services::{Error, Result, access::Caller},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A target's state by its name. Changes here are no reason to back up: each backup makes one.
pub const BACKUPS: &str = "system.backups";
/// The plan as it was last told to the audit log; no target's name.
const PLAN: &str = "*plan";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    #[serde(rename = "_rev", skip_serializing)]
    pub revision: Option<i64>,
    /// Of the instance when `full` was made: after a restore segments do not go on from it.
    pub lineage: u32,
    pub full: Option<Sent>,
    /// The newest. Segments go on from one another, full backups or not: where a full one is lost, the one before it and
    /// they still reach everything.
    pub segment: Option<Sent>,
    /// The same of the subjects' keys.
    pub keys_full: Option<Sent>,
    pub keys_segment: Option<Sent>,
    pub attempted: Option<Timestamp>,
    pub failure: Option<Failure>,
    /// When the next full one is due.
    pub next: Option<Timestamp>,
    pub claim: Option<Claim>,
    /// Found damaged by reading them again.
    pub damaged: Vec<Rotten>,
    /// The last week whose share was read again.
    pub reread: Option<i64>,
}

/// A backup as it was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    pub id: String,
    pub name: String,
    pub upto: Sequence,
    pub created: Timestamp,
    /// SHA-256 of its manifest, in hex.
    pub manifest: String,
    pub bytes: u64,
}

/// Since the last success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The fault's name in the catalogue.
    pub rule: String,
    pub text: String,
    pub since: Timestamp,
    pub times: u32,
    /// Of which kind of backup: another kind may go on meanwhile.
    pub kind: String,
}

/// Who is at work, and until when that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub holder: String,
    pub until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotten {
    pub name: String,
    pub found: Timestamp,
    /// The newest full backup that does not need it, and how far its chain reaches.
    pub good: Option<String>,
    pub good_until: Option<Timestamp>,
}

impl State {
    /// The one that holds most, whatever its kind.
    /// Leaves out what was sent before a moment: nothing goes on from it.
    pub fn since(mut self, moment: Timestamp) -> Self {
        for sent in [&mut self.full, &mut self.segment, &mut self.keys_full, &mut self.keys_segment] {
            *sent = sent.take().filter(|sent| sent.created >= moment);
        }
        self
    }

    pub fn last(&self) -> Option<&Sent> {
        [&self.full, &self.segment].into_iter().flatten().max_by_key(|sent| sent.upto)
    }

    pub fn last_keys(&self) -> Option<&Sent> {
        self.keys_segment.as_ref().or(self.keys_full.as_ref())
    }

    /// What others may note while a backup is being made.
    fn adopt(&mut self, other: Self) {
        (self.revision, self.damaged, self.reread) = (other.revision, other.damaged, other.reread);
    }

    /// A backup was sent. Answers the failure this ends.
    pub fn succeeded(&mut self, kind: Kind) -> Option<Failure> {
        self.failure.take_if(|failure| kind == Kind::Full || failure.kind == kind.name())
    }

    /// One was not. Answers whether this is the first time.
    pub fn failed(&mut self, kind: Kind, fault: &Fault, now: Timestamp) -> bool {
        let (rule, text) = (fault.key.to_owned(), fault.to_string());
        let (since, times) = self.failure.as_ref().map_or((now, 0), |before| (before.since, before.times));
        let kind = self.failure.as_ref().map_or_else(|| kind.name().to_owned(), |before| before.kind.clone());
        self.failure = Some(Failure { rule, text, since, times: times.saturating_add(1), kind });
        times == 0
    }

    pub fn sent(&mut self, created: &Created) {
        let sent = Some(Sent::of(created));
        match created.header.kind {
            Kind::Full => {
                self.segment.take_if(|_| self.lineage != created.header.lineage);
                (self.full, self.lineage) = (sent, created.header.lineage);
            }
            Kind::Segment => self.segment = sent,
        }
    }

    pub fn sent_keys(&mut self, created: &Created) {
        let sent = Some(Sent::of(created));
        match created.header.kind {
            Kind::Full => (self.keys_full, self.keys_segment) = (sent, None),
            Kind::Segment => self.keys_segment = sent,
        }
    }
}

impl Sent {
    fn of(Created { name, header, manifest, .. }: &Created) -> Self {
        Self {
            id: header.id(),
            name: name.clone(),
            upto: header.upto,
            created: header.created,
            manifest: hex::encode(manifest.hash()),
            bytes: manifest.body_bytes,
        }
    }

    /// The link the next backup's header carries.
    pub fn hash(&self) -> Option<[u8; 32]> {
        hex::decode(&self.manifest).ok()?.try_into().ok()
    }
}

/// The documents the states are in.
pub struct States(pub Arc<dyn Documents>);

impl States {
    pub async fn read(&self, target: &str) -> Result<State> {
        match self.0.get(BACKUPS, target).await? {
            Some(document) => bson::deserialize_from_slice(document.as_bytes())
                .map_err(|error| Error::Corrupt(format!("the state of backup target {target}: {error}"))),
            None => Ok(State::default()),
        }
    }

    /// Writes what was read and changed; `false`: somebody else did meanwhile.
    pub async fn write(&self, target: &str, state: &mut State, now: Timestamp) -> Result<bool> {
        let document = bson::serialize_to_raw_document_buf(state).map_err(|error| Error::Internal(Box::new(error)))?;
        let expect = state.revision.map_or(Expect::Absent, Expect::Revision);
        let (collection, id) = (BACKUPS.to_owned(), target.to_owned());
        let operations = vec![Operation { collection, id, expect, change: Change::Put(document) }];
        match self.commit(operations, now).await {
            Ok(revision) => {
                state.revision = Some(revision);
                Ok(true)
            }
            Err(ports::Error::Conflict(_)) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// As [`States::write`], under a claim of `holder`; `false`: somebody took it over.
    pub async fn note(&self, target: &str, holder: &str, state: &mut State, now: Timestamp) -> Result<bool> {
        loop {
            if self.write(target, state, now).await? {
                return Ok(true);
            }
            let other = self.read(target).await?;
            if other.claim.as_ref().is_none_or(|claim| claim.holder != holder) {
                return Ok(false);
            }
            state.adopt(other);
        }
    }

    /// Changes what is there, whoever is at work.
    pub async fn change(&self, target: &str, now: Timestamp, change: impl Fn(&mut State)) -> Result<()> {
        loop {
            let mut state = self.read(target).await?;
            change(&mut state);
            if self.write(target, &mut state, now).await? {
                return Ok(());
            }
        }
    }

    /// Whether the plan is another than the one last told; it counts as told from here on.
    pub async fn replan(&self, plan: &str, now: Timestamp) -> Result<bool> {
        let known = self.0.get(BACKUPS, PLAN).await?;
        if known.is_some_and(|known| known.get_str("plan").is_ok_and(|known| known == plan)) {
            return Ok(false);
        }
        let (collection, id, expect) = (BACKUPS.to_owned(), PLAN.to_owned(), Expect::Any);
        let change = Change::Put(bson::rawdoc! { "plan": plan });
        self.commit(vec![Operation { collection, id, expect, change }], now).await?;
        Ok(true)
    }

    async fn commit(&self, operations: Vec<Operation>, now: Timestamp) -> ports::Result<i64> {
        let origin = Caller::system().origin();
        let committed = self.0.commit(Batch { time: now, origin, operations, check: None, receipt: None }).await?;
        Ok(committed.outcomes.first().map_or(0, |outcome| outcome.revision))
    }
}
