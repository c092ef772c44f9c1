//! What may never happen to backups that are kept, whatever the history and the clock.

use super::{super::chain::chains, *};
use crate::{base::environment::Environment, services::backups::Header};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_795_000_000_000);
const RULES: Rules = Rules { last: 3, daily: 5, weekly: 3, monthly: 2, yearly: 2, within_days: 4 };

fn listed(kind: Kind, lineage: u32, (after, upto): (u64, u64), created: Timestamp) -> Listed {
    let mut backup = [0; 16];
    backup[..8].copy_from_slice(&upto.to_be_bytes());
    let header = Header {
        backup,
        created,
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
    let name = format!("{}-{}-{upto}.backup", create::time(created), kind.name());
    Listed { name, bytes: 1, header: Ok((header, Vec::new())) }
}

/// A history whose last backup is `ago` hours old: each event comes so many hours after the one before, is a full
/// backup or a segment, and is dated by a clock that may be wrong by days.
fn history(events: &[(u8, bool, i16)], ago: i64) -> Vec<Listed> {
    let hours: i64 = events.iter().map(|(hours, ..)| i64::from(*hours)).sum();
    let (mut time, mut end, mut all) = (NOW.plus_seconds(-(hours + ago) * 3600), 0, Vec::new());
    for (hours, full, wrong) in events {
        time = time.plus_seconds(i64::from(*hours) * 3600);
        let created = time.plus_seconds(i64::from(*wrong) * DAY);
        let (kind, after) = if *full { (Kind::Full, 0) } else { (Kind::Segment, end) };
        end += 10;
        all.push(listed(kind, 1, (after, end), created));
    }
    all
}

fn retained(all: &[Listed], now: Timestamp) -> Retained {
    retain(all, "i", &HashSet::new(), &RULES, &Zone::utc(), now)
}

fn without(all: &[Listed], gone: &[String]) -> Vec<Listed> {
    all.iter().filter(|listed| !gone.contains(&listed.name)).cloned().collect()
}

fn created(listed: &Listed) -> Timestamp {
    listed.header.as_ref().unwrap().0.created
}

/// The last change of every point that can be restored.
fn points(all: &[Listed]) -> HashSet<u64> {
    let ends = chains(all, "i").into_iter().flat_map(|chain| {
        let parts = std::iter::once(chain.full).chain(chain.segments);
        parts.map(|link| link.header.upto.0).collect::<Vec<_>>()
    });
    ends.collect()
}

fn events() -> impl Strategy<Value = Vec<(u8, bool, i16)>> {
    proptest::collection::vec((1_u8..40, any::<bool>(), Just(0)), 1..60)
}

/// One clock in six is wrong, by years even.
fn confused() -> impl Strategy<Value = Vec<(u8, bool, i16)>> {
    let wrong = prop_oneof![5 => Just(0_i16), 1 => -4000_i16..4000];
    proptest::collection::vec((1_u8..40, any::<bool>(), wrong), 1..60)
}

fn fulls(all: &[Listed]) -> Vec<&Listed> {
    all.iter().filter(|listed| listed.header.as_ref().is_ok_and(|(header, _)| header.kind == Kind::Full)).collect()
}

proptest! {
    #[test]
    fn the_last_full_ones_stay_and_the_newest_chain_is_whole(events in confused(), ago in 0_i64..2000) {
        let all = history(&events, ago);
        let left = without(&all, &retained(&all, NOW).dropped);
        for full in fulls(&all).iter().rev().take(RULES.last as usize) {
            prop_assert!(left.iter().any(|listed| listed.name == full.name), "{} went", full.name);
        }
        let (left, all) = (chains(&left, "i"), chains(&all, "i"));
        prop_assert_eq!(left.last(), all.last());
    }

    #[test]
    fn any_moment_of_the_window_can_still_be_restored(events in events(), ago in 0_i64..2000) {
        let all = history(&events, ago);
        let left = without(&all, &retained(&all, NOW).dropped);
        let begin = created(all.last().unwrap()).plus_seconds(-i64::from(RULES.within_days) * DAY);
        let (before, after) = (points(&all), points(&left));
        // Every point of the window, and the last one of before it: the window's first moment.
        let upto = |listed: &Listed| listed.header.as_ref().unwrap().0.upto.0;
        let at_begin = all.iter().filter(|listed| created(listed) <= begin).map(upto).max();
        for point in all.iter().filter(|listed| created(listed) > begin).map(upto).chain(at_begin) {
            prop_assert!(!before.contains(&point) || after.contains(&point), "{point} of {before:?}");
        }
    }

    #[test]
    fn what_stays_stays_at_the_next_look_and_can_be_restored(events in confused(), ago in 0_i64..2000) {
        let all = history(&events, ago);
        let first = retained(&all, NOW);
        let left = without(&all, &first.dropped);
        let again = retained(&left, NOW);
        prop_assert!(again.dropped.is_empty(), "{:?}", again.dropped);
        prop_assert_eq!(&again.kept, &first.kept);
        let (before, after) = (points(&all), points(&left));
        for Kept { link, .. } in &first.kept {
            let upto = link.header.upto.0;
            prop_assert!(!before.contains(&upto) || after.contains(&upto), "{}", link.name);
        }
    }

    /// Killed at any point of the deletion, each chain is as it was, or ends earlier: no segment hangs in the air that
    /// did not before.
    #[test]
    fn cut_short_no_chain_has_a_hole(events in confused(), ago in 0_i64..2000) {
        let all = history(&events, ago);
        let Retained { kept, dropped, .. } = retained(&all, NOW);
        let before = points(&all);
        for done in 0..=dropped.len() {
            let left = without(&all, &dropped[..done]);
            let after = points(&left);
            for listed in &left {
                let header = &listed.header.as_ref().unwrap().0;
                prop_assert!(!before.contains(&header.upto.0) || after.contains(&header.upto.0), "{}", listed.name);
            }
            prop_assert!(kept.iter().all(|kept| left.iter().any(|listed| listed.name == kept.link.name)));
        }
    }

    /// However far the clock jumps, what goes is told by the same rules, and never the newest chain.
    #[test]
    fn a_clock_that_jumps_drops_no_more_than_rest_would(events in events(), days in -40_000_i64..40_000) {
        let all = history(&events, 0);
        let jumped = retained(&all, NOW.plus_seconds(days * DAY));
        let still = retained(&all, NOW);
        prop_assert!(jumped.dropped.iter().all(|name| still.dropped.contains(name)));
    }

    #[test]
    fn damaged_ones_count_for_nothing(events in events(), rotten in 0_usize..60) {
        let all = history(&events, 0);
        let bad = all[rotten % all.len()].name.clone();
        let with = retain(&all, "i", &HashSet::from([bad.clone()]), &RULES, &Zone::utc(), NOW);
        let apart = retained(&without(&all, std::slice::from_ref(&bad)), NOW);
        prop_assert_eq!(&with.kept, &apart.kept);
        let oldest = with.kept.iter().map(|kept| kept.link.header.created).min();
        prop_assert_eq!(with.dropped.contains(&bad), oldest.is_some_and(|oldest| bad < create::time(oldest)));
        prop_assert_eq!(with.damaged.contains(&bad), !with.dropped.contains(&bad));
    }
}

#[test]
fn generations_keep_the_last_of_each_period() {
    // A full one each day at noon for two years, the newest an hour ago.
    let all: Vec<_> = (0..730_u64)
        .map(|day| listed(Kind::Full, 1, (0, day + 1), NOW.plus_seconds((day as i64 - 729) * DAY - 3600)))
        .collect();
    let Retained { kept, dropped, .. } = retained(&all, NOW);
    let of = |reason| kept.iter().filter(|kept| kept.reasons.contains(&reason)).count();
    assert_eq!([Reason::Last, Reason::Daily, Reason::Weekly, Reason::Monthly, Reason::Yearly].map(of), [3, 5, 3, 2, 2]);
    // Four days, and the one before them.
    assert_eq!((of(Reason::Window), kept.len() + dropped.len()), (5, 730));
    let days: Vec<_> = kept.iter().rev().map(|kept| 730 - kept.link.header.upto.0).collect();
    assert_eq!(days[..5], [0, 1, 2, 3, 4]);
    assert!(dropped.windows(2).all(|pair| pair[0] < pair[1]), "the oldest full one first");
}

#[test]
fn only_what_is_this_instances_goes() {
    let mut all = history(&[(24, true, 0); 40], 0);
    for (at, listed) in all.iter_mut().enumerate().filter(|(at, _)| *at < 10) {
        match at % 2 {
            0 => listed.header.as_mut().unwrap().0.instance = "other".to_owned(),
            _ => listed.header = Err(Fault::new("backups.not_a_backup")),
        }
    }
    let Retained { dropped, damaged, .. } = retained(&all, NOW);
    assert!(!dropped.is_empty() && all[..10].iter().all(|listed| !dropped.contains(&listed.name)));
    assert_eq!(damaged.len(), 5);
    // Without a full one nothing can be judged.
    assert!(retained(&history(&[(24, false, 0); 40], 0), NOW).dropped.is_empty());
}

#[test]
fn rules_are_read() {
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let rules = Rules::read(&words("last=7,daily=14,within_days = 3")).unwrap();
    assert_eq!(rules, Rules { last: 7, daily: 14, within_days: 3, ..Rules::default() });
    for wrong in ["hourly=1", "last=-1", "last=10001", "last"] {
        assert_eq!(Rules::read(&words(wrong)).unwrap_err().key, "backups.keep", "{wrong}");
    }
}
