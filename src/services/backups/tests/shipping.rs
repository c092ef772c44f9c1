//! Backups on their way: what is due, to which target, and what is known of it afterwards.

use super::{
    super::{
        BACKUPS, Kind, Settings, list,
        state::{Claim, States},
    },
    ships::*,
};
use crate::{
    backends::{
        documents::embedded::{Embedded, Options},
        objects::folder::Folder,
    },
    base::{
        clock::{Clock, Stopwatch, Timestamp},
        environment::Environment,
    },
    domain::window::Window,
    ports::documents::{Retention, Sequence},
    services::{Error, access::Caller, bench::Bench},
};
use bson::rawdoc;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[tokio::test]
async fn what_is_new_is_sent_and_an_idle_instance_sends_nothing() {
    let ships = Ships::new().await;
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
    // The full one is told to the audit log: that is worth one segment, and what is noted of it worth none.
    assert_eq!(ships.settle("near").await, 1);
    for _ in 0..5 {
        ships.bench.wait(60);
        assert_eq!(ships.ship("near").await, None);
    }
    for n in 0..3 {
        ships.commit(&format!("c{n}")).await;
        assert_eq!(ships.ship("near").await, Some(Kind::Segment));
        assert_eq!(ships.settle("near").await, 0);
    }
    let chains = ships.chains(0);
    assert_eq!((chains.len(), chains[0].segments.len()), (1, 4));
    // All but what was noted after the last.
    let rest = ships.bench.documents.records(chains[0].upto(), 10).await.unwrap();
    assert!(rest.iter().all(|record| record.collection == BACKUPS), "{rest:?}");
    assert_eq!((ships.told("backups.created").await, ships.chains(1).len()), (1, 0));
}

#[tokio::test]
async fn a_target_that_is_away_holds_no_other_up_and_catches_up_by_itself() {
    let mut ships = Ships::new().await;
    for target in TARGETS {
        ships.settle(target).await;
    }
    ships.settle("near").await;
    ships.mood(1, AWAY);
    for n in 0..3 {
        ships.commit(&format!("c{n}")).await;
        ships.again();
        assert!(ships.backups.ship("far").await.is_err());
        assert_eq!(ships.backups.ship("far").await.unwrap().map(|made| made.name), None, "it rests after a failure");
        assert!(ships.settle("near").await > 0);
    }
    let failure = ships.backups.watch().await.unwrap()[1].state.failure.clone().unwrap();
    assert_eq!((failure.times, failure.rule.as_str()), (3, "backups.failed"));
    assert_eq!((ships.told("backups.failed").await, ships.told("backups.recovered").await), (1, 0));
    let (target, upto) = ships.backups.received().await.unwrap().unwrap();
    assert_eq!((target.as_str(), upto), ("far", ships.chains(1)[0].upto()));

    ships.mood(1, FINE);
    ships.again();
    let before = ships.chains(1)[0].upto();
    assert_eq!(ships.ship("far").await, Some(Kind::Segment));
    let chain = ships.chains(1).remove(0);
    assert_eq!(chain.segments.last().unwrap().header.after, before, "from its own last end");
    assert_eq!(ships.told("backups.recovered").await, 1);
    // Away for longer than the journal reaches back: a full one.
    ships.mood(1, AWAY);
    ships.commit("d").await;
    let all = Retention {
        older_than: Timestamp(i64::MAX),
        most_bytes: 0,
        keep_from: Timestamp(i64::MAX),
        keep_after: Sequence::END,
    };
    ships.bench.audit.seal().await.unwrap();
    ships.bench.documents.trim(all).await.unwrap();
    ships.mood(1, FINE);
    ships.again();
    assert_eq!(ships.ship("far").await, Some(Kind::Full));
}

#[tokio::test]
async fn a_target_that_may_only_be_written_to_is_known_from_here() {
    let mut ships = Ships::new().await;
    ships.mood(0, WRITES);
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
    ships.settle("near").await;
    ships.commit("a").await;
    ships.again();
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    let state = ships.backups.watch().await.unwrap().remove(0).state;
    let chain = ships.chains(0).remove(0);
    assert_eq!((state.full.unwrap().name, state.segment.unwrap().upto), (chain.full.name.clone(), chain.upto()));
    // Each carries the hash of the manifest before it.
    let links = [&[chain.full][..], &chain.segments].concat();
    assert!(links[1..].iter().all(|link| link.header.previous != [0; 32]));
    assert!(ships.backups.plan(&Caller::system(), Some("near")).await.unwrap().targets[0].retained.is_err());
}

#[tokio::test]
async fn another_disk_or_a_restored_instance_begins_with_a_full_one() {
    let mut ships = Ships::new().await;
    ships.settle("near").await;
    for file in std::fs::read_dir(ships.folders[0].path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    ships.commit("a").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
    ships.settle("near").await;
    ships.bench.stamp.lineage += 1;
    ships.again();
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
    assert_eq!(ships.chains(0).last().unwrap().full.header.lineage, 2);
}

#[tokio::test]
async fn one_process_leads_and_a_dead_one_holds_nobody_up_for_long() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    ships.commit("a").await;
    let (states, now) = (States(ships.bench.documents.clone()), ships.bench.clock.now());
    let claim = |until| Some(Claim { holder: "another".to_owned(), until });
    states.change("near", now, |state| state.claim = claim(now.plus_seconds(100))).await.unwrap();
    assert_eq!(ships.ship("near").await, None);
    let asked = ships.backups.create(&Caller::system(), Some("near"), Kind::Full).await.unwrap().remove(0).1;
    assert!(matches!(&asked, Err(Error::Conflict(fault)) if fault.key == "backups.running"), "{asked:?}");
    // A claim of a clock that was ahead counts no longer than it may.
    states.change("near", now, |state| state.claim = claim(now.plus_seconds(9000))).await.unwrap();
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    ships.commit("b").await;
    states.change("near", now, |state| state.claim = claim(now.plus_seconds(100))).await.unwrap();
    ships.bench.wait(101);
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    // Who holds the store alone need not wait.
    states.change("near", now, |state| state.claim = claim(ships.bench.clock.now().plus_seconds(100))).await.unwrap();
    ships.commit("c").await;
    ships.backups.begin().await.unwrap();
    assert!(ships.ship("near").await.is_some());
    // Two at once in one process.
    let system = Caller::system();
    let (one, two) = tokio::join!(
        ships.backups.create(&system, Some("near"), Kind::Full),
        ships.backups.create(&system, Some("near"), Kind::Full)
    );
    assert!(one.unwrap()[0].1.is_ok() && two.unwrap()[0].1.is_ok(), "the second waits");
}

#[tokio::test]
async fn every_key_is_at_the_target_before_what_it_opens() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    assert_eq!(ships.keys(0), [Kind::Full]);
    // Nothing changed among the keys: none are sent.
    ships.commit("a").await;
    ships.settle("near").await;
    assert_eq!(ships.keys(0), [Kind::Full]);
    ships.seals.note("n", rawdoc! {}).await.unwrap();
    ships.commit("b").await;
    ships.mood(0, AWAY);
    assert!(ships.backups.ship("near").await.is_err());
    assert_eq!(ships.keys(0), [Kind::Full, Kind::Segment], "the keys' own went before");
    ships.mood(0, FINE);
    // An erasure trims the keys' journal: a full one goes.
    ships.bench.wait(1);
    ships.seals.destroy("nobody").await.unwrap();
    ships.seals.note("n", rawdoc! {}).await.unwrap();
    ships.seals.destroy("nobody").await.unwrap();
    let made = ships.backups.create(&Caller::system(), Some("near"), Kind::Segment).await.unwrap().remove(0).1;
    assert_eq!(made.unwrap().header.kind, Kind::Segment);
    assert_eq!(ships.keys(0), [Kind::Full, Kind::Segment, Kind::Full]);
}

#[tokio::test]
async fn full_ones_come_by_the_schedule_whatever_the_clock_does() {
    let ships = Ships::new().await;
    let fulls = || ships.chains(0).len();
    let tick = async |seconds| {
        ships.bench.wait(seconds);
        ships.commit("a").await;
        ships.ship("near").await.unwrap()
    };
    ships.settle("near").await;
    assert_eq!(fulls(), 1);
    let mut kinds = Vec::new();
    for _ in 0..48 {
        kinds.push(tick(3600).await);
    }
    assert_eq!((fulls(), kinds.iter().filter(|kind| **kind == Kind::Full).count()), (3, 2), "one each night");
    // Off for a month, or a clock that jumped ahead: missed once.
    assert_eq!(tick(30 * DAY).await, Kind::Full);
    assert_eq!(tick(60).await, Kind::Segment);
    // Back by a year: segments go on, and the next night has its full one.
    assert_eq!(tick(-365 * DAY).await, Kind::Segment);
    let mut kinds = Vec::new();
    for _ in 0..24 {
        kinds.push(tick(3600).await);
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Full).count(), 1);
}

#[tokio::test]
async fn old_ones_go_and_those_of_others_stay() {
    let ships = Ships::new().await;
    let other = Ships::new().await;
    other.settle("near").await;
    let foreign = other.chains(0).remove(0).full.name;
    std::fs::copy(other.folders[0].path().join(&foreign), ships.folders[0].path().join(&foreign)).unwrap();
    let mut settings = Settings::default();
    settings.rules.daily = 3;
    settings.rules.last = 2;
    settings.rules.within_days = 1;
    let backups = process(&ships.bench, &ships.seals, &ships.folders, &ships.moods, &ships.identity).with(settings);
    for _ in 0..8 {
        ships.bench.wait(DAY);
        ships.commit("a").await;
        backups.ship("near").await.unwrap().unwrap();
        ships.bench.wait(60);
        backups.ship("near").await.unwrap();
    }
    let names = || list(&Folder::at(ships.folders[0].path())).unwrap().into_iter().map(|listed| listed.name);
    let before = names().collect::<Vec<_>>();
    let would = backups.prune(&Caller::system(), Some("near"), true).await.unwrap().remove(0).1.unwrap();
    assert_eq!(names().count(), before.len(), "a dry run deletes nothing");
    let gone = backups.prune_target("near").await.unwrap();
    assert!(would.dropped == gone.dropped && !gone.dropped.is_empty());
    let left: HashSet<_> = names().collect();
    assert_eq!(left.len(), before.len() - gone.dropped.len());
    assert!(left.contains(&foreign) && gone.dropped.iter().all(|name| !left.contains(name)));
    assert!(backups.prune_target("near").await.unwrap().dropped.is_empty());
    assert_eq!(ships.told("backups.prune").await, 1);
}

#[tokio::test]
async fn bit_rot_is_found_within_a_quarter_and_names_the_last_good_point() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    ships.commit("a").await;
    ships.settle("near").await;
    let chain = ships.chains(0).remove(0);
    let rotten = chain.segments.last().unwrap().name.clone();
    let path = ships.folders[0].path().join(&rotten);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut read = 0;
    for _ in 0..13 {
        read += ships.backups.reread("near").await.unwrap();
        assert_eq!(ships.backups.reread("near").await.unwrap(), 0, "once a week");
        ships.bench.wait(7 * DAY);
    }
    assert_eq!(read, chain.segments.len() + ships.keys(0).len(), "all but the damaged one, each once");
    let state = ships.backups.watch().await.unwrap().remove(0).state;
    assert_eq!(state.damaged.len(), 1);
    let before = chain.segments.iter().rev().nth(1).unwrap_or(&chain.full).header.created;
    let found = &state.damaged[0];
    assert_eq!((&found.name, &found.good, found.good_until), (&rotten, &Some(chain.full.name), Some(before)));
    assert_eq!(ships.told("backups.damaged").await, 1);
    let kept = ships.backups.plan(&Caller::system(), None).await.unwrap().targets.remove(0).retained.unwrap();
    assert_eq!(kept.damaged, [rotten]);
    // The chain is broken: the next begins another.
    ships.commit("b").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Full));
}

/// Without them nothing that is sealed opens.
#[tokio::test]
async fn rot_in_the_subjects_keys_is_found_too_and_they_are_sent_anew() {
    let ships = Ships::new().await;
    ships.settle("near").await;
    let beside = ships.folders[0].path().join("subjects");
    let name = list(&Folder::at(&beside)).unwrap().remove(0).name;
    let mut bytes = std::fs::read(beside.join(&name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(beside.join(&name), bytes).unwrap();
    // Their segments go on from their full one, not from one another past it.
    let follow = |state: &mut crate::services::backups::State| state.keys_segment = state.keys_full.clone();
    ships.backups.states.change("near", ships.bench.clock.now(), follow).await.unwrap();
    for _ in 0..13 {
        ships.backups.reread("near").await.unwrap();
        ships.bench.wait(7 * DAY);
    }
    let state = ships.backups.states.read("near").await.unwrap();
    let names: Vec<_> = state.damaged.iter().map(|damaged| damaged.name.clone()).collect();
    assert_eq!(names, [format!("subjects/{name}")]);
    assert!(state.last_keys().is_none() && state.full.is_some(), "the next backup brings all keys again");
    assert_eq!(ships.told("backups.damaged").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_segment_is_sent_and_a_target_that_hangs_not_waited_for() {
    let ships = Ships::new().await;
    for target in TARGETS {
        ships.settle(target).await;
    }
    ships.commit("a").await;
    ships.mood(1, HANGS);
    let before = ships.chains(0)[0].upto();
    let watch = Stopwatch::start();
    ships.backups.ship_last(Duration::from_millis(300)).await;
    assert!(watch.elapsed() < Duration::from_secs(3), "{:?}", watch.elapsed());
    assert!(ships.chains(0)[0].upto() > before);
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_backed_up_all_the_same_and_once() {
    let clock = Bench::of(Environment::Development).await.clock;
    let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
    let store = Arc::new(Full { store: Arc::new(store.unwrap()), full: AtomicBool::new(false) });
    crate::services::instance::furnish(&*store, clock.now()).await.unwrap();
    let ships = Ships::over(Bench::over(Environment::Development, clock, store.clone()).await).await;
    ships.settle("near").await;
    ships.commit("a").await;
    store.full.store(true, Ordering::Relaxed);
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    assert_eq!(ships.ship("near").await, None, "sent already, whether or not that could be noted");
    store.full.store(false, Ordering::Relaxed);
    ships.commit("b").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    let (state, chain) = (ships.backups.states.read("near").await.unwrap(), ships.chains(0).remove(0));
    assert_eq!(state.segment.unwrap().upto, chain.upto());
    let ends: Vec<_> = chain.segments.windows(2).map(|pair| (pair[0].header.upto, pair[1].header.after)).collect();
    assert!(ends.iter().all(|(end, after)| end == after), "{ends:?}");
}

#[tokio::test]
async fn a_target_shows_what_is_wrong_with_it() {
    use crate::{
        base::metrics::Metrics,
        jobs::{Job, backups::Watching},
        services::health::{Health, Level},
    };
    let mut ships = Ships::new().await;
    let (metrics, health) = (Metrics::new(ships.bench.clock.clone()), Arc::new(Health::default()));
    let watch = async |ships: Ships| {
        let (backups, metrics, clock) = (Arc::new(ships.backups), metrics.clone(), ships.bench.clock.clone());
        let job = Watching { backups: backups.clone(), metrics, health: health.clone(), clock };
        job.run().await.unwrap();
        drop(job);
        Ships { backups: Arc::into_inner(backups).unwrap(), ..ships }
    };
    let found = |check: &str| {
        let finding = health.findings().into_iter().find(|finding| finding.check == check).unwrap();
        (finding.level, finding.fault.map(|fault| fault.key))
    };
    ships.settle("near").await;
    ships.mood(1, AWAY);
    assert!(ships.backups.ship("far").await.is_err());
    ships.bench.wait(90);
    ships = watch(ships).await;
    assert_eq!(found("backup:near"), (Level::Ok, None));
    assert_eq!(found("backup:far"), (Level::Warning, Some("backups.failing")));
    let text = metrics.render();
    for line in [
        r#"debrouille_backup_last_success_age_seconds{target="near",kind="segment"} 91"#,
        r#"debrouille_backup_failures_total{target="far",kind="full"} 1"#,
        r#"debrouille_backup_failures_total{target="near",kind="full"} 0"#,
        r#"debrouille_backup_failing{target="far"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains(r#"timestamp_seconds{target="far",kind="full"}"#));
    // Due two days ago, and nobody sent it.
    ships.bench.wait(3 * DAY);
    ships = watch(ships).await;
    assert_eq!(found("backup:near"), (Level::Warning, Some("backups.late")));
    drop(ships);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_does_not_hold_up_the_drain() {
    use crate::{
        base::{metrics::Metrics, stop::Stopper},
        jobs::{Scheduler, backups::Shipping},
    };
    let ships = Ships::new().await;
    ships.settle("far").await;
    ships.commit("a").await;
    ships.mood(1, HANGS);
    let settings = Settings { every: Duration::from_millis(10), ..Settings::default() };
    let backups = process(&ships.bench, &ships.seals, &ships.folders, &ships.moods, &ships.identity).with(settings);
    let (stopper, clock) = (Stopper::default(), ships.bench.clock.clone());
    let scheduler = Scheduler { metrics: Metrics::new(clock.clone()), clock, traces: None, stop: stopper.stop() };
    scheduler.start(Shipping { backups: Arc::new(backups), target: "far".to_owned(), stop: stopper.stop() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let watch = Stopwatch::start();
    assert!(stopper.drain(Duration::from_secs(60)).await);
    assert!(watch.elapsed() < Duration::from_secs(7), "{:?}", watch.elapsed());
}

#[tokio::test]
async fn full_ones_wait_for_the_night_and_segments_where_the_target_says_so() {
    let mut ships = Ships::new().await;
    for target in TARGETS {
        ships.settle(target).await;
    }
    // It is eight in the morning; the schedule says two.
    assert_eq!(ships.bench.clock.now().seconds() / 3600 % 24, 8);
    let night: Window = "22:00-06:00".parse().unwrap();
    let Ships { bench, seals, folders, moods, identity, .. } = &ships;
    ships.backups = within(bench, seals, folders, moods, identity, [Some(night); 2]);
    ships.bench.wait(18 * 3600 + 5 * 3600);
    ships.commit("a").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment), "due since two, and not at seven");
    assert_eq!(ships.ship("far").await, None, "nor is anything at the far one");
    ships.bench.wait(15 * 3600);
    assert_eq!((ships.ship("near").await, ships.ship("far").await), (Some(Kind::Full), Some(Kind::Full)));
    // Who asks is not kept waiting.
    ships.bench.wait(12 * 3600);
    let asked = ships.backups.create(&Caller::system(), Some("far"), Kind::Full).await.unwrap().remove(0).1;
    assert!(asked.is_ok());
}
