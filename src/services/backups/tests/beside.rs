//! Full backups and segments beside one another: neither waits for the other, and neither needs the other's files.

use super::{
    super::{Kind, Settings, State, state::Claim},
    ships::*,
};
use crate::{base::clock::Clock, services::access::Caller};
use std::time::Duration;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it comes to an end")
}

/// Another full backup is due, and takes its time.
async fn slow_full() -> Ships {
    let mut ships = Ships::new().await;
    ships.settle("near").await;
    ships.bench.wait(DAY);
    ships.mood(0, SLOW);
    let settings = Settings { every: Duration::from_millis(20), ..Settings::default() };
    ships.backups = process(&ships.bench, &ships.seals, &ships.folders, &ships.moods, &ships.identity).with(settings);
    ships
}

async fn sent(ships: &Ships) -> State {
    ships.backups.watch().await.unwrap().remove(0).state
}

/// Until it is being written.
async fn begun(ships: &Ships) {
    while sent(ships).await.claim.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_go_on_beside_a_full_backup_that_takes_hours() {
    let ships = slow_full().await;
    let before = ships.chains(0)[0].upto();
    let meanwhile = async {
        for n in 0..3 {
            ships.bench.wait(1);
            ships.commit(&format!("c{n}")).await;
            let until = ships.chains(0)[0].upto();
            // At the target, and noted.
            while sent(&ships).await.segment.unwrap().upto <= until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let state = sent(&ships).await;
        assert!(state.claim.is_some() && state.segment.unwrap().upto == ships.chains(0)[0].upto());
        ships.mood(0, FINE);
    };
    let (made, ()) = soon(async { tokio::join!(ships.ship("near"), meanwhile) }).await;
    assert_eq!(made, Some(Kind::Full));
    let chains = ships.chains(0);
    assert_eq!(chains.len(), 2);
    assert!(chains[0].upto() > before && chains[1].upto() == chains[0].upto(), "they continue both");
    let state = sent(&ships).await;
    assert!(state.claim.is_none() && state.full.unwrap().upto < state.segment.unwrap().upto);
    // The next goes on from the last of them.
    ships.commit("d").await;
    assert_eq!(ships.ship("near").await, Some(Kind::Segment));
    let segments = &ships.chains(0)[0].segments;
    let [.., one, next] = &segments[..] else { panic!("{segments:?}") };
    assert_eq!(one.header.upto, next.header.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_taken_over_by_another_process_sends_no_more_segments() {
    let ships = slow_full().await;
    let meanwhile = async {
        begun(&ships).await;
        let now = ships.bench.clock.now();
        let claim = Claim { holder: "another".to_owned(), until: now.plus_seconds(100) };
        let other = |state: &mut State| state.claim = Some(claim.clone());
        ships.backups.states.change("near", now, other).await.unwrap();
        ships.commit("a").await;
        let until = ships.chains(0)[0].segments.len() + 1;
        while ships.chains(0)[0].segments.len() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // That one could not be noted any more: the claim is lost.
        tokio::time::sleep(Duration::from_millis(100)).await;
        ships.commit("b").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(ships.chains(0)[0].segments.len(), until);
        ships.mood(0, FINE);
    };
    let system = Caller::system();
    let create = ships.backups.create(&system, Some("near"), Kind::Full);
    let (made, ()) = soon(async { tokio::join!(create, meanwhile) }).await;
    assert!(made.unwrap().remove(0).1.is_err(), "the other makes it");
}

#[tokio::test]
async fn a_full_backup_that_is_lost_takes_no_segment_with_it() {
    let ships = Ships::new().await;
    for day in 0..3 {
        ships.commit(&format!("a{day}")).await;
        ships.settle("near").await;
        ships.bench.wait(DAY);
    }
    let chains = ships.chains(0);
    let [first, second, third] = &chains[..] else { panic!("{chains:?}") };
    assert_eq!((first.upto(), second.upto()), (third.upto(), third.upto()));
    for full in [&second.full.name, &third.full.name] {
        std::fs::remove_file(ships.folders[0].path().join(full)).unwrap();
    }
    assert_eq!(ships.chains(0)[0].upto(), first.upto());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_that_is_cut_by_a_stop_makes_way_for_the_last_segment() {
    let ships = slow_full().await;
    tokio::select! {
        made = ships.ship("near") => panic!("{made:?}"),
        () = begun(&ships) => {}
    }
    ships.commit("a").await;
    let before = ships.chains(0)[0].upto();
    let fine = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ships.mood(0, FINE);
    };
    tokio::join!(ships.backups.ship_last(Duration::from_secs(3)), fine);
    let chains = ships.chains(0);
    assert!(chains[0].upto() > before);
    assert_eq!(chains.len(), 1, "the full one is given up");
}
