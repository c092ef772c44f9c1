//! Queries answered: a plan carried out over the tables of one view. Long because every way to walk an index shares one
//! reader's bounds.

mod gathered;
mod ranges;

use super::{
    catalog::{Held, HeldIndex, Progress},
    fault::failed,
    tables,
    view::{View, borrowed},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        telemetry::scope,
    },
    domain::{
        collection::Index,
        cursor::Cursor,
        filter::Filter,
        key,
        plan::{self, Candidate, Order, Plan, Range, Seek, Source},
        sort::{Direction, Sort},
    },
    ports::{
        Error,
        documents::{Explain, Page, Query},
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use gathered::{Gathered, components, place};
use ranges::{bounds, clip, directed, end_of, entry_id, group_key, span, values, within};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
};

/// Seconds a query may take.
pub const SECONDS: i64 = 5;
/// Work that may be done where waiting would hold others up: rows, KiB of documents, and what a filter takes of each.
pub const INLINE: u64 = 2000;
/// Ids gathered from an index to be put in order; where there are more, the documents' own order is quicker.
const GATHER: usize = 20_000;

/// Why a query stopped.
pub enum Stop {
    /// It takes more rows than it was given.
    Budget,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Failed(Error::Rejected(fault))
    }
}

impl From<redb::StorageError> for Stop {
    fn from(error: redb::StorageError) -> Self {
        Self::Failed(failed(error))
    }
}

type Run<T> = std::result::Result<T, Stop>;

/// One query under way.
pub struct Reader<'a> {
    view: &'a View,
    held: &'a Held,
    filter: &'a Filter,
    clock: &'a SharedClock,
    deadline: Timestamp,
    /// Work it may still do.
    budget: Option<u64>,
    /// What a row takes of it: the filter's conditions beyond the first few.
    price: u64,
    explain: Explain,
}

impl<'a> Reader<'a> {
    pub fn new(
        view: &'a View,
        held: &'a Held,
        filter: &'a Filter,
        clock: &'a SharedClock,
        deadline: Timestamp,
        budget: Option<u64>,
    ) -> Self {
        let price = 1 + filter.size() as u64 / 8;
        Self { view, held, filter, clock, deadline, budget, price, explain: Explain::default() }
    }

    pub fn find(mut self, query: &Query) -> Run<Page> {
        let ready = ready(self.held);
        let plan = scope::step("plan").pass(|| plan::plan(self.filter, &query.sort, &candidates(&ready)));
        let (keys, tie) = plan::split(&query.sort);
        let fields = if plan.order == Order::Nearest { 1 } else { keys.len() };
        let after = query.after.as_deref().map(|bytes| Cursor::decode(bytes, fields)).transpose()?;
        self.explain.index = named(&plan, &ready, keys.is_empty() && plan.exact);
        let mut page = Gathered::new(query.limit);
        match (&plan.source, &plan.order) {
            (Source::Ids { ranges, .. }, Order::Served { reverse, .. }) => {
                self.ids_in_order(ranges, *reverse, after.as_ref(), plan.exact, &mut page)?;
            }
            (Source::Index { place, ranges, .. }, Order::Served { reverse, seek }) => {
                let index = at(&ready, *place)?;
                let walk = Walk { index, ranges, reverse: *reverse, grouped: *reverse && tie == Direction::Ascending };
                self.index_in_order(&walk, seek, after.as_ref(), plan.exact, &mut page)?;
            }
            (Source::Index { place, ranges, .. }, Order::Sorted) if keys.is_empty() => {
                let index = at(&ready, *place)?;
                if !self.gathered_ids(index, ranges, tie, after.as_ref(), plan.exact, &mut page)? {
                    self.explain.index = None;
                    let reverse = tie == Direction::Descending;
                    self.ids_in_order(&[(Vec::new(), None)], reverse, after.as_ref(), false, &mut page)?;
                }
            }
            _ => return self.sorted(query, &plan, &ready, after.as_ref()),
        }
        let key = |document: &RawDocument| components(&query.sort, document, keys);
        page.finish(key, self.explain)
    }

    pub fn count(mut self) -> Run<(u64, Explain)> {
        if matches!(self.filter, Filter::And(parts) if parts.is_empty()) {
            return Ok((self.view.count(self.held), Explain { index: Some("_id".to_owned()), ..self.explain }));
        }
        let ready = ready(self.held);
        let plan = plan::plan(self.filter, &Sort::default(), &candidates(&ready));
        self.explain.index = named(&plan, &ready, plan.exact);
        let mut count = 0;
        let mut seen = HashSet::new();
        let repeats = matches!(plan.source, Source::Index { repeats: true, .. });
        if plan.exact && !repeats {
            self.each_id(&plan, &ready, |_, _| {
                count += 1;
                Ok(())
            })?;
        } else {
            self.each_document(&plan, &ready, |_, id, _| {
                count += u64::from(!repeats || seen.insert(id.to_owned()));
                Ok(())
            })?;
        }
        Ok((count, self.explain))
    }

    /// Counts a row, and the document it brought, against the budget and the clock.
    fn tick(&mut self, bytes: usize) -> Run<()> {
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(self.price + bytes as u64 / 1024).ok_or(Stop::Budget)?;
        }
        if self.clock.now() > self.deadline {
            return Err(Fault::new("query.time").with("seconds", SECONDS).into());
        }
        Ok(())
    }

    /// The document, if it answers the filter.
    fn accept(&mut self, id: &str, exact: bool) -> Run<Option<RawDocumentBuf>> {
        let key = tables::document_key(self.held.number, id);
        let Some(stored) = self.view.tables.documents.get(key.as_slice())? else {
            return Err(Error::Corrupt(format!("an index names a document \"{id}\" that is not there")).into());
        };
        self.explain.documents_examined += 1;
        let document = borrowed(stored.value())?;
        self.tick(document.as_bytes().len())?;
        Ok((exact || self.filter.matches(document)).then(|| document.to_owned()))
    }

    fn ids_in_order(
        &mut self,
        ranges: &[Range],
        reverse: bool,
        after: Option<&Cursor>,
        exact: bool,
        page: &mut Gathered,
    ) -> Run<()> {
        let prefix = self.held.number.to_be_bytes();
        let after = after.map(|cursor| tables::document_key(self.held.number, &cursor.id));
        for (from, to) in directed(ranges, reverse) {
            let (mut from, mut to) = bounds(&prefix, from, to.as_deref());
            if let Some(after) = &after {
                clip(&mut from, &mut to, after, reverse);
            }
            for row in span(&self.view.tables.documents, &from, &to, reverse)? {
                let (_, document) = row?;
                self.explain.documents_examined += 1;
                let document = borrowed(document.value())?;
                self.tick(document.as_bytes().len())?;
                if (exact || self.filter.matches(document)) && page.push(document.to_owned()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn index_in_order(
        &mut self,
        walk: &Walk<'_>,
        seek: &[Seek],
        after: Option<&Cursor>,
        exact: bool,
        page: &mut Gathered,
    ) -> Run<()> {
        let prefix = walk.index.number.to_be_bytes();
        let group = after.map(|cursor| group_key(&prefix, seek, cursor));
        let ranges: Vec<_> = walk.ranges.iter().map(|(from, to)| bounds(&prefix, from, to.as_deref())).collect();
        if let (true, Some(group), Some(cursor)) = (walk.grouped, &group, after) {
            // What is left of the group the last page ended in.
            let from = Bound::Excluded([group, cursor.id.as_bytes()].concat());
            let held = ranges.iter().any(|(from, to)| within(from, to, group));
            // Its values are the client's word and may lead past the range: each document is judged by the filter.
            if held && self.entries(&from, &end_of(group), false, page)? {
                return Ok(());
            }
        }
        let ranges: Box<dyn Iterator<Item = _>> =
            if walk.reverse { Box::new(ranges.into_iter().rev()) } else { Box::new(ranges.into_iter()) };
        for (mut from, mut to) in ranges {
            match (&group, after) {
                (Some(group), _) if walk.grouped => clip(&mut from, &mut to, group, true),
                (Some(group), Some(cursor)) => {
                    clip(&mut from, &mut to, &[group, cursor.id.as_bytes()].concat(), walk.reverse);
                }
                _ => {}
            }
            let full = match (walk.reverse, walk.grouped) {
                (true, true) => self.grouped_entries(&from, to, exact, page)?,
                (true, false) => self.reversed_entries(&from, &to, exact, page)?,
                _ => self.entries(&from, &to, exact, page)?,
            };
            if full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Entries in their order. Answers whether the page is full.
    fn entries(&mut self, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>, exact: bool, page: &mut Gathered) -> Run<bool> {
        for row in span(&self.view.tables.entries, from, to, false)? {
            let (key, length) = row?;
            if self.entry(key.value(), length.value(), exact, page)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn reversed_entries(
        &mut self,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
        exact: bool,
        page: &mut Gathered,
    ) -> Run<bool> {
        for row in span(&self.view.tables.entries, from, to, true)? {
            let (key, length) = row?;
            if self.entry(key.value(), length.value(), exact, page)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// From the last to the first, but ids ascending among equal keys.
    fn grouped_entries(
        &mut self,
        from: &Bound<Vec<u8>>,
        mut to: Bound<Vec<u8>>,
        exact: bool,
        page: &mut Gathered,
    ) -> Run<bool> {
        'groups: loop {
            let mut alone: Option<(Vec<u8>, u16)> = None;
            for row in span(&self.view.tables.entries, from, &to, true)? {
                let (key, length) = row?;
                let (key, length) = (key.value(), length.value());
                if let Some((last, last_length)) = alone.take() {
                    let group = values(&last, last_length);
                    if group == values(key, length) {
                        if self.entries(&Bound::Included(group.to_vec()), &end_of(group), exact, page)? {
                            return Ok(true);
                        }
                        to = Bound::Excluded(group.to_vec());
                        continue 'groups;
                    }
                    if self.entry(&last, last_length, exact, page)? {
                        return Ok(true);
                    }
                }
                alone = Some((key.to_vec(), length));
            }
            return match alone {
                Some((key, length)) => self.entry(&key, length, exact, page),
                None => Ok(false),
            };
        }
    }

    fn entry(&mut self, key: &[u8], length: u16, exact: bool, page: &mut Gathered) -> Run<bool> {
        self.tick(0)?;
        self.explain.keys_examined += 1;
        let accepted = self.accept(entry_id(key, length)?, exact)?;
        Ok(accepted.is_some_and(|document| page.push(document)))
    }

    /// The ids an index gives, put in order, then their documents. `false`: too many, nothing was done.
    fn gathered_ids(
        &mut self,
        index: &HeldIndex,
        ranges: &[Range],
        tie: Direction,
        after: Option<&Cursor>,
        exact: bool,
        page: &mut Gathered,
    ) -> Run<bool> {
        let prefix = index.number.to_be_bytes();
        let mut ids = BTreeSet::new();
        for (from, to) in ranges {
            let (from, to) = bounds(&prefix, from, to.as_deref());
            for row in span(&self.view.tables.entries, &from, &to, false)? {
                let (key, length) = row?;
                self.tick(0)?;
                self.explain.keys_examined += 1;
                let id = entry_id(key.value(), length.value())?;
                if after
                    .is_none_or(|cursor| if tie == Direction::Ascending { id > &*cursor.id } else { id < &*cursor.id })
                {
                    ids.insert(id.to_owned());
                }
                if ids.len() > GATHER {
                    return Ok(false);
                }
            }
        }
        let ids: Box<dyn Iterator<Item = &String>> =
            if tie == Direction::Ascending { Box::new(ids.iter()) } else { Box::new(ids.iter().rev()) };
        for id in ids {
            if let Some(document) = self.accept(id, exact)?
                && page.push(document)
            {
                break;
            }
        }
        Ok(true)
    }

    /// Everything the plan gives, the first rows kept in order.
    fn sorted(mut self, query: &Query, plan: &Plan, ready: &[&HeldIndex], after: Option<&Cursor>) -> Run<Page> {
        let (keys, tie) = plan::split(&query.sort);
        let near = if plan.order == Order::Nearest { self.filter.near() } else { None };
        let key = |document: &RawDocument| match near {
            Some((path, near)) => {
                let metres = near.distance(document, path).unwrap_or(f64::INFINITY);
                Ok(vec![key::component(RawBsonRef::Double(metres))])
            }
            None => components(&query.sort, document, keys),
        };
        let after = after.map(|cursor| place(&cursor.components, &cursor.id, tie));
        let mut first: BTreeMap<Vec<u8>, RawDocumentBuf> = BTreeMap::new();
        let mut bytes = 0;
        self.explain.sorted_in_memory = true;
        self.each_document(plan, ready, |_, id, document| {
            let place = place(&key(document)?, id, tie);
            if after.as_ref().is_some_and(|after| place <= *after) {
                return Ok(());
            }
            let full = first.len() > query.limit || bytes > gathered::PAGE;
            if full && first.last_key_value().is_some_and(|(last, _)| place > *last) {
                return Ok(());
            }
            bytes += document.as_bytes().len();
            if let Some(same) = first.insert(place, document.to_owned()) {
                bytes -= same.as_bytes().len();
            }
            // What the page will not reach is let go.
            while let Some(last) = first.last_entry() {
                let rest = bytes - last.get().as_bytes().len();
                if rest <= gathered::PAGE && first.len() <= query.limit + 1 {
                    break;
                }
                bytes = rest;
                first.pop_last();
            }
            Ok(())
        })?;
        let mut page = Gathered::new(query.limit);
        first.into_values().any(|document| page.push(document));
        page.finish(key, self.explain)
    }

    /// Every document of the plan that answers the filter, in no order; over some indexes more than once.
    fn each_document(
        &mut self,
        plan: &Plan,
        ready: &[&HeldIndex],
        mut visit: impl FnMut(&mut Self, &str, &RawDocument) -> Run<()>,
    ) -> Run<()> {
        if let Source::Ids { ranges, .. } = &plan.source {
            let prefix = self.held.number.to_be_bytes();
            for (from, to) in ranges {
                let (from, to) = bounds(&prefix, from, to.as_deref());
                for row in span(&self.view.tables.documents, &from, &to, false)? {
                    let (key, document) = row?;
                    self.explain.documents_examined += 1;
                    let document = borrowed(document.value())?;
                    self.tick(document.as_bytes().len())?;
                    let id = tables::document_id(key.value()).unwrap_or_default();
                    if plan.exact || self.filter.matches(document) {
                        visit(self, id, document)?;
                    }
                }
            }
            return Ok(());
        }
        self.each_id(plan, ready, |reader, id| match reader.accept(id, plan.exact)? {
            Some(document) => visit(reader, id, &document),
            None => Ok(()),
        })
    }

    fn each_id(
        &mut self,
        plan: &Plan,
        ready: &[&HeldIndex],
        mut visit: impl FnMut(&mut Self, &str) -> Run<()>,
    ) -> Run<()> {
        let (number, ranges) = match &plan.source {
            Source::Ids { ranges, .. } => (self.held.number, ranges),
            Source::Index { place, ranges, .. } => (at(ready, *place)?.number, ranges),
        };
        let prefix = number.to_be_bytes();
        for (from, to) in ranges {
            let (from, to) = bounds(&prefix, from, to.as_deref());
            if matches!(plan.source, Source::Ids { .. }) {
                for row in span(&self.view.tables.documents, &from, &to, false)? {
                    let (key, _) = row?;
                    self.tick(0)?;
                    self.explain.keys_examined += 1;
                    visit(self, tables::document_id(key.value()).unwrap_or_default())?;
                }
                continue;
            }
            for row in span(&self.view.tables.entries, &from, &to, false)? {
                let (key, length) = row?;
                self.tick(0)?;
                self.explain.keys_examined += 1;
                visit(self, entry_id(key.value(), length.value())?)?;
            }
        }
        Ok(())
    }
}

/// An index to be walked along.
struct Walk<'a> {
    index: &'a HeldIndex,
    ranges: &'a [Range],
    reverse: bool,
    grouped: bool,
}

fn ready(held: &Held) -> Vec<&HeldIndex> {
    held.indexes.iter().filter(|index| index.progress == Progress::Ready).collect()
}

fn candidates<'a>(ready: &[&'a HeldIndex]) -> Vec<Candidate<'a>> {
    let candidate = |held: &&'a HeldIndex| -> Candidate<'a> {
        let index: &'a Index = &held.index;
        Candidate { index, multikey: held.multikey }
    };
    ready.iter().map(candidate).collect()
}

fn at<'a>(ready: &[&'a HeldIndex], place: usize) -> Run<&'a HeldIndex> {
    let found = ready.get(place).copied();
    found.ok_or_else(|| Stop::Failed(Error::Backend("the plan names an index that is not there".into())))
}

/// `whole`: every document in the range is an answer.
fn named(plan: &Plan, ready: &[&HeldIndex], whole: bool) -> Option<String> {
    match &plan.source {
        Source::Ids { bounded, .. } => (*bounded || whole).then(|| "_id".to_owned()),
        Source::Index { place, .. } => ready.get(*place).map(|held| held.index.name.clone()),
    }
}
