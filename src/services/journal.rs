//! How long the journal remembers: so many days within so many bytes, but what backups have not taken and the last
//! day in any case. A target that stays away is told of first; before the disk is at risk the journal goes on without
//! it, and its next backup is a full one.

use super::{
    Result,
    access::Caller,
    audit::{Audit, Event},
    backups::Backups,
    documents::RECEIPT_SECONDS,
    health::{Finding, Health},
};
use crate::{
    base::{clock::SharedClock, fault::Fault, files, metrics::Metrics},
    ports::documents::{Documents, Retention, Sequence},
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const DAY: i64 = 86_400;
/// A change may bear a time a little before the moment that was noted of another.
const MARGIN_SECONDS: i64 = 3600;
const CHECK: &str = "journal";

pub struct Journal {
    pub documents: Arc<dyn Documents>,
    /// What their targets have not taken stays.
    pub backups: Arc<Backups>,
    /// What it has not sealed stays.
    pub audit: Arc<Audit>,
    pub days: u32,
    pub most_bytes: u64,
    /// Whose volume must keep room: twice so many bytes.
    pub data: PathBuf,
    pub reserve: u64,
    pub clock: SharedClock,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// Records let go of that some target had not received, since the process began.
    pub let_go: AtomicU64,
}

impl Journal {
    /// Lets go of what is too old or too much; answers how many records went.
    pub async fn trim(&self) -> Result<u64> {
        let now = self.clock.now();
        let older_than = now.plus_seconds(-i64::from(self.days) * DAY);
        // A retry within a day is answered from the journal.
        let keep_from = now.plus_seconds(-RECEIPT_SECONDS).min(self.audit.sealed_until());
        let keep_from = keep_from.plus_seconds(-MARGIN_SECONDS);
        let received = self.backups.received().await?;
        let (target, upto) = received.unwrap_or_else(|| (String::new(), Sequence::END));
        let retention = Retention { older_than, most_bytes: self.most_bytes, keep_from, keep_after: upto };
        let mut gone = self.documents.trim(retention).await?;
        let known = self.documents.statistics().await?;
        let over = known.journal_bytes > self.most_bytes;
        let short = files::volume(&self.data).is_ok_and(|volume| volume.free < self.reserve.saturating_mul(2));
        // Whether it is the target that keeps the next one from going.
        let next = self.documents.records(upto, 1).await?;
        let held = next.first().is_some_and(|record| record.time < keep_from);
        let mut finding = Finding::ok(CHECK);
        if held && (over || short) {
            let fault = |key| Fault::new(key).with("target", &target).with("mib", known.journal_bytes >> 20);
            finding = Finding::warning(CHECK, fault("journal.held"));
            if short || known.journal_bytes > self.most_bytes.saturating_mul(2) {
                let most_bytes = if short { 0 } else { self.most_bytes };
                let anyway = Retention { most_bytes, keep_after: Sequence::END, ..retention };
                let lost = self.documents.trim(anyway).await?;
                if lost > 0 {
                    finding = Finding::warning(CHECK, fault("journal.let_go"));
                    self.tell(&target, lost).await;
                }
                gone += lost;
            }
        }
        self.health.report(finding);
        Ok(gone)
    }

    /// Loudly, the first time: while the disk stays short each run lets go of a little more.
    async fn tell(&self, target: &str, lost: u64) {
        let before = self.let_go.fetch_add(lost, Ordering::Relaxed);
        self.metrics.sample(|sample| sample.journal_let_go = Some(before + lost));
        tracing::error!(
            backup_target = target,
            lost,
            "changes are gone from the journal that a backup target has not received"
        );
        if before == 0 {
            let event = Event::new("journal.let_go").with("target", target).with("records", lost);
            if let Err(error) = self.audit.record(&Caller::system(), event).await {
                tracing::warn!(%error, "that the journal was cut is not in the audit log");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::objects::folder::Folder,
        base::{clock::Clock, environment::Environment},
        ports::documents::{Batch, COLLECTIONS, Change, Expect, Operation, Origin},
        services::{
            backups::{Identity, Kind, Target},
            bench::Bench,
            health::Level,
        },
    };
    use bson::rawdoc;
    use std::path::Path;

    /// Over a store with changes of each of some days; backups go to `place`, where there is one.
    async fn journal(bench: &Bench, days: i64, place: Option<&Path>) -> Journal {
        for day in 0..days {
            let (collection, id, expect) = (COLLECTIONS.to_owned(), format!("c{day}"), Expect::Any);
            let operations = vec![Operation { collection, id, expect, change: Change::Put(rawdoc! {}) }];
            let (time, origin) = (bench.clock.now(), Origin::default());
            bench.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
            bench.wait(DAY);
        }
        bench.audit.seal().await.unwrap();
        let to = place.map(|place| {
            let target = Target {
                name: "usb".to_owned(),
                objects: Arc::new(Folder::at(place)),
                window: None,
                segments_wait: false,
            };
            (vec![target], vec![Identity::generate(Vec::new()).recipient().clone()])
        });
        let (documents, clock, stamp) = (bench.documents.clone(), bench.clock.clone(), bench.stamp.clone());
        let (keyring, access, audit) = (Arc::new(bench.keyring.clone()), bench.access.clone(), bench.audit.clone());
        let backups = Backups::new(documents, to.unwrap_or_default(), stamp, keyring, clock, access, audit);
        Journal {
            documents: bench.documents.clone(),
            backups: Arc::new(backups),
            audit: bench.audit.clone(),
            days: 90,
            most_bytes: u64::MAX,
            data: "/".into(),
            reserve: 0,
            clock: bench.clock.clone(),
            health: Arc::default(),
            metrics: Metrics::new(bench.clock.clone()),
            let_go: 0.into(),
        }
    }

    impl Journal {
        async fn records(&self) -> u64 {
            self.documents.statistics().await.unwrap().journal_records
        }

        fn found(&self) -> (Level, Option<&'static str>) {
            let finding = self.health.findings().pop().unwrap();
            (finding.level, finding.fault.map(|fault| fault.key))
        }
    }

    #[tokio::test]
    async fn size_and_age_let_go_but_never_of_the_last_day() {
        let bench = Bench::of(Environment::Development).await;
        // Changes of four, three, two days ago and of yesterday, to the millisecond, and what sealing them left.
        let journal = journal(&bench, 4, None).await;
        let all = journal.records().await;
        assert_eq!(journal.trim().await.unwrap(), 0);
        let journal = Journal { days: 3, ..journal };
        let old = journal.trim().await.unwrap();
        assert!(old > 0 && old < all);
        let journal = Journal { most_bytes: 0, ..journal };
        assert_eq!(journal.trim().await.unwrap(), 2);
        assert!(journal.records().await > 0);
        assert_eq!(journal.found(), (Level::Ok, None));
    }

    #[tokio::test]
    async fn what_a_target_has_not_received_stays_until_the_disk_is_at_risk() {
        let (bench, place) = (Bench::of(Environment::Development).await, tempfile::tempdir().unwrap());
        let journal = journal(&bench, 4, Some(place.path())).await;
        let all = journal.records().await;
        let bytes = bench.documents.statistics().await.unwrap().journal_bytes;
        // Too old and too much, and no backup holds it: told of, kept.
        let journal = Journal { days: 1, most_bytes: bytes - 1, ..journal };
        assert_eq!(journal.trim().await.unwrap(), 0);
        assert_eq!(journal.found(), (Level::Warning, Some("journal.held")));
        // Past the cap it goes, loudly.
        let journal = Journal { most_bytes: bytes / 2 - 1, ..journal };
        assert!(journal.trim().await.unwrap() > 0 && journal.records().await < all);
        assert_eq!(journal.found(), (Level::Warning, Some("journal.let_go")));
        assert!(journal.metrics.sampled().journal_let_go.is_some_and(|gone| gone > 0));
        // Once it is there, nothing is held.
        journal.backups.create(&Caller::system(), None, Kind::Full).await.unwrap().remove(0).1.unwrap();
        bench.wait(3 * DAY);
        bench.audit.seal().await.unwrap();
        assert!(journal.trim().await.unwrap() > 0);
        assert_eq!(journal.found(), (Level::Ok, None));
    }

    #[tokio::test]
    async fn a_disk_that_fills_lets_go_of_what_a_target_has_not_received() {
        let (bench, place) = (Bench::of(Environment::Development).await, tempfile::tempdir().unwrap());
        let journal = journal(&bench, 4, Some(place.path())).await;
        assert_eq!(journal.trim().await.unwrap(), 0);
        let journal = Journal { reserve: u64::MAX, ..journal };
        assert!(journal.trim().await.unwrap() > 0);
        assert_eq!(journal.found(), (Level::Warning, Some("journal.let_go")));
    }
}
