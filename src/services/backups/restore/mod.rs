//! Putting backups into a store that has never held anything: a full one, then the journal of its segments up to a
//! point. Everything is proven whole before anything is written.

mod anchor;
mod choose;
mod load;
mod tally;
mod walk;

pub use anchor::Anchor;
pub use choose::{NEWER_UNREADABLE, Plan, SET_ASIDE};
pub use load::{SYSTEM, with_images};
pub use tally::Tally;
pub use walk::Point;

use super::{
    chain::Link,
    contents::Contents,
    create::Progress,
    file::Trust,
    lines::{Line, Meta},
    open,
    recipients::Identity,
};
use crate::{
    base::{clock::Timestamp, environment::Environment, fault::Fault},
    ports::{documents::Sequence, objects::Objects},
    services::{Error, Result, keyring::Key},
};
use std::io::Read;

/// Up to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The farthest end of the newest lineage.
    Latest,
    /// This very change, the last of its transaction.
    Sequence(Sequence),
    /// The last whole transaction that is not after this.
    At(Timestamp),
    /// To the end of the backup of this id or name.
    Backup(String),
}

/// What is to come back, and whose word is believed.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub wanted: &'a Wanted,
    pub identity: &'a Identity,
    pub trust: Trust<'a>,
    pub environment: Environment,
    /// `None`: the only instance that has backups there.
    pub instance: Option<&'a str>,
    /// The newest backup a living instance tells of.
    pub anchor: Option<&'a Anchor>,
}

/// Backups found sound and opened, before anything was written anywhere: their keys make the new keyring, then
/// [`Restore::load`] fills the new store.
pub struct Restore<'a> {
    source: &'a dyn Objects,
    asked: Asked<'a>,
    plan: Plan,
    meta: Meta,
    keys: Vec<Key>,
    configuration: Option<String>,
}

/// What a backup opens with.
#[derive(Default)]
struct Opening {
    meta: Option<Meta>,
    keys: Vec<Key>,
    configuration: Option<String>,
}

impl<'a> Restore<'a> {
    /// Chooses the backups, reads each whole and checks it against its signed manifest, then opens the newest of them,
    /// and the full one for the configuration, which segments lack. Blocking.
    pub fn begin(
        source: &'a dyn Objects,
        asked: Asked<'a>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Self> {
        let plan = choose::choose(source, asked, progress)?;
        let Opening { meta, keys, configuration } = Opening::of(source, plan.last(), asked.identity)?;
        let configuration = match plan.segments.is_empty() {
            true => configuration,
            false => Opening::of(source, &plan.full, asked.identity)?.configuration,
        };
        let no_meta = || Error::Damaged(Fault::new("backups.line_kind").with("line", 1).with("kind", ""));
        let meta = meta.ok_or_else(no_meta)?;
        Ok(Self { source, asked, plan, meta, keys, configuration })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Which instance it was, and of which lineage, by the newest of the files.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The keyring's content, as of the newest of the files: the documents may need every key of it.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The configuration file's text, where it came along.
    pub fn configuration(&self) -> Option<&str> {
        self.configuration.as_deref()
    }
}

impl Opening {
    fn of(source: &dyn Objects, link: &Link, identity: &Identity) -> Result<Self> {
        let (mut contents, mut opening) = (unsealed(source, &link.name, identity)?, Self::default());
        while let Some(line) = contents.next()? {
            if opening.take(line).is_some() {
                break;
            }
        }
        Ok(opening)
    }

    /// Gives back what is none of it.
    fn take(&mut self, line: Line) -> Option<Line> {
        match line {
            Line::Meta(meta) => self.meta = Some(meta),
            Line::Key(key) => self.keys.push(key),
            Line::Configuration(text) => self.configuration = Some(text),
            other => return Some(other),
        }
        None
    }
}

fn unsealed(source: &dyn Objects, name: &str, identity: &Identity) -> Result<Contents<Box<dyn Read + Send>>> {
    Ok(Contents::new(open(source, name)?.unseal(identity)?))
}
