//! Backups: made while writes go on, sealed to keys the server does not hold, checked, listed and restored.
//!
//! Everything here but the desk blocks: call it from a blocking thread.

mod chain;
mod contents;
mod create;
mod desk;
mod file;
mod lane;
mod lines;
mod once;
mod plan;
mod prune;
mod recipients;
mod reread;
pub mod restore;
mod retention;
mod rewrap;
mod send;
mod shares;
mod ship;
mod state;
mod subjects;
mod target;

pub use chain::{Chain, Link, chains};
pub use create::{Created, Progress, Request, Span, Stage, create, signers};
pub use desk::{At, Backups, Settings};
pub use file::{Header, Kind, Manifest, Trust, VERSION as FORMAT};
pub use lane::{SUBJECTS, Tally};
pub use lines::Meta;
pub use plan::{Outlook, Plan, Watch};
pub use prune::Pruned;
pub use recipients::{Identity, Recipient, Signer, fewest};
pub use restore::Restore;
pub use retention::{Kept, Reason, Retained, Rules, retain};
pub use rewrap::{Rewrapped, rewrap};
pub use shares::{Paper, Share, WORDS, agreed, combine, split};
pub use state::{BACKUPS, Failure, Rotten, Sent, State};
pub use target::Target;

use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::documents::Sequence,
    ports::objects::{FORBIDDEN, Object, Objects},
    services::{Error, Result},
};
use contents::Contents;
use file::{Backup, manifest_at_end};
use std::io::{BufReader, Read};

/// How objects that are backups end their names.
const SUFFIX: &str = ".backup";

/// A backup at a target, by what its header says; nothing is proven yet.
#[derive(Debug, Clone)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
    /// The header and who can open it, or what is wrong with them.
    pub header: std::result::Result<(Header, Vec<[u8; 16]>), Fault>,
}

/// A backup found sound.
#[derive(Debug, Clone)]
pub struct Verified {
    pub header: Header,
    pub manifest: Manifest,
}

/// Every backup at a target, oldest first. Damaged ones are listed as such.
pub fn list(target: &dyn Objects) -> Result<Vec<Listed>> {
    let (mut all, mut forbidden) = (Vec::new(), None);
    for Object { name, bytes } in target.list()? {
        if !name.ends_with(SUFFIX) {
            continue;
        }
        let header = match open(target, &name) {
            Ok(backup) => Ok((backup.header().clone(), backup.recipients())),
            Err(Error::Damaged(fault) | Error::Refused(fault)) => Err(fault),
            // One that cannot be read says nothing against the others.
            Err(Error::Internal(cause)) => Err(Fault::new("backups.unreadable").with("cause", cause)),
            Err(Error::Invalid(fault)) if fault.key == FORBIDDEN => {
                forbidden.get_or_insert(fault.clone());
                Err(fault)
            }
            // Deleted since the names were read.
            Err(Error::NotFound(_)) => continue,
            Err(other) => return Err(other),
        };
        all.push(Listed { name, bytes, header });
    }
    // Of none it may read anything: that is the credential's fault, not a backup's.
    if let Some(fault) = forbidden.filter(|_| all.iter().all(|listed: &Listed| listed.header.is_err())) {
        return Err(Error::Invalid(fault));
    }
    all.sort_by_cached_key(|listed| {
        (listed.header.as_ref().ok().map(|(header, _)| header.created), listed.name.clone())
    });
    Ok(all)
}

/// The name of the backup with this id, or of this name; the newest full one when none is asked for.
pub fn locate(target: &dyn Objects, wanted: Option<&str>) -> Result<String> {
    let found = list(target)?.into_iter().rev().find(|listed| match wanted {
        None => listed.header.as_ref().is_ok_and(|(header, _)| header.kind == Kind::Full),
        Some(wanted) => listed.name == wanted || listed.header.as_ref().is_ok_and(|(header, _)| header.id() == wanted),
    });
    found.map(|listed| listed.name).ok_or_else(|| match wanted {
        Some(wanted) => unknown(target, wanted),
        None => none(target),
    })
}

/// Checks every byte against the signed manifest, without any private key.
pub fn verify(target: &dyn Objects, name: &str, trust: Trust<'_>) -> Result<Verified> {
    let backup = open(target, name)?;
    let header = backup.header().clone();
    Ok(Verified { header, manifest: backup.check(trust)? })
}

/// As [`verify`], and decrypts and reads all of it too.
pub fn verify_open(target: &dyn Objects, name: &str, identity: &Identity, trust: Trust<'_>) -> Result<Verified> {
    let backup = open(target, name)?;
    let header = backup.header().clone();
    Ok(Verified { header, manifest: Contents::new(backup.unseal(identity)?).finish(trust)? })
}

/// Where a backup stands among an instance's: by what is in it first, for clocks jump; a date past `now` is none.
fn order(header: &Header, now: Timestamp) -> (u32, Sequence, Option<Timestamp>) {
    (header.lineage, header.upto, Some(header.created).filter(|created| *created <= now))
}

/// Names of the backups of this instance from before a moment, all but the newest sound full one and what came after it.
/// One whose header is damaged may be another instance's: it stays.
fn outlived(
    target: &dyn Objects,
    instance: &str,
    trust: Trust<'_>,
    (until, now): (Timestamp, Timestamp),
) -> Result<Vec<String>> {
    let Some((newest, _)) = newest(target, instance, trust, (Some(Kind::Full), now))? else { return Ok(Vec::new()) };
    let old = |header: &Header| {
        let late = header.created >= until && header.created <= now;
        header.instance == instance && order(header, now) < order(&newest, now) && !late
    };
    let listed = list(target)?.into_iter();
    Ok(listed
        .filter(|listed| listed.header.as_ref().is_ok_and(|(header, _)| old(header)))
        .map(|old| old.name)
        .collect())
}

/// The newest backup of this instance whose manifest is sound: the link of the chain; of fulls alone where that is asked.
fn newest(
    target: &dyn Objects,
    instance: &str,
    trust: Trust<'_>,
    (kind, now): (Option<Kind>, Timestamp),
) -> Result<Option<(Header, Manifest)>> {
    let of = |header: &Header| header.instance == instance && kind.is_none_or(|kind| header.kind == kind);
    let headers =
        list(target)?.into_iter().filter_map(|listed| Some((listed.header.ok()?.0, listed.name, listed.bytes)));
    let mut own: Vec<_> = headers.filter(|(header, ..)| of(header)).collect();
    own.sort_by_key(|(header, ..)| order(header, now));
    let mut unread = None;
    for (header, name, bytes) in own.into_iter().rev() {
        match manifest_at_end(&header, bytes, |from| read(target, &name, from), trust) {
            Ok(manifest) => return Ok(Some((header, manifest))),
            // Rotten, or gone since: one before it is the newest.
            Err(Error::Damaged(_) | Error::NotFound(_)) => {}
            Err(error @ Error::Internal(_)) => unread = unread.or(Some(error)),
            Err(other) => return Err(other),
        }
    }
    // One that cannot be read is not none.
    unread.map_or(Ok(None), Err)
}

fn open(target: &dyn Objects, name: &str) -> Result<Backup<Box<dyn Read + Send>>> {
    Backup::open(Box::new(BufReader::with_capacity(256 * 1024, read(target, name, 0)?)))
}

fn read(target: &dyn Objects, name: &str, from: u64) -> Result<Box<dyn Read + Send>> {
    target.get(name, from)?.ok_or_else(|| unknown(target, name))
}

fn none(target: &dyn Objects) -> Error {
    Error::NotFound(Fault::new("backups.none").with("place", target.place()))
}

fn unknown(target: &dyn Objects, name: &str) -> Error {
    Error::NotFound(Fault::new("backups.unknown").with("name", name).with("place", target.place()))
}

#[cfg(test)]
mod tests;
