//! Requests signed as AWS Signature Version 4 demands, in their headers, the body's digest included: whoever takes the
//! request has proof of every byte, whatever else the server can check.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use super::Credential;
use crate::base::clock::Timestamp;
use aws_lc_rs::{digest, hmac};
use std::fmt::Write;
use zeroize::Zeroizing;

/// What is signed. Queries and headers are in plain text.
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// Percent-encoded, from `/`.
    pub path: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    /// In lower case: `host`, `x-amz-date` of this moment, `x-amz-content-sha256` and whatever else is sent.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body's digest, as the headers say it.
    pub digest: &'a str,
}

/// The value of the header `authorization`.
pub fn authorization(unsigned: &Unsigned<'_>, credential: &Credential, region: &str, now: Timestamp) -> String {
    let mut headers: Vec<_> = unsigned.headers.iter().map(|(name, value)| (*name, value.trim())).collect();
    headers.sort_unstable();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut request = format!("{}\n{}\n{}\n", unsigned.method, unsigned.path, query(unsigned.query));
    for (name, value) in headers {
        let _ = writeln!(request, "{name}:{value}");
    }
    let _ = write!(request, "\n{names}\n{}", unsigned.digest);
    let time = date(now);
    let day = time.split('T').next().unwrap_or_default();
    let scope = format!("{day}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(sha256(request.as_bytes())));
    let start = Zeroizing::new(format!("AWS4{}", *credential.secret).into_bytes());
    let key = [day, region, "s3", "aws4_request"].iter().fold(start, |key, part| mac(&key, part));
    let (id, signature) = (&credential.key, hex::encode(&*mac(&key, &text)));
    format!("AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}")
}

/// A query as it is signed and sent: sorted and percent-encoded.
pub fn query(parts: &[(&str, &str)]) -> String {
    let mut parts: Vec<_> = parts.iter().map(|(name, value)| (encoded(name, false), encoded(value, false))).collect();
    parts.sort_unstable();
    parts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encoded but for RFC 3986's unreserved characters, and slashes where they part a path.
pub fn encoded(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if path => out.push('/'),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// `20261126T171310Z`.
pub fn date(now: Timestamp) -> String {
    Timestamp(now.seconds() * 1000).rfc3339().chars().filter(char::is_ascii_alphanumeric).collect()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn mac(key: &[u8], text: &str) -> Zeroizing<Vec<u8>> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    Zeroizing::new(tag.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the page above, of 24 May 2013.
    fn signature(method: &str, path: &str, query: &[(&str, &str)], more: &[(&str, &str)], body: &[u8]) -> String {
        let now = Timestamp(1_369_353_600_000);
        let (digest, date) = (hex::encode(sha256(body)), date(now));
        let fixed = [("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", &digest)];
        let headers = [&fixed[..], &[("x-amz-date", &date)], more].concat();
        let credential = Credential {
            key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        };
        let unsigned = Unsigned { method, path, query, headers: &headers, digest: &digest };
        let authorization = authorization(&unsigned, &credential, "us-east-1", now);
        authorization.rsplit_once('=').unwrap().1.to_owned()
    }

    #[test]
    fn the_published_examples_are_signed_as_published() {
        assert_eq!(
            signature("GET", "/test.txt", &[], &[("range", "bytes=0-9")], b""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let more = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        assert_eq!(
            signature("PUT", "/test%24file.text", &[], &more, b"Welcome to Amazon S3."),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature("GET", "/", &[("lifecycle", "")], &[], b""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature("GET", "/", &[("prefix", "J"), ("max-keys", "2")], &[], b""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn paths_keep_their_slashes_and_queries_do_not() {
        assert_eq!(encoded("a b/é~", true), "a%20b/%C3%A9~");
        assert_eq!(query(&[("prefix", "a/b"), ("list-type", "2")]), "list-type=2&prefix=a%2Fb");
    }
}
