//! Reading: one pass from text to BSON bytes, lengths and types filled in once known. Long because it is one grammar.

mod escapes;

use super::{Error, Limits, types};
use crate::base::fault::Fault;
use bson::{RawDocumentBuf, spec::ElementType};

pub(super) type Result<T> = std::result::Result<T, Error>;

pub(super) struct Parser<'a> {
    /// Valid UTF-8.
    text: &'a str,
    pub(super) at: usize,
    pub(super) out: Vec<u8>,
    trail: Vec<Step>,
    /// Names of the documents being read, the innermost last: places in `out`, and in the text.
    names: Vec<Name>,
    nesting: usize,
    depth: usize,
    /// Within a typed value, whose own braces are not nesting: two levels more.
    pub(super) typed: bool,
}

#[derive(Clone, Copy)]
struct Name {
    start: usize,
    end: usize,
    text: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Field(Name),
    Item(usize),
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8], limits: Limits) -> Result<Self> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let (line, column) = place(&String::from_utf8_lossy(good));
                return Err(Error::Unreadable(Fault::new("json.utf8").with("line", line).with("column", column)));
            }
        };
        Ok(Self {
            text,
            at: 0,
            out: Vec::with_capacity(bytes.len() + bytes.len() / 4 + 16),
            trail: Vec::new(),
            names: Vec::new(),
            nesting: limits.nesting.min(super::DEEPEST),
            depth: 0,
            typed: false,
        })
    }

    pub(super) fn document(mut self) -> Result<RawDocumentBuf> {
        self.space();
        let start = self.at;
        if self.peek() != Some(b'{') {
            return Err(if self.peek().is_none() {
                self.unreadable("json.truncated")
            } else {
                // An array or a bare value may be sound JSON: say so only once it proved to be.
                self.value()?;
                self.at = start;
                self.invalid("json.document")
            });
        }
        if self.value()? != ElementType::EmbeddedDocument {
            self.at = start;
            return Err(self.invalid("json.document"));
        }
        self.end()?;
        RawDocumentBuf::from_bytes(std::mem::take(&mut self.out)).map_err(|_| self.invalid("json.size"))
    }

    fn end(&mut self) -> Result<()> {
        self.space();
        if self.peek().is_some() { Err(self.unreadable("json.trailing")) } else { Ok(()) }
    }

    /// Appends a value's bytes and answers its type.
    pub(super) fn value(&mut self) -> Result<ElementType> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => {
                self.string_value()?;
                Ok(ElementType::String)
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", ElementType::Boolean, &[1]),
            Some(b'f') => self.word("false", ElementType::Boolean, &[0]),
            Some(b'n') => self.word("null", ElementType::Null, &[]),
            _ => Err(self.unexpected()),
        }
    }

    fn object(&mut self) -> Result<ElementType> {
        let opening = self.at;
        self.at += 1;
        let start = self.out.len();
        let first_name = self.names.len();
        self.out.extend_from_slice(&[0; 4]);
        self.depth += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let kind_at = self.out.len();
                self.out.push(0);
                let name = self.name()?;
                if let Some(wrapper) = self.out.get(name.start..name.end).and_then(types::wrapper) {
                    if self.names.len() != first_name {
                        self.at = name.text;
                        return Err(self.wrong("json.type_mixed", wrapper.name()));
                    }
                    self.out.truncate(start);
                    let kind = self.typed(wrapper, opening)?;
                    self.depth -= 1;
                    return Ok(kind);
                }
                if self.names.len() == first_name {
                    self.check_depth(opening)?;
                }
                self.names.push(name);
                self.trail.push(Step::Field(name));
                self.expect(b':')?;
                self.space();
                let kind = self.value()?;
                self.set_kind(kind_at, kind);
                self.trail.pop();
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.unexpected()),
                }
                self.space();
            }
            self.no_duplicates(first_name)?;
            self.names.truncate(first_name);
        }
        self.check_depth(opening)?;
        self.out.push(0);
        self.set_length(start)?;
        self.depth -= 1;
        Ok(ElementType::EmbeddedDocument)
    }

    fn array(&mut self) -> Result<ElementType> {
        let opening = self.at;
        self.at += 1;
        self.depth += 1;
        self.check_depth(opening)?;
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            for index in 0_usize.. {
                let kind_at = self.out.len();
                self.out.push(0);
                super::write::integer(index as i64, &mut self.out);
                self.out.push(0);
                self.trail.push(Step::Item(index));
                let kind = self.value()?;
                self.set_kind(kind_at, kind);
                self.trail.pop();
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.unexpected()),
                }
                self.space();
            }
        }
        self.out.push(0);
        self.set_length(start)?;
        self.depth -= 1;
        Ok(ElementType::Array)
    }

    /// A field's name and its closing zero.
    fn name(&mut self) -> Result<Name> {
        let text = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        let start = self.out.len();
        self.string()?;
        let end = self.out.len();
        if self.out.get(start..end).is_some_and(|name| name.contains(&0)) {
            self.at = text;
            return Err(self.invalid("json.name_nul"));
        }
        self.out.push(0);
        Ok(Name { start, end, text })
    }

    fn no_duplicates(&mut self, first: usize) -> Result<()> {
        let names = self.names.get(first..).unwrap_or_default();
        let bytes = |name: &Name| self.out.get(name.start..name.end).unwrap_or_default();
        let twice = if names.len() <= 12 {
            names
                .iter()
                .enumerate()
                .find(|(place, name)| names.iter().take(*place).any(|earlier| bytes(earlier) == bytes(name)))
                .map(|(_, name)| *name)
        } else {
            let mut sorted: Vec<&Name> = names.iter().collect();
            sorted.sort_by(|a, b| bytes(a).cmp(bytes(b)).then(a.text.cmp(&b.text)));
            sorted.windows(2).find(|pair| bytes(pair[0]) == bytes(pair[1])).map(|pair| *pair[1])
        };
        if let Some(name) = twice {
            self.at = name.text;
            self.trail.push(Step::Field(name));
            return Err(self.invalid("json.duplicate"));
        }
        Ok(())
    }

    /// A string as BSON keeps it: length, bytes, zero.
    pub(super) fn string_value(&mut self) -> Result<()> {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.string()?;
        self.out.push(0);
        let length = i32::try_from(self.out.len() - start - 4).map_err(|_| self.invalid("json.size"))?;
        self.patch(start, &length.to_le_bytes());
        Ok(())
    }

    /// Appends the bytes a quoted string stands for.
    pub(super) fn string(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20);
            let Some(plain) = plain else {
                self.at = self.text.len();
                return Err(self.unreadable("json.truncated"));
            };
            self.out.extend_from_slice(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.unreadable("json.control")),
            }
        }
    }

    /// int32 where it fits, else int64; with a fraction or an exponent, a double.
    fn number(&mut self) -> Result<ElementType> {
        let start = self.at;
        let mut integer = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.unexpected()),
        }
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if integer {
            let Ok(value) = text.parse::<i64>() else {
                self.at = start;
                return Err(self.invalid("json.integer"));
            };
            if let Ok(small) = i32::try_from(value) {
                self.out.extend_from_slice(&small.to_le_bytes());
                return Ok(ElementType::Int32);
            }
            self.out.extend_from_slice(&value.to_le_bytes());
            return Ok(ElementType::Int64);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(ElementType::Double)
            }
            _ => {
                self.at = start;
                Err(self.invalid("json.double"))
            }
        }
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected()) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, kind: ElementType, bytes: &[u8]) -> Result<ElementType> {
        for letter in word.bytes() {
            if self.peek() != Some(letter) {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        self.out.extend_from_slice(bytes);
        Ok(kind)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The given mark, white space before it allowed.
    pub(super) fn expect(&mut self, mark: u8) -> Result<()> {
        self.space();
        if self.peek() != Some(mark) {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn check_depth(&mut self, opening: usize) -> Result<()> {
        if self.depth > self.nesting + if self.typed { 2 } else { 0 } {
            self.at = opening;
            let limit = self.nesting;
            return Err(Error::Invalid(self.fault("json.depth").with("limit", limit)));
        }
        Ok(())
    }

    fn set_kind(&mut self, at: usize, kind: ElementType) {
        self.patch(at, &[kind as u8]);
    }

    /// Fills in a document's length, from its start to what is written.
    pub(super) fn set_length(&mut self, start: usize) -> Result<()> {
        let length = i32::try_from(self.out.len() - start).map_err(|_| self.invalid("json.size"))?;
        self.patch(start, &length.to_le_bytes());
        Ok(())
    }

    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(super) fn unexpected(&self) -> Error {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => self.unreadable("json.truncated"),
            Some(found) => Error::Unreadable(self.fault("json.unexpected").with("found", found.escape_debug())),
        }
    }

    fn unreadable(&self, key: &'static str) -> Error {
        Error::Unreadable(self.fault(key))
    }

    fn invalid(&self, key: &'static str) -> Error {
        Error::Invalid(self.fault(key))
    }

    /// A rule of the named type does not hold.
    pub(super) fn wrong(&self, key: &'static str, name: &str) -> Error {
        Error::Invalid(self.fault(key).with("type", name))
    }

    fn fault(&self, key: &'static str) -> Fault {
        let (line, column) = place(self.text.get(..self.at).unwrap_or(self.text));
        let steps: Vec<String> = self
            .trail
            .iter()
            .map(|step| match step {
                Step::Field(name) => {
                    String::from_utf8_lossy(self.out.get(name.start..name.end).unwrap_or_default()).into_owned()
                }
                Step::Item(index) => index.to_string(),
            })
            .collect();
        Fault::new(key).at(steps.join(".")).with("line", line).with("column", column)
    }
}

/// The line and column, from 1, of the character after this text.
fn place(before: &str) -> (usize, usize) {
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
