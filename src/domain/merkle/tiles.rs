//! Tiles by their place, as nodes for proofs; and which tiles a proof needs.

use super::{HEIGHT, Hash, Nodes, fold};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// Where a tile is: level 0 holds the leaves, each next level the roots of full tiles of the one below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub level: u32,
    pub index: u64,
}

impl Place {
    /// The tile that holds a node, and how many of its hashes from where make it.
    fn of(level: u32, index: u64) -> (Self, usize, usize) {
        let (height, within) = (level / HEIGHT, level % HEIGHT);
        let first = index << within;
        (Self { level: height, index: first >> HEIGHT }, (first & 0xff) as usize, 1 << within)
    }
}

/// Tiles held in memory, full or not.
#[derive(Debug, Clone, Default)]
pub struct Tiles(pub BTreeMap<Place, Vec<Hash>>);

impl Nodes for Tiles {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let (place, from, count) = Place::of(level, index);
        fold(self.0.get(&place)?.get(from..from + count)?)
    }
}

/// Knows nothing but what it is asked.
#[derive(Default)]
struct Asked(RefCell<BTreeSet<Place>>);

impl Nodes for Asked {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        self.0.borrow_mut().insert(Place::of(level, index).0);
        Some([0; 32])
    }
}

impl Tiles {
    /// The tiles a proof is made of.
    pub fn needed(proof: impl FnOnce(&dyn Nodes)) -> BTreeSet<Place> {
        let asked = Asked::default();
        proof(&asked);
        asked.0.into_inner()
    }
}
