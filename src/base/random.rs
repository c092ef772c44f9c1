//! Randomness from the operating system, through one door.

use super::clock::Timestamp;
use std::convert::Infallible;
use zeroize::Zeroizing;

/// Fills with bytes fit for keys.
pub fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the kernel's generator answers once the system has started");
}

pub fn array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// The same door, for libraries that draw for themselves.
pub struct Source;

impl rand_core::TryRng for Source {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes(array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes(array()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        fill(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Source {}

/// A UUIDv7 (RFC 9562): ids made one after the other lie side by side in an index.
pub fn id(now: Timestamp) -> String {
    let millis = u64::try_from(now.0).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &array::<10>()).into_uuid().to_string()
}

/// A password of five groups of four letters and digits that cannot be mistaken for one another: 100 bits.
pub fn password() -> Zeroizing<String> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let bytes = Zeroizing::new(array::<20>());
    let mut text = Zeroizing::new(String::with_capacity(24));
    for (place, byte) in bytes.iter().enumerate() {
        if place % 4 == 0 && place > 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (password(), password());
        assert_eq!(one.len(), 24);
        assert_ne!(one, other);
    }
}
