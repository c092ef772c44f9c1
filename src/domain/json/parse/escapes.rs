//! Escapes within strings: short ones, and `\uXXXX` with its surrogates.

use super::{Parser, Result};

impl Parser<'_> {
    pub(super) fn escape(&mut self) -> Result<()> {
        let start = self.at;
        self.at += 1;
        let byte = match self.peek() {
            Some(b'u') => {
                let character = self.unicode(start)?;
                self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0C,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(_) => {
                self.at = start;
                return Err(self.unreadable("json.escape"));
            }
            None => return Err(self.unreadable("json.truncated")),
        };
        self.out.push(byte);
        self.at += 1;
        Ok(())
    }

    /// `uXXXX`, or a pair of surrogates; a lone one stands for no character.
    fn unicode(&mut self, start: usize) -> Result<char> {
        let unit = self.hex_unit(start)?;
        let code = match unit {
            0xD800..=0xDBFF => {
                let follows = self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u");
                if !follows {
                    self.at = start;
                    return Err(self.unreadable("json.surrogate"));
                }
                self.at += 1;
                let low = self.hex_unit(start)?;
                if !(0xDC00..=0xDFFF).contains(&low) {
                    self.at = start;
                    return Err(self.unreadable("json.surrogate"));
                }
                0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            _ => unit,
        };
        char::from_u32(code).ok_or_else(|| {
            self.at = start;
            self.unreadable("json.surrogate")
        })
    }

    fn hex_unit(&mut self, start: usize) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let Some(digits) = digits else {
            self.at = self.text.len();
            return Err(self.unreadable("json.truncated"));
        };
        let mut unit = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else {
                self.at = start;
                return Err(self.unreadable("json.escape"));
            };
            unit = unit * 16 + value;
        }
        self.at += 5;
        Ok(unit)
    }
}
