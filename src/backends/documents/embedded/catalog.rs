//! The collections and indexes as the engine knows them: numbers, builds under way, where arrays were met.

use crate::{
    domain::collection::{Definition, Index},
    ports::documents::{Build, COLLECTIONS, RECEIPTS},
};
use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub collections: BTreeMap<String, Arc<Held>>,
    pub next_collection: u32,
    pub next_index: u32,
}

/// A collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub number: u32,
    pub indexes: Vec<HeldIndex>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HeldIndex {
    pub number: u32,
    pub index: Index,
    pub progress: Progress,
    /// A bit for each field under which some document has, or once had, an array.
    pub multikey: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    Ready,
    /// Documents up to the cursor are in; writes keep the index too.
    Filling {
        cursor: String,
        done: u64,
        total: u64,
    },
    /// A unique index is full; entries up to the cursor have no double. Writes are held to it already.
    Checking {
        cursor: Vec<u8>,
        done: u64,
        total: u64,
    },
    /// Neither used nor kept.
    Failed {
        duplicates: Vec<(String, String)>,
        refused: Option<(String, String)>,
    },
}

impl Progress {
    pub fn building(&self) -> bool {
        matches!(self, Self::Filling { .. } | Self::Checking { .. })
    }

    pub fn kept(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }

    pub fn as_build(&self) -> Build {
        match self {
            Self::Ready => Build::Ready,
            Self::Filling { done, total, .. } | Self::Checking { done, total, .. } => {
                Build::Building { done: *done, total: *total }
            }
            Self::Failed { duplicates, refused } => {
                Build::Failed { duplicates: duplicates.clone(), refused: refused.clone() }
            }
        }
    }
}

/// What a changed definition asks of the engine.
pub struct Changes {
    pub held: Held,
    /// Numbers of the indexes no longer there.
    pub dropped: Vec<u32>,
}

impl Catalog {
    /// A new store's: the catalogue itself, and the receipts with an index by which the old ones are found.
    pub fn initial() -> Self {
        let mut catalog = Self { collections: BTreeMap::new(), next_collection: 1, next_index: 1 };
        let expires = rawdoc! { "indexes": ["expires"] };
        for (name, definition) in [(COLLECTIONS, rawdoc! {}), (RECEIPTS, expires)] {
            let definition = Definition::read(name, &definition).expect("written here");
            let changes = catalog.change(None, &definition, 0);
            catalog.collections.insert(name.to_owned(), Arc::new(changes.held));
        }
        catalog
    }

    /// The state after a definition: indexes that stay keep theirs, new ones are ready at once when the collection is
    /// empty, else they begin to fill.
    pub fn change(&mut self, before: Option<&Held>, definition: &Definition, documents: u64) -> Changes {
        let number = before.map_or_else(|| take(&mut self.next_collection), |held| held.number);
        let old = before.map_or(&[][..], |held| &held.indexes);
        let indexes: Vec<HeldIndex> = definition
            .indexes
            .iter()
            .map(|index| match old.iter().find(|held| held.index == *index) {
                Some(held) => held.clone(),
                None => HeldIndex {
                    number: take(&mut self.next_index),
                    index: index.clone(),
                    progress: match documents {
                        0 => Progress::Ready,
                        total => Progress::Filling { cursor: String::new(), done: 0, total },
                    },
                    multikey: 0,
                },
            })
            .collect();
        let dropped = old
            .iter()
            .map(|held| held.number)
            .filter(|number| indexes.iter().all(|index| index.number != *number))
            .collect();
        Changes { held: Held { number, indexes }, dropped }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Held>> {
        self.collections.get(name)
    }
}

fn take(next: &mut u32) -> u32 {
    let taken = *next;
    *next += 1;
    taken
}

impl Held {
    pub fn document(&self) -> RawDocumentBuf {
        let mut indexes = RawArrayBuf::new();
        for held in &self.indexes {
            indexes.push(rawdoc! {
                "number": i64::from(held.number),
                "index": held.index.document(),
                "multikey": held.multikey.cast_signed(),
                "progress": held.progress.document(),
            });
        }
        rawdoc! { "number": i64::from(self.number), "indexes": indexes }
    }

    /// `None`: not what [`Held::document`] writes.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let mut indexes = Vec::new();
        for entry in document.get_array("indexes").ok()? {
            let entry = entry.ok()?.as_document()?;
            indexes.push(HeldIndex {
                number: number(entry, "number")?,
                index: Index::read(RawBsonRef::Document(entry.get_document("index").ok()?)).ok()?,
                progress: Progress::read(entry.get_document("progress").ok()?)?,
                multikey: entry.get_i64("multikey").ok()?.cast_unsigned(),
            });
        }
        Some(Self { number: number(document, "number")?, indexes })
    }
}

impl Progress {
    fn document(&self) -> RawDocumentBuf {
        match self {
            Self::Ready => rawdoc! { "state": "ready" },
            Self::Filling { cursor, done, total } => rawdoc! {
                "state": "filling", "cursor": cursor.as_str(), "done": done.cast_signed(), "total": total.cast_signed(),
            },
            Self::Checking { cursor, done, total } => rawdoc! {
                "state": "checking",
                "cursor": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: cursor.clone() },
                "done": done.cast_signed(),
                "total": total.cast_signed(),
            },
            Self::Failed { duplicates, refused } => {
                let mut pairs = RawArrayBuf::new();
                for (a, b) in duplicates {
                    pairs.push(rawdoc! { "a": a.as_str(), "b": b.as_str() });
                }
                let mut document = rawdoc! { "state": "failed", "duplicates": pairs };
                if let Some((id, why)) = refused {
                    document.append(bson::raw::cstr!("refused"), rawdoc! { "a": id.as_str(), "b": why.as_str() });
                }
                document
            }
        }
    }

    fn read(document: &RawDocument) -> Option<Self> {
        let count = |name| Some(document.get_i64(name).ok()?.cast_unsigned());
        let pair = |document: &RawDocument| {
            Some((document.get_str("a").ok()?.to_owned(), document.get_str("b").ok()?.to_owned()))
        };
        match document.get_str("state").ok()? {
            "ready" => Some(Self::Ready),
            "filling" => Some(Self::Filling {
                cursor: document.get_str("cursor").ok()?.to_owned(),
                done: count("done")?,
                total: count("total")?,
            }),
            "checking" => Some(Self::Checking {
                cursor: document.get_binary("cursor").ok()?.bytes.to_vec(),
                done: count("done")?,
                total: count("total")?,
            }),
            "failed" => {
                let pairs = document.get_array("duplicates").ok()?.into_iter();
                let duplicates = pairs.map(|entry| pair(entry.ok()?.as_document()?)).collect::<Option<_>>()?;
                let refused = document.get_document("refused").ok().and_then(pair);
                Some(Self::Failed { duplicates, refused })
            }
            _ => None,
        }
    }
}

fn number(document: &RawDocument, name: &str) -> Option<u32> {
    u32::try_from(document.get_i64(name).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(indexes: &[&str]) -> Definition {
        let indexes = RawArrayBuf::from_iter(indexes.iter().copied());
        Definition::read("c", &rawdoc! { "indexes": indexes }).expect("a definition")
    }

    #[test]
    fn states_survive_the_table() {
        let index = |progress| HeldIndex {
            number: 7,
            index: definition(&["a,-b.c"]).indexes.remove(0),
            progress,
            multikey: u64::MAX,
        };
        let held = Held {
            number: 3,
            indexes: vec![
                index(Progress::Ready),
                index(Progress::Filling { cursor: "x".into(), done: 1, total: 2 }),
                index(Progress::Checking { cursor: vec![0, 255], done: 1, total: 2 }),
                index(Progress::Failed { duplicates: vec![("a".into(), "b".into())], refused: None }),
                index(Progress::Failed { duplicates: vec![], refused: Some(("a".into(), "why".into())) }),
            ],
        };
        assert_eq!(Held::read(&held.document()), Some(held));
        assert_eq!(Held::read(&rawdoc! { "number": 1i64 }), None);
    }

    #[test]
    fn indexes_that_stay_keep_their_numbers() {
        let mut catalog = Catalog::initial();
        let first = catalog.change(None, &definition(&["a", "b"]), 0).held;
        assert!(first.indexes.iter().all(|index| index.progress == Progress::Ready));
        let next = catalog.change(Some(&first), &definition(&["b", "c"]), 5);
        assert_eq!(next.dropped, [first.indexes[0].number]);
        assert_eq!(next.held.number, first.number);
        assert_eq!(next.held.indexes[0], first.indexes[1]);
        assert!(next.held.indexes[1].progress.building());
        assert!(next.held.indexes[1].number > first.indexes[1].number);
    }
}
