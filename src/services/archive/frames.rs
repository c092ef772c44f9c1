//! BSON documents one after the other, in constant memory: what archives are made of, and what a `.bson` file is.

use super::{LARGEST, TERMINATOR, damaged, failed};
use crate::services::Result;
use std::io::Read;

/// Lengths are little-endian; the shortest document is its length and its end.
const SHORTEST: usize = 5;

pub(super) enum Frame {
    /// Left in [`Frames::bytes`].
    Document,
    Terminator,
    End,
}

pub(super) struct Frames<R> {
    input: R,
    /// Where the next one starts.
    pub at: u64,
    pub bytes: Vec<u8>,
}

impl<R: Read> Frames<R> {
    pub fn new(input: R) -> Self {
        Self { input, at: 0, bytes: Vec::new() }
    }

    /// Four bytes, or none at the end.
    fn word(&mut self) -> Result<Option<[u8; 4]>> {
        let mut word = [0; 4];
        let mut filled = 0;
        while let Some(rest) = word.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(damaged("archive.cut", self.at)),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error, self.at)),
            }
        }
        Ok(Some(word))
    }

    pub fn magic(&mut self) -> Result<Option<[u8; 4]>> {
        let word = self.word()?;
        self.at += 4;
        Ok(word)
    }

    pub fn next(&mut self) -> Result<Frame> {
        let Some(word) = self.word()? else { return Ok(Frame::End) };
        if word == TERMINATOR {
            self.at += 4;
            return Ok(Frame::Terminator);
        }
        let length = u32::from_le_bytes(word) as usize;
        if !(SHORTEST..=LARGEST).contains(&length) {
            return Err(damaged("archive.length", self.at));
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&word);
        let rest = (length - word.len()) as u64;
        let read = (&mut self.input).take(rest).read_to_end(&mut self.bytes).map_err(|error| failed(error, self.at))?;
        if read as u64 != rest {
            return Err(damaged("archive.cut", self.at));
        }
        if self.bytes.last() != Some(&0) {
            return Err(damaged("archive.length", self.at));
        }
        self.at += length as u64;
        Ok(Frame::Document)
    }
}

/// A document, by its bytes alone: whether they are sound is for whoever reads it.
pub struct Document<'a> {
    pub bytes: &'a [u8],
    /// From 1, in its collection.
    pub number: u64,
    /// The byte after it, of what was decompressed.
    pub end: u64,
}

/// The documents of a `.bson` file of `mongodump`.
pub struct Documents<R> {
    frames: Frames<R>,
    number: u64,
}

impl<R: Read> Documents<R> {
    pub fn new(input: R) -> Self {
        Self { frames: Frames::new(input), number: 0 }
    }

    /// The next one; `None` at the end.
    pub fn document(&mut self) -> Result<Option<Document<'_>>> {
        let start = self.frames.at;
        match self.frames.next()? {
            Frame::End => Ok(None),
            Frame::Terminator => Err(damaged("archive.length", start)),
            Frame::Document => {
                self.number += 1;
                Ok(Some(Document { bytes: &self.frames.bytes, number: self.number, end: self.frames.at }))
            }
        }
    }
}
