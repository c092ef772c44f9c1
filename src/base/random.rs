//! Randomness from the operating system, through one door.

use super::clock::Timestamp;

/// Fills with bytes fit for keys.
pub fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the kernel's generator answers once the system has started");
}

pub fn array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A UUIDv7 (RFC 9562): ids made one after the other lie side by side in an index.
pub fn id(now: Timestamp) -> String {
    let millis = u64::try_from(now.0).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &array::<10>()).into_uuid().to_string()
}
