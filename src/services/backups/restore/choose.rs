//! Which backups a restore is made of: the newest full one at or before the point whose chain reaches it, all of them
//! sound. What is damaged is set aside, and an older full one with longer segments is tried.

use super::{
    Asked, Wanted,
    walk::{Point, Walk},
};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::{documents::Sequence, objects::Objects},
    services::{
        Error, Result,
        backups::{
            Listed,
            chain::{Chain, Link, chains},
            create::{self, Progress, Stage},
            file::{Backup, Kind, Manifest},
            list, manifest_at_end, none, read, unknown,
        },
    },
};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, BufReader, Read},
};

/// The note that a file was no good, and others were taken.
pub const SET_ASIDE: &str = "backups.set_aside";
/// Why something older comes back: the header of a newer file cannot be read.
pub const NEWER_UNREADABLE: &str = "backups.newer_unreadable";

/// What comes back, from which files.
#[derive(Debug, Clone)]
pub struct Plan {
    pub full: Link,
    /// Oldest first.
    pub segments: Vec<Link>,
    pub point: Point,
    /// Of all these, in their order.
    pub manifests: Vec<Manifest>,
    /// Past it there are changes at the source that do not come back; of the newest known.
    pub beyond: Option<Beyond>,
    /// The highest of the instance at the source.
    pub newest_lineage: u32,
    /// A file that says so.
    pub newest_name: String,
    /// Why it is older than what was asked for; whoever goes on has to say so.
    pub older: Option<Fault>,
    /// Whatever else is to be known.
    pub notes: Vec<Fault>,
}

/// The farthest end listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    pub lineage: u32,
    pub sequence: Sequence,
    /// When that backup was begun.
    pub time: Timestamp,
}

impl Plan {
    /// The newest of the files.
    pub fn last(&self) -> &Link {
        self.segments.last().unwrap_or(&self.full)
    }

    pub fn files(&self) -> impl Iterator<Item = &Link> {
        std::iter::once(&self.full).chain(&self.segments)
    }

    pub fn bytes(&self) -> u64 {
        self.files().map(|link| link.bytes).sum()
    }

    /// Documents in the full backup, and records of its journal.
    pub(super) fn documents(&self) -> u64 {
        self.manifests.first().map_or(0, |manifest| manifest.documents + manifest.records)
    }

    /// Changes that are made again.
    pub fn changes(&self) -> u64 {
        self.point.sequence.0.saturating_sub(self.full.header.upto.0)
    }

    /// Who signed the newest of them.
    pub fn signer(&self) -> String {
        self.manifests.last().map(Manifest::signer).unwrap_or_default()
    }
}

pub(super) fn choose(
    source: &dyn Objects,
    asked: Asked<'_>,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Plan> {
    let listed = list(source)?;
    let instance = instance(source, &listed, asked)?;
    let mut choosing = Choosing { source, asked, proven: BTreeMap::new(), set_aside: Vec::new(), progress };
    let mut usable: Vec<Listed> = listed.clone();
    loop {
        let chains = chains(&usable, &instance);
        let Some(candidate) = pick(&chains, asked.wanted, &listed) else {
            return Err(choosing.nothing(&chains));
        };
        match choosing.prove(&candidate) {
            Ok((walk, manifests, segments)) => {
                let chain = Chain { full: candidate.full, segments };
                return choosing.plan(chain, walk, manifests, (&listed, &instance));
            }
            Err(Unusable::File { name, error }) => {
                usable.retain(|listed| listed.name != name);
                choosing.set_aside.push((name, error));
            }
            Err(Unusable::Stop(error)) => return Err(error),
        }
    }
}

/// Whose backups: of those at the source, the one asked for, else the only one.
fn instance(source: &dyn Objects, listed: &[Listed], asked: Asked<'_>) -> Result<String> {
    let headers = || listed.iter().filter_map(|listed| Some((listed, &listed.header.as_ref().ok()?.0)));
    if let Wanted::Backup(wanted) = asked.wanted {
        let named = listed.iter().rev().find(|listed| {
            listed.name == *wanted || listed.header.as_ref().is_ok_and(|(header, _)| header.id() == *wanted)
        });
        let named = named.ok_or_else(|| unknown(source, wanted))?;
        let (header, _) = named.header.clone().map_err(Error::Damaged)?;
        environment(&header.instance, listed, asked)?;
        return Ok(header.instance);
    }
    let mut all: Vec<&str> = headers().map(|(_, header)| header.instance.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    if all.len() > 1 {
        // What nobody believed has signed stands for no instance.
        let believed = |instance: &str| {
            headers().filter(|(_, header)| header.instance == instance).any(|(listed, header)| {
                manifest_at_end(header, listed.bytes, |from| read(source, &listed.name, from), asked.trust).is_ok()
            })
        };
        all.retain(|instance| believed(instance));
    }
    let instance = match (asked.instance, &all[..]) {
        (Some(instance), _) if all.contains(&instance) => instance,
        (None, [only]) => only,
        (None, [_, _, ..]) if asked.anchor.is_some_and(|anchor| all.contains(&&*anchor.instance)) => {
            asked.anchor.map_or("", |anchor| anchor.instance.as_str())
        }
        (None, [_, _, ..]) => {
            return Err(Error::Refused(Fault::new("backups.several_instances").with("instances", all.join(", "))));
        }
        _ => {
            let damaged = listed.iter().rev().find_map(|listed| listed.header.clone().err());
            return Err(damaged.map_or_else(|| none(source), Error::Damaged));
        }
    };
    environment(instance, listed, asked)?;
    Ok(instance.to_owned())
}

fn environment(instance: &str, listed: &[Listed], asked: Asked<'_>) -> Result<()> {
    let own = listed.iter().filter_map(|listed| Some(&listed.header.as_ref().ok()?.0));
    match own.filter(|header| header.instance == instance).find(|header| header.environment != asked.environment) {
        None => Ok(()),
        Some(header) => {
            let fault = Fault::new("backups.environment").with("found", header.environment);
            Err(Error::Refused(fault.with("wanted", asked.environment)))
        }
    }
}

/// The full backup to begin with, and the segments that may be needed.
fn pick(chains: &[Chain], wanted: &Wanted, listed: &[Listed]) -> Option<Chain> {
    let lineage = |chain: &Chain| chain.full.header.lineage;
    let start = |chain: &Chain| chain.full.header.upto;
    match wanted {
        Wanted::Latest => chains.iter().max_by_key(|chain| (lineage(chain), chain.upto(), start(chain))).cloned(),
        Wanted::Sequence(sequence) => reaching(chains, |_| true, *sequence),
        Wanted::At(time) => {
            let before = chains.iter().filter(|chain| chain.full.header.created <= *time);
            before.max_by_key(|chain| (lineage(chain), chain.until().min(*time), start(chain))).cloned()
        }
        Wanted::Backup(wanted) => {
            let named = listed.iter().rev().find_map(|listed| {
                let (header, _) = listed.header.as_ref().ok()?;
                (listed.name == *wanted || header.id() == *wanted).then_some(header)
            })?;
            match named.kind {
                Kind::Full => {
                    let chain = chains.iter().find(|chain| chain.full.header.backup == named.backup)?;
                    Some(Chain { full: chain.full.clone(), segments: Vec::new() })
                }
                Kind::Segment => reaching(chains, |chain| lineage(chain) == named.lineage, named.upto),
            }
        }
    }
}

/// Of those that begin at or before a change and come to it, the newest, as far as it is needed.
fn reaching(chains: &[Chain], among: impl Fn(&Chain) -> bool, sequence: Sequence) -> Option<Chain> {
    let reach = |chain: &&Chain| chain.full.header.upto <= sequence && sequence <= chain.upto() && among(chain);
    let chain = chains.iter().filter(reach).max_by_key(|chain| (chain.full.header.lineage, chain.full.header.upto))?;
    let mut needed = chain.clone();
    let mut at = chain.full.header.upto;
    needed.segments.retain(|link| {
        let before = at < sequence;
        at = link.header.upto;
        before
    });
    Some(needed)
}

struct Choosing<'c, 'p> {
    source: &'c dyn Objects,
    asked: Asked<'c>,
    /// Fulls are read once, however many chains are tried.
    proven: BTreeMap<String, Manifest>,
    set_aside: Vec<(String, Error)>,
    progress: &'p mut dyn FnMut(Progress) -> Result<()>,
}

enum Unusable {
    /// This file is no good; others may be.
    File {
        name: String,
        error: Error,
    },
    Stop(Error),
}

type Found = (Walk, Vec<Manifest>, Vec<Link>);

impl Choosing<'_, '_> {
    /// Reads the files of a chain whole, until the point is passed.
    fn prove(&mut self, chain: &Chain) -> std::result::Result<Found, Unusable> {
        let total = chain.segments.iter().map(|link| link.bytes).sum::<u64>() + chain.full.bytes;
        let manifest = match self.proven.get(&chain.full.name) {
            Some(manifest) => manifest.clone(),
            None => self.full(&chain.full, total).map_err(|error| unusable(&chain.full, error))?,
        };
        self.proven.insert(chain.full.name.clone(), manifest.clone());
        let (mut walk, mut manifests, mut segments) = (Walk::new(&chain.full), vec![manifest], Vec::new());
        let mut done = chain.full.bytes;
        for link in &chain.segments {
            let manifest = walk.segment(self.source, link, self.asked).map_err(|error| match error {
                // That a transaction would be cut is no fault of the file's.
                Error::Refused(fault) if fault.key == "backups.within" => Unusable::Stop(Error::Refused(fault)),
                error => unusable(link, error),
            })?;
            done += link.bytes;
            (self.progress)(Progress { stage: Stage::Proving, done, total }).map_err(Unusable::Stop)?;
            if walk.point.sequence > segments.last().map_or(chain.full.header.upto, |last: &Link| last.header.upto) {
                segments.push(link.clone());
                manifests.push(manifest);
            }
            if walk.passed {
                break;
            }
        }
        Ok((walk, manifests, segments))
    }

    /// Every byte against the signature, and whether it can be opened at all.
    fn full(&mut self, link: &Link, total: u64) -> Result<Manifest> {
        super::unsealed(self.source, &link.name, self.asked.identity)?;
        let input = Counted { input: read(self.source, &link.name, 0)?, done: 0, total, progress: &mut *self.progress };
        let manifest = Backup::open(BufReader::with_capacity(256 * 1024, input))?.check(self.asked.trust)?;
        (self.progress)(Progress { stage: Stage::Proving, done: link.bytes, total })?;
        Ok(manifest)
    }

    /// Why nothing can be restored: what is wrong with the file that would have served, else what there is.
    fn nothing(&mut self, chains: &[Chain]) -> Error {
        if !self.set_aside.is_empty() {
            return self.set_aside.swap_remove(0).1;
        }
        let first = chains.iter().min_by_key(|chain| chain.full.header.created);
        let last = chains.iter().max_by_key(|chain| (chain.full.header.lineage, chain.upto()));
        let (Some(first), Some(last)) = (first, last) else {
            return Error::NotFound(Fault::new("backups.no_full").with("place", self.source.place()));
        };
        let fault = Fault::new("backups.unreached")
            .with("first", first.full.header.upto.0)
            .with("from", first.full.header.created.rfc3339())
            .with("last", last.upto().0)
            .with("until", last.until().rfc3339());
        Error::NotFound(fault)
    }

    fn plan(
        self,
        chain: Chain,
        walk: Walk,
        manifests: Vec<Manifest>,
        (listed, instance): (&[Listed], &str),
    ) -> Result<Plan> {
        let Walk { point, passed } = walk;
        let own: Vec<Link> = listed.iter().filter_map(|listed| Link::of(listed, instance)).collect();
        let end = |link: &&Link| (link.header.lineage, link.header.upto, Reverse(link.header.created));
        let farthest = own.iter().max_by_key(end).map(|link| Beyond {
            lineage: link.header.lineage,
            sequence: link.header.upto,
            time: link.header.created,
        });
        let beyond = farthest.filter(|end| (end.lineage, end.sequence) > (point.lineage, point.sequence));
        let exact = passed || matches!(self.asked.wanted, Wanted::Sequence(_) | Wanted::Backup(_));
        let anchored = self.anchored(&chain, point, &manifests, &own)?;
        let older = match beyond.filter(|_| !exact) {
            Some(end) => Some(
                Fault::new("backups.older")
                    .with("sequence", point.sequence.0)
                    .with("time", point.time.rfc3339())
                    .with("newest", end.sequence.0)
                    .with("until", end.time.rfc3339()),
            ),
            None => anchored.or_else(|| unreadable(listed, &chain).filter(|_| !exact)),
        };
        let mut notes: Vec<Fault> = self.set_aside.iter().map(|(name, error)| set_aside(name, error)).collect();
        notes.extend(chain_files(&chain).filter_map(renamed));
        notes.extend(self.predecessors(&chain, &own));
        if let Wanted::At(time) = self.asked.wanted
            && !passed
            && beyond.is_none()
        {
            let until = chain.until().rfc3339();
            notes.push(Fault::new("backups.nothing_later").with("time", time.rfc3339()).with("until", until));
        }
        let newest = own.iter().max_by_key(|link| link.header.lineage);
        let (newest_lineage, newest_name) =
            newest.map(|link| (link.header.lineage, link.name.clone())).unwrap_or_default();
        let Chain { full, segments } = chain;
        Ok(Plan { full, segments, point, manifests, beyond, newest_lineage, newest_name, older, notes })
    }

    /// Why this is older than the newest backup a living instance tells of.
    fn anchored(&self, chain: &Chain, point: Point, manifests: &[Manifest], own: &[Link]) -> Result<Option<Fault>> {
        let instance = &chain.full.header.instance;
        let Some(anchor) = self.asked.anchor.filter(|anchor| anchor.instance == *instance) else { return Ok(None) };
        let own_id = |link: &&Link| link.header.id() == anchor.backup;
        if let Some((link, _)) = chain_files(chain)
            .zip(manifests)
            .find(|(link, manifest)| own_id(link) && hex::encode(manifest.hash()) != anchor.manifest)
        {
            return Err(Error::Damaged(Fault::new("backups.anchor").with("name", &link.name)));
        }
        let anchored = own.iter().find(own_id).map(|link| (link.header.lineage, link.header.upto));
        let behind = match anchored {
            Some(anchored) => (point.lineage, point.sequence) < anchored,
            None => point.sequence < anchor.sequence,
        };
        let fault = Fault::new("backups.older_anchored").with("sequence", point.sequence.0);
        let fault = fault.with("time", point.time.rfc3339()).with("backup", &anchor.backup);
        Ok(behind.then(|| fault.with("newest", anchor.sequence.0)))
    }

    /// Each segment names the manifest of the backup it goes on from: where such a one is there, they must agree.
    fn predecessors(&self, chain: &Chain, own: &[Link]) -> Vec<Fault> {
        let hash = |link: &Link| match self.proven.get(&link.name) {
            Some(manifest) => Ok(manifest.hash()),
            None => {
                let end = |from| read(self.source, &link.name, from);
                let manifest = manifest_at_end(&link.header, link.bytes, end, self.asked.trust);
                manifest.map(|manifest| manifest.hash())
            }
        };
        let mut notes = Vec::new();
        for link in &chain.segments {
            let ends =
                |other: &&Link| other.header.upto == link.header.after && other.header.lineage == link.header.lineage;
            // A full one may have been made between two segments, of the same end.
            let before: Vec<_> = own.iter().filter(ends).filter_map(|other| Some((other, hash(other).ok()?))).collect();
            let agree = before.iter().any(|(_, hash)| *hash == link.header.previous);
            if let Some((other, _)) = before.first().filter(|_| !agree) {
                notes.push(Fault::new("backups.predecessor").with("name", &link.name).with("before", &other.name));
            }
        }
        notes
    }
}

fn chain_files(chain: &Chain) -> impl Iterator<Item = &Link> {
    std::iter::once(&chain.full).chain(&chain.segments)
}

fn unusable(link: &Link, error: Error) -> Unusable {
    match error {
        Error::Damaged(_) | Error::Refused(_) | Error::NotFound(_) | Error::Internal(_) => {
            Unusable::File { name: link.name.clone(), error }
        }
        other => Unusable::Stop(other),
    }
}

fn set_aside(name: &str, error: &Error) -> Fault {
    Fault::new(SET_ASIDE).with("name", name).with("why", error)
}

/// A copy under another name says nothing wrong: what counts is its header.
fn renamed(link: &Link) -> Option<Fault> {
    let own = create::name(&link.header);
    (own != link.name).then(|| Fault::new("backups.renamed").with("name", &link.name).with("own", own))
}

/// A backup whose header cannot be read, newer by its name than what is restored.
fn unreadable(listed: &[Listed], chain: &Chain) -> Option<Fault> {
    let last = chain.segments.last().unwrap_or(&chain.full);
    let ours = create::time(last.header.created);
    let newer = |name: &str| {
        let time = name.get(..ours.len()).filter(|time| *time >= ours.as_str());
        time.is_some_and(|time| time.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z')))
    };
    listed.iter().rev().find_map(|listed| {
        let fault = listed.header.as_ref().err().filter(|_| newer(&listed.name))?;
        Some(Fault::new(NEWER_UNREADABLE).with("name", &listed.name).with("why", fault))
    })
}

/// Tells how far the reading is.
struct Counted<'p, R> {
    input: R,
    done: u64,
    total: u64,
    progress: &'p mut dyn FnMut(Progress) -> Result<()>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(out)?;
        self.done += length as u64;
        (self.progress)(Progress { stage: Stage::Proving, done: self.done, total: self.total })
            .map_err(io::Error::other)?;
        Ok(length)
    }
}
