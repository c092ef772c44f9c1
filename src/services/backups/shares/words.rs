//! A share in words, 11 bits each, from the lists of BIP-39
//! (<https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki>). The lists alone: a share is no wallet's seed.

use super::{CHECKSUM, LENGTH, Share};
use crate::{
    base::{fault::Fault, messages::Language},
    services::{Error, Result},
};
use std::{collections::HashMap, sync::LazyLock};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use zeroize::Zeroizing;

/// 11 bits name one of 2,048.
const BITS: usize = 11;
/// In a share.
pub const WORDS: usize = (LENGTH + CHECKSUM) * 8 / BITS;
const _: () = assert!(WORDS * BITS == (LENGTH + CHECKSUM) * 8, "bits left over");

struct List {
    words: Vec<&'static str>,
    places: HashMap<String, u16>,
}

static FRENCH: LazyLock<List> = LazyLock::new(|| List::new(include_str!("french.txt")));
static ENGLISH: LazyLock<List> = LazyLock::new(|| List::new(include_str!("english.txt")));

impl List {
    fn new(text: &'static str) -> Self {
        let words: Vec<_> = text.lines().collect();
        let places = (0..).zip(&words).map(|(place, word)| (plain(word), place)).collect();
        Self { words, places }
    }
}

/// Without accents and capitals, which a keyboard may lack: no two words of a list differ by them alone.
fn plain(word: &str) -> String {
    word.nfkd().filter(|letter| !is_combining_mark(*letter)).flat_map(char::to_lowercase).collect()
}

impl Share {
    /// With their accents composed, as fonts and forms want them.
    pub fn words(&self, language: Language) -> Vec<String> {
        let list = match language {
            Language::French => &FRENCH,
            Language::English => &ENGLISH,
        };
        let bytes = self.spelt();
        let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
        let place = |word: usize| (0..BITS).fold(0, |place, at| place << 1 | usize::from(bit(word * BITS + at)));
        (0..WORDS).filter_map(|word| list.words.get(place(word))).map(|word| word.nfc().collect()).collect()
    }

    /// In either language: words of both lists are told apart by the rest, and by the checksum.
    pub fn of_words(words: &[&str]) -> Result<Self> {
        if words.len() != WORDS {
            let found = Fault::new("backups.share_words").with("found", words.len());
            return Err(Error::Invalid(found.with("wanted", WORDS)));
        }
        let mut strange: Option<(usize, &str)> = None;
        for list in [&*FRENCH, &*ENGLISH] {
            let mut bytes = Zeroizing::new(vec![0_u8; LENGTH + CHECKSUM]);
            let mut unknown = None;
            for (number, word) in words.iter().enumerate() {
                let Some(place) = list.places.get(&plain(word)) else {
                    unknown = Some((number + 1, *word));
                    break;
                };
                for at in (0..BITS).filter(|at| place >> (BITS - 1 - at) & 1 == 1) {
                    let bit = number * BITS + at;
                    if let Some(byte) = bytes.get_mut(bit / 8) {
                        *byte |= 1 << (7 - bit % 8);
                    }
                }
            }
            match unknown {
                None => {
                    if let Some(share) = Self::of_spelt(&bytes) {
                        return share;
                    }
                }
                // Where the list that goes further stops.
                Some(found) if strange.is_none_or(|(number, _)| number < found.0) => strange = Some(found),
                Some(_) => {}
            }
            if unknown.is_none() {
                return Err(Error::Invalid(Fault::new("backups.share_checksum")));
            }
        }
        let (number, word) = strange.unwrap_or_default();
        Err(Error::Invalid(Fault::new("backups.share_word").with("number", number).with("word", word)))
    }
}
