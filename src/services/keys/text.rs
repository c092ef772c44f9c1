//! How an API key is written: `dbk_ID_SECRET_CHECK`. The prefix is for those who search for leaked secrets, the check
//! (the start of a SHA-256 over the rest) tells a slip of the pen from a guess without a look at the store.

use crate::base::secret;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub const PREFIX: &str = "dbk_";
/// `dbk_`, 32 digits, 43 letters, 8 digits and what holds them apart.
const LENGTH: usize = 4 + 32 + 1 + 43 + 1 + 8;

/// A new key for the id of its document: its words, and what is kept of its secret.
pub fn make(id: &str) -> (Zeroizing<String>, String) {
    let secret = secret::make();
    let mut words = Zeroizing::new(String::with_capacity(LENGTH));
    words.push_str(PREFIX);
    words.extend(id.chars().filter(|c| *c != '-'));
    words.push('_');
    words.push_str(&secret);
    let check = check(&words);
    words.push('_');
    words.push_str(&check);
    (words, hex::encode(digest(&secret)))
}

/// The id of a key's document and the digest of its secret.
pub fn read(words: &str) -> Option<(String, [u8; 32])> {
    let (body, check_) = words.rsplit_once('_')?;
    if words.len() != LENGTH || check(body) != check_ {
        return None;
    }
    let (id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
    let id = uuid::Uuid::try_parse(id).ok()?.to_string();
    Some((id, digest(secret)))
}

/// 256 random bits need neither salt nor a slow hash.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn check(body: &str) -> String {
    hex::encode(Sha256::digest(body.as_bytes()).iter().take(4).copied().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{clock::Timestamp, random};

    #[test]
    fn a_key_is_read_as_it_was_written() {
        for _ in 0..50 {
            let id = random::id(Timestamp(1_800_000_000_000));
            let (words, kept) = make(&id);
            assert_eq!(words.len(), LENGTH, "{}", *words);
            let (read_id, digest) = read(&words).unwrap();
            assert_eq!((read_id, hex::encode(digest)), (id, kept));
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_seen() {
        let (words, _) = make(&random::id(Timestamp(1)));
        for at in [0, 5, 40, 70, 85] {
            let mut changed = words.as_bytes().to_vec();
            changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
            assert_eq!(read(std::str::from_utf8(&changed).unwrap()), None, "{at}");
        }
        for bad in ["", "dbk_", "dbk___", &words.to_uppercase(), &format!("{}_", *words), &words.replace("dbk_", "é_")]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
