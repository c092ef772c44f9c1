//! What a bundle must not tell: who people are, where they are, and anything that opens a door.

use aws_lc_rs::hmac;
use regex::{Captures, Regex};
use std::borrow::Cow;

/// What is looked for, and what stands in its place. In this order: a token may look like an address.
const PATTERNS: [(&str, &str); 5] = [
    // Tokens (RFC 7519) and whatever is signed likewise.
    (r"eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]+)*", "token"),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "authorization"),
    // Within a URL, before the host.
    (r"://[^/\s:@]+(:[^/\s@]*)?@", "user"),
    (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", "mail"),
    (r"-----BEGIN [A-Z ]+-----[^-]*-----END [A-Z ]+-----", "pem"),
];

/// The same word has the same name throughout one bundle, and another in each.
pub struct Redactor {
    key: hmac::Key,
    patterns: Vec<(Regex, &'static str)>,
    addresses: Regex,
}

impl Redactor {
    pub fn new(key: [u8; 32]) -> Self {
        let regex = |pattern: &str| Regex::new(pattern).expect("a pattern that a test compiles");
        let patterns = PATTERNS.iter().map(|(pattern, name)| (regex(pattern), *name)).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Self {
            key,
            patterns,
            addresses: regex(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f.:]+\b"),
        }
    }

    pub fn redact(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for (pattern, name) in &self.patterns {
            let kept = |found: &str| match *name {
                "user" => format!("://{}@", self.name(name, found)),
                _ => self.name(name, found),
            };
            text = Cow::Owned(pattern.replace_all(&text, |found: &Captures<'_>| kept(&found[0])).into_owned());
        }
        let address = |found: &Captures<'_>| match found[0].parse::<std::net::IpAddr>() {
            Ok(address) if address.is_loopback() || address.is_unspecified() => found[0].to_owned(),
            Ok(_) => self.name("ip", &found[0]),
            Err(_) => found[0].to_owned(),
        };
        self.addresses.replace_all(&text, address).into_owned()
    }

    fn name(&self, kind: &str, word: &str) -> String {
        format!("<{kind}-{}>", hex::encode(&hmac::sign(&self.key, word.as_bytes()).as_ref()[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_places_and_doors_have_other_names() {
        let redactor = Redactor::new([7; 32]);
        let text = "ana@example.cd from 198.51.100.7 and 2001:db8::7, again ana@example.cd; \
                    Authorization: Bearer abcdef0123456789 eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2ln \
                    smtps://user:word@mail.example.cd at 127.0.0.1:9464 [::1] 2026-11-22T10:15:00.123Z 12:30:45 v0.1.0 \
                    debrouille_appliance::http::gates";
        let redacted = redactor.redact(text);
        for gone in ["ana@", "198.51", "2001:db8", "abcdef0123", "eyJ", "user:word", "c2ln"] {
            assert!(!redacted.contains(gone), "{gone} in {redacted}");
        }
        for kept in [
            "127.0.0.1:9464",
            "[::1]",
            "2026-11-22T10:15:00.123Z",
            "12:30:45",
            "v0.1.0",
            "debrouille_appliance::http::gates",
            "smtps://<user-",
            "@mail.example.cd",
        ] {
            assert!(redacted.contains(kept), "{kept} in {redacted}");
        }
        let names: Vec<_> = redacted.match_indices("<mail-").map(|(at, _)| &redacted[at..at + 15]).collect();
        assert_eq!((names.len(), names[0]), (2, names[1]), "the same is the same");
        assert_ne!(Redactor::new([8; 32]).redact("ana@example.cd"), redactor.redact("ana@example.cd"));
    }
}
