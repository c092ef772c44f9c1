//! Regular expressions of filters: MongoDB's syntax and options on an engine that never backtracks.

use crate::base::fault::Fault;
use bson::RawBsonRef;
use regex::{Regex, RegexBuilder};

/// Bytes of a pattern's source, at most.
pub const MAX_PATTERN: usize = 1024;
/// Bytes a compiled pattern may take.
const MAX_COMPILED: usize = 2 << 20;

/// A compiled pattern with the source and options it was given as.
#[derive(Debug, Clone)]
pub struct Pattern {
    pub source: String,
    /// Of `imsx`, in order.
    pub options: String,
    compiled: Regex,
}

impl Pattern {
    /// Options: `i` ignores case, `m` lets `^` and `$` stand at lines, `s` lets `.` stand for a newline,
    /// `x` ignores white space and comments in the pattern.
    pub fn parse(source: &str, options: &str, path: &str) -> Result<Self, Fault> {
        if source.len() > MAX_PATTERN {
            return Err(Fault::new("query.pattern_length").at(path).with("limit", MAX_PATTERN));
        }
        if source.contains('\0') {
            return Err(Fault::new("query.pattern").at(path).with("reason", "NUL"));
        }
        if let Some(unknown) = options.chars().find(|option| !"imsx".contains(*option)) {
            return Err(Fault::new("query.pattern_option").at(path).with("option", unknown));
        }
        let compiled = RegexBuilder::new(source)
            .case_insensitive(options.contains('i'))
            .multi_line(options.contains('m'))
            .dot_matches_new_line(options.contains('s'))
            .ignore_whitespace(options.contains('x'))
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| Fault::new("query.pattern").at(path).with("reason", error))?;
        let options = "imsx".chars().filter(|option| options.contains(*option)).collect();
        Ok(Self { source: source.to_owned(), options, compiled })
    }

    /// A string the pattern is found in, or the same regular expression stored as a value.
    pub fn matches(&self, value: RawBsonRef<'_>) -> bool {
        match value {
            RawBsonRef::String(text) | RawBsonRef::Symbol(text) => self.compiled.is_match(text),
            RawBsonRef::RegularExpression(regex) => *regex.pattern == *self.source && *regex.options == *self.options,
            _ => false,
        }
    }

    /// What every matching string begins with, for an index to start from: `^abc`. Regular expressions stored
    /// as values match beside it.
    pub fn prefix(&self) -> Option<String> {
        let rest = self.source.strip_prefix('^').filter(|_| self.options.is_empty())?;
        let mut prefix = String::new();
        let mut chars = rest.chars().peekable();
        while let Some(next) = chars.next() {
            let literal = match next {
                '\\' => chars.next().filter(|escaped| escaped.is_ascii_punctuation()),
                '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => None,
                plain => Some(plain),
            };
            match (literal, chars.peek()) {
                (_, _) if rest.contains('|') => return None,
                // What follows may make this last one optional.
                (Some(_), Some('*' | '?' | '{')) | (None, _) => break,
                (Some(literal), _) => prefix.push(literal),
            }
        }
        (!prefix.is_empty()).then_some(prefix)
    }
}
