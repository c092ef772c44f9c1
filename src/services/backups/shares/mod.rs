//! A recipient's private key in parts: any few of them, as many as the threshold says, give it back; fewer say nothing
//! of it. Shamir's construction over GF(256), byte by byte; `docs/backup-format.md` draws a share.

mod paper;
mod words;

pub use paper::{Paper, agreed};
pub use words::WORDS;

use super::recipients::{Identity, Recipient, decode, encode};
use crate::{
    base::{fault::Fault, random},
    services::{Error, Result},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, str::FromStr};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

const PREFIX: &str = "debrouille-share-1-";
const VERSION: u8 = 1;
/// Version, set, recipient, threshold, number, part.
const LENGTH: usize = 1 + 8 + 8 + 1 + 1 + 32;
const CHECKSUM: usize = 4;

/// One part of a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Share {
    /// Drawn for each split: parts of two are never mixed.
    set: [u8; 8],
    /// The beginning of [`Recipient::id`]: what comes back must be its key.
    recipient: [u8; 8],
    threshold: u8,
    number: u8,
    part: Zeroizing<[u8; 32]>,
}

/// The private key in so many parts, tried before they are handed out.
pub fn split(identity: &Identity, shares: u8, threshold: u8) -> Result<Vec<Share>> {
    let wrong = || {
        let fault = Fault::new("backups.share_numbers").with("shares", shares).with("threshold", threshold);
        Error::Invalid(fault)
    };
    if threshold < 2 || shares < threshold {
        return Err(wrong());
    }
    let private = identity.private_bytes().as_slice();
    let parts = Gf256::split_bytes(threshold.into(), shares.into(), private, random::Source).map_err(|_| wrong())?;
    let parts: Vec<_> = parts.into_iter().map(Zeroizing::new).collect();
    let set = random::array();
    let recipient = beginning(identity.recipient());
    let share = |part: &Zeroizing<Vec<u8>>| {
        let (number, part) = part.split_first()?;
        let part = Zeroizing::new(part.try_into().ok()?);
        Some(Share { set, recipient, threshold, number: *number, part })
    };
    let shares = parts.iter().map(share).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    // Nobody finds out later that they were no good.
    for some in shares.windows(threshold.into()) {
        combine(some)?;
    }
    Ok(shares)
}

/// The private key out of its parts; the same part twice counts once.
pub fn combine(shares: &[Share]) -> Result<Identity> {
    let refused = |fault| Err(Error::Refused(fault));
    let mut parts: BTreeMap<u8, &Share> = BTreeMap::new();
    for share in shares {
        if let Some(other) = parts.values().find(|other| !other.goes_with(share)) {
            let (one, two) = (other.set(), share.set());
            return refused(Fault::new("backups.shares_mixed").with("one", one).with("two", two));
        }
        if parts.insert(share.number, share).is_some_and(|other| other.part != share.part) {
            return refused(Fault::new("backups.shares_differ").with("number", share.number));
        }
    }
    let wanted = parts.values().next().map_or(2, |share| usize::from(share.threshold));
    if parts.len() < wanted {
        let few = Fault::new("backups.shares_few").with("found", parts.len()).with("wanted", wanted);
        return refused(few.with("missing", wanted - parts.len()));
    }
    let wrong = || Error::Damaged(Fault::new("backups.shares_wrong"));
    let used: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
        parts.values().take(wanted).map(|share| [&[share.number], share.part.as_slice()].concat()).collect(),
    );
    let private = Zeroizing::new(Gf256::combine_bytes(&*used).map_err(|_| wrong())?);
    let private: Zeroizing<[u8; 32]> = Zeroizing::new(private.as_slice().try_into().map_err(|_| wrong())?);
    let identity = Identity::new(&private, Vec::new()).ok_or_else(wrong)?;
    match parts.values().next() {
        Some(share) if share.recipient == beginning(identity.recipient()) => Ok(identity),
        _ => Err(wrong()),
    }
}

fn beginning(recipient: &Recipient) -> [u8; 8] {
    *recipient.id().first_chunk().expect("8 of 16 bytes")
}

impl Share {
    /// For people, to tell sets apart.
    pub fn set(&self) -> String {
        hex::encode(self.set)
    }

    pub fn number(&self) -> u8 {
        self.number
    }

    /// How many it takes.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    fn goes_with(&self, other: &Self) -> bool {
        (self.set, self.recipient, self.threshold) == (other.set, other.recipient, other.threshold)
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let head = [self.threshold, self.number];
        Zeroizing::new([&[VERSION][..], &self.set, &self.recipient, &head, self.part.as_slice()].concat())
    }

    fn of(bytes: &[u8; LENGTH]) -> Result<Self> {
        let damaged = || Error::Invalid(Fault::new("backups.share_text"));
        let mut rest = bytes.as_slice();
        let [version] = take(&mut rest).ok_or_else(damaged)?;
        if version != VERSION {
            return Err(Error::Refused(Fault::new("backups.share_newer").with("version", version)));
        }
        let mut read = || {
            let (set, recipient) = (take(&mut rest)?, take(&mut rest)?);
            let ([threshold], [number]) = (take(&mut rest)?, take(&mut rest)?);
            let part = Zeroizing::new(take(&mut rest)?);
            (threshold >= 2 && number >= 1).then_some(Self { set, recipient, threshold, number, part })
        };
        read().ok_or_else(damaged)
    }

    /// As the words spell it: its bytes, then a checksum like that of its text.
    fn spelt(&self) -> Zeroizing<Vec<u8>> {
        let bytes = self.bytes();
        let sum = Sha256::new().chain_update(PREFIX).chain_update(&*bytes).finalize();
        Zeroizing::new([&bytes, sum.get(..CHECKSUM).unwrap_or_default()].concat())
    }

    /// `None`: the checksum is another's.
    fn of_spelt(spelt: &[u8]) -> Option<Result<Self>> {
        let bytes: &[u8; LENGTH] = spelt.get(..LENGTH)?.try_into().ok()?;
        let sum = Sha256::new().chain_update(PREFIX).chain_update(bytes).finalize();
        (spelt.get(LENGTH..) == sum.get(..CHECKSUM)).then(|| Self::of(bytes))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Zeroizing::new(encode(PREFIX, &self.bytes())))
    }
}

impl FromStr for Share {
    type Err = Error;

    /// In capitals too: a QR code says it so.
    fn from_str(text: &str) -> Result<Self> {
        let text = Zeroizing::new(text.trim().to_ascii_lowercase());
        let bytes = decode(PREFIX, &text).ok_or_else(|| Error::Invalid(Fault::new("backups.share_text")))?;
        Self::of(&bytes)
    }
}

#[cfg(test)]
mod tests;
