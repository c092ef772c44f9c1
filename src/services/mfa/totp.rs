//! Codes of an authenticator app: TOTP (RFC 6238), SHA-1, six digits, thirty seconds, as every such app has them.

use crate::base::{clock::Timestamp, random};
use aws_lc_rs::hmac;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

const PERIOD: i64 = 30;
const DIGITS: u32 = 6;
/// Bytes of a secret (RFC 4226, section 4).
const SECRET: usize = 20;

pub fn secret() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(random::array::<SECRET>().to_vec())
}

/// The step whose code this is, if it is the present one or a neighbour (clocks differ) and later than the last used.
pub fn step(secret: &[u8], code: &str, now: Timestamp, last: i64) -> Option<i64> {
    let code: Zeroizing<String> = Zeroizing::new(code.chars().filter(|c| !c.is_whitespace()).collect());
    let present = now.seconds().div_euclid(PERIOD);
    let mut found = None;
    for step in (present - 1)..=(present + 1) {
        let same: Choice = self::code(secret, step).as_bytes().ct_eq(code.as_bytes());
        if bool::from(same) && step > last {
            found = found.or(Some(step));
        }
    }
    found
}

fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let offset = usize::from(bytes.last().copied().unwrap_or_default() & 0x0f);
    let word = bytes.iter().skip(offset).take(4).fold(0u32, |word, byte| (word << 8) | u32::from(*byte));
    format!("{:06}", (word & 0x7fff_ffff) % 10u32.pow(DIGITS))
}

/// What an authenticator app takes, typed or as a QR code.
pub fn uri(secret: &[u8], issuer: &str, account: &str) -> Zeroizing<String> {
    let (issuer, account) = (escape(issuer), escape(account));
    let secret = Zeroizing::new(base32(secret));
    Zeroizing::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD}",
        *secret
    ))
}

/// RFC 4648, without padding.
pub fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |five: u32| char::from(LETTERS[(five & 31) as usize]);
    let (mut text, mut held, mut bits) = (String::with_capacity(bytes.len().div_ceil(5) * 8), 0u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

/// RFC 3986: all but the unreserved.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"12345678901234567890";

    #[test]
    fn the_codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six digits.
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(KEY, seconds / PERIOD), expected);
            assert_eq!(step(KEY, expected, Timestamp(seconds * 1000), 0), Some(seconds / PERIOD));
        }
    }

    #[test]
    fn a_step_too_far_or_used_before_is_refused() {
        let now = Timestamp(3_000_000);
        for (away, taken) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            assert_eq!(step(KEY, &code(KEY, 100 + away), now, 0).is_some(), taken, "{away}");
        }
        assert_eq!(step(KEY, &code(KEY, 100), now, 100), None);
        assert_eq!(step(KEY, &code(KEY, 99), now, 100), None, "an older code after a newer one");
        for wrong in ["", "1234567", "abcdef", "１２３４５６"] {
            assert_eq!(step(KEY, wrong, now, 0), None);
        }
    }

    #[test]
    fn an_app_reads_the_secret() {
        // RFC 4648, section 10.
        for (bytes, text) in [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foobar", "MZXW6YTBOI"), ("fooba", "MZXW6YTB")] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let uri = uri(b"fooba", "a.example", "ana+b@c.cd");
        assert!(
            uri.starts_with("otpauth://totp/a.example:ana%2Bb%40c.cd?secret=MZXW6YTB&issuer=a.example&"),
            "{}",
            *uri
        );
    }
}
