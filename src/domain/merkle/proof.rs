//! Proofs (RFC 9162, 2.1.3 and 2.1.4): that an entry is in a tree, that a tree continues another.

use super::{Hash, Nodes, empty, node, split};

/// The root over leaves `from..to`, a left part of some tree or a right part that follows one.
fn subtree(nodes: &dyn Nodes, from: u64, to: u64) -> Option<Hash> {
    let size = to - from;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return nodes.node(level, from >> level);
    }
    let middle = from + split(size);
    Some(node(&subtree(nodes, from, middle)?, &subtree(nodes, middle, to)?))
}

/// The root of the first `size` leaves.
pub fn root(nodes: &dyn Nodes, size: u64) -> Option<Hash> {
    if size == 0 { Some(empty()) } else { subtree(nodes, 0, size) }
}

/// The siblings from leaf `index` up to the root of `size` leaves. `None`: no such leaf, or a node is not known.
pub fn inclusion(nodes: &dyn Nodes, index: u64, size: u64) -> Option<Vec<Hash>> {
    let mut path = Vec::new();
    let (mut from, mut to) = (0, size);
    if index >= size {
        return None;
    }
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(subtree(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(subtree(nodes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// What shows that the first `old` of `size` leaves have the root they had. `None`: not one within the other, or a
/// node is not known. The empty tree is within any; its proof, as that of a tree with itself, is empty.
pub fn consistency(nodes: &dyn Nodes, old: u64, size: u64) -> Option<Vec<Hash>> {
    if old > size {
        return None;
    }
    if old == 0 || old == size {
        return Some(Vec::new());
    }
    let mut path = Vec::new();
    let (mut from, mut to, mut whole) = (0, size, true);
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(subtree(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(subtree(nodes, from, middle)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(subtree(nodes, from, to)?);
    }
    path.reverse();
    Some(path)
}

/// Whether the path leads from the leaf to the root (2.1.3.2).
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the path shows the tree of `size` to continue that of `old` (2.1.4.2).
pub fn verify_consistency(old: u64, size: u64, old_root: &Hash, root: &Hash, path: &[Hash]) -> bool {
    if old == size {
        return path.is_empty() && old_root == root;
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty();
    }
    if old > size {
        return false;
    }
    let mut rest = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut then, mut now) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            then = node(sibling, &then);
            now = node(sibling, &now);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            now = node(&now, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && then == *old_root && now == *root
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Edge, Place, Tiles, fold, leaf},
        *,
    };
    use proptest::prelude::*;

    /// The standard's own definitions, word for word.
    mod naive {
        use super::{Hash, node, split};

        pub fn root(leaves: &[Hash]) -> Hash {
            match leaves {
                [] => super::empty(),
                [one] => *one,
                _ => {
                    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                    node(&root(left), &root(right))
                }
            }
        }

        pub fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
            if leaves.len() == 1 {
                return Vec::new();
            }
            let k = split(leaves.len() as u64) as usize;
            let (left, right) = leaves.split_at(k);
            let (mut path, other) =
                if index < k { (path(index, left), root(right)) } else { (path(index - k, right), root(left)) };
            path.push(other);
            path
        }

        pub fn proof(old: usize, leaves: &[Hash]) -> Vec<Hash> {
            subproof(old, leaves, true)
        }

        fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
            if old == leaves.len() {
                return if whole { Vec::new() } else { vec![root(leaves)] };
            }
            let k = split(leaves.len() as u64) as usize;
            let (left, right) = leaves.split_at(k);
            let (mut proof, other) = if old <= k {
                (subproof(old, left, whole), root(right))
            } else {
                (subproof(old - k, right, false), root(left))
            };
            proof.push(other);
            proof
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    fn tiles(leaves: &[Hash]) -> Tiles {
        let (mut edge, mut tiles) = (Edge::default(), Tiles::default());
        for leaf in leaves {
            edge.append(*leaf, |full| {
                tiles.0.insert(full.place, full.hashes);
            });
        }
        for level in 0..Edge::shape(edge.size()).len() {
            let index = edge.size() >> (8 * (level + 1));
            tiles.0.insert(Place { level: level as u32, index }, edge.level(level).to_vec());
        }
        tiles
    }

    #[test]
    fn every_proof_up_to_three_hundred_leaves_is_the_standards_and_no_other_holds() {
        let all = leaves(300);
        let tiles = tiles(&all);
        for size in 1..=300_usize {
            let leaves = &all[..size];
            let root = naive::root(leaves);
            assert_eq!(super::root(&tiles, size as u64), Some(root));
            // The standard's own way is slow: all of the small sizes, some of the others.
            let step = if size < 70 { 1 } else { 13 };
            for index in (size % step..size).step_by(step) {
                let path = inclusion(&tiles, index as u64, size as u64).unwrap();
                assert_eq!(path, naive::path(index, leaves));
                assert!(verify_inclusion(index as u64, size as u64, &leaves[index], &path, &root));
                if index % 17 == 0 {
                    assert!(!verify_inclusion(index as u64, size as u64, &leaf(b"other"), &path, &root));
                    assert!(!verify_inclusion(index as u64 + 1, size as u64, &leaves[index], &path, &root));
                    let longer = [path.as_slice(), &[root]].concat();
                    assert!(!verify_inclusion(index as u64, size as u64, &leaves[index], &longer, &root));
                    assert!(
                        path.is_empty()
                            || !verify_inclusion(index as u64, size as u64, &leaves[index], &path[1..], &root)
                    );
                }
            }
            for old in (1 + size % step..=size).step_by(step) {
                let proof = consistency(&tiles, old as u64, size as u64).unwrap();
                assert_eq!(proof, naive::proof(old, leaves), "{old} of {size}");
                let then = naive::root(&leaves[..old]);
                assert!(verify_consistency(old as u64, size as u64, &then, &root, &proof));
                assert!(!verify_consistency(old as u64, size as u64, &leaf(b"fork"), &root, &proof));
                assert!(!verify_consistency(old as u64, size as u64, &then, &leaf(b"fork"), &proof));
            }
        }
        assert_eq!(inclusion(&tiles, 300, 300), None);
        assert_eq!(consistency(&tiles, 301, 300), None);
        assert!(verify_consistency(0, 300, &empty(), &naive::root(&all), &[]));
        assert!(!verify_inclusion(0, 0, &all[0], &[], &all[0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn proofs_of_larger_trees_hold(size in 300_usize..70_000, one: prop::sample::Index, other: prop::sample::Index) {
            let all = leaves(size);
            let tiles = tiles(&all);
            let (index, old) = (one.index(size), other.index(size) + 1);
            let root = fold(&all).unwrap();
            prop_assert_eq!(super::root(&tiles, size as u64), Some(root));
            let path = inclusion(&tiles, index as u64, size as u64).unwrap();
            prop_assert!(verify_inclusion(index as u64, size as u64, &all[index], &path, &root));
            let proof = consistency(&tiles, old as u64, size as u64).unwrap();
            prop_assert!(verify_consistency(old as u64, size as u64, &fold(&all[..old]).unwrap(), &root, &proof));
            // What a proof asks for is enough to make it.
            let needed = Tiles::needed(|nodes| {
                inclusion(nodes, index as u64, size as u64);
            });
            let some = Tiles(tiles.0.into_iter().filter(|(place, _)| needed.contains(place)).collect());
            prop_assert_eq!(inclusion(&some, index as u64, size as u64), Some(path));
        }

        #[test]
        fn forged_paths_lead_nowhere(size in 2_u64..400, index: prop::sample::Index, path in prop::collection::vec(any::<Hash>(), 0..12)) {
            let all = leaves(size as usize);
            let index = index.index(size as usize) as u64;
            prop_assert!(!verify_inclusion(index, size, &leaf(b"forged"), &path, &fold(&all).unwrap()));
            prop_assert!(!verify_consistency(index, size, &leaf(b"forged"), &fold(&all).unwrap(), &path));
        }
    }
}
