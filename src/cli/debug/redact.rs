//! What a bundle must not tell: who people are, where they are, and anything that opens a door.

use aws_lc_rs::hmac;
use regex::{Captures, Regex};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

/// What is looked for, and what stands in its place. In this order: a token may look like an address.
const PATTERNS: [(&str, &str); 7] = [
    // Our own keys and shares, of people and machines.
    (r"\bdbk_[A-Za-z0-9_-]+|\bdebrouille-(share|root-key|key)-[0-9]+[-:]\S+", "key"),
    // Tokens (RFC 7519) and whatever is signed likewise.
    (r"eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]+)*", "token"),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "authorization"),
    // Within a URL, before the host; a password may hold what a path begins with.
    (r#"://[^\s"'<>@]*(:[^\s"'<>]*)?@"#, "user"),
    (r"[\p{L}\p{N}._%+-]+(@|%40)[\p{L}\p{N}-]+(\.[\p{L}\p{N}-]+)*", "mail"),
    (r"-----BEGIN [A-Z ]+-----[^-]*-----END [A-Z ]+-----", "pem"),
    (r"\+[0-9]{6,15}\b", "telephone"),
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
        Self { key, patterns, addresses: regex(r"(\\[a-z])?([0-9A-Za-z_:.]+)") }
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
        // An escape of JSON's may stand before a word.
        let address = |found: &Captures<'_>| {
            let (escape, word) = (found.get(1).map_or("", |escape| escape.as_str()), &found[2]);
            format!("{escape}{}", self.address(word).unwrap_or_else(|| word.to_owned()))
        };
        self.addresses.replace_all(&text, address).into_owned()
    }

    /// Another's address under another name; `None`: it is none, or this machine's own.
    fn address(&self, word: &str) -> Option<String> {
        let read = |word: &str| {
            let address = word.parse::<IpAddr>().or_else(|_| word.parse::<SocketAddr>().map(|socket| socket.ip()));
            address.ok().map(|address| address.to_canonical())
        };
        let address = read(word).or_else(|| read(word.trim_end_matches(['.', ':'])))?;
        (!address.is_loopback() && !address.is_unspecified()).then(|| self.name("ip", &address.to_string()))
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
        let hard = "josé@exemple.cd ana%40example.cd ana@hôpital.cd ana@localhost redis://:secret@localhost s3://k:ab/cd@host \
                    2001:db8:1:2::/64 ::ffff:c633:6407 [::2] \\n198.51.100.9 198.51.100.9:443 dbk_abc_DEF-1 +243998877665 \
                    debrouille-share-1-abc";
        let redacted_hard = redactor.redact(hard);
        for gone in [
            "josé",
            "ana%40",
            "ana@",
            "secret",
            "ab/cd",
            "2001",
            "c633",
            "::2]",
            "198.51",
            "dbk_",
            "998877",
            "share-1-abc",
        ] {
            assert!(!redacted_hard.contains(gone), "{gone} in {redacted_hard}");
        }
        assert!(redacted_hard.contains("/64") && redacted_hard.contains("\\n<ip-"), "{redacted_hard}");
        let names: Vec<_> = redacted.match_indices("<mail-").map(|(at, _)| &redacted[at..at + 15]).collect();
        assert_eq!((names.len(), names[0]), (2, names[1]), "the same is the same");
        assert_ne!(Redactor::new([8; 32]).redact("ana@example.cd"), redactor.redact("ana@example.cd"));
    }
}
