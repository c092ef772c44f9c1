//! AES-256-GCM under a subject's key: version, the key's id, nonce, ciphertext and tag. What it is bound to is the
//! associated data. Equal values are found by HMAC-SHA256, cut to 16 bytes.

use super::{Held, Seals, WANTED, binary, bytes};
use crate::{
    base::{fault::Fault, random},
    domain::sealing::Cipher,
    ports,
};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// A subject's key. Random nonces are good for 2³² values under each.
pub struct Key {
    id: [u8; 16],
    secret: Zeroizing<[u8; 32]>,
    cipher: LessSafeKey,
}

impl Key {
    pub fn random() -> Self {
        Self::new(random::array(), Zeroizing::new(random::array()))
    }

    fn new(id: [u8; 16], secret: Zeroizing<[u8; 32]>) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &*secret).expect("32 bytes");
        Self { id, secret, cipher: LessSafeKey::new(key) }
    }

    /// As the subjects' store keeps it.
    pub fn document(&self) -> RawDocumentBuf {
        rawdoc! { "keyId": binary(&self.id), "key": binary(&self.secret[..]) }
    }

    pub fn read(kept: &RawDocument) -> ports::Result<Self> {
        let secret = bytes(kept, "key").map(Zeroizing::new);
        match (bytes(kept, "keyId"), secret) {
            (Some(id), Some(secret)) => Ok(Self::new(id, secret)),
            _ => Err(ports::Error::Corrupt("a subject's key is unreadable".to_owned())),
        }
    }

    fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let nonce = random::array::<12>();
        let mut out = Vec::with_capacity(45 + plain.len());
        out.push(VERSION);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.cipher.seal_in_place_append_tag(nonce, Aad::from(bound), &mut text);
        sealed.map_err(|_| Fault::new("sealing.damaged"))?;
        out.append(&mut text);
        Ok(out)
    }

    /// `None`: sealed under another key.
    fn open(&self, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let damaged = || Fault::new("sealing.damaged");
        let ([VERSION], rest) = sealed.split_first_chunk::<1>().ok_or_else(damaged)? else { return Err(damaged()) };
        let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
        if *id != self.id {
            return Ok(None);
        }
        let (nonce, text) = rest.split_first_chunk::<12>().ok_or_else(damaged)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.cipher.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| damaged())?;
        Ok(Some(plain.to_vec()))
    }
}

/// What equal values are found by, the same for every subject.
pub struct Hashing(hmac::Key);

impl Hashing {
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub fn read(kept: &RawDocument) -> ports::Result<Self> {
        let secret = bytes(kept, "secret").map(Zeroizing::new);
        let secret = secret.ok_or_else(|| ports::Error::Corrupt("the key of the hashes is unreadable".to_owned()))?;
        Ok(Self::new(&secret))
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        let mut cut = [0; 16];
        cut.iter_mut().zip(hmac::sign(&self.0, bytes).as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
        cut
    }
}

/// Keys taken out to read with.
#[derive(Clone)]
pub struct Keys {
    keys: HashMap<String, Option<Arc<Key>>>,
    hashing: Arc<Hashing>,
}

impl Keys {
    pub(super) fn new(keys: HashMap<String, Option<Arc<Key>>>, hashing: Arc<Hashing>) -> Self {
        Self { keys, hashing }
    }
}

impl Cipher for Keys {
    fn seal(&self, subject: &str, _: &[u8], _: &[u8]) -> Result<Vec<u8>, Fault> {
        Err(Fault::new(WANTED).with("subject", subject))
    }

    fn open(&self, subject: &str, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self.keys.get(subject) {
            Some(Some(key)) => key.open(bound, sealed),
            Some(None) => Ok(None),
            None => Err(Fault::new(WANTED).with("subject", subject)),
        }
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        self.hashing.hash(bytes)
    }
}

/// What seals one batch, inside the store's transaction, with the keys that are at hand. Keys are made for writes that go
/// through: for who has none it seals with one kept nowhere, so that all else is judged; the batch is then turned away,
/// and says for whom keys are to be made.
pub struct Sealer {
    seals: Arc<Seals>,
    draft: Key,
    wanted: Mutex<HashSet<String>>,
}

impl Sealer {
    pub(in crate::services) fn new(seals: Arc<Seals>) -> Self {
        Self { seals, draft: Key::random(), wanted: Mutex::default() }
    }

    /// Nothing of it may be written while somebody's key is to be made.
    pub(in crate::services) fn conclude(&self) -> Result<(), Fault> {
        if self.wanted().is_empty() { Ok(()) } else { Err(Fault::new(WANTED)) }
    }

    /// For whom, since the last time it was asked.
    pub(super) fn take(&self) -> HashSet<String> {
        std::mem::take(&mut *self.wanted())
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<String>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cipher for Sealer {
    fn seal(&self, subject: &str, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault> {
        match self.seals.known(subject) {
            Some(Held::Key(key)) => key.seal(bound, plain),
            Some(Held::Ending) => Err(Fault::new("sealing.erasing").with("subject", subject)),
            Some(Held::None) | None => {
                self.wanted().insert(subject.to_owned());
                self.draft.seal(bound, plain)
            }
        }
    }

    fn open(&self, subject: &str, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        // By an earlier operation of the same batch.
        if let Ok(Some(plain)) = self.draft.open(bound, sealed) {
            return Ok(Some(plain));
        }
        match self.seals.known(subject) {
            Some(Held::Key(key)) => key.open(bound, sealed),
            Some(Held::None | Held::Ending) => Ok(None),
            None => Err(Fault::new(WANTED).with("subject", subject)),
        }
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        self.seals.hashing.hash(bytes)
    }
}
