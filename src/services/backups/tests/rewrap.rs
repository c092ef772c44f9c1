//! Backups under other locks: who opens them after, what is refused, and what a damaged or full target leaves.

use super::*;
use crate::services::backups::{Rewrapped, rewrap};

fn rewrapped(instance: &Instance, by: &Identity, recipients: &[Recipient], dry: bool) -> Vec<Rewrapped> {
    let all: u64 = list(&instance.folder).unwrap().iter().map(|listed| listed.bytes).sum();
    let mut gone = 0;
    let done = rewrap(&instance.folder, by, recipients, dry, &mut |bytes| gone += bytes).unwrap();
    assert_eq!(gone, all, "not every byte was told");
    done
}

fn opens(instance: &Instance, name: &str, identity: &Identity) -> bool {
    verify_open(&instance.folder, name, identity, Trust::Signers(&signers(&instance.keyring))).is_ok()
}

#[test]
fn only_those_named_open_what_was_rewrapped() {
    let instance = instance(Environment::Production);
    let names = [instance.back_up(&memory(50), 0).unwrap().name, instance.back_up(&memory(60), 1000).unwrap().name];
    let read = |name: &String| std::fs::read(instance.place.path().join(name)).unwrap();
    let before = names.each_ref().map(read);
    let [new, escrow] = [(); 2].map(|()| Identity::generate(signers(&instance.keyring)));
    let recipients = [new.recipient().clone(), escrow.recipient().clone()];

    let dry = rewrapped(&instance, &instance.identity, &recipients, true);
    assert!(dry.iter().all(|one| matches!(one.done, Ok(true))) && names.each_ref().map(read) == before);
    // Production wants two; who cannot open it cannot pass it on.
    let few = rewrapped(&instance, &instance.identity, &recipients[..1], false);
    let key = |one: &Rewrapped| match &one.done {
        Err(Error::Refused(fault) | Error::Damaged(fault)) => fault.key,
        other => panic!("{other:?}"),
    };
    assert!(few.iter().all(|one| key(one) == "backups.recipients"));
    let stranger = rewrapped(&instance, &new, &recipients, false);
    assert!(stranger.iter().all(|one| key(one) == "backups.not_a_recipient"));
    assert!(names.each_ref().map(read) == before, "what was refused was written");

    let done = rewrapped(&instance, &instance.identity, &recipients, false);
    assert!(done.iter().all(|one| matches!(one.done, Ok(true))) && done.len() == 2);
    for (name, before) in names.iter().zip(&before) {
        assert!(!opens(&instance, name, &instance.identity), "a retired key still opens it");
        assert!(opens(&instance, name, &new) && opens(&instance, name, &escrow));
        let after = read(name);
        // The same number of slots: header, body and manifest have not moved.
        let slots = 4 + 2 + 2 * 100 + 32;
        let header = u32::from_be_bytes(before[20..24].try_into().unwrap()) as usize;
        assert!(after.len() == before.len() && after[..header] == before[..header]);
        assert!(after[header..header + slots] != before[header..header + slots]);
        assert!(after[header + slots..] == before[header + slots..]);
    }
    // Nothing is left to do, by whomever.
    let again = rewrapped(&instance, &instance.identity, &recipients, false);
    assert!(again.iter().all(|one| matches!(one.done, Ok(false))));
    assert_eq!(instance.files(), 2);
}

#[test]
fn a_damaged_one_is_left_and_the_others_are_done() {
    let instance = instance(Environment::Staging);
    let (bad, good) = (instance.back_up(&memory(5), 0).unwrap().name, instance.back_up(&memory(6), 1000).unwrap().name);
    let path = instance.place.path().join(&bad);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let new = Identity::generate(signers(&instance.keyring));
    let done = rewrapped(&instance, &instance.identity, &[new.recipient().clone()], false);
    let outcome = |name: &str| &done.iter().find(|one| one.name == name).unwrap().done;
    assert!(matches!(outcome(&bad), Err(Error::Damaged(_))));
    assert!(matches!(outcome(&good), Ok(true)) && opens(&instance, &good, &new));
    assert!(std::fs::read(&path).unwrap() == bytes && instance.files() == 2);
    // Signed by another: kept from being passed on under a name that is believed.
    let doubting = Identity::from_file(&instance.identity.to_file().lines().take(4).collect::<Vec<_>>().join("\n"));
    let doubting = doubting.unwrap().believing(signers(&super::instance(Environment::Staging).keyring));
    let escrow = instance.recipients[0].clone();
    let first = instance.back_up(&memory(7), 2000).unwrap().name;
    let done = rewrapped(&instance, &doubting, &[escrow], false);
    let forged = done.iter().find(|one| one.name == first).unwrap();
    assert!(matches!(&forged.done, Err(Error::Damaged(fault)) if fault.key == "backups.signer"));
}

/// A target whose disk fills up, or that writes something else than it was given.
struct Bad<'a> {
    folder: &'a Folder,
    room: usize,
    flips: bool,
}

struct BadUpload {
    inner: Box<dyn ports::objects::Upload>,
    room: usize,
    flips: bool,
}

impl Objects for Bad<'_> {
    fn place(&self) -> String {
        self.folder.place()
    }
    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        self.folder.beneath(name)
    }
    fn put_new(&self, name: &str) -> ports::Result<Box<dyn ports::objects::Upload>> {
        self.folder.put_new(name)
    }
    fn put_over(&self, name: &str) -> ports::Result<Box<dyn ports::objects::Upload>> {
        let inner = self.folder.put_over(name)?;
        Ok(Box::new(BadUpload { inner, room: self.room, flips: self.flips }))
    }
    fn get(&self, name: &str, from: u64) -> ports::Result<Option<Box<dyn Read + Send>>> {
        self.folder.get(name, from)
    }
    fn list(&self) -> ports::Result<Vec<Object>> {
        self.folder.list()
    }
    fn size(&self, name: &str) -> ports::Result<Option<u64>> {
        self.folder.size(name)
    }
    fn delete(&self, name: &str) -> ports::Result<bool> {
        self.folder.delete(name)
    }
}

impl std::io::Write for BadUpload {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.room < bytes.len() {
            return Err(std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        self.room -= bytes.len();
        let mut bytes = bytes.to_vec();
        if self.flips
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        self.inner.write_all(&bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl ports::objects::Upload for BadUpload {
    fn reread(&mut self) -> ports::Result<Option<Box<dyn Read + Send>>> {
        self.inner.reread()
    }
    fn publish(self: Box<Self>) -> ports::Result<()> {
        self.inner.publish()
    }
}

#[test]
fn a_copy_that_is_not_whole_takes_nobodys_place() {
    let instance = instance(Environment::Staging);
    let name = instance.back_up(&memory(200), 0).unwrap().name;
    let before = std::fs::read(instance.place.path().join(&name)).unwrap();
    let new = Identity::generate(Vec::new());
    let run = |room, flips| {
        let bad = Bad { folder: &instance.folder, room, flips };
        rewrap(&bad, &instance.identity, &[new.recipient().clone()], false, &mut |_| ())
    };
    assert!(matches!(run(before.len() / 2, false), Err(Error::Full)));
    let flipped = run(usize::MAX, true).unwrap().remove(0);
    assert!(matches!(flipped.done, Err(Error::Damaged(_))));
    assert!(std::fs::read(instance.place.path().join(&name)).unwrap() == before && instance.files() == 1);
}
