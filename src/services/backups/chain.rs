//! What can be restored out of the backups at a target: each full one, and the segments that go on from it.

use super::{
    Listed,
    file::{Header, Kind},
};
use crate::{base::clock::Timestamp, ports::documents::Sequence};

/// A backup at a target, sound by its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub bytes: u64,
    pub header: Header,
}

/// A full backup and, in their order, the segments that continue it without a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub full: Link,
    pub segments: Vec<Link>,
}

impl Link {
    /// `None`: its header is damaged, or another instance's.
    pub fn of(listed: &Listed, instance: &str) -> Option<Self> {
        let (header, _) = listed.header.as_ref().ok()?;
        let own = header.instance == instance;
        own.then(|| Self { name: listed.name.clone(), bytes: listed.bytes, header: header.clone() })
    }
}

impl Chain {
    /// The last change that comes back.
    pub fn upto(&self) -> Sequence {
        self.last().header.upto
    }

    /// When the newest of it was begun: what was acknowledged later is not in it.
    pub fn until(&self) -> Timestamp {
        self.last().header.created
    }

    fn last(&self) -> &Link {
        self.segments.last().unwrap_or(&self.full)
    }
}

/// The chains of an instance, by their fulls, oldest first. Segments serve every full they go on from: one that began
/// before a full was made continues it too, and what both hold is passed over.
pub fn chains(listed: &[Listed], instance: &str) -> Vec<Chain> {
    let links = listed.iter().filter_map(|listed| Link::of(listed, instance));
    let (mut fulls, mut segments): (Vec<_>, Vec<_>) = links.partition(|link| link.header.kind == Kind::Full);
    fulls.sort_by_key(|link| (link.header.lineage, link.header.upto, link.header.created));
    segments.sort_by_key(|link| (link.header.lineage, link.header.after, link.header.upto));
    fulls.into_iter().map(|full| follow(full, &segments)).collect()
}

fn follow(full: Link, segments: &[Link]) -> Chain {
    let mut chain = Chain { full, segments: Vec::new() };
    let own = segments.iter().filter(|link| link.header.lineage == chain.full.header.lineage);
    let mut reach: Option<&Link> = None;
    for link in own {
        // Past the end of what is there: the farthest of those that begin before it goes on.
        if link.header.after > chain.upto()
            && let Some(farthest) = reach.take()
        {
            chain.segments.push(farthest.clone());
        }
        if link.header.after > chain.upto() {
            return chain;
        }
        if link.header.upto > chain.upto() && reach.is_none_or(|known| link.header.upto > known.header.upto) {
            reach = Some(link);
        }
    }
    chain.segments.extend(reach.cloned());
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{environment::Environment, fault::Fault};
    use proptest::prelude::*;

    fn listed(name: String, kind: Kind, lineage: u32, (after, upto): (u64, u64)) -> Listed {
        let header = Header {
            backup: [0; 16],
            created: Timestamp(upto.cast_signed()),
            kind,
            lineage,
            after: Sequence(after),
            upto: Sequence(upto),
            previous: [0; 32],
            salt: [0; 32],
            commitment: [0; 32],
            environment: Environment::Staging,
            instance: "i".to_owned(),
        };
        Listed { name, bytes: 1, header: Ok((header, Vec::new())) }
    }

    fn full(upto: u64) -> Listed {
        listed(format!("f{upto}"), Kind::Full, 1, (0, upto))
    }

    fn segment(after: u64, upto: u64) -> Listed {
        listed(format!("s{after}-{upto}"), Kind::Segment, 1, (after, upto))
    }

    fn names(listed: &[Listed]) -> Vec<String> {
        let name = |chain: &Chain| {
            let parts = chain.segments.iter().map(|link| link.name.as_str());
            std::iter::once(chain.full.name.as_str()).chain(parts).collect::<Vec<_>>().join(" ")
        };
        chains(listed, "i").iter().map(name).collect()
    }

    #[test]
    fn segments_continue_every_full_they_reach() {
        let all = [full(10), segment(10, 20), segment(20, 30), full(25), segment(30, 40)];
        assert_eq!(names(&all), ["f10 s10-20 s20-30 s30-40", "f25 s20-30 s30-40"]);
        let mut reversed = all.to_vec();
        reversed.reverse();
        assert_eq!(names(&reversed), names(&all));
    }

    #[test]
    fn a_hole_another_lineage_and_the_damaged_end_a_chain() {
        assert_eq!(names(&[full(10), segment(11, 20), segment(20, 30)]), ["f10"]);
        assert_eq!(names(&[full(10), segment(10, 20), segment(21, 30)]), ["f10 s10-20"]);
        let other = listed("o".to_owned(), Kind::Segment, 2, (10, 20));
        assert_eq!(names(&[full(10), other]), ["f10"]);
        let mut damaged = segment(10, 20);
        damaged.header = Err(Fault::new("backups.unreadable"));
        assert_eq!(names(&[full(10), damaged, segment(20, 30)]), ["f10"]);
        assert!(chains(&[full(10)], "another").is_empty());
    }

    #[test]
    fn of_segments_that_overlap_the_farthest_goes_on() {
        let all = [full(10), segment(5, 12), segment(10, 15), segment(10, 20), segment(14, 18), segment(20, 21)];
        assert_eq!(names(&all), ["f10 s10-20 s20-21"]);
        assert_eq!(names(&[full(10), segment(5, 15), segment(10, 12), segment(12, 30)]), ["f10 s5-15 s12-30"]);
    }

    proptest! {
        /// A chain has no hole, goes forward only, and ends where nothing goes on.
        #[test]
        fn chains_reach_as_far_as_there_is_a_way(
            spans in proptest::collection::vec((0_u64..40, 1_u64..12), 0..20), start in 0_u64..20,
        ) {
            let mut all: Vec<_> = spans.iter().map(|(after, length)| segment(*after, after + length)).collect();
            all.push(full(start));
            let found = chains(&all, "i");
            let chain = &found[0];
            let mut at = start;
            for link in &chain.segments {
                prop_assert!(link.header.after.0 <= at && link.header.upto.0 > at);
                at = link.header.upto.0;
            }
            prop_assert_eq!(chain.upto().0, at);
            let mut reach = start;
            for _ in 0..spans.len() {
                for (after, length) in &spans {
                    if *after <= reach { reach = reach.max(after + length); }
                }
            }
            prop_assert_eq!(reach, at);
        }
    }
}
