//! What a store says of the migrations applied to it, and whether this release may go on from there.

use super::{MIGRATIONS, id};
use crate::{
    base::{fault::Fault, release},
    domain::{document::revision, migration::Migration},
    ports::documents::Snapshot,
    services::{Error, Result},
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use std::collections::{BTreeMap, HashSet};

/// Rows read at once.
const CHUNK: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Being applied.
    Up,
    Applied,
    /// Being undone.
    Down,
}

/// One migration as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub number: u32,
    pub name: String,
    pub digest: String,
    /// That applied it.
    pub release: String,
    pub stage: Stage,
    /// Of a migration under way: the change it is at, and the last document that is done.
    pub change: usize,
    pub after: Option<String>,
    /// Of one that is undone before it was whole: the last document the change it is at had reached.
    pub until: Option<String>,
    /// Documents changed so far.
    pub documents: u64,
    /// Documents of the store that tell what was left out.
    pub notes: u32,
    /// RFC 3339.
    pub at: String,
    pub revision: i64,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Applied => "applied",
            Self::Down => "down",
        }
    }
}

impl Held {
    pub fn begin(migration: &Migration) -> Self {
        Self {
            number: migration.number,
            name: migration.name.clone(),
            digest: migration.digest.clone(),
            release: release::version().to_owned(),
            stage: Stage::Up,
            change: 0,
            after: None,
            until: None,
            documents: 0,
            notes: 0,
            at: String::new(),
            revision: 0,
        }
    }

    /// Round, from where it stands: the last change it came to is undone first. Documents a way up that was cut short
    /// had not reached are as they were, and stay so.
    pub fn turn(&mut self, changes: usize) {
        (self.change, self.until) = match self.stage {
            Stage::Down => return,
            Stage::Applied => (changes, None),
            Stage::Up => (self.change + usize::from(self.after.is_some()), self.after.take()),
        };
        (self.stage, self.after, self.documents) = (Stage::Down, None, 0);
    }

    pub fn read(document: &RawDocument) -> Option<Self> {
        let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
        let number = |name: &str| document.get_i64(name).ok();
        let stage = match document.get_str("stage").ok()? {
            "up" => Stage::Up,
            "applied" => Stage::Applied,
            "down" => Stage::Down,
            _ => return None,
        };
        Some(Self {
            number: u32::try_from(number("number")?).ok()?,
            name: text("name")?,
            digest: text("digest")?,
            release: text("release")?,
            stage,
            change: usize::try_from(number("change")?).ok()?,
            after: text("after"),
            until: text("until"),
            documents: u64::try_from(number("documents")?).ok()?,
            notes: u32::try_from(number("notes")?).ok()?,
            at: text("at")?,
            revision: revision(document)?,
        })
    }

    pub fn document(&self) -> RawDocumentBuf {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut document = rawdoc! {
            "number": i64::from(self.number),
            "name": self.name.as_str(),
            "digest": self.digest.as_str(),
            "release": self.release.as_str(),
            "stage": self.stage.name(),
            "change": whole(self.change as u64),
            "documents": whole(self.documents),
            "notes": i64::from(self.notes),
            "at": self.at.as_str(),
        };
        if let Some(after) = &self.after {
            document.append(bson::cstr!("after"), after.as_str());
        }
        if let Some(until) = &self.until {
            document.append(bson::cstr!("until"), until.as_str());
        }
        document
    }
}

/// The id of a migration's document.
pub fn key(number: u32) -> String {
    format!("{number:04}")
}

/// The id of a document that tells what a change left out.
pub fn note(number: u32, note: u32) -> String {
    format!("{}/{note:08}", key(number))
}

/// A step that was left out with a document.
pub fn left_out(step: usize, id: &str) -> String {
    format!("{step}/{id}")
}

/// Every migration of a store, in order.
pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Held>> {
    let mut all = BTreeMap::new();
    each(snapshot, |document| {
        if document.get("number").ok().flatten().is_some() {
            let held = Held::read(document);
            let held = held.ok_or_else(|| Error::Corrupt(format!("migration {} is unreadable", id(document))))?;
            all.insert(held.number, held);
        }
        Ok(())
    })?;
    Ok(all.into_values().collect())
}

/// What a migration left out, by change ([`left_out`]).
pub fn left(snapshot: &dyn Snapshot, number: u32) -> Result<HashSet<(usize, String)>> {
    let mut left = HashSet::new();
    let prefix = format!("{}/", key(number));
    each(snapshot, |document| {
        if !id(document).starts_with(&prefix) {
            return Ok(());
        }
        let unreadable = || Error::Corrupt(format!("migration {} is unreadable", id(document)));
        let change = document.get_i64("change").ok().and_then(|change| usize::try_from(change).ok());
        let change = change.ok_or_else(unreadable)?;
        for one in document.get_array("left").map_err(|_| unreadable())? {
            let one = one.ok().and_then(|one| one.as_str().map(str::to_owned)).ok_or_else(unreadable)?;
            left.insert((change, one));
        }
        Ok(())
    })?;
    Ok(left)
}

fn each(snapshot: &dyn Snapshot, mut tell: impl FnMut(&RawDocument) -> Result<()>) -> Result<()> {
    let mut after = None::<String>;
    loop {
        let documents = snapshot.documents(MIGRATIONS, after.as_deref(), CHUNK)?;
        let Some(last) = documents.last() else { return Ok(()) };
        after = Some(id(last));
        documents.iter().try_for_each(|document| tell(document))?;
    }
}

/// Data of a newer release is refused with the way back; what was applied must be what is declared.
pub fn judge(held: &[Held], known: &[Migration]) -> Result<()> {
    if let Some(fault) = newer(held, known) {
        return Err(Error::Refused(fault));
    }
    for (held, known) in held.iter().zip(known) {
        if held.number != known.number {
            return Err(Error::Damaged(Fault::new("migrations.gap").with("number", key(known.number))));
        }
        if held.digest != known.digest || held.name != known.name {
            let fault = Fault::new("migrations.changed").with("number", key(held.number)).with("name", &held.name);
            return Err(Error::Damaged(fault.with("release", &held.release)));
        }
    }
    Ok(())
}

/// Of one that is neither applied nor undone: how it goes on, and the way back.
pub fn half_done(held: &[Held]) -> Option<Fault> {
    let begun = held.iter().find(|held| held.stage != Stage::Applied)?;
    let fault = Fault::new("migrations.half_done").with("number", key(begun.number)).with("name", &begun.name);
    Some(fault.with("before", begun.number.saturating_sub(1)))
}

/// Why data with these migrations is not for this release.
pub fn newer(held: &[Held], known: &[Migration]) -> Option<Fault> {
    let most = known.last().map_or(0, |known| known.number);
    let newest = held.last().filter(|newest| newest.number > most)?;
    Some(newer_than(most, (newest.number, &newest.name, &newest.release)))
}

/// That a migration is past those known here.
pub fn newer_than(known: u32, (number, name, release): (u32, &str, &str)) -> Fault {
    let fault = Fault::new("migrations.newer").with("found", key(number)).with("name", name);
    fault.with("release", release).with("known", known)
}
