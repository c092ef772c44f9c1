//! A project's files as the rules read them: Rust with its comments and literals blanked, and its test code marked.

/// A file of the project, by its path from the root.
pub struct File {
    pub path: String,
    pub text: String,
    pub executable: bool,
}

/// Everything the rules look at.
pub struct Project {
    pub files: Vec<File>,
    pub sources: Vec<Source>,
}

/// A Rust file.
pub struct Source {
    pub path: String,
    pub text: String,
    /// `text` with comments and the insides of literals replaced by blanks, byte for byte.
    pub code: String,
    /// String literals outside comments: where each begins, what it says.
    pub strings: Vec<(usize, String)>,
    /// The byte ranges that only tests compile.
    tests: Vec<std::ops::Range<usize>>,
}

/// What a rule has against a place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

impl Project {
    /// Reads a work tree, leaving out what is built, kept or hidden.
    pub fn read(root: &std::path::Path) -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    if !["target", "var", "build", ".git", "__pycache__"].contains(&name.as_str()) {
                        folders.push(entry.path());
                    }
                } else if kind.is_file() && name != "Cargo.lock" && !name.ends_with(".ndjson") {
                    // What is not UTF-8 is data, and none of the rules' business.
                    if let Ok(text) = std::fs::read_to_string(entry.path()) {
                        let executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
                        let path = entry.path().strip_prefix(root).unwrap_or(&entry.path()).display().to_string();
                        files.push(File { path, text, executable });
                    }
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self::of(files))
    }

    pub fn of(files: Vec<File>) -> Self {
        let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
        let sources = rust.map(|file| Source::new(&file.path, &file.text)).collect();
        Self { files, sources }
    }

    /// The files of the product: `src/`.
    pub fn product(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.path.starts_with("src/"))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, strings) = blank(text);
        let tests = if path.ends_with("/tests.rs")
            || path.contains("/tests/")
            || path.starts_with("src/testing/")
            || code.contains("\n#![cfg(test)]\n")
            || !path.starts_with("src/")
        {
            std::iter::once(0..text.len()).collect()
        } else {
            test_ranges(text, &code)
        };
        Self { path: path.to_owned(), text: text.to_owned(), code, strings, tests }
    }

    pub fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    pub fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    pub fn complaint(&self, offset: usize, what: impl Into<String>) -> Complaint {
        Complaint { path: self.path.clone(), line: self.line(offset), what: what.into() }
    }

    /// Where `word` stands in the code that ships, neither end inside a longer name.
    pub fn find(&self, word: &str) -> impl Iterator<Item = usize> {
        occurrences(&self.code, word).filter(|offset| !self.is_test(*offset))
    }

    /// Lines of code, comments and blanks that ship.
    pub fn length(&self) -> usize {
        let mut offset = 0;
        let mut count = 0;
        for line in self.text.split_inclusive('\n') {
            count += usize::from(!self.is_test(offset));
            offset += line.len();
        }
        count
    }

    /// The opening `//!` lines.
    pub fn opening(&self) -> Vec<&str> {
        self.text.lines().take_while(|line| line.starts_with("//!")).map(|line| line[3..].trim()).collect()
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands in `code`, whole: `var` is not found in `env_var`.
pub fn occurrences(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
        let end = offset + word.len();
        let starts = !is_name(word.as_bytes()[0]) || offset == 0 || !is_name(bytes[offset - 1]);
        let ends = !is_name(word.as_bytes()[word.len() - 1]) || end == bytes.len() || !is_name(bytes[end]);
        starts && ends
    })
}

/// Blanks comments and the insides of literals; collects the strings.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut strings = Vec::new();
    let wipe = |out: &mut Vec<u8>, from: usize, to: usize| {
        out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            let end = text[at..].find('\n').map_or(bytes.len(), |length| at + length);
            wipe(&mut out, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = block_comment_end(bytes, at);
            wipe(&mut out, at, end);
            at = end;
        } else if let Some((from, to, end)) = string_at(bytes, at) {
            strings.push((at, text[from..to].to_owned()));
            wipe(&mut out, from, to);
            at = end;
        } else if rest[0] == b'\'' {
            let end = char_end(bytes, at);
            if end > at + 1 {
                wipe(&mut out, at + 1, end - 1);
            }
            at = end;
        } else if is_name(rest[0]) {
            at += rest.iter().take_while(|byte| is_name(**byte)).count();
        } else {
            at += 1;
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), strings)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// A string literal at `at`, plain or raw, bytes or C: its inside and its end.
fn string_at(bytes: &[u8], at: usize) -> Option<(usize, usize, usize)> {
    let letters = bytes[at..].iter().take_while(|byte| b"bcr".contains(byte)).take(2).count();
    let raw = bytes[at..at + letters].contains(&b'r');
    let hashes = if raw { bytes[at + letters..].iter().take_while(|byte| **byte == b'#').count() } else { 0 };
    let quote = at + letters + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let mut end = quote + 1;
    while end < bytes.len() {
        if !raw && bytes[end] == b'\\' {
            end += 2;
        } else if bytes[end] == b'"'
            && bytes[end + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes
        {
            return Some((quote + 1, end, end + 1 + hashes));
        } else {
            end += 1;
        }
    }
    Some((quote + 1, bytes.len(), bytes.len()))
}

/// The end of a character literal, or just past the quote of a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    let tail = &bytes[at + 1..];
    if tail.first() == Some(&b'\\') {
        // The escaped character itself may be a quote.
        return tail.iter().skip(2).position(|byte| *byte == b'\'').map_or(bytes.len(), |length| at + length + 4);
    }
    // One character of up to four bytes, then a quote; else it is a lifetime.
    let width = tail.first().map_or(1, |byte| if *byte < 0x80 { 1 } else { byte.leading_ones() as usize });
    if tail.get(width) == Some(&b'\'') { at + width + 2 } else { at + 1 }
}

/// The items under `#[cfg(test)]` and its like.
fn test_ranges(text: &str, code: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    for (start, _) in code.match_indices("#[cfg(") {
        let Some(end) = code[start..].find(")]").map(|length| start + length + 2) else { continue };
        let condition = &text[start + 6..end - 2];
        if condition == "test" || condition.starts_with("any(test,") || condition == "feature = \"testing\"" {
            ranges.push(start..item_end(code, end));
        }
    }
    ranges
}

/// The end of the item that begins after `from`: its closing brace or its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let bytes = code.as_bytes();
    let mut at = from;
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) || code[at..].starts_with("#[") {
        at += if code[at..].starts_with("#[") { code[at..].find(']').map_or(1, |length| length + 1) } else { 1 };
    }
    let import = code[at..].starts_with("use ") || code[at..].starts_with("pub use ");
    let mut depth = 0_usize;
    for (offset, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *byte == b'}' && !import {
                    return offset + 1;
                }
            }
            b';' if depth == 0 => return offset + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let source = Source::new(
            "src/a.rs",
            "let a = \"x.unwrap()\"; // b.unwrap()\nlet c = r#\"d \"unwrap\" e\"#; /* f /* g */ unwrap */ h.unwrap();\nlet i = ('\"', '\\'', 'é', b'\"'); fn j<'k>(l: &'k str) {} m.unwrap()",
        );
        assert_eq!(source.find("unwrap").map(|offset| source.line(offset)).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(
            source.strings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
            ["x.unwrap()", "d \"unwrap\" e"]
        );
        assert_eq!(source.code.len(), source.text.len());
    }

    #[test]
    fn test_code_is_marked() {
        let whole = Source::new("src/b.rs", "//! For tests.\n#![cfg(test)]\n\nfn a() { x() }\n");
        assert!(whole.find("x").all(|offset| whole.is_test(offset)));
        let source = Source::new(
            "src/a.rs",
            "fn a() { x() }\n#[cfg(test)]\nuse b::{x, y};\nfn c() { x() }\n#[cfg(any(test, feature = \"testing\"))]\n#[derive(Debug)]\npub struct D { x: u8 }\nx();\n#[cfg(test)]\nmod tests {\n fn e() { x(\"}\") }\n}\nx();\n",
        );
        assert_eq!(source.find("x").map(|offset| source.line(offset)).collect::<Vec<_>>(), [1, 4, 8, 13]);
        assert_eq!(source.length(), 4);
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(occurrences("var env_var var() vars", "var").collect::<Vec<_>>(), [0, 12]);
    }
}
