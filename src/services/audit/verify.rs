//! An export or a proof checked with the public key alone, line after line: what is wrong with it, and from which entry on.

use super::{entry::Entry, export::FORMAT};
use crate::{
    base::fault::Fault,
    domain::{
        checkpoint::{Note, Signer},
        merkle::{Edge, Hash, TILE, leaf, verify_inclusion},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

/// Findings that are told; the others are counted.
const MOST: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Its bytes are not those that were signed.
    Edited,
    /// It is not there, and no pruning was signed.
    Missing,
    /// It stands elsewhere, or twice.
    Misplaced,
    /// It and all that follow are not there.
    Truncated,
    /// Two signed histories differ from it on.
    Forked,
    /// A checkpoint nobody known signed.
    Unsigned,
    /// No line of an export.
    Unreadable,
}

/// A finding: the entry, or the first of those among which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub index: u64,
    /// Past the last of them, where one cannot tell which.
    pub until: Option<u64>,
    pub kind: Kind,
}

/// A checkpoint of before a restore: entries from `from` on that it covers are not in this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub from: u64,
    pub lost: u64,
    pub lineage: u64,
}

/// What a check came to. Sound: nothing is wrong.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub origin: String,
    pub size: u64,
    pub entries: u64,
    pub pruned: u64,
    pub checkpoints: u64,
    pub root: String,
    /// Who signed the newest checkpoint.
    pub signer: Option<String>,
    /// By a key that was given, not by what the export itself says.
    pub vouched: bool,
    /// In the order of the entries.
    pub wrong: Vec<Wrong>,
    pub restored: Vec<Restored>,
    /// Findings past those told.
    pub more: u64,
}

impl Wrong {
    pub fn fault(&self) -> Fault {
        let key = match (self.kind, self.until) {
            (Kind::Edited, None) => "audit.edited",
            (Kind::Edited, Some(_)) => "audit.edited_among",
            (Kind::Missing, _) => "audit.missing",
            (Kind::Misplaced, _) => "audit.misplaced",
            (Kind::Truncated, _) => "audit.truncated",
            (Kind::Forked, _) => "audit.forked",
            (Kind::Unsigned, _) => "audit.unsigned",
            (Kind::Unreadable, _) => "audit.unreadable",
        };
        Fault::new(key).with("index", self.index).with("until", self.until.unwrap_or(self.index + 1))
    }
}

/// What each line says it is, by how it begins.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Line {
    Header { audit: u64, keys: Vec<String>, size: u64, checkpoint: String },
    Tile { tile: u64, hashes: String },
    Pruned { pruned: Gap },
    Checkpoint { checkpoint: String },
    End { end: u64 },
}

#[derive(serde::Deserialize)]
struct Gap {
    from: u64,
    to: u64,
}

/// A checkpoint whose root is not the tree's.
struct Disputed {
    after: u64,
    size: u64,
}

/// A lineage's first entry: where it stands and what it says to continue.
struct Epoch {
    index: u64,
    lineage: u64,
}

/// Fed line by line, in order.
pub struct Verifier {
    /// Given beforehand: the newest checkpoint must be signed by one of them.
    keys: Vec<Signer>,
    /// Checkpoints from elsewhere that this log must contain, by size.
    against: Vec<Note>,
    known: Vec<Signer>,
    newest: Option<Note>,
    edge: Edge,
    tile: Vec<Hash>,
    /// The tree up to here has a signed root.
    proven: u64,
    /// The same, by a checkpoint from elsewhere.
    agreed: u64,
    disputed: Vec<Disputed>,
    pruned: Vec<(u64, u64)>,
    /// Entries before it may be gone.
    prunable: u64,
    epochs: Vec<Epoch>,
    /// The first entry that was not in its place; from there on it is only looked for.
    lost: Option<u64>,
    found: bool,
    last_line: bool,
    verdict: Verdict,
}

impl Verifier {
    pub fn new(keys: Vec<Signer>, mut against: Vec<Note>) -> Self {
        // One of the empty tree says nothing.
        against.retain(|note| note.checkpoint.size > 0);
        against.sort_by_key(|note| note.checkpoint.size);
        Self {
            keys,
            against,
            known: Vec::new(),
            newest: None,
            edge: Edge::default(),
            tile: Vec::new(),
            proven: 0,
            agreed: 0,
            disputed: Vec::new(),
            pruned: Vec::new(),
            prunable: 0,
            epochs: Vec::new(),
            lost: None,
            found: false,
            last_line: false,
            verdict: Verdict::default(),
        }
    }

    /// How many entries were read, and how many the export says it has.
    pub fn progress(&self) -> (u64, u64) {
        (self.edge.size(), self.newest.as_ref().map_or(0, |note| note.checkpoint.size))
    }

    /// The next line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        match index(line) {
            Some(index) => self.entry(index, line),
            None => match serde_json::from_slice(line) {
                Ok(line) => self.other(line),
                Err(_) => self.wrong(self.edge.size(), None, Kind::Unreadable),
            },
        }
    }

    fn wrong(&mut self, index: u64, until: Option<u64>, kind: Kind) {
        if self.verdict.wrong.len() < MOST {
            self.verdict.wrong.push(Wrong { index, until, kind });
        } else {
            self.verdict.more += 1;
        }
    }

    fn entry(&mut self, index: u64, line: &[u8]) {
        let next = self.edge.size();
        if let Some(lost) = self.lost {
            self.found |= index == lost;
            return;
        }
        if index < next {
            self.wrong(index, None, Kind::Misplaced);
            return;
        }
        if index > next {
            self.lost = Some(next);
            return;
        }
        let hash = leaf(line);
        // Told with the tile before it: what the tree goes on with, so that one edit does not hide another.
        let told = self.tile.get((next % TILE as u64) as usize).copied();
        if told.is_some_and(|told| told != hash) {
            self.wrong(index, None, Kind::Edited);
        } else {
            self.own(line);
        }
        self.verdict.entries += 1;
        self.append(told.unwrap_or(hash));
    }

    /// What the log says of itself.
    fn own(&mut self, line: &[u8]) {
        let text = std::str::from_utf8(line).ok().filter(|text| text.contains("\"action\":\"audit."));
        let Some(entry) = text.and_then(Entry::parse) else { return };
        let details = entry.details.unwrap_or_default();
        let number = |details: &Map<String, Value>, name: &str| details.get(name).and_then(Value::as_u64);
        match entry.action.as_str() {
            "audit.epoch" => {
                let lineage = number(&details, "lineage").unwrap_or_default();
                self.epochs.push(Epoch { index: entry.index, lineage });
                if let Some(Value::Object(continues)) = details.get("continues") {
                    let root = continues.get("root").and_then(Value::as_str).unwrap_or_default();
                    let same = number(continues, "size") == Some(entry.index) && root == hex::encode(self.edge.root());
                    if !same {
                        self.wrong(entry.index, None, Kind::Forked);
                    }
                }
            }
            "audit.prune" => self.prunable = self.prunable.max(number(&details, "before").unwrap_or_default()),
            _ => {}
        }
    }

    fn append(&mut self, hash: Hash) {
        self.edge.append(hash, |_| ());
        let size = self.edge.size();
        if size.is_multiple_of(TILE as u64) {
            self.tile.clear();
        }
        while self.against.first().is_some_and(|note| note.checkpoint.size <= size) {
            let note = self.against.remove(0);
            self.hold_against(&note);
        }
    }

    /// A checkpoint from elsewhere, of a tree this one should continue and has just reached.
    fn hold_against(&mut self, note: &Note) {
        let size = note.checkpoint.size;
        if !self.trusted(note) {
            self.wrong(size, None, Kind::Unsigned);
        } else if !self.restored_over(note) {
            match note.checkpoint.root == self.edge.root() {
                true => self.agreed = size,
                false => self.wrong(self.agreed, Some(size), Kind::Forked),
            }
        }
    }

    /// Whether a restore explains that the checkpoint's entries are not all here.
    fn restored_over(&mut self, note: &Note) -> bool {
        let Some(lineage) = lineage(note) else { return false };
        let next = self.epochs.iter().find(|epoch| epoch.lineage > lineage && epoch.index < note.checkpoint.size);
        let Some(epoch) = next else { return false };
        let (from, lost) = (epoch.index, note.checkpoint.size - epoch.index);
        self.verdict.restored.push(Restored { from, lost, lineage });
        true
    }

    fn trusted(&self, note: &Note) -> bool {
        let keys = if self.keys.is_empty() { &self.known } else { &self.keys };
        note.signed_by(keys).is_some() || note.signed_by(&self.known).is_some()
    }

    fn other(&mut self, line: Line) {
        let next = self.edge.size();
        match line {
            Line::Header { audit, keys, size, checkpoint } if self.newest.is_none() => {
                self.known = keys.iter().filter_map(|key| key.parse().ok()).collect();
                match checkpoint.parse::<Note>() {
                    Ok(note) if audit == FORMAT && note.checkpoint.size == size => self.begin(note),
                    _ => self.wrong(0, None, Kind::Unreadable),
                }
            }
            _ if self.lost.is_some() => {}
            Line::Tile { tile, hashes } => match STANDARD.decode(hashes) {
                Ok(bytes) if tile * TILE as u64 == next => self.tile = super::entry::hashes(&bytes),
                Ok(_) => self.lost = Some(next),
                Err(_) => self.wrong(next, None, Kind::Unreadable),
            },
            Line::Pruned { pruned: Gap { from, to } } => self.gap(from, to),
            Line::Checkpoint { checkpoint } => match checkpoint.parse::<Note>() {
                Ok(note) => self.checkpoint(&note),
                Err(()) => self.wrong(next, None, Kind::Unsigned),
            },
            Line::End { end } => self.last_line = end == next,
            Line::Header { .. } => self.wrong(next, None, Kind::Unreadable),
        }
    }

    fn begin(&mut self, note: Note) {
        let signer = note.signed_by(&self.keys);
        self.verdict.vouched = signer.is_some();
        let signer = signer.or_else(|| note.signed_by(&self.known)).map(ToString::to_string);
        if signer.is_none() || !self.keys.is_empty() && !self.verdict.vouched {
            self.wrong(note.checkpoint.size, None, Kind::Unsigned);
        }
        self.verdict.signer = signer;
        self.newest = Some(note);
    }

    /// Entries that are told to be pruned: their hashes must be, and in the end a signed pruning that covers them.
    fn gap(&mut self, from: u64, to: u64) {
        let next = self.edge.size();
        let first = (next % TILE as u64) as usize;
        let count = to.saturating_sub(from).min(TILE as u64) as usize;
        let hashes = self.tile.get(first..first + count).map(<[Hash]>::to_vec);
        let Some(hashes) = hashes.filter(|_| from == next && to > from && to - from <= TILE as u64) else {
            self.lost = Some(next);
            return;
        };
        self.pruned.push((from, to));
        self.verdict.pruned += to - from;
        hashes.into_iter().for_each(|hash| self.append(hash));
    }

    fn checkpoint(&mut self, note: &Note) {
        self.verdict.checkpoints += 1;
        let (next, size) = (self.edge.size(), note.checkpoint.size);
        if note.signed_by(&self.known).is_none() {
            self.wrong(size, None, Kind::Unsigned);
        } else if size > next {
            self.lost = Some(next);
        } else if size < next {
            self.wrong(size, None, Kind::Misplaced);
        } else {
            self.hold(note);
        }
    }

    /// A signed checkpoint of this very size.
    fn hold(&mut self, note: &Note) {
        let size = note.checkpoint.size;
        if note.checkpoint.root == self.edge.root() {
            // What was disputed is of another history, for this one is signed beyond it.
            for Disputed { after, size } in std::mem::take(&mut self.disputed) {
                self.wrong(after, Some(size), Kind::Forked);
            }
            self.proven = size;
        } else {
            self.disputed.push(Disputed { after: self.proven, size });
        }
    }

    pub fn finish(mut self) -> Verdict {
        let next = self.edge.size();
        if let Some(lost) = self.lost {
            self.wrong(lost, None, if self.found { Kind::Misplaced } else { Kind::Missing });
        }
        match self.newest.take() {
            None => self.wrong(0, None, Kind::Unreadable),
            Some(note) => {
                self.verdict.origin = note.checkpoint.origin.clone();
                let size = note.checkpoint.size;
                match self.lost {
                    Some(_) => {}
                    None if next < size || !self.last_line => self.wrong(next, None, Kind::Truncated),
                    None if next > size => self.wrong(size, Some(next), Kind::Unsigned),
                    None => self.hold(&note),
                }
            }
        }
        if let Some(Disputed { after, size }) = self.disputed.first() {
            // Where an entry of these was found edited, that is why.
            let (after, size) = (*after, *size);
            if !self.verdict.wrong.iter().any(|wrong| (after..size).contains(&wrong.index)) {
                self.wrong(after, Some(size), Kind::Edited);
            }
        }
        for (from, to) in std::mem::take(&mut self.pruned) {
            if to > self.prunable {
                self.wrong(from.max(self.prunable), None, Kind::Missing);
            }
        }
        for note in std::mem::take(&mut self.against) {
            if !self.trusted(&note) {
                self.wrong(note.checkpoint.size, None, Kind::Unsigned);
            } else if !self.restored_over(&note) && self.lost.is_none() {
                self.wrong(next, None, Kind::Truncated);
            }
        }
        self.verdict.size = next;
        self.verdict.root = hex::encode(self.edge.root());
        self.verdict.wrong.sort_by_key(|wrong| wrong.index);
        self.verdict
    }
}

/// The lineage at the end of an origin.
fn lineage(note: &Note) -> Option<u64> {
    note.checkpoint.origin.rsplit('/').next()?.parse().ok()
}

/// The index an entry's line begins with; `None`: another line.
fn index(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"index\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// A proof as `audit prove` writes it, checked alone.
pub fn verify_proof(document: &Value, keys: &[Signer]) -> Option<Verdict> {
    let proof = document.get("proof")?;
    let (index, size) = (proof.get("index")?.as_u64()?, proof.get("size")?.as_u64()?);
    let entry = proof.get("entry")?.as_str()?;
    let note: Note = proof.get("checkpoint")?.as_str()?.parse().ok()?;
    let known: Vec<Signer> =
        proof.get("keys")?.as_array()?.iter().filter_map(|key| key.as_str()?.parse().ok()).collect();
    let hashes = proof.get("hashes")?.as_array()?.iter().map(|hash| {
        let hash = STANDARD.decode(hash.as_str()?).ok()?;
        Hash::try_from(hash).ok()
    });
    let hashes = hashes.collect::<Option<Vec<_>>>()?;
    let mut verdict = Verdict { origin: note.checkpoint.origin.clone(), size, entries: 1, ..Verdict::default() };
    verdict.root = hex::encode(note.checkpoint.root);
    let vouched = note.signed_by(keys);
    verdict.vouched = vouched.is_some();
    verdict.signer = vouched.or_else(|| note.signed_by(&known)).map(ToString::to_string);
    if verdict.signer.is_none() || !keys.is_empty() && !verdict.vouched {
        verdict.wrong.push(Wrong { index, until: None, kind: Kind::Unsigned });
    }
    let whole = note.checkpoint.size == size && self::index(entry.as_bytes()) == Some(index);
    if !whole || !verify_inclusion(index, size, &leaf(entry.as_bytes()), &hashes, &note.checkpoint.root) {
        verdict.wrong.push(Wrong { index, until: None, kind: Kind::Edited });
    }
    Some(verdict)
}
