//! A declaration read from its file: everything that could not be undone is refused here.

use super::{
    Change, Migration, Target,
    step::{Source, Step},
};
use crate::domain::collection::Index;
use bson::{Bson, RawBsonRef, rawdoc};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Kept as they are: signed, or not anyone's to change.
const UNTOUCHABLE: [&str; 7] = [
    "system.audit",
    "system.pending",
    "system.tiles",
    "system.checkpoints",
    "system.collections",
    "system.receipts",
    "system.migrations",
];

/// A mistake of who declares, met by a test before anybody else.
#[derive(Debug, thiserror::Error)]
#[error("migration {name}: {why}")]
pub struct Malformed {
    name: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    release: String,
    change: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    documents: Option<String>,
    definition: Option<String>,
    step: Vec<Word>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Rename { from: String, to: String },
    Default { field: String, value: toml::Value },
    Copy { from: String, to: String },
    Map { field: String, values: Vec<[toml::Value; 2]> },
    Gather { into: String, from: Vec<Piece> },
    Index { keys: String, unique: Option<bool> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    field: String,
    prefix: String,
    when: Option<When>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    field: String,
    is: String,
}

pub fn migration(name: &str, text: &str) -> Result<Migration, Malformed> {
    let malformed = |why: String| Malformed { name: name.to_owned(), why };
    let file: File = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let (number, rest) = name.split_once('-').unwrap_or((name, ""));
    let number = Some(number).filter(|number| number.len() == 4).and_then(|number| number.parse().ok());
    let number = number.filter(|number| *number > 0).ok_or_else(|| malformed("not `NNNN-name`".to_owned()))?;
    if rest != file.name {
        return Err(malformed(format!("the file is named after `{rest}`, it says `{}`", file.name)));
    }
    if file.change.is_empty() {
        return Err(malformed("nothing changes".to_owned()));
    }
    let changes = file.change.into_iter().map(Part::read).collect::<Result<_, _>>().map_err(malformed)?;
    let digest = hex::encode(Sha256::digest(text));
    Ok(Migration { number, name: file.name, release: file.release, digest, changes })
}

impl Part {
    fn read(self) -> Result<Change, String> {
        let target = match (self.documents, self.definition) {
            (Some(name), None) => Target::Documents(name),
            (None, Some(name)) => Target::Definition(name),
            _ => return Err("either `documents` or `definition`".to_owned()),
        };
        let (Target::Documents(name) | Target::Definition(name)) = &target;
        if !name.starts_with("system.") || UNTOUCHABLE.contains(&name.as_str()) {
            return Err(format!("{name} is not a migration's to change"));
        }
        if self.step.is_empty() {
            return Err(format!("no step for {name}"));
        }
        let definition = matches!(target, Target::Definition(_));
        let steps: Vec<Step> = self.step.into_iter().map(Word::read).collect::<Result<_, _>>()?;
        if steps.iter().any(|step| matches!(step, Step::Index(_)) != definition) {
            return Err("an index is a definition's, all else are documents'".to_owned());
        }
        Ok(Change { target, steps })
    }
}

impl Word {
    fn read(self) -> Result<Step, String> {
        Ok(match self {
            Self::Rename { from, to } => {
                distinct(&from, &to)?;
                Step::Rename { from: own(from)?, to: own(to)? }
            }
            Self::Default { field, value } => Step::Default { field: own(field)?, value: plain(value)? },
            Self::Copy { from, to } => {
                distinct(&from, &to)?;
                Step::Copy { from, to: own(to)? }
            }
            Self::Map { field, values } => Step::Map { field: own(field)?, values: one_to_one(values)? },
            Self::Gather { into, from } => {
                let piece = |piece: Piece| {
                    let when = piece.when.map(|when| (when.field, when.is));
                    Source { field: piece.field, prefix: piece.prefix, when }
                };
                let from: Vec<_> = from.into_iter().map(piece).collect();
                if from.is_empty() || from.iter().any(|source| source.field == into) {
                    return Err(format!("{into} is gathered from nothing, or from itself"));
                }
                Step::Gather { into: own(into)?, from }
            }
            Self::Index { keys, unique } => {
                let index = rawdoc! { "keys": keys, "unique": unique.unwrap_or_default() };
                Step::Index(Index::read(RawBsonRef::Document(&index)).map_err(|fault| fault.to_string())?)
            }
        })
    }
}

/// A field a migration may write: at the top level, and not the store's own.
fn own(field: String) -> Result<String, String> {
    if field.is_empty() || field.starts_with(['_', '$']) || field.contains(['.', '\0']) {
        return Err(format!("`{field}` is no field a migration may write"));
    }
    Ok(field)
}

fn distinct(from: &str, to: &str) -> Result<(), String> {
    if from == to { Err(format!("`{from}` becomes itself")) } else { Ok(()) }
}

/// What is not one to one cannot be undone.
fn one_to_one(values: Vec<[toml::Value; 2]>) -> Result<Vec<(Bson, Bson)>, String> {
    let pair = |[from, to]: [toml::Value; 2]| Ok::<_, String>((plain(from)?, plain(to)?));
    let values: Vec<(Bson, Bson)> = values.into_iter().map(pair).collect::<Result<_, _>>()?;
    for (at, (from, to)) in values.iter().enumerate() {
        if values.iter().take(at).any(|(other_from, other_to)| other_from == from || other_to == to) {
            return Err(format!("two values for {from}, or two that become {to}"));
        }
    }
    Ok(values)
}

fn plain(value: toml::Value) -> Result<Bson, String> {
    Ok(match value {
        toml::Value::String(text) => Bson::String(text),
        toml::Value::Integer(number) => Bson::Int64(number),
        toml::Value::Boolean(truth) => Bson::Boolean(truth),
        toml::Value::Array(values) => Bson::Array(values.into_iter().map(plain).collect::<Result<_, _>>()?),
        other => return Err(format!("a {} has no place in a document here", other.type_str())),
    })
}
