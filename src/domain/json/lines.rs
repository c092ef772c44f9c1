//! Newline-delimited JSON, cut from chunks as they come: a socket's or a file's.

/// One line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1, empty lines counted.
    pub number: u64,
    /// Where the next line starts in the whole stream, in bytes: the place to resume from.
    pub next: u64,
    /// `None`: longer than the limit, and skipped.
    pub text: Option<Vec<u8>>,
}

/// Cuts a stream into lines (`\n` or `\r\n`), never holding more than a chunk and one line's limit.
/// Lines of nothing but white space are passed over.
pub struct Splitter {
    limit: usize,
    held: Vec<u8>,
    too_long: bool,
    number: u64,
    offset: u64,
}

impl Splitter {
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new(), too_long: false, number: 0, offset: 0 }
    }

    /// The lines this chunk completes, in order.
    pub fn feed(&mut self, chunk: &[u8], mut take: impl FnMut(Line)) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (part, after) = rest.split_at(end);
            self.hold(part);
            rest = after.get(1..).unwrap_or_default();
            self.offset += 1;
            if let Some(line) = self.cut() {
                take(line);
            }
        }
        self.hold(rest);
    }

    /// The last line, if the stream ended without a line end.
    pub fn finish(mut self) -> Option<Line> {
        self.cut()
    }

    fn hold(&mut self, part: &[u8]) {
        self.offset += part.len() as u64;
        if self.held.len() + part.len() > self.limit {
            self.too_long = true;
            self.held.clear();
        }
        if !self.too_long {
            self.held.extend_from_slice(part);
        }
    }

    fn cut(&mut self) -> Option<Line> {
        self.number += 1;
        let line = |text| Some(Line { number: self.number, next: self.offset, text });
        if std::mem::take(&mut self.too_long) {
            return line(None);
        }
        let text = std::mem::take(&mut self.held);
        let text = text.strip_suffix(b"\r").unwrap_or(&text);
        if text.iter().all(u8::is_ascii_whitespace) { None } else { line(Some(text.to_vec())) }
    }
}
