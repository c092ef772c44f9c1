//! One step with one document, up and down. Only the top level; only what an inverse undoes.

use crate::domain::collection;
use bson::{Bson, Document, RawArrayBuf};

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A field bears another name, in the same place.
    Rename { from: String, to: String },
    /// A value where the field is missing.
    Default { field: String, value: Bson },
    /// A second field of the same value.
    Copy { from: String, to: String },
    /// Values of a field become others, one to one.
    Map { field: String, values: Vec<(Bson, Bson)> },
    /// A list of words made from other fields, where it is missing.
    Gather { into: String, from: Vec<Source> },
    /// An index of a collection's definition.
    Index(collection::Index),
}

/// A word of a list: the field's text after a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub field: String,
    pub prefix: String,
    /// Only where this field is this.
    pub when: Option<(String, String)>,
}

/// The list in a collection's definition.
const INDEXES: &str = "indexes";

impl Step {
    /// That it makes.
    pub fn index(&self) -> Option<&collection::Index> {
        match self {
            Self::Index(index) => Some(index),
            _ => None,
        }
    }

    pub fn up(&self, document: &mut Document) {
        match self {
            Self::Rename { from, to } => rename(document, from, to),
            Self::Default { field, value } => add(document, field, || Some(value.clone())),
            Self::Copy { from, to } => {
                let value = document.get(from).cloned();
                add(document, to, || value);
            }
            Self::Map { field, values } => map(document, field, values.iter().map(|(from, to)| (from, to))),
            Self::Gather { into, from } => {
                let words: Vec<Bson> = from.iter().filter_map(|source| source.word(document)).collect();
                add(document, into, || (!words.is_empty()).then_some(Bson::Array(words)));
            }
            Self::Index(index) => {
                if let Some(Bson::Array(indexes)) = document.get_mut(INDEXES)
                    && !indexes.iter().any(|held| is(held, index))
                    && let Ok(document) = Document::try_from(index.document())
                {
                    indexes.push(Bson::Document(document));
                }
            }
        }
    }

    pub fn down(&self, document: &mut Document) {
        match self {
            Self::Rename { from, to } => rename(document, to, from),
            Self::Default { field, .. } => drop(document.remove(field)),
            Self::Copy { to, .. } => drop(document.remove(to)),
            Self::Map { field, values } => map(document, field, values.iter().map(|(from, to)| (to, from))),
            Self::Gather { into, .. } => drop(document.remove(into)),
            Self::Index(index) => {
                if let Some(Bson::Array(indexes)) = document.get_mut(INDEXES) {
                    indexes.retain(|held| !is(held, index));
                }
            }
        }
    }
}

impl Source {
    fn word(&self, document: &Document) -> Option<Bson> {
        let text = |field: &str| document.get(field).and_then(Bson::as_str);
        if let Some((field, wanted)) = &self.when
            && text(field) != Some(wanted)
        {
            return None;
        }
        Some(Bson::String(format!("{}{}", self.prefix, text(&self.field)?)))
    }
}

/// Whether an index of a definition is this one, in whichever form it is written there.
fn is(held: &Bson, index: &collection::Index) -> bool {
    let one = RawArrayBuf::try_from(&vec![held.clone()]);
    let read = one.ok().and_then(|one| collection::Index::read(one.get(0).ok()??).ok());
    read.as_ref() == Some(index)
}

fn add(document: &mut Document, field: &str, value: impl FnOnce() -> Option<Bson>) {
    if document.contains_key(field) {
        return;
    }
    if let Some(value) = value() {
        document.insert(field, value);
    }
}

/// Where both names are there nothing is done: one value would be lost.
fn rename(document: &mut Document, from: &str, to: &str) {
    if !document.contains_key(from) || document.contains_key(to) {
        return;
    }
    let fields = std::mem::take(document);
    *document =
        fields.into_iter().map(|(name, value)| (if name == from { to.to_owned() } else { name }, value)).collect();
}

fn map<'v>(document: &mut Document, field: &str, mut values: impl Iterator<Item = (&'v Bson, &'v Bson)>) {
    if let Some(value) = document.get_mut(field)
        && let Some((_, to)) = values.find(|(from, _)| *from == value)
    {
        *value = to.clone();
    }
}
