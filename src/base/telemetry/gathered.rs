//! Lines gathered before they are written: at a busy hour one write takes many, and the thread that writes is not woken
//! for each.

use std::{
    io::{self, BufWriter, Write},
    thread,
    time::Duration,
};

/// What a line may wait for others.
const PAUSE: Duration = Duration::from_millis(10);
const BUFFER: usize = 64 * 1024;

pub(super) struct Gathered<W: Write>(BufWriter<W>);

impl<W: Write> Gathered<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(BufWriter::with_capacity(BUFFER, writer))
    }

    /// For a writer that takes line by line.
    pub(super) fn lines(writer: W) -> Self {
        Self(BufWriter::with_capacity(0, writer))
    }
}

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Called once nothing waits: what comes in the pause after it is written at once.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.0.flush();
        thread::sleep(PAUSE);
        written
    }
}
