//! The right edge of a growing tree: all that is needed to append and to know the root.

use super::{Hash, TILE, empty, fold, tiles::Place};

/// A tile that has just become full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    pub place: Place,
    pub hashes: Vec<Hash>,
}

/// The tiles that are not full yet, lowest level first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// From the unfinished tile of each level, as [`Edge::shape`] counts them. `None`: their lengths say another size.
    pub fn new(size: u64, levels: Vec<Vec<Hash>>) -> Option<Self> {
        let lengths = levels.iter().map(Vec::len).collect::<Vec<_>>();
        (lengths == Self::shape(size)).then_some(Self { size, levels })
    }

    /// How many hashes each unfinished tile of a tree of this size has.
    pub fn shape(size: u64) -> Vec<usize> {
        let tile = TILE as u64;
        std::iter::successors(Some(size), |rest| Some(rest / tile))
            .take_while(|rest| *rest > 0)
            .map(|rest| (rest % tile) as usize)
            .collect()
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The unfinished tile of a level.
    pub fn level(&self, level: usize) -> &[Hash] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// Appends a leaf by its hash; `full` is given each tile this completes.
    pub fn append(&mut self, leaf: Hash, mut full: impl FnMut(Full)) {
        self.size += 1;
        let (mut hash, mut level) = (leaf, 0);
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE));
            }
            let Some(tile) = self.levels.get_mut(level) else { return };
            tile.push(hash);
            if tile.len() < TILE {
                return;
            }
            let Some(root) = fold(tile) else { return };
            let index = (self.size >> (8 * (level + 1))).saturating_sub(1);
            let hashes = std::mem::take(tile);
            full(Full { place: Place { level: level as u32, index }, hashes });
            (hash, level) = (root, level + 1);
        }
    }

    pub fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for tile in &self.levels {
            right = match right {
                None => fold(tile),
                Some(right) => fold(&[tile.as_slice(), &[right]].concat()),
            };
        }
        right.unwrap_or_else(empty)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::leaf, *};

    #[test]
    fn grows_to_the_root_of_all_leaves_and_comes_back_from_its_tiles() {
        let mut edge = Edge::default();
        assert_eq!(edge.root(), empty());
        let (mut leaves, mut tiles) = (Vec::new(), Vec::new());
        for number in 0..66_000_u32 {
            let hash = leaf(&number.to_be_bytes());
            leaves.push(hash);
            edge.append(hash, |full| tiles.push(full));
            if number < 600 || number % 9973 == 0 || (65_530..65_540).contains(&number) {
                assert_eq!(edge.root(), fold(&leaves).unwrap(), "{number}");
                let levels = edge.levels.clone();
                assert_eq!(Edge::new(edge.size, levels).as_ref(), Some(&edge));
            }
        }
        assert_eq!(tiles.iter().filter(|full| full.place.level == 0).count(), 257);
        let high: Vec<_> = tiles.iter().filter(|full| full.place.level == 1).collect();
        assert_eq!(high.len(), 1);
        assert_eq!((high[0].place.index, high[0].hashes[255]), (0, fold(&leaves[65_280..65_536]).unwrap()));
        assert!(tiles.iter().zip(&tiles[1..]).all(|(one, other)| one.place != other.place));
        assert_eq!(Edge::new(5, vec![leaves[..4].to_vec()]), None);
    }
}
