//! What a migration would change, counted on every document it would meet, before any is changed.

use super::{
    LEAST_FREE, Migrations, TIMES, blocking,
    held::{self, Held, Stage},
    id, place,
};
use crate::{
    domain::migration::{Change, Direction, Migration},
    ports::documents::Snapshot,
    services::{Error, Result},
};
use bson::{Document, RawDocument};
use std::collections::{BTreeMap, BTreeSet, HashSet};

const CHUNK: usize = 500;
/// Changed documents a second: a cautious guess, for who plans.
const RATE: u64 = 3000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub direction: Direction,
    /// In the order they would run.
    pub migrations: Vec<Planned>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub number: u32,
    pub name: String,
    /// By collection.
    pub parts: BTreeMap<String, Part>,
}

/// Of the documents of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    pub documents: u64,
    pub changed: u64,
    /// Bytes of those that are changed.
    pub bytes: u64,
    /// With which a step was left out, which is noted.
    pub left: u64,
    /// On the way back: those of which something goes that the newer release alone knows.
    pub losing: u64,
    /// The first that could not be restored, for which nothing is begun.
    pub irreversible: Option<String>,
}

impl Plan {
    pub fn irreversible(&self) -> Option<(&str, &str)> {
        let parts = self.migrations.iter().flat_map(|planned| &planned.parts);
        parts.into_iter().find_map(|(name, part)| Some((name.as_str(), part.irreversible.as_deref()?)))
    }

    fn sum(&self, figure: impl Fn(&Part) -> u64) -> u64 {
        self.migrations.iter().flat_map(|planned| planned.parts.values()).map(figure).sum()
    }

    pub fn changed(&self) -> u64 {
        self.sum(|part| part.changed)
    }

    pub fn losing(&self) -> u64 {
        self.sum(|part| part.losing)
    }

    /// Bytes it takes until the journal is trimmed.
    pub fn needs(&self) -> u64 {
        match self.changed() {
            0 => 0,
            _ => self.sum(|part| part.bytes) * TIMES + LEAST_FREE,
        }
    }

    pub fn seconds(&self) -> u64 {
        self.changed().div_ceil(RATE)
    }
}

/// A migration on the way, and where it is.
struct Leg {
    migration: Migration,
    held: Option<Held>,
    left: HashSet<(usize, String)>,
}

impl Migrations {
    /// Up to a number, or all there are; down to one. Nothing is written.
    pub async fn plan(&self, direction: Direction, to: Option<u32>) -> Result<Plan> {
        let snapshot = self.documents.snapshot().await?;
        let known = self.known.clone();
        blocking(move || plan(&*snapshot, known, direction, to)).await
    }
}

/// As above, of a store that may be nobody's.
pub fn plan(snapshot: &dyn Snapshot, known: Vec<Migration>, direction: Direction, to: Option<u32>) -> Result<Plan> {
    let held = held::all(snapshot)?;
    held::judge(&held, &known)?;
    let of = |number: u32| held.iter().find(|held| held.number == number).cloned();
    let mut legs = Vec::new();
    for migration in known {
        let (number, held) = (migration.number, of(migration.number));
        let wanted = match direction {
            Direction::Up => {
                to.is_none_or(|to| number <= to) && held.as_ref().is_none_or(|held| held.stage != Stage::Applied)
            }
            Direction::Down => held.is_some() && to.is_none_or(|to| number > to),
        };
        if wanted {
            let (mut held, mut left) = (held, HashSet::new());
            if direction == Direction::Down {
                held.iter_mut().for_each(|held| held.turn(migration.changes.len()));
                left = held::left(snapshot, number)?;
            }
            legs.push(Leg { migration, held, left });
        }
    }
    if direction == Direction::Down {
        legs.reverse();
    }
    let planned = |leg: &Leg| {
        let (number, name) = (leg.migration.number, leg.migration.name.clone());
        Planned { number, name, parts: BTreeMap::new() }
    };
    let mut plan = Plan { direction, migrations: legs.iter().map(planned).collect() };
    let places: BTreeSet<(&str, Option<&str>)> =
        legs.iter().flat_map(|leg| &leg.migration.changes).map(|change| place(&change.target)).collect();
    for at in places {
        walk(snapshot, at, |document| plan.walk(&legs, at, document))?;
    }
    Ok(plan)
}

fn walk(
    snapshot: &dyn Snapshot,
    (collection, one): (&str, Option<&str>),
    mut tell: impl FnMut(&RawDocument) -> Result<()>,
) -> Result<()> {
    if let Some(one) = one {
        return snapshot.get(collection, one)?.iter().try_for_each(|document| tell(document));
    }
    let mut after = None::<String>;
    loop {
        let documents = snapshot.documents(collection, after.as_deref(), CHUNK)?;
        let Some(last) = documents.last() else { return Ok(()) };
        after = Some(id(last));
        documents.iter().try_for_each(|document| tell(document))?;
    }
}

impl Plan {
    /// One document through every migration that meets it, one after the other.
    fn walk(&mut self, legs: &[Leg], at: (&str, Option<&str>), stored: &RawDocument) -> Result<()> {
        let (id, collection) = (id(stored), at.0);
        let unreadable = |error| Error::Corrupt(format!("document {id} of {collection}: {error}"));
        let mut document = Document::try_from(stored).map_err(unreadable)?;
        let bytes = stored.as_bytes().len() as u64;
        for (leg, planned) in legs.iter().zip(&mut self.migrations) {
            let mut changes: Vec<(usize, &Change)> =
                leg.migration.changes.iter().enumerate().filter(|(_, change)| place(&change.target) == at).collect();
            if changes.is_empty() {
                continue;
            }
            if self.direction == Direction::Down {
                changes.reverse();
            }
            let part = planned.parts.entry(collection.to_owned()).or_default();
            part.documents += 1;
            for (number, change) in changes {
                if leg.passed(self.direction, number, &id) {
                    continue;
                }
                let after = match self.direction {
                    Direction::Up => part.up(change, &document, &id),
                    Direction::Down => {
                        let out = |step| leg.left.contains(&(number, held::left_out(step, &id)));
                        part.left += u64::from((0..change.steps.len()).any(out));
                        change.down(&document, out).map(|(after, loses)| {
                            part.losing += u64::from(loses);
                            after
                        })
                    }
                };
                if let Some(after) = after {
                    part.changed += 1;
                    part.bytes += bytes;
                    document = after;
                }
            }
        }
        Ok(())
    }
}

impl Part {
    fn up(&mut self, change: &Change, document: &Document, id: &str) -> Option<Document> {
        let Some(up) = change.up(document) else {
            self.irreversible.get_or_insert_with(|| id.to_owned());
            return None;
        };
        self.left += u64::from(!up.left.is_empty());
        up.after
    }
}

impl Leg {
    /// Whether the document is through this change already.
    fn passed(&self, direction: Direction, change: usize, id: &str) -> bool {
        let Some(held) = &self.held else { return false };
        let at_last = || held.after.as_deref().is_some_and(|after| id <= after);
        let unreached = || held.until.as_deref().is_some_and(|until| id > until);
        match (direction, held.stage) {
            (Direction::Up, Stage::Up) => change < held.change || change == held.change && at_last(),
            (Direction::Down, Stage::Down) => {
                change >= held.change || change + 1 == held.change && (at_last() || unreached())
            }
            // Not yet on its way: a way back begun is ended first, and then nothing is passed.
            _ => false,
        }
    }
}
