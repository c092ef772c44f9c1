//! The past, as far as the journal reaches: what documents were at a moment, by undoing what was done to them since.

use super::{Error, Result, identities::IDENTITIES, memberships::MEMBERSHIPS, policies::POLICIES};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::documents::{Action, COLLECTIONS, Documents, Record, Sequence},
};
use bson::RawDocumentBuf;
use std::collections::HashMap;

/// Changes looked through for one answer; at once, so many, and about so many bytes.
const MOST_RECORDS: usize = 1_000_000;
const AT_ONCE: usize = 64;
const CHUNK: usize = 4 << 20;
/// A change may bear a time a little before its place in the journal.
const MARGIN_SECONDS: i64 = 60;

/// Documents as they were before the first change after a moment; what is not among them has not changed until the
/// journal was last read. What is laid over it must have been read before.
pub struct Past {
    at: Timestamp,
    /// The one document looked for, beside everything rights hang on.
    own: (String, String),
    then: HashMap<(String, String), Option<RawDocumentBuf>>,
    /// How far the journal was read.
    until: Sequence,
    seen: usize,
}

impl Past {
    /// Of everything rights hang on, and of one document.
    pub async fn of(store: &dyn Documents, at: Timestamp, (collection, id): (&str, &str)) -> Result<Self> {
        let oldest = store.records(Sequence(0), 1).await?;
        let known = oldest.first().map_or(Timestamp(i64::MAX), |record| record.time);
        if at < known {
            return Err(Error::Refused(Fault::new("access.who_before").at("at").with("from", known.rfc3339())));
        }
        let (then, until) = (HashMap::new(), place(store, at.plus_seconds(-MARGIN_SECONDS)).await?);
        let mut past = Self { at, own: (collection.to_owned(), id.to_owned()), then, until, seen: 0 };
        past.catch_up(store).await?;
        Ok(past)
    }

    /// Reads on in the journal: good for whatever was read until now.
    pub async fn catch_up(&mut self, store: &dyn Documents) -> Result<()> {
        let mut rows = 16;
        while self.seen < MOST_RECORDS {
            let records = store.records(self.until, rows).await?;
            let mut bytes = 1;
            for record in &records {
                self.until = record.sequence;
                bytes += record.weight();
                self.note(record)?;
            }
            if records.len() < rows {
                return Ok(());
            }
            rows = (CHUNK / (bytes / records.len()).max(1)).clamp(1, AT_ONCE);
        }
        Err(Error::Refused(Fault::new("access.who_far").at("at").with("changes", MOST_RECORDS)))
    }

    fn note(&mut self, record: &Record) -> Result<()> {
        // The appliance's own bookkeeping, readings told among it, is passed over at no one's cost.
        self.seen += usize::from(!record.collection.starts_with("system.") || decides(record));
        let (collection, id) = &self.own;
        let is_own = record.collection == *collection && record.id == *id;
        let is_definition = record.collection == COLLECTIONS && record.id == *collection;
        // Documents that went with their collection are not told one by one.
        if record.time > self.at && is_definition && record.action == Action::Delete {
            return Err(Error::Refused(Fault::new("access.who_dropped").with("collection", collection)));
        }
        if record.time > self.at && (is_own || is_definition || decides(record)) {
            let key = (record.collection.clone(), record.id.clone());
            self.then.entry(key).or_insert_with(|| record.before.clone());
        }
        Ok(())
    }

    /// A document then, given what it is now.
    pub fn then(&self, collection: &str, id: &str, now: Option<RawDocumentBuf>) -> Option<RawDocumentBuf> {
        self.then.get(&(collection.to_owned(), id.to_owned())).map_or(now, Clone::clone)
    }

    /// All documents then of a collection rights hang on, given those that are in it now.
    pub fn all_then(&self, collection: &str, mut now: Vec<RawDocumentBuf>) -> Vec<RawDocumentBuf> {
        let changed = |id: &str| self.then.contains_key(&(collection.to_owned(), id.to_owned()));
        now.retain(|document| !document.get_str("_id").is_ok_and(changed));
        let before = self.then.iter().filter(|((changed, _), _)| changed == collection);
        now.extend(before.filter_map(|(_, before)| before.clone()));
        now
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::clock::FixedClock,
        domain::filter::Filter,
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

    #[tokio::test]
    async fn what_changes_while_it_is_looked_at_is_undone_too() {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock).unwrap();
        put(&store, COLLECTIONS, IDENTITIES, 0, Change::Put(rawdoc! {})).await;
        for id in ["a", "b"] {
            put(&store, IDENTITIES, id, MINUTE, Change::Put(rawdoc! { "n": 1 })).await;
        }
        let mut past = Past::of(&store, Timestamp(2 * MINUTE), ("c", "x")).await.unwrap();
        // Twice, as many as are read at once: what counts is what stood before the first.
        for n in 0..200 {
            put(&store, IDENTITIES, "a", 3 * MINUTE + n, Change::Put(rawdoc! { "n": 2 + n })).await;
        }
        put(&store, IDENTITIES, "c", 4 * MINUTE, Change::Put(rawdoc! { "n": 3 })).await;
        put(&store, IDENTITIES, "b", 4 * MINUTE, Change::Delete).await;
        let now = crate::services::documents::all(&store, IDENTITIES, Filter::all()).await.unwrap();
        past.catch_up(&store).await.unwrap();
        let a = past.then(IDENTITIES, "a", store.get(IDENTITIES, "a").await.unwrap()).unwrap();
        assert_eq!(a.get_i32("n").unwrap(), 1);
        let mut then: Vec<_> = past.all_then(IDENTITIES, now);
        then.sort_by(|a, b| a.get_str("_id").unwrap().cmp(b.get_str("_id").unwrap()));
        let then: Vec<_> = then.iter().map(|then| (then.get_str("_id").unwrap(), then.get_i32("n").unwrap())).collect();
        assert_eq!(then, [("a", 1), ("b", 1)]);
    }
}
