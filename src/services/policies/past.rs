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

/// Changes looked through for one answer; at once, so many, and about so many bytes.
const MOST_RECORDS: usize = 1_000_000;
const AT_ONCE: usize = 64;
const CHUNK: usize = 4 << 20;
/// A change may bear a time a little before its place in the journal.
const MARGIN_SECONDS: i64 = 60;

/// Documents as they were before the first change after a moment; what is not among them has not changed.
pub(in crate::services) struct Past {
    then: HashMap<(String, String), Option<RawDocumentBuf>>,
    /// How far the journal was read.
    until: Sequence,
}

impl Past {
    /// Of everything rights hang on, and of one document.
    pub async fn of(store: &dyn Documents, at: Timestamp, (collection, id): (&str, &str)) -> Result<Self> {
        let oldest = store.records(Sequence(0), 1).await?;
        let known = oldest.first().map_or(Timestamp(i64::MAX), |record| record.time);
        if at < known {
            return Err(Error::Refused(Fault::new("access.who_before").at("at").with("from", known.rfc3339())));
        }
        let (mut past, mut after) = (HashMap::new(), place(store, at.plus_seconds(-MARGIN_SECONDS)).await?);
        let (mut seen, mut rows) = (0, 16);
        while seen < MOST_RECORDS {
            let records = store.records(after, rows).await?;
            let mut bytes = 1;
            for record in &records {
                after = record.sequence;
                bytes += weight(record);
                // The appliance's own bookkeeping, readings told among it, is passed over at no one's cost.
                seen += usize::from(!record.collection.starts_with("system.") || decides(record));
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
            if records.len() < rows {
                return Ok(Self { then: past, until: after });
            }
            rows = (CHUNK / (bytes / records.len()).max(1)).clamp(1, AT_ONCE);
        }
        Err(Error::Refused(Fault::new("access.who_far").at("at").with("changes", MOST_RECORDS)))
    }

    /// Whether what it is laid over is still as it was when the journal was read.
    pub async fn holds(&self, store: &dyn Documents, (collection, id): (&str, &str)) -> Result<bool> {
        let mut after = self.until;
        loop {
            let records = store.records(after, AT_ONCE).await?;
            let Some(last) = records.last() else { return Ok(true) };
            after = last.sequence;
            let is_own = |record: &Record| record.collection == collection && record.id == id;
            let is_definition = |record: &Record| record.collection == COLLECTIONS && record.id == collection;
            if records.iter().any(|record| decides(record) || is_own(record) || is_definition(record)) {
                return Ok(false);
            }
        }
    }

    /// A document then, given what it is now.
    pub fn then(&self, collection: &str, id: &str, now: Option<RawDocumentBuf>) -> Option<RawDocumentBuf> {
        self.then.get(&(collection.to_owned(), id.to_owned())).map_or(now, Clone::clone)
    }

    /// The policies then, given those that are kept now.
    pub fn policies(&self, now: Vec<Kept>) -> Result<PolicySet> {
        let mut then: Vec<Kept> =
            now.into_iter().filter(|kept| !self.then.contains_key(&(POLICIES.to_owned(), kept.name.clone()))).collect();
        let changed = self.then.iter().filter(|((collection, _), _)| collection == POLICIES);
        for document in changed.filter_map(|(_, document)| document.clone()) {
            then.push(kept(document)?);
        }
        Ok(PolicySet::new(then.iter().map(read).collect::<Result<Vec<_>>>()?))
    }
}

fn weight(record: &Record) -> usize {
    [&record.before, &record.after].into_iter().flatten().map(|image| image.as_bytes().len()).sum()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::clock::FixedClock,
        ports::documents::{Batch, Change, Expect, Operation, Origin, Retention},
    };
    use bson::rawdoc;
    use std::sync::Arc;

    const MINUTE: i64 = 60_000;

    async fn put(store: &dyn Documents, collection: &str, id: &str, time: i64, change: Change) {
        let (collection, id, expect) = (collection.to_owned(), id.to_owned(), Expect::Any);
        let operations = vec![Operation { collection, id, expect, change }];
        let (time, origin) = (Timestamp(time), Origin::default());
        store.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
    }

    /// A change a minute, others between; what stood at any moment is what was last put before it.
    #[tokio::test]
    async fn a_document_is_what_it_was_at_any_moment_the_journal_holds() {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock).unwrap();
        for collection in ["c", "other"] {
            put(&store, COLLECTIONS, collection, 0, Change::Put(rawdoc! {})).await;
        }
        for minute in 1..900 {
            let noise = Change::Put(rawdoc! { "n": minute });
            put(&store, "other", &format!("{minute}"), minute * MINUTE, noise).await;
            let change = match minute % 10 {
                0 => Change::Delete,
                n => Change::Put(rawdoc! { "n": minute, "large": "x".repeat(if n == 5 { 200_000 } else { 1 }) }),
            };
            put(&store, "c", "x", minute * MINUTE, change).await;
        }
        for minute in [1, 2, 9, 10, 11, 400, 455, 890, 898, 899] {
            // Just before the next, and just as it is.
            for at in [minute * MINUTE, (minute + 1) * MINUTE - 1] {
                let past = Past::of(&store, Timestamp(at), ("c", "x")).await.unwrap();
                let then = past.then("c", "x", store.get("c", "x").await.unwrap());
                let n = then.map(|then| then.get_i64("n").unwrap());
                assert_eq!(n, (minute % 10 != 0).then_some(minute), "at {at}");
            }
        }
        assert!(Past::of(&store, Timestamp(0), ("c", "x")).await.unwrap().then("c", "x", None).is_none());
        let key = |refused: Result<Past>| match refused {
            Err(Error::Refused(fault)) => fault.key,
            _ => "",
        };
        assert_eq!(key(Past::of(&store, Timestamp(-1), ("c", "x")).await), "access.who_before");
        let (older_than, most_bytes) = (Timestamp(450 * MINUTE), u64::MAX);
        let (keep_from, keep_after) = (older_than, Sequence::END);
        store.trim(Retention { older_than, most_bytes, keep_from, keep_after }).await.unwrap();
        assert_eq!(key(Past::of(&store, Timestamp(449 * MINUTE), ("c", "x")).await), "access.who_before");
        let past = Past::of(&store, Timestamp(460 * MINUTE + 1), ("c", "x")).await.unwrap();
        assert!(past.then("c", "x", store.get("c", "x").await.unwrap()).is_none());
        // The collection, dropped and made anew.
        put(&store, COLLECTIONS, "c", 1000 * MINUTE, Change::Delete).await;
        put(&store, COLLECTIONS, "c", 1001 * MINUTE, Change::Put(rawdoc! {})).await;
        assert_eq!(key(Past::of(&store, Timestamp(999 * MINUTE), ("c", "x")).await), "access.who_dropped");
        assert!(Past::of(&store, Timestamp(1002 * MINUTE), ("c", "x")).await.is_ok());
    }
}
