//! The backup file: round trips, and every way to damage one.

use super::{slots, *};
use crate::{
    base::{clock::Timestamp, environment::Environment, random},
    ports::documents::Sequence,
    services::{
        backups::recipients::{Identity, Signer},
        keyring::{Key, Keyring, Purpose},
    },
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

struct Made {
    bytes: Vec<u8>,
    lines: Vec<Vec<u8>>,
    identity: Identity,
    signer: Signer,
    header: usize,
    slots: usize,
    /// Where each frame starts, and the manifest.
    frames: Vec<usize>,
}

fn pair() -> (Ed25519KeyPair, Signer) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&random::array::<32>()).unwrap();
    let signer = Signer::new(pair.public_key().as_ref()).unwrap();
    (pair, signer)
}

fn header() -> Header {
    Header {
        backup: random::array(),
        created: Timestamp(1_700_000_000_123),
        kind: Kind::Full,
        lineage: 3,
        after: Sequence(0),
        upto: Sequence(42),
        previous: [0; 32],
        salt: random::array(),
        commitment: [0; 32],
        environment: Environment::Staging,
        instance: "0198c0de-0000-7000-8000-000000000001".to_owned(),
    }
}

/// A file of about `size` bytes of body: lines that do not compress.
fn make(size: usize) -> Made {
    let identity = Identity::generate(Vec::new());
    let escrow = Identity::generate(Vec::new());
    let (pair, signer) = pair();
    let recipients = [escrow.recipient().clone(), identity.recipient().clone()];
    let mut writer = Writer::start(Vec::new(), header(), &FileKey::random(), &recipients).unwrap();
    let mut lines = Vec::new();
    let mut left = size;
    while left > 0 {
        let mut line = vec![0; left.min(1000)];
        random::fill(&mut line);
        left -= line.len();
        line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        writer.line(&line).unwrap();
        lines.push(line);
    }
    let bytes = writer.finish(7, 8, &Signing { pair, vouchers: Vec::new() }).unwrap().0;
    let header = u32::from_be_bytes(bytes[20..24].try_into().unwrap()) as usize;
    let slots = 4 + u32::from_be_bytes(bytes[header..header + 4].try_into().unwrap()) as usize;
    let mut frames = vec![header + slots];
    loop {
        let at = *frames.last().unwrap();
        let frame = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        frames.push(at + 4 + (frame & 0x7fff_ffff) as usize);
        if frame >> 31 == 1 {
            break;
        }
    }
    Made { bytes, lines, identity, signer, header, slots, frames }
}

fn check(bytes: &[u8], signer: &Signer) -> Result<Manifest> {
    Backup::open(bytes)?.check(Trust::Signers(std::slice::from_ref(signer)))
}

fn read(bytes: &[u8], identity: &Identity, signer: &Signer) -> Result<Vec<Vec<u8>>> {
    let mut content = Backup::open(bytes)?.unseal(identity)?;
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    while content.line(&mut line)? {
        lines.push(line.clone());
    }
    content.finish(7, 8, Trust::Signers(std::slice::from_ref(signer)))?;
    Ok(lines)
}

/// Neither with a private key nor without one is it taken for sound.
fn assert_refused(made: &Made, bytes: &[u8], what: &str) {
    let kind = |error: Error| match error {
        Error::Damaged(fault) | Error::Refused(fault) => fault.key,
        other => panic!("{what}: {other:?}"),
    };
    assert!(!kind(check(bytes, &made.signer).expect_err(what)).is_empty());
    assert!(!kind(read(bytes, &made.identity, &made.signer).expect_err(what)).is_empty());
}

/// Three full segments and a short one; damaged in many ways below.
static FILE: LazyLock<Made> = LazyLock::new(|| make(210_000));

#[test]
fn comes_back_as_it_was_whatever_its_size() {
    for size in [0, 1, 999, 65_000, 65_536, 131_072, 400_000] {
        let made = make(size);
        assert_eq!(read(&made.bytes, &made.identity, &made.signer).unwrap(), made.lines, "{size}");
        let manifest = check(&made.bytes, &made.signer).unwrap();
        assert_eq!((manifest.lines, manifest.documents, manifest.records), (made.lines.len() as u64, 7, 8));
        let size = made.bytes.len() as u64;
        let from_end = |header: &Header| {
            let trust = Trust::Signers(std::slice::from_ref(&made.signer));
            manifest_at_end(header, size, |from| Ok(&made.bytes[from as usize..]), trust)
        };
        let header = Backup::open(&*made.bytes).unwrap().header().clone();
        assert_eq!(from_end(&header).unwrap(), manifest);
        // Under a header that says otherwise it proves nothing.
        let other = Header { lineage: header.lineage + 1, ..header };
        assert!(matches!(from_end(&other), Err(Error::Damaged(fault)) if fault.key == "backups.mismatch"));
    }
    assert_eq!(FILE.frames.len(), 5, "the shape the other tests rely on");
}

#[test]
fn exact_segments_end_with_a_full_one() {
    let keys = [7; 39];
    for (size, frames) in [(0_usize, 1), (1, 1), (65_535, 1), (65_536, 1), (65_537, 2), (131_072, 2), (131_073, 3)] {
        let mut sealer = stream::Sealer::new(Vec::new(), &keys);
        io::Write::write_all(&mut sealer, &vec![5; size]).unwrap();
        let (bytes, sum) = sealer.finish().unwrap();
        assert_eq!((sum.bytes as usize, bytes.len()), (bytes.len(), size + frames * 20), "{size}");
        let mut opener = stream::Opener::new(&bytes[..], &keys);
        let mut back = Vec::new();
        opener.read_to_end(&mut back).unwrap();
        assert_eq!(back, vec![5; size]);
        assert_eq!(opener.into_frames().finish().unwrap().1, sum);
    }
}

#[test]
fn cutting_reordering_repeating_and_appending_fail() {
    let made = &*FILE;
    let bytes = &made.bytes;
    let part = |from: usize, to: usize| &bytes[made.frames[from]..made.frames[to]];
    let head = &bytes[..made.frames[0]];
    let tail = &bytes[made.frames[4]..];
    let build = |parts: &[&[u8]]| [&[head], parts, &[tail]].concat().concat();
    assert_eq!(build(&[part(0, 4)]), *bytes);
    // Noticed at the segment itself, long before the manifest.
    let at_segment = |parts: &[&[u8]], segment: &str, what: &str| {
        let bytes = build(parts);
        assert_refused(made, &bytes, what);
        let Err(Error::Damaged(fault)) = read(&bytes, &made.identity, &made.signer) else { panic!("{what}") };
        assert_eq!((fault.key, fault.params[0].1.as_str()), ("backups.segment", segment), "{what}");
    };
    at_segment(&[part(1, 2), part(0, 1), part(2, 4)], "1", "two segments swapped");
    at_segment(&[part(0, 1), part(2, 4)], "2", "a segment left out");
    at_segment(&[part(0, 1), part(0, 4)], "2", "a segment twice");
    at_segment(&[part(3, 4)], "1", "the last segment alone");
    assert_refused(made, &build(&[]), "no body");
    assert_refused(made, &build(&[part(0, 3)]), "no last segment");
    assert_refused(made, &build(&[part(0, 4), part(0, 1)]), "a segment after the last");
    let mut early = build(&[part(0, 1)]);
    early[made.frames[0]] |= 0x80;
    assert_refused(made, &early, "the first segment marked last");
    let Err(Error::Damaged(fault)) = read(&early, &made.identity, &made.signer) else { panic!() };
    assert_eq!(fault.key, "backups.segment");
    assert_refused(made, &[bytes, &b"x"[..]].concat(), "a byte appended");
    assert_refused(made, &[bytes, &bytes[..]].concat(), "the file twice");
    assert_refused(made, &[head, part(0, 4)].concat(), "no manifest");
    assert_refused(made, &[tail, &bytes[..]].concat(), "something before");
}

#[test]
fn parts_of_another_file_do_not_fit() {
    let made = &*FILE;
    let other = make(210_000);
    assert_eq!((made.frames[0], made.frames[4]), (other.frames[0], other.frames[4]), "same shape");
    let range = |from: usize, to: usize, what: &str| {
        let mut spliced = made.bytes.clone();
        spliced[from..to].copy_from_slice(&other.bytes[from..to]);
        assert_refused(made, &spliced, what);
    };
    range(0, made.header, "another header");
    range(made.header, made.header + made.slots, "another file's slots");
    range(0, made.header + made.slots, "another header and its slots");
    range(made.frames[1], made.frames[2], "another file's segment");
    range(made.frames[0], made.frames[4], "another body");
    let mut manifest = made.bytes[..made.frames[4]].to_vec();
    manifest.extend_from_slice(&other.bytes[other.frames[4]..]);
    assert_refused(made, &manifest, "another manifest");
    assert!(Backup::open(&made.bytes[..]).unwrap().unseal(&other.identity).is_err(), "opened by a stranger");
}

#[test]
fn a_stranger_cannot_open_and_the_fault_names_them() {
    let stranger = Identity::generate(Vec::new());
    let Err(Error::Refused(fault)) = Backup::open(&FILE.bytes[..]).unwrap().unseal(&stranger) else { panic!() };
    assert_eq!(fault.key, "backups.not_a_recipient");
    assert_eq!(fault.params[0].1, stranger.recipient().to_string());
}

/// A stranger who knows the recipients can make a file, but not sign it; nor can a key be slipped under a slot.
#[test]
fn forgeries_are_refused() {
    let made = &*FILE;
    let (forger, forged_signer) = pair();
    let key = FileKey::random();
    let mut writer = Writer::start(Vec::new(), header(), &key, &[made.identity.recipient().clone()]).unwrap();
    writer.line(b"{}").unwrap();
    let bytes = writer.finish(7, 8, &Signing { pair: forger, vouchers: Vec::new() }).unwrap().0;
    let Err(Error::Damaged(fault)) = check(&bytes, &made.signer) else { panic!() };
    assert_eq!(fault.key, "backups.signer");
    let Err(Error::Damaged(fault)) = read(&bytes, &made.identity, &made.signer) else { panic!() };
    assert_eq!(fault.key, "backups.signer");
    assert_eq!(
        Backup::open(&bytes[..]).unwrap().check(Trust::Anyone).unwrap().signer,
        hex::encode(forged_signer.bytes())
    );

    // The forger claims the instance's key without having it.
    let claimed = String::from_utf8_lossy(&bytes).find(&hex::encode(forged_signer.bytes())).is_some();
    assert!(claimed, "the signer stands in the clear");
    let (old, new) = (hex::encode(forged_signer.bytes()).into_bytes(), hex::encode(made.signer.bytes()).into_bytes());
    let at = bytes.windows(64).position(|window| window == old).unwrap();
    let mut posing = bytes.clone();
    posing[at..at + 64].copy_from_slice(&new);
    let Err(Error::Damaged(fault)) = check(&posing, &made.signer) else { panic!() };
    assert_eq!(fault.key, "backups.signature");

    // Another file key, properly sealed to the recipient under this very header: the commitment does not hold.
    let (head, hash) = Header::read(&mut &made.bytes[..]).unwrap();
    let slot = slots::seal(&FileKey::random(), &hash, made.identity.recipient()).unwrap();
    let reslotted = [&made.bytes[..made.header], &slots::bytes(&[slot], &hash), &made.bytes[made.frames[0]..]].concat();
    let Err(Error::Damaged(fault)) = Backup::open(&reslotted[..]).unwrap().unseal(&made.identity) else { panic!() };
    assert_eq!(fault.params[0].1, "commitment");
    assert_eq!(head.instance, header().instance);
}

/// Slots are not covered by the signature: who holds a recipient's key can make room for another.
#[test]
fn slots_can_be_replaced_by_a_recipient() {
    let made = &*FILE;
    let newcomer = Identity::generate(Vec::new());
    let (_, hash) = Header::read(&mut &made.bytes[..]).unwrap();
    let old = slots::read(&mut &made.bytes[made.header..], &hash).unwrap();
    let key = slots::open(&old, &hash, &made.identity).unwrap();
    let slot = slots::seal(&key, &hash, newcomer.recipient()).unwrap();
    let changed = [&made.bytes[..made.header], &slots::bytes(&[slot], &hash), &made.bytes[made.frames[0]..]].concat();
    check(&changed, &made.signer).unwrap();
    assert_eq!(read(&changed, &newcomer, &made.signer).unwrap(), made.lines);
    assert!(read(&changed, &made.identity, &made.signer).is_err());
}

#[test]
fn a_later_version_says_which_release_reads_it() {
    let mut bytes = FILE.bytes.clone();
    bytes[17] = 2;
    bytes[24..40].copy_from_slice(b"3.14.0\0\0\0\0\0\0\0\0\0\0");
    let Err(Error::Refused(fault)) = Backup::open(&bytes[..]) else { panic!() };
    assert_eq!(fault.key, "backups.newer");
    assert!(fault.params.contains(&("needs", "3.14.0".to_owned())));
    let Err(Error::Damaged(fault)) = Backup::open(&b"PK\x03\x04"[..]) else { panic!() };
    assert_eq!(fault.key, "backups.not_a_backup");
}

#[test]
fn a_header_has_one_writing() {
    let sound = header().bytes();
    assert!(Header::read(&mut &sound[..]).is_ok());
    let mut reserved = sound.clone();
    reserved[66] = 1;
    assert!(Header::read(&mut &reserved[..]).is_err());
    let mut longer = sound.clone();
    longer.push(0);
    let length = longer.len() as u32;
    longer[20..24].copy_from_slice(&length.to_be_bytes());
    assert!(Header::read(&mut &longer[..]).is_err());
}

#[test]
fn every_bit_of_header_slots_and_manifest_counts() {
    let made = &make(10);
    for place in 0..made.bytes.len() {
        for bit in 0..8 {
            let mut bytes = made.bytes.clone();
            bytes[place] ^= 1 << bit;
            assert_refused(made, &bytes, &format!("bit {bit} of byte {place}"));
        }
    }
}

#[test]
fn counts_that_differ_from_the_manifest_are_noticed() {
    let made = &make(10);
    let mut content = Backup::open(&made.bytes[..]).unwrap().unseal(&made.identity).unwrap();
    let mut line = Vec::new();
    while content.line(&mut line).unwrap() {}
    assert!(content.finish(6, 8, Trust::Anyone).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn cut_anywhere_it_fails(at in 0..FILE.bytes.len()) {
        assert_refused(&FILE, &FILE.bytes[..at], "cut");
    }

    #[test]
    fn flipped_anywhere_it_fails(flips in prop::collection::vec((0..FILE.bytes.len(), 1_u8..), 1..4)) {
        let mut bytes = FILE.bytes.clone();
        for (place, mask) in flips {
            bytes[place] ^= mask;
        }
        prop_assume!(bytes != FILE.bytes);
        assert_refused(&FILE, &bytes, "flipped");
    }

    #[test]
    fn with_bytes_gone_or_put_in_it_fails(at in 0..FILE.bytes.len(), gone in 0..70_000_usize, new in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = FILE.bytes.clone();
        bytes.splice(at..(at + gone).min(bytes.len()), new);
        prop_assume!(bytes != FILE.bytes);
        assert_refused(&FILE, &bytes, "spliced");
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in any::<Vec<u8>>(), from in 0..600_usize) {
        // Random bytes after a sound beginning reach every parser.
        let bytes = [&FILE.bytes[..from], &bytes].concat();
        assert_refused(&FILE, &bytes, "random");
        let header = Backup::open(&*FILE.bytes).unwrap().header().clone();
        let _ = manifest_at_end(&header, bytes.len() as u64, |from| Ok(&bytes[from as usize..]), Trust::Anyone);
    }

    #[test]
    fn slots_of_any_content_never_panic(bytes in any::<Vec<u8>>()) {
        let hash = [3; 32];
        let mut section = ((bytes.len() + 32) as u32).to_be_bytes().to_vec();
        section.extend_from_slice(&bytes);
        let sum: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(), hash), &section)).into();
        section.extend_from_slice(&sum);
        let _ = slots::read(&mut &section[..], &hash);
    }
}

/// Who knows any of an instance's signing keys believes those that came after it, and no others.
#[test]
fn a_key_vouches_for_its_successor_and_for_nobody_else() {
    let identity = Identity::generate(Vec::new());
    let made = |keys: &[Arc<Key>]| {
        let recipients = [identity.recipient().clone()];
        let mut writer = Writer::start(Vec::new(), header(), &FileKey::random(), &recipients).unwrap();
        writer.line(b"{}").unwrap();
        writer.finish(7, 8, &Signing::of(keys).unwrap()).unwrap().0
    };
    let keys = |count: usize| {
        let keyring = Keyring::generate(Default::default(), Timestamp(1));
        for _ in 1..count {
            keyring.rotate(Purpose::BackupSigning, Timestamp(1));
        }
        keyring.versions(Purpose::BackupSigning).collect::<Vec<_>>()
    };
    let signer = |key: &Key| Signer::new(&key.public).unwrap();
    let (ours, theirs) = (keys(4), keys(2));
    let bytes = made(&ours);
    for key in &ours {
        assert_eq!(check(&bytes, &signer(key)).unwrap().signer(), signer(&ours[3]).to_string());
        assert!(read(&bytes, &identity, &signer(key)).is_ok());
    }
    assert!(check(&bytes, &signer(&theirs[0])).is_err());
    // One revoked is not there to vouch; one that is skipped breaks the chain.
    assert!(check(&made(&ours[2..]), &signer(&ours[1])).is_err());
    assert!(check(&made(&[ours[0].clone(), ours[2].clone()]), &signer(&ours[1])).is_err());
    // A stranger's key under a word that was given for ours.
    let mixed = Signing { vouchers: Signing::of(&ours).unwrap().vouchers, ..Signing::of(&theirs).unwrap() };
    let recipients = [identity.recipient().clone()];
    let mut writer = Writer::start(Vec::new(), header(), &FileKey::random(), &recipients).unwrap();
    writer.line(b"{}").unwrap();
    let forged = writer.finish(7, 8, &mixed).unwrap().0;
    let Err(Error::Damaged(fault)) = check(&forged, &signer(&ours[0])) else { panic!("a stranger is believed") };
    assert_eq!(fault.key, "backups.signer");
    // So many keys that not all have room: the last ones vouch.
    let many = keys(60);
    assert!(check(&made(&many), &signer(&many[59 - 32])).is_ok());
    assert!(check(&made(&many), &signer(&many[59 - 33])).is_err());
}
