//! An image that stands among the documents of the same backup need not stand in the journal too. Looking that up is
//! cheap where documents come in the order of their ids, as those made here do; where they come in none it would take
//! longer than telling the image again.

use crate::{
    ports::documents::{Record, Snapshot},
    services::Result,
};
use std::collections::{HashMap, VecDeque};

/// Records of a collection that are looked back on, as many as a mask has bits.
const BACK: usize = u128::BITS as usize;
/// Of them those that went forward, at least: writers beside one another make a few that do not.
const FORWARD: u32 = 112;

#[derive(Default)]
pub struct Once {
    collections: HashMap<String, Order>,
}

/// Whether a collection's records come in the order of its ids.
struct Order {
    recent: VecDeque<String>,
    /// A bit for each: it came after the one that many records before it.
    forward: u128,
}

impl Once {
    /// Takes the image away that is the document's own, where that is cheap to know.
    pub fn leave_out(&mut self, record: &mut Record, snapshot: &dyn Snapshot) -> Result<()> {
        if !self.in_order(record) || record.after.is_none() {
            return Ok(());
        }
        if snapshot.get(&record.collection, &record.id)? == record.after {
            record.after = None;
        }
        Ok(())
    }

    fn in_order(&mut self, record: &Record) -> bool {
        if let Some(order) = self.collections.get_mut(&record.collection) {
            return order.next(&record.id);
        }
        let order = Order { recent: VecDeque::with_capacity(BACK), forward: u128::MAX };
        self.collections.entry(record.collection.clone()).or_insert(order).next(&record.id)
    }
}

impl Order {
    /// The first few are taken to be in order: little is lost.
    fn next(&mut self, id: &str) -> bool {
        if self.recent.len() == BACK {
            let before = self.recent.pop_front().is_none_or(|before| *id > *before);
            self.forward = self.forward << 1 | u128::from(before);
        }
        self.recent.push_back(id.to_owned());
        self.forward.count_ones() >= FORWARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(ids: impl Iterator<Item = u64>) -> usize {
        let mut order = Order { recent: VecDeque::new(), forward: u128::MAX };
        ids.filter(|id| order.next(&format!("{id:020}"))).count()
    }

    #[test]
    fn ids_in_order_are_looked_up_and_those_in_none_are_not() {
        assert_eq!(looked_up(0..10_000), 10_000);
        // Sixteen writers beside one another, each a little late.
        let late = |n: u64| n * 1000 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 16_000;
        assert_eq!(looked_up((0..10_000).map(late)), 10_000);
        // SplitMix64.
        let scattered = |n: u64| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        assert!(looked_up((0..10_000).map(scattered)) < 300);
        // A collection filled in order, then changed here and there.
        let then = (0..1000).chain((0..10_000).map(|n| scattered(n) % 1000));
        assert!(looked_up(then) < 1300);
    }
}
