//! What a holder of shares brings: a printed sheet in a file, or what was typed off it.

use super::Share;
use crate::services::{
    Result,
    backups::{recipients::Signer, shares::WORDS},
};

/// Shares, and the instances to believe that are written beside them.
#[derive(Clone, Default)]
pub struct Paper {
    pub shares: Vec<Share>,
    pub signers: Vec<Signer>,
}

impl Paper {
    /// Reads lines `debrouille-share-1-…` and `debrouille-signer-1-…`, and words, in whatever shape they are laid out:
    /// their numbers, a drawn code, empty lines and those after `#` are passed over.
    pub fn read(text: &str) -> Result<Self> {
        let mut paper = Self::default();
        let mut words = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let kind = line.to_ascii_lowercase();
            if kind.starts_with("debrouille-signer-") {
                paper.signers.push(line.parse()?);
            } else if kind.starts_with("debrouille-") {
                paper.shares.push(line.parse()?);
            } else {
                words.extend(line.split(|letter| !is_of_a_word(letter)).filter(|word| !word.is_empty()));
            }
        }
        for words in words.chunks(WORDS) {
            paper.shares.push(Share::of_words(words)?);
        }
        Ok(paper)
    }
}

/// Accents may come as letters of their own.
fn is_of_a_word(letter: char) -> bool {
    letter.is_alphabetic() || unicode_normalization::char::is_combining_mark(letter)
}

/// The signers that every sheet names, and those that only some do: one holder alone makes nobody believed.
pub fn agreed(papers: &[Paper]) -> (Vec<Signer>, Vec<Signer>) {
    let mut all: Vec<&Signer> = Vec::new();
    for signer in papers.iter().flat_map(|paper| &paper.signers) {
        if !all.contains(&signer) {
            all.push(signer);
        }
    }
    all.into_iter().cloned().partition(|signer| papers.iter().all(|paper| paper.signers.contains(signer)))
}
