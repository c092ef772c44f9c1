//! Backups under other locks: the key slots made anew for those who are recipients now, all else byte for byte. Who is
//! no longer among them cannot open what lies here; whoever copied a file before still can.

use super::{
    Listed,
    file::{Backup, Manifest},
    list, open,
    recipients::{Identity, Recipient, fewest},
};
use crate::{
    base::{environment::Environment, fault::Fault},
    ports::{self, objects::Objects},
    services::{Error, Result},
};
use std::io::{BufReader, BufWriter, Read};

const BUFFER: usize = 256 * 1024;

/// What became of one backup.
#[derive(Debug)]
pub struct Rewrapped {
    pub name: String,
    /// Whether its slots were made anew; `false`: they were these recipients' already. Or why it is as it was.
    pub done: std::result::Result<bool, Error>,
}

/// Gives every backup at a target these recipients and no others, one after the other; where one cannot be, it stays
/// and the next is tried. With `dry`, everything is checked and nothing written. `told` hears of the bytes gone through.
pub fn rewrap(
    target: &dyn Objects,
    identity: &Identity,
    recipients: &[Recipient],
    dry: bool,
    told: &mut dyn FnMut(u64),
) -> Result<Vec<Rewrapped>> {
    let mut all = Vec::new();
    for listed in list(target)? {
        let done = one(target, &listed, identity, recipients, dry);
        told(listed.bytes);
        match done {
            // The target itself: the others would fare no better.
            Err(error @ (Error::Full | Error::Unavailable(_))) => return Err(error),
            done => all.push(Rewrapped { name: listed.name, done }),
        }
    }
    Ok(all)
}

fn one(
    target: &dyn Objects,
    listed: &Listed,
    identity: &Identity,
    recipients: &[Recipient],
    dry: bool,
) -> Result<bool> {
    let backup = open(target, &listed.name)?;
    enough(recipients, backup.header().environment)?;
    if same(&backup, recipients) {
        return Ok(false);
    }
    let key = backup.file_key(identity)?;
    let manifest = backup.check(identity.trust())?;
    if dry {
        return Ok(true);
    }
    let upload = target.put_over(&listed.name)?;
    let mut out = BufWriter::with_capacity(BUFFER, upload);
    open(target, &listed.name)?.rewrap(&key, recipients, &mut out)?;
    let mut upload = out.into_inner().map_err(|error| ports::Error::from(error.into_error()))?;
    let copy = upload.reread()?.ok_or_else(|| Error::Refused(Fault::new("objects.write_once").at(target.place())))?;
    check(Backup::open(BufReader::with_capacity(BUFFER, copy))?, recipients, &manifest, identity)?;
    upload.publish()?;
    Ok(true)
}

/// The copy is whole, says the same, and is for these alone.
fn check(copy: Backup<impl Read>, recipients: &[Recipient], manifest: &Manifest, identity: &Identity) -> Result<()> {
    let same_slots = same(&copy, recipients);
    if same_slots && copy.check(identity.trust())? == *manifest {
        return Ok(());
    }
    Err(Error::Damaged(Fault::new("backups.mismatch")))
}

fn same<R: Read>(backup: &Backup<R>, recipients: &[Recipient]) -> bool {
    let sorted = |mut ids: Vec<[u8; 16]>| {
        ids.sort_unstable();
        ids
    };
    sorted(backup.recipients()) == sorted(recipients.iter().map(Recipient::id).collect())
}

fn enough(recipients: &[Recipient], environment: Environment) -> Result<()> {
    let (found, least) = (recipients.len(), fewest(environment));
    if found >= least {
        return Ok(());
    }
    let fault = Fault::new("backups.recipients").with("least", least).with("found", found);
    Err(Error::Refused(fault.with("environment", environment)))
}
