//! Keys: the data keys given from outside, and the page keys derived from them, one per epoch.

use super::{
    error::{Error, Result},
    layout::{Entry, NONCE, PAGE, TAG},
};
use crate::ports::documents::StorageKey;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf,
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};
use zeroize::Zeroizing;

/// Bytes of a data key.
pub const KEY: usize = 32;
/// Bytes that tell a wrong key from a damaged file.
pub(super) const CHECK: usize = 8;
/// Page keys kept derived; deriving one again takes a few microseconds.
const DERIVED: usize = 256;

/// The data keys, by version: the current one seals, all of them open.
#[derive(Clone)]
pub struct DataKeys {
    current: u32,
    keys: BTreeMap<u32, Zeroizing<[u8; KEY]>>,
}

impl DataKeys {
    pub fn new(current: u32, key: [u8; KEY]) -> Self {
        Self { current, keys: BTreeMap::from([(current, Zeroizing::new(key))]) }
    }

    /// Adds an earlier version, kept to open what it sealed.
    #[must_use]
    pub fn with(mut self, version: u32, key: [u8; KEY]) -> Self {
        self.keys.insert(version, Zeroizing::new(key));
        self
    }

    pub fn current(&self) -> u32 {
        self.current
    }

    /// All of these, the last one in use; `None` where there is none.
    pub fn of(keys: &[StorageKey]) -> Option<Self> {
        let material = |key: &StorageKey| (key.version, key.material.clone());
        Some(Self { current: keys.last()?.version, keys: keys.iter().map(material).collect() })
    }

    fn get(&self, version: u32) -> Result<&[u8; KEY]> {
        self.keys.get(&version).map(|key| &**key).ok_or(Error::KeyMissing { version })
    }
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKeys").field("current", &self.current).field("versions", &self.keys.len()).finish()
    }
}

pub(super) type FileId = [u8; 16];

/// From which epoch on each data key version seals; ascending, the first entry is epoch 0's or later.
pub(super) type Takeovers = Vec<(u32, u32)>;

/// The version that seals an epoch.
pub(super) fn version_of(takeovers: &Takeovers, epoch: u32) -> Option<u32> {
    takeovers.iter().rev().find(|(first, _)| *first <= epoch).map(|(_, version)| *version)
}

/// Derives, keeps and applies page keys.
pub(super) struct PageKeys {
    file: FileId,
    state: RwLock<State>,
}

struct State {
    data: DataKeys,
    takeovers: Takeovers,
    derived: HashMap<u32, Arc<LessSafeKey>>,
}

impl fmt::Debug for PageKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKeys")
    }
}

impl PageKeys {
    pub fn new(file: FileId, data: DataKeys, takeovers: Takeovers) -> Self {
        Self { file, state: RwLock::new(State { data, takeovers, derived: HashMap::new() }) }
    }

    pub fn version(&self, epoch: u32) -> Option<u32> {
        version_of(&self.state.read().unwrap_or_else(PoisonError::into_inner).takeovers, epoch)
    }

    pub fn replace(&self, data: DataKeys) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.data = data;
        state.derived.clear();
    }

    pub fn set_takeovers(&self, takeovers: Takeovers) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).takeovers = takeovers;
    }

    /// The key of an epoch. An epoch nobody opened has none.
    pub fn get(&self, epoch: u32) -> Result<Arc<LessSafeKey>> {
        if let Some(key) = self.state.read().unwrap_or_else(PoisonError::into_inner).derived.get(&epoch) {
            return Ok(key.clone());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let version = version_of(&state.takeovers, epoch).ok_or(Error::Damaged { what: "epoch" })?;
        let key = Arc::new(page_key(&self.file, state.data.get(version)?, epoch));
        if state.derived.len() >= DERIVED {
            state.derived.clear();
        }
        state.derived.insert(epoch, key.clone());
        Ok(key)
    }

    /// Opens `sealed` into `plain`. `Ok(false)`: the tag is wrong and `plain` is wiped.
    pub fn open(&self, page: u64, entry: &Entry, sealed: &[u8], plain: &mut [u8], newest: u32) -> Result<bool> {
        if entry.epoch == 0 || entry.epoch > newest {
            plain.fill(0);
            return Ok(false);
        }
        let aad = page_aad(&self.file, page, entry.epoch);
        let right = self.get(entry.epoch)?.open_separate_gather(
            Nonce::assume_unique_for_key(entry.nonce),
            Aad::from(aad),
            sealed,
            &entry.tag,
            plain,
        );
        if right.is_err() {
            plain.fill(0);
        }
        Ok(right.is_ok())
    }

    /// Seals a page's bytes where they are; the entry tells how.
    pub fn seal(&self, page: u64, epoch: u32, nonce: [u8; NONCE], page_bytes: &mut [u8; PAGE]) -> Result<Entry> {
        let tag = seal(&*self.get(epoch)?, nonce, &page_aad(&self.file, page, epoch), page_bytes)?;
        Ok(Entry { nonce, tag, epoch })
    }

    pub fn file(&self) -> &FileId {
        &self.file
    }
}

/// Seals in place and returns the tag.
pub(super) fn seal(key: &LessSafeKey, nonce: [u8; NONCE], aad: &[u8], bytes: &mut [u8]) -> Result<[u8; TAG]> {
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), bytes)
        .map_err(|_| Error::Damaged { what: "cipher" })?;
    let mut bytes = [0; TAG];
    bytes.copy_from_slice(tag.as_ref());
    Ok(bytes)
}

/// File id (16), page number (8), epoch (4): a page is right only where and when it was written.
fn page_aad(file: &FileId, page: u64, epoch: u32) -> [u8; 28] {
    let mut aad = [0; 28];
    aad[..16].copy_from_slice(file);
    aad[16..24].copy_from_slice(&page.to_le_bytes());
    aad[24..].copy_from_slice(&epoch.to_le_bytes());
    aad
}

/// HKDF-SHA256 (RFC 5869): salt the file id, info "debrouille sealed page 1" and the epoch (4 bytes LE).
pub(super) fn page_key(file: &FileId, data: &[u8; KEY], epoch: u32) -> LessSafeKey {
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, file).extract(data);
    let epoch = epoch.to_le_bytes();
    let info = [b"debrouille sealed page 1".as_slice(), &epoch];
    let okm = root.expand(&info, &AES_256_GCM).expect("32 bytes are within HKDF's 8160");
    LessSafeKey::new(UnboundKey::from(okm))
}

/// The first bytes HKDF gives for info "debrouille sealed check 1": public, says nothing of the key.
pub(super) fn key_check(file: &FileId, data: &DataKeys, version: u32) -> Result<[u8; CHECK]> {
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, file).extract(data.get(version)?);
    let mut full = [0; 32];
    let info = [b"debrouille sealed check 1".as_slice()];
    root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut full)).expect("32 bytes are within HKDF's 8160");
    let mut check = [0; CHECK];
    check.copy_from_slice(&full[..CHECK]);
    Ok(check)
}

/// The key of an epoch, before there is a [`PageKeys`].
pub(super) fn epoch_key(file: &FileId, data: &DataKeys, version: u32, epoch: u32) -> Result<LessSafeKey> {
    Ok(page_key(file, data.get(version)?, epoch))
}
