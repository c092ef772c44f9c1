//! The Merkle tree of the audit log: hashes as RFC 9162 makes them, tiles of 256 as C2SP's tlog-tiles lays them out.

mod edge;
mod proof;
mod tiles;

pub use edge::{Edge, Full};
pub use proof::{consistency, inclusion, root, verify_consistency, verify_inclusion};
pub use tiles::{Place, Tiles};

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// Hashes of a full tile, and the levels of the tree one spans.
pub const TILE: usize = 256;
const HEIGHT: u32 = 8;

/// Complete subtrees: `level` 0 are the leaves, `index` counts the subtrees of that level from the left.
pub trait Nodes {
    /// `None`: not known here.
    fn node(&self, level: u32, index: u64) -> Option<Hash>;
}

pub fn leaf(content: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(content).finalize().into()
}

pub fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves.
pub fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The root over subtrees that stand side by side, all complete and as large as the first; the last may be smaller.
/// `None`: there are none.
pub fn fold(subtrees: &[Hash]) -> Option<Hash> {
    match subtrees {
        [] => None,
        [one] => Some(*one),
        _ => {
            let (left, right) = subtrees.split_at(split(subtrees.len() as u64) as usize);
            Some(node(&fold(left)?, &fold(right)?))
        }
    }
}

/// The largest power of two below a size of two or more: how many leaves the left half has.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        let hex = |hash: Hash| hex::encode(hash);
        assert_eq!(hex(empty()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(leaf(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        // The test tree of Certificate Transparency's reference implementation.
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let leaves = leaves.map(leaf);
        assert_eq!(hex(fold(&leaves).unwrap()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        assert_eq!(
            hex(fold(&leaves[..3]).unwrap()),
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
        );
    }

    #[test]
    fn the_left_half_is_a_power_of_two() {
        for (size, left) in [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8), (u64::MAX, 1 << 63)] {
            assert_eq!(split(size), left, "{size}");
        }
    }
}
