//! Whole lines of a stream, gathered up to a number and a size.

use super::resume::Mark;
use crate::{
    base::fault::Fault,
    cli::failure::{Code, Failure, unreadable},
};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read};

/// A request of this size is one commit of the server's, a few where documents take more as BSON.
const LINES: u64 = 500;
const BYTES: usize = 4 << 20;
/// The longest line sent at all: a document of 16 MiB takes more as text.
const LINE: u64 = 64 << 20;

pub struct Chunks<R> {
    reader: BufReader<R>,
    read: Sha256,
    lines: u64,
}

pub struct Chunk {
    /// The number in the file of its first line, from 1.
    pub first: u64,
    pub lines: u64,
    pub body: Vec<u8>,
}

impl<R: Read> Chunks<R> {
    pub fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), read: Sha256::new(), lines: 0 }
    }

    /// Passes over what an earlier import wrote; refuses a file whose beginning has changed.
    pub fn skip(&mut self, mark: &Mark) -> Result<(), Failure> {
        let mut left = mark.bytes;
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.reader.read(&mut buffer[..most]).map_err(|error| unreadable("import", error))?;
            if read == 0 {
                break;
            }
            self.read.update(&buffer[..read]);
            left -= read as u64;
        }
        if left > 0 || self.digest() != mark.digest {
            return Err(Failure::new(Code::Refused, Fault::new("cli.import.changed").with("line", mark.lines)));
        }
        self.lines = mark.lines;
        Ok(())
    }

    /// Of everything read so far, in hexadecimal.
    pub fn digest(&self) -> String {
        hex::encode(self.read.clone().finalize())
    }

    pub fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        let mut body = Vec::new();
        let mut lines = 0;
        while lines < LINES && body.len() < BYTES {
            let before = body.len();
            let mut line = (&mut self.reader).take(LINE);
            let read = line.read_until(b'\n', &mut body).map_err(|error| unreadable("import", error))?;
            if read as u64 == LINE {
                let number = self.lines + lines + 1;
                return Err(Failure::new(Code::Failed, Fault::new("cli.import.long_line").with("line", number)));
            }
            if read == 0 {
                break;
            }
            self.read.update(&body[before..]);
            lines += 1;
        }
        if lines == 0 {
            return Ok(None);
        }
        let first = self.lines + 1;
        self.lines += lines;
        Ok(Some(Chunk { first, lines, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_whole_lines_and_number_them() {
        let text: String = (1..=2400).map(|number| format!("{{\"n\":{number}}}\n")).collect();
        let mut chunks = Chunks::new(text.trim_end().as_bytes());
        let mut found = Vec::new();
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            found.push((chunk.first, chunk.lines));
            all.extend(chunk.body);
        }
        assert_eq!(found, [(1, 500), (501, 500), (1001, 500), (1501, 500), (2001, 400)]);
        assert_eq!(all, text.trim_end().as_bytes());
    }

    #[test]
    fn a_changed_beginning_is_not_resumed() {
        let text = "a\n".repeat(700);
        let mut chunks = Chunks::new(text.as_bytes());
        let chunk = chunks.next().unwrap().unwrap();
        let mut mark = Mark::default();
        mark.advance(chunk.lines, chunk.body.len() as u64, chunks.digest(), &super::super::Counted::default());
        let longer = format!("{text}b\n");
        let mut again = Chunks::new(longer.as_bytes());
        again.skip(&mark).unwrap();
        assert_eq!(again.next().unwrap().unwrap().first, 501);
        let other = text.replacen('a', "b", 1);
        assert_eq!(Chunks::new(other.as_bytes()).skip(&mark).unwrap_err().code, Code::Refused);
        assert!(Chunks::new(&text.as_bytes()[..100]).skip(&mark).is_err());
    }
}
