//! Retention: old entries go, what proves the others stays. That they went is itself an entry, and what the log says
//! of itself never goes.

use super::{
    Audit, ENTRIES, Event,
    entry::{self, Leaf},
    unsound,
};
use crate::{
    domain::{filter::Filter, merkle::TILE, sort::Sort},
    ports::documents::{Change, Expect, Operation, Query},
    services::{Error, Result, access::Caller},
};
use bson::rawdoc;
use std::sync::Arc;

const DAY: i64 = 86_400;
/// Entries that go in one commit.
const AT_ONCE: usize = 500;
/// Without these the rest could not be understood.
const KEPT: [&str; 3] = ["audit.epoch", "audit.key", "audit.prune"];

impl Audit {
    /// Lets go of entries older than the configured days, in whole tiles alone. Answers how many went.
    pub async fn prune(&self) -> Result<u64> {
        if self.settings.keep_days == 0 {
            return Ok(0);
        }
        let until = self.clock.now().plus_seconds(-i64::from(self.settings.keep_days) * DAY);
        let size = match &*self.state.lock().await {
            Some(state) => state.edge.size(),
            None => return Ok(0),
        };
        let whole = size - size % TILE as u64;
        let mut gone = 0;
        while let Some(last) = self.prune_some(until.0, whole).await? {
            gone += last;
        }
        Ok(gone)
    }

    async fn prune_some(&self, until: i64, whole: u64) -> Result<Option<u64>> {
        let mut kept = bson::RawArrayBuf::new();
        KEPT.iter().for_each(|action| kept.push(*action));
        let filter = rawdoc! {
            "_id": { "$lt": entry::id(whole) },
            "at": { "$lt": bson::DateTime::from_millis(until) },
            "action": { "$nin": kept },
        };
        let filter = Arc::new(Filter::parse(&filter).map_err(Error::Invalid)?);
        let (collection, sort) = (ENTRIES.to_owned(), Sort::default());
        let page = self.documents.find(Query { collection, filter, sort, limit: AT_ONCE, after: None }).await?;
        let mut operations = Vec::new();
        let mut last = None;
        for document in &page.documents {
            let leaf = Leaf::read(document).ok_or_else(|| unsound("an entry is unreadable"))?;
            last = Some(leaf.index);
            let (collection, id) = (ENTRIES.to_owned(), entry::id(leaf.index));
            operations.push(Operation { collection, id, expect: Expect::Present, change: Change::Delete });
        }
        let Some(last) = last else { return Ok(None) };
        let gone = operations.len() as u64;
        let event = Event::new("audit.prune").with("before", last + 1).with("entries", gone);
        let caller = Caller::system();
        operations.push(self.operation(&caller, event)?);
        self.commit(&caller, operations).await?;
        Ok(Some(gone))
    }
}
