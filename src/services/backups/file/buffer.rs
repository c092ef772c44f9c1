//! Buffers of a backup's text. Keys are among its lines, so that they are wiped when dropped, as std's are not.

use std::io::{self, BufRead, Read, Write};
use zeroize::Zeroizing;

/// What is written goes on in pieces of this buffer's size.
pub(super) struct Gathering<W> {
    out: W,
    text: Zeroizing<Vec<u8>>,
}

impl<W: Write> Gathering<W> {
    pub fn new(out: W, size: usize) -> Self {
        Self { out, text: Zeroizing::new(Vec::with_capacity(size)) }
    }

    fn pass(&mut self) -> io::Result<()> {
        self.out.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }

    /// Whatever was not passed on by this is not: of a backup that failed nothing more is written.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.pass()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Gathering<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.text.capacity() {
            self.pass()?;
        }
        if bytes.len() > self.text.capacity() {
            return self.out.write(bytes);
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()?;
        self.out.flush()
    }
}

/// What is read comes in pieces of this buffer's size.
pub(super) struct Fetching<R> {
    input: R,
    text: Zeroizing<Vec<u8>>,
    at: usize,
    end: usize,
}

impl<R: Read> Fetching<R> {
    pub fn new(input: R, size: usize) -> Self {
        Self { input, text: Zeroizing::new(vec![0; size]), at: 0, end: 0 }
    }

    pub fn into_inner(self) -> R {
        self.input
    }
}

impl<R: Read> BufRead for Fetching<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
            self.end = self.input.read(&mut self.text)?;
        }
        Ok(self.text.get(self.at..self.end).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        self.at = (self.at + length).min(self.end);
    }
}

impl<R: Read> Read for Fetching<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(out)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for size in [1, 7, 4096, 1_000_000] {
            let mut gathering = Gathering::new(Vec::new(), size);
            for piece in text.chunks(333) {
                gathering.write_all(piece).unwrap();
            }
            let written = gathering.into_inner().unwrap();
            assert!(written == text, "{size}");
            let (mut fetching, mut read) = (Fetching::new(&*written, size), Vec::new());
            while fetching.read_until(0, &mut read).unwrap() > 0 {}
            assert!(read == text && fetching.into_inner().is_empty(), "{size}");
        }
    }
}
