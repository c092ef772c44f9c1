//! A copy migrated up and down again, and held against what it was: counts and ids after the way up, every document
//! after the way back.

use super::{MIGRATIONS, Migrations, Tell, blocking, held::Stage, id};
use crate::{
    base::clock::Stopwatch,
    domain::document::SYSTEM_FIELDS,
    ports::{
        self,
        documents::{COLLECTIONS, Documents, Load, RECEIPTS, Snapshot},
    },
    services::{Result, access::Caller},
};
use bson::RawDocument;
use std::{collections::BTreeSet, sync::Arc};
use tokio::runtime::Handle;

/// Documents read at once.
const CHUNK: usize = 100;
/// Differences that are told.
const MOST: usize = 20;

/// A document that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub direction: &'static str,
    pub collection: String,
    pub id: String,
}

/// What a rehearsal came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rehearsed {
    /// Applied before.
    pub from: u32,
    pub to: u32,
    pub documents: u64,
    pub changed: u64,
    pub up_millis: u64,
    pub down_millis: u64,
    pub differences: Vec<Difference>,
    /// Past those told.
    pub more: u64,
}

impl Rehearsed {
    pub fn sound(&self) -> bool {
        self.differences.is_empty()
    }

    fn differs(&mut self, direction: &'static str, collection: &str, id: String) {
        if self.differences.len() < MOST {
            self.differences.push(Difference { direction, collection: collection.to_owned(), id });
        } else {
            self.more += 1;
        }
    }
}

impl Migrations {
    /// Of a copy alone.
    pub async fn rehearse(&self, tell: Tell<'_>) -> Result<Rehearsed> {
        let caller = Caller::system();
        let held = self.held().await?;
        let applied = held.iter().filter(|held| held.stage == Stage::Applied).map(|held| held.number);
        let from = applied.max().unwrap_or_default();
        let before = self.documents.snapshot().await?;
        let watch = Stopwatch::start();
        let done = self.up(&caller, None, tell).await?;
        let up_millis = watch.millis();
        let middle = self.documents.snapshot().await?;
        let watch = Stopwatch::start();
        self.down(&caller, from, tell).await?;
        let down_millis = watch.millis();
        let after = self.documents.snapshot().await?;
        let changed = done.iter().map(|done| done.documents).sum();
        let to = done.iter().map(|done| done.number).max().unwrap_or(from);
        let rehearsed = Rehearsed { from, to, changed, up_millis, down_millis, ..Rehearsed::default() };
        blocking(move || {
            let mut rehearsed = rehearsed;
            rehearsed.documents = compare(&*before, &*middle, &mut rehearsed, ("up", same_id))?;
            compare(&*before, &*after, &mut rehearsed, ("down", same_content))?;
            Ok(rehearsed)
        })
        .await
    }
}

fn same_id(left: &RawDocument, right: &RawDocument) -> bool {
    id(left) == id(right)
}

/// To the byte, but for what the store sets with every change.
fn same_content(left: &RawDocument, right: &RawDocument) -> bool {
    let elements = |document: &RawDocument| -> Option<Vec<(String, Vec<u8>)>> {
        let own = |name: &str| ["_rev", "_updatedAt"].contains(&name) && SYSTEM_FIELDS.contains(&name);
        let mut all = Vec::new();
        for element in document {
            let (name, value) = element.ok()?;
            if !own(name.as_str()) {
                let mut one = bson::RawDocumentBuf::new();
                one.append(bson::cstr!("v"), value);
                all.push((name.as_str().to_owned(), one.into_bytes()));
            }
        }
        Some(all)
    };
    left.as_bytes() == right.as_bytes() || elements(left) == elements(right)
}

/// Both in the order of their ids; answers how many there were.
fn compare(
    before: &dyn Snapshot,
    after: &dyn Snapshot,
    rehearsed: &mut Rehearsed,
    (direction, same): (&'static str, fn(&RawDocument, &RawDocument) -> bool),
) -> Result<u64> {
    let mut documents = 0;
    let names: BTreeSet<String> = before.collections()?.into_iter().chain(after.collections()?).collect();
    for name in names.iter().filter(|name| *name != MIGRATIONS) {
        let (mut left, mut right) = (Rows::of(before, name), Rows::of(after, name));
        let (mut one, mut other) = (left.next()?, right.next()?);
        loop {
            let ids = (one.as_deref().map(id), other.as_deref().map(id));
            match (&one, &other) {
                (None, None) => break,
                (Some(_), None) => {
                    rehearsed.differs(direction, name, ids.0.unwrap_or_default());
                    one = left.next()?;
                }
                // The collection that keeps migrations is defined by the way up.
                (None, Some(_)) => {
                    if name != COLLECTIONS || ids.1.as_deref() != Some(MIGRATIONS) {
                        rehearsed.differs(direction, name, ids.1.unwrap_or_default());
                    }
                    other = right.next()?;
                }
                (Some(before), Some(after)) => {
                    if ids.0 == ids.1 {
                        documents += 1;
                        if !same(before, after) {
                            rehearsed.differs(direction, name, ids.0.unwrap_or_default());
                        }
                        (one, other) = (left.next()?, right.next()?);
                    } else if ids.0 < ids.1 {
                        rehearsed.differs(direction, name, ids.0.unwrap_or_default());
                        one = left.next()?;
                    } else {
                        if name != COLLECTIONS || ids.1.as_deref() != Some(MIGRATIONS) {
                            rehearsed.differs(direction, name, ids.1.unwrap_or_default());
                        }
                        other = right.next()?;
                    }
                }
            }
        }
    }
    Ok(documents)
}

/// The documents of a collection, one after the other.
struct Rows<'s> {
    snapshot: &'s dyn Snapshot,
    collection: &'s str,
    read: std::vec::IntoIter<bson::RawDocumentBuf>,
    after: Option<String>,
}

impl<'s> Rows<'s> {
    fn of(snapshot: &'s dyn Snapshot, collection: &'s str) -> Self {
        Self { snapshot, collection, read: Vec::new().into_iter(), after: None }
    }

    fn next(&mut self) -> Result<Option<bson::RawDocumentBuf>> {
        if self.read.as_slice().is_empty() {
            self.read = self.snapshot.documents(self.collection, self.after.as_deref(), CHUNK)?.into_iter();
        }
        let next = self.read.next();
        if let Some(next) = &next {
            self.after = Some(id(next));
        }
        Ok(next)
    }
}

/// Puts what a snapshot shows into a store that has never held anything, without the journal that led to it. Blocking.
pub fn copy(from: &dyn Snapshot, to: &Arc<dyn Documents>, handle: &Handle) -> ports::Result<u64> {
    let mut documents = 0;
    for collection in from.collections()?.into_iter().filter(|name| name != RECEIPTS) {
        let mut after = None::<String>;
        loop {
            let rows = from.documents(&collection, after.as_deref(), CHUNK)?;
            let Some(last) = rows.last() else { break };
            after = Some(id(last));
            documents += rows.len() as u64;
            handle.block_on(to.load(Load::Documents { collection: collection.clone(), documents: rows }))?;
        }
    }
    handle.block_on(to.load(Load::End(from.sequence())))?;
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            put,
            tests::{commit, store},
        },
        *,
    };
    use crate::ports::documents::{Change, Expect, Operation};
    use bson::rawdoc;

    /// What a migration cannot do, as every step has a way back: done by hand.
    #[tokio::test]
    async fn what_is_not_as_it_was_is_told() {
        let store = store().await;
        let before = store.snapshot().await.unwrap();
        let gone = |id: &str| {
            let (collection, id) = ("system.x".to_owned(), id.to_owned());
            Operation { collection, id, expect: Expect::Present, change: Change::Delete }
        };
        let other = |id: &str| put("system.x", id, Expect::Any, rawdoc! { "n": -1_i64 });
        commit(
            &store,
            vec![gone("000000"), gone("000500"), gone("000999"), other("0005000"), other("z"), other("000300")],
        )
        .await;
        let after = store.snapshot().await.unwrap();
        let told = |direction: &'static str, same: fn(&RawDocument, &RawDocument) -> bool| {
            let mut rehearsed = Rehearsed::default();
            let documents = compare(&*before, &*after, &mut rehearsed, (direction, same)).unwrap();
            let ids: Vec<String> = rehearsed.differences.iter().map(|one| one.id.clone()).collect();
            assert!(rehearsed.differences.iter().all(|one| one.direction == direction && one.collection == "system.x"));
            (documents, ids.join(" "), rehearsed.sound())
        };
        // The catalogue's one beside those that are in both.
        let ids = "000000 000500 0005000 000999 z".to_owned();
        assert_eq!(told("up", same_id), (998, ids, false));
        let ids = "000000 000300 000500 0005000 000999 z".to_owned();
        assert_eq!(told("down", same_content), (998, ids, false));
        let mut rehearsed = Rehearsed::default();
        assert_eq!(compare(&*before, &*before, &mut rehearsed, ("down", same_content)).unwrap(), 1001);
        assert!(rehearsed.sound());
        // From the other side: one past the last is told too.
        compare(&*after, &*before, &mut rehearsed, ("down", same_content)).unwrap();
        assert_eq!(rehearsed.differences.last().map(|one| one.id.as_str()), Some("z"));
    }
}
