//! Regular expressions of filters: MongoDB's syntax and options on an engine that never backtracks.

use super::syntax;
use crate::base::fault::Fault;
use bson::RawBsonRef;
use regex::{Regex, RegexBuilder};

/// Bytes of a pattern's source, at most.
pub const MAX_PATTERN: usize = 1024;
/// Patterns of one filter, or of one update, at most: each is compiled and kept.
pub const MAX_PATTERNS: usize = 100;
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
        let unsupported = |reason: &dyn std::fmt::Display| Fault::new("query.pattern").at(path).with("reason", reason);
        let rewritten = syntax::rewrite(source, options).map_err(|reason| unsupported(&reason))?;
        let compiled = RegexBuilder::new(&rewritten)
            .case_insensitive(options.contains('i'))
            .multi_line(options.contains('m'))
            .dot_matches_new_line(options.contains('s'))
            .ignore_whitespace(options.contains('x'))
            .nest_limit(100)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| unsupported(&error))?;
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
        // A repetition reaches over an empty quotation or a comment to what stands before.
        if ["|", r"\E", "(?#"].iter().any(|elsewhere| rest.contains(elsewhere)) {
            return None;
        }
        let mut prefix = String::new();
        let mut chars = rest.chars().peekable();
        while let Some(next) = chars.next() {
            let literal = match next {
                '\\' => chars.next().filter(|escaped| escaped.is_ascii_punctuation()),
                '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => None,
                plain => Some(plain),
            };
            match (literal, chars.peek()) {
                // What follows may make this last one optional.
                (Some(_), Some('*' | '?' | '{')) | (None, _) => break,
                (Some(literal), _) => prefix.push(literal),
            }
        }
        (!prefix.is_empty()).then_some(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str, options: &str, text: &str) -> bool {
        Pattern::parse(source, options, "a").expect("a pattern").matches(RawBsonRef::String(text))
    }

    #[test]
    fn means_what_pcre_means() {
        for (source, text, expected) in [
            (r"^\d$", "7", true),
            (r"^\d$", "٧", false),
            (r"^\w+$", "é", false),
            (r"end$", "end\n", true),
            (r"end\z", "end\n", false),
            (r"end\Z", "end\n", true),
            (r"[[]a]", "[a]", true),
            (r"[]a]+", "]", true),
            (r"^[\d_-]+$", "1_-", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[+--]$", ",", true),
            (r"a{,2}", "a{,2}", true),
            (r"^a{2}$", "aa", true),
            (r"\Qa.b\E", "axb", false),
            (r"\<b\>", "<b>", true),
            (r"a(?#note)b", "ab", true),
            (r"^\p{Lu}", "É", true),
            (r"(?i)^é$", "É", true),
            (r"^a\E*b", "b", true),
            (r"^a(?#note)*b", "b", true),
            (r"^a+\E*b", "b", true),
        ] {
            assert_eq!(found(source, "", text), expected, "{source} in {text:?}");
        }
        assert!(found("^two$", "m", "one\ntwo\nthree"));
        assert!(found("a.b", "s", "a\nb"));
        assert!(found("a b # note\n c", "x", "abc"));
        assert!(found("[ ]", "x", " "));
    }

    #[test]
    fn refuses_what_needs_backtracking_and_what_is_too_large() {
        for source in ["(a)\\1", "(?=a)", "(?<!a)b", "a++b", "(?>a)", "(?R)", "a**", "(", "a\\"] {
            let fault = Pattern::parse(source, "", "a").expect_err(source);
            assert_eq!((fault.key, fault.path.as_str()), ("query.pattern", "a"), "{source}");
        }
        assert!(Pattern::parse("((a{1000}){1000}){1000}", "", "a").is_err());
        assert_eq!(Pattern::parse(&"a".repeat(1025), "", "a").map_err(|f| f.key).err(), Some("query.pattern_length"));
        assert_eq!(Pattern::parse("a", "g", "a").map_err(|f| f.key).err(), Some("query.pattern_option"));
    }

    #[test]
    fn a_prefix_is_only_what_every_match_begins_with() {
        let prefix = |source: &str| Pattern::parse(source, "", "a").expect("a pattern").prefix();
        assert_eq!(prefix("^abc").as_deref(), Some("abc"));
        assert_eq!(prefix("^abc.*d").as_deref(), Some("abc"));
        assert_eq!(prefix("^abc*").as_deref(), Some("ab"));
        assert_eq!(prefix(r"^a\.b+").as_deref(), Some("a.b"));
        assert_eq!(prefix("^a|b"), None);
        assert_eq!(prefix("abc"), None);
        assert_eq!(prefix("^a?b"), None);
        assert_eq!(prefix(r"^ab\d").as_deref(), Some("ab"));
        assert_eq!(prefix("^ab(c)").as_deref(), Some("ab"));
        for source in [r"^ab\E*c", "^ab(?#note)*c", r"^ab+\E*c", "^ab+(?#note)*c", r"^ab\Q\E?c", r"^a\.\E{0}c"] {
            assert_eq!(prefix(source), None, "{source}");
        }
        assert!(Pattern::parse("^a", "i", "a").expect("a pattern").prefix().is_none());
    }
}
