//! MongoDB's patterns (PCRE) rewritten for an engine without backtracking (crate `regex`): what means the same is
//! passed on, what is written otherwise is rewritten, and what only backtracking can do is refused there.
//!
//! Classes such as `\d` stand for ASCII in the one and for all of Unicode in the other; `$` also stands before a
//! last line end in the one; brackets inside a class are plain in the one.
//!
//! One difference stays: with the option `m`, `^` also stands at the empty line after a last line end.

use std::{iter::Peekable, str::Chars};

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\x0B\f\r\x20";
const ACROSS: &str = r"\t\x20\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";
const DOWN: &str = r"\n\x0B\f\r\x{85}\x{2028}\x{2029}";
const LAST: &str = r"(?:\n?\z)";

/// `Err`: what is not supported.
pub(super) fn rewrite(source: &str, options: &str) -> Result<String, &'static str> {
    let mut scan = Scan {
        chars: source.chars().peekable(),
        out: String::with_capacity(source.len() + 16),
        // Where lines may be asked for, `$` means the same in both.
        lines: options.contains('m') || inline_flag(source, 'm'),
        extended: options.contains('x') || inline_flag(source, 'x'),
    };
    scan.pattern()?;
    Ok(scan.out)
}

/// Whether the pattern sets a flag within itself: `(?m)`, `(?im:…)`.
fn inline_flag(source: &str, flag: char) -> bool {
    source.split("(?").skip(1).any(|rest| {
        let flags = rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        !flags.starts_with('P') && flags.contains(flag)
    })
}

struct Scan<'a> {
    chars: Peekable<Chars<'a>>,
    out: String,
    lines: bool,
    extended: bool,
}

impl Scan<'_> {
    fn pattern(&mut self) -> Result<(), &'static str> {
        let mut repeated = false;
        while let Some(next) = self.chars.next() {
            let repeats = match next {
                '*' | '+' | '?' => true,
                '{' if self.is_repetition() => {
                    self.out.push('{');
                    self.copy_through('}');
                    if repeated {
                        return Err("a repetition of a repetition");
                    }
                    repeated = true;
                    continue;
                }
                _ => false,
            };
            match next {
                '?' if repeated => {
                    self.out.push('?');
                    repeated = false;
                    continue;
                }
                '*' | '+' if repeated => return Err("a possessive repetition"),
                '\\' => self.escape()?,
                '[' => self.class()?,
                '{' => self.out.push_str(r"\{"),
                '$' if !self.lines => self.out.push_str(LAST),
                '(' => self.group()?,
                '#' if self.extended => {
                    self.out.push('#');
                    self.copy_through('\n');
                }
                plain => self.out.push(plain),
            }
            repeated = repeats;
        }
        Ok(())
    }

    /// Whether `{` starts `n}`, `n,}` or `n,m}`; otherwise it is a plain character.
    fn is_repetition(&self) -> bool {
        let ahead: String = self.chars.clone().take_while(|c| *c != '}').collect();
        let closed = self.chars.clone().any(|c| c == '}');
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (least, most) = ahead.split_once(',').unwrap_or((&ahead, ""));
        closed && !least.is_empty() && number(least) && number(most)
    }

    fn copy_through(&mut self, last: char) {
        for next in self.chars.by_ref() {
            self.out.push(next);
            if next == last {
                break;
            }
        }
    }

    fn group(&mut self) -> Result<(), &'static str> {
        let mut ahead = self.chars.clone();
        if ahead.next() != Some('?') {
            self.out.push('(');
            return Ok(());
        }
        let mut flags = ahead.take_while(char::is_ascii_alphabetic);
        match self.chars.clone().nth(1) {
            Some('#') => while self.chars.next().is_some_and(|c| c != ')') {},
            Some('P') => self.out.push('('),
            _ if flags.any(|flag| !"imsxU".contains(flag)) => return Err("this kind of group"),
            _ => self.out.push('('),
        }
        Ok(())
    }

    /// After a backslash, outside a class.
    fn escape(&mut self) -> Result<(), &'static str> {
        let Some(next) = self.chars.next() else { return Err("a pattern that ends in a backslash") };
        match next {
            // Case does not reach into the classes, or `ſ` would be a word character.
            'd' | 'w' | 's' | 'h' | 'v' | 'D' | 'W' | 'S' | 'H' | 'V' => {
                self.out.push_str("(?-i:");
                self.out.push_str(&shorthand(next));
                self.out.push(')');
            }
            'b' => self.out.push_str(r"(?-u:\b)"),
            'Z' => self.out.push_str(LAST),
            'e' => self.out.push_str(r"\x1B"),
            'Q' => self.quoted(),
            'E' => {}
            'u' | 'U' => return Err(r"\u; write \x{…}"),
            c if c.is_ascii_alphanumeric() => self.named(c),
            plain => self.literal(plain),
        }
        Ok(())
    }

    /// `\t`, `\x{c9}`, `\p{Lu}`: as it is.
    fn named(&mut self, name: char) {
        self.out.extend(['\\', name]);
        if matches!(name, 'x' | 'p' | 'P') && self.chars.peek() == Some(&'{') {
            self.copy_through('}');
        }
    }

    fn quoted(&mut self) {
        while let Some(next) = self.chars.next() {
            if next == '\\' && self.chars.peek() == Some(&'E') {
                self.chars.next();
                return;
            }
            self.literal(next);
        }
    }

    fn literal(&mut self, plain: char) {
        if plain.is_ascii_whitespace() || plain == '#' {
            self.out.push_str(&format!(r"\x{:02X}", u32::from(plain)));
        } else {
            self.out.push_str(&regex::escape(plain.encode_utf8(&mut [0; 4])));
        }
    }

    fn class(&mut self) -> Result<(), &'static str> {
        self.out.push('[');
        if self.chars.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        if self.chars.next_if_eq(&']').is_some() {
            self.out.push_str(r"\]");
        }
        while let Some(next) = self.chars.next() {
            match next {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.chars.peek() == Some(&':') => {
                    self.out.push('[');
                    self.copy_through(']');
                }
                '\\' => match self.chars.next() {
                    Some(c @ ('d' | 'w' | 's' | 'h' | 'v' | 'D' | 'W' | 'S' | 'H' | 'V')) => {
                        self.out.push_str(&shorthand(c));
                    }
                    Some('b') => self.out.push_str(r"\x08"),
                    Some('e') => self.out.push_str(r"\x1B"),
                    Some(c) if c.is_ascii_alphanumeric() => self.named(c),
                    Some(plain) => self.literal(plain),
                    None => return Err("a pattern that ends in a backslash"),
                },
                '-' if self.chars.peek() != Some(&'-') => self.out.push('-'),
                '-' => {
                    self.chars.next();
                    self.out.push_str(r"-\-");
                }
                plain => self.literal(plain),
            }
        }
        Err("a class without its closing bracket")
    }
}

fn shorthand(name: char) -> String {
    let set = match name.to_ascii_lowercase() {
        'd' => DIGIT,
        'w' => WORD,
        's' => SPACE,
        'h' => ACROSS,
        _ => DOWN,
    };
    format!("[{}{set}]", if name.is_ascii_uppercase() { "^" } else { "" })
}
