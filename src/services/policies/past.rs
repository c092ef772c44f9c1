//! The past, as far as the journal reaches: what documents were at a moment, by undoing what was done to them since.

use super::{Kept, POLICIES, kept, read};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::policy::PolicySet,
    ports::documents::{Action, COLLECTIONS, Documents, Record, Sequence},
    services::{Error, Result, identities::IDENTITIES, memberships::MEMBERSHIPS},
};
use bson::RawDocumentBuf;
use std::collections::HashMap;

/// Changes looked through for one answer, so many at once.
const MOST_RECORDS: usize = 1_000_000;
const AT_ONCE: usize = 200;
/// A change may bear a time a little before its place in the journal.
const MARGIN_SECONDS: i64 = 60;

/// Documents as they were before the first change after a moment; what is not among them has not changed.
pub(in crate::services) struct Past(HashMap<(String, String), Option<RawDocumentBuf>>);

impl Past {
    /// Of everything rights hang on, and of one document.
    pub async fn of(store: &dyn Documents, at: Timestamp, (collection, id): (&str, &str)) -> Result<Self> {
        let oldest = store.records(Sequence(0), 1).await?;
        let known = oldest.first().map_or(Timestamp(i64::MAX), |record| record.time);
        if at < known {
            return Err(Error::Refused(Fault::new("access.who_before").at("at").with("from", known.rfc3339())));
        }
        let (mut past, mut after) = (HashMap::new(), place(store, at.plus_seconds(-MARGIN_SECONDS)).await?);
        for _ in 0..MOST_RECORDS / AT_ONCE {
            let records = store.records(after, AT_ONCE).await?;
            for record in &records {
                after = record.sequence;
                let is_own = record.collection == collection && record.id == id;
                let is_definition = record.collection == COLLECTIONS && record.id == collection;
                // Documents that went with their collection are not told one by one.
                if record.time > at && is_definition && record.action == Action::Delete {
                    return Err(Error::Refused(Fault::new("access.who_dropped").with("collection", collection)));
                }
                if record.time > at && (is_own || is_definition || decides(record)) {
                    let key = (record.collection.clone(), record.id.clone());
                    past.entry(key).or_insert_with(|| record.before.clone());
                }
            }
            if records.len() < AT_ONCE {
                return Ok(Self(past));
            }
        }
        Err(Error::Refused(Fault::new("access.who_far").at("at").with("changes", MOST_RECORDS)))
    }

    /// A document then, given what it is now.
    pub fn then(&self, collection: &str, id: &str, now: Option<RawDocumentBuf>) -> Option<RawDocumentBuf> {
        self.0.get(&(collection.to_owned(), id.to_owned())).map_or(now, Clone::clone)
    }

    /// The policies then, given those that are kept now.
    pub fn policies(&self, now: Vec<Kept>) -> Result<PolicySet> {
        let mut then: Vec<Kept> =
            now.into_iter().filter(|kept| !self.0.contains_key(&(POLICIES.to_owned(), kept.name.clone()))).collect();
        let changed = self.0.iter().filter(|((collection, _), _)| collection == POLICIES);
        for document in changed.filter_map(|(_, document)| document.clone()) {
            then.push(kept(document)?);
        }
        Ok(PolicySet::new(then.iter().map(read).collect::<Result<Vec<_>>>()?))
    }
}

fn decides(record: &Record) -> bool {
    [POLICIES, IDENTITIES, MEMBERSHIPS].contains(&record.collection.as_str())
}

/// A place in the journal all before which is not younger.
async fn place(store: &dyn Documents, at: Timestamp) -> Result<Sequence> {
    let (mut low, mut high) = (0, store.statistics().await?.sequence.0);
    while low < high {
        let middle = low + (high - low) / 2;
        match store.records(Sequence(middle), 1).await?.first() {
            Some(record) if record.time <= at => low = record.sequence.0.max(middle + 1),
            _ => high = middle,
        }
    }
    Ok(Sequence(low.saturating_sub(1)))
}
