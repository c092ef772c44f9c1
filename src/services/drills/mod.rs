//! Drills: what restores that were tried came to, kept so that their age is known, and held against what lives here.

mod compare;
mod page;
mod report;

pub use compare::{Compared, Copied, Held, MOST_SAMPLES, Sample};
pub use page::page;
pub use report::{Check, FORMAT, File, Outcome, Point, Report, Rpo, Rto, Signed, Words};

use super::{
    Error, Result,
    access::{Access, Action, Caller, Resource},
    audit::{Audit, Event},
    backups::signers,
    health::Finding,
    instance::Stamp,
    keyring::Keyring,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        environment::Environment,
        fault::Fault,
    },
    domain::{filter::Filter, sort::Sort},
    ports::documents::{Batch, Change, Documents, Expect, Operation, Query, Snapshot},
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use serde_json::Value;
use std::sync::Arc;

/// A document each, by the report's id.
pub const DRILLS: &str = "system.drills";
/// The name of the check.
pub const CHECK: &str = "drill";
/// Of a listing, at most.
const MOST: usize = 100;
const DAY: i64 = 86_400;

pub struct Drills {
    pub documents: Arc<dyn Documents>,
    pub clock: SharedClock,
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
    pub keyring: Arc<Keyring>,
    pub stamp: Stamp,
}

/// What is kept of a drill, beside its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    pub ended: Timestamp,
    pub passed: bool,
    pub rto_millis: Option<u64>,
    pub rpo_seconds: Option<u64>,
}

impl Kept {
    /// `None`: not what [`Drills::record`] writes.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let figure = |name: &str| document.get_i64(name).ok().map(i64::cast_unsigned);
        Some(Self {
            id: document.get_str("_id").ok()?.to_owned(),
            ended: Timestamp(document.get_datetime("at").ok()?.timestamp_millis()),
            passed: document.get_bool("passed").ok()?,
            rto_millis: figure("rtoMillis"),
            rpo_seconds: figure("rpoSeconds"),
        })
    }

    fn document(&self, report: &Signed) -> Result<RawDocumentBuf> {
        let mut document = rawdoc! {
            "at": bson::DateTime::from_millis(self.ended.0),
            "passed": self.passed,
            "report": report.text()?,
        };
        for (name, figure) in
            [(bson::raw::cstr!("rtoMillis"), self.rto_millis), (bson::raw::cstr!("rpoSeconds"), self.rpo_seconds)]
        {
            if let Some(figure) = figure {
                document.append(name, figure.cast_signed());
            }
        }
        Ok(document)
    }
}

impl Drills {
    /// Keeps a report of this instance's own, once.
    pub async fn record(&self, caller: &Caller, signed: Value) -> Result<Kept> {
        self.access.decide(caller, Action::Create, Resource::Module("backups"))?;
        let signed = Signed::read(signed)?;
        let report = signed.verify(&signers(&self.keyring))?;
        let stamp = &self.stamp;
        if report.instance != stamp.id || report.environment != stamp.environment.name() || report.format > FORMAT {
            return Err(Error::Invalid(Fault::new("drills.foreign").with("instance", &report.instance)));
        }
        let now = self.clock.now();
        let ended = bson::DateTime::parse_rfc3339_str(&report.ended).map(|ended| Timestamp(ended.timestamp_millis()));
        let ended = ended.ok().filter(|ended| *ended <= now.plus_seconds(DAY));
        let ended = ended.ok_or_else(|| Error::Invalid(Fault::new("drills.unsound")))?;
        let kept = Kept {
            id: report.id.clone(),
            ended,
            passed: report.outcome == Outcome::Passed,
            rto_millis: report.rto.as_ref().map(|rto| rto.millis),
            rpo_seconds: report.rpo.as_ref().map(|rpo| rpo.seconds),
        };
        let event = Event::new("drills.record")
            .object(format!("drills/{}", report.id))
            .with("outcome", report.outcome.name())
            .with("sequence", report.point.as_ref().map_or(0, |point| point.sequence))
            .with("rtoMillis", kept.rto_millis.unwrap_or_default())
            .with("rpoSeconds", kept.rpo_seconds.unwrap_or_default());
        let (collection, id) = (DRILLS.to_owned(), report.id.clone());
        let change = Change::Put(kept.document(&signed)?);
        let put = Operation { collection, id, expect: Expect::Absent, change };
        let operations = vec![put, self.audit.operation(caller, event)?];
        let batch = Batch { time: now, origin: caller.origin(), operations, check: None, receipt: None };
        self.documents.commit(batch).await?;
        Ok(kept)
    }

    /// Newest first, with their reports.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<(Kept, Value)>> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        let documents = self.find(MOST).await?;
        let read = |document: &RawDocumentBuf| {
            let report = serde_json::from_str(document.get_str("report").ok()?).ok()?;
            Some((Kept::read(document)?, report))
        };
        Ok(documents.iter().filter_map(read).collect())
    }

    /// Whatever it came to.
    pub async fn newest(&self) -> Result<Option<Kept>> {
        Ok(self.find(1).await?.first().and_then(|document| Kept::read(document)))
    }

    async fn find(&self, limit: usize) -> Result<Vec<RawDocumentBuf>> {
        let filter = Arc::new(Filter::parse(&rawdoc! {}).map_err(Error::Invalid)?);
        let sort = Sort::parse_text("-at").map_err(Error::Invalid)?;
        let query = Query { collection: DRILLS.to_owned(), filter, sort, limit, after: None };
        Ok(self.documents.find(query).await?.documents)
    }
}

/// The newest in a store that is only looked into.
pub fn newest(snapshot: &dyn Snapshot) -> Result<Option<Kept>> {
    let (mut newest, mut after) = (None::<Kept>, None::<String>);
    loop {
        let documents = snapshot.documents(DRILLS, after.as_deref(), MOST)?;
        let Some(last) = documents.last() else { return Ok(newest) };
        after = last.get_str("_id").ok().map(str::to_owned);
        let later = documents.iter().filter_map(|document| Kept::read(document));
        newest = later.chain(newest).max_by_key(|kept| kept.ended);
    }
}

/// Whether a drill was made in time, and passed: one that nobody tried to restore may be no backup. `since`: when the
/// instance was made.
pub fn finding(
    environment: Environment,
    days: u32,
    newest: Option<&Kept>,
    since: Timestamp,
    now: Timestamp,
) -> Finding {
    let age = |time: Timestamp| (now.seconds() - time.seconds()) / DAY;
    let fault = match newest {
        _ if environment == Environment::Development || days == 0 => return Finding::ok(CHECK),
        Some(kept) if !kept.passed => Fault::new("drills.failed").with("time", kept.ended.rfc3339()),
        Some(kept) if age(kept.ended) >= i64::from(days) => {
            Fault::new("drills.overdue").with("age", age(kept.ended)).with("days", days)
        }
        None if age(since) >= i64::from(days) => Fault::new("drills.never").with("days", days),
        _ => return Finding::ok(CHECK),
    };
    Finding::warning(CHECK, fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ports::documents::{Record, Sequence},
        services::{bench::Bench, instance, keyring::Purpose},
    };

    #[test]
    fn a_drill_is_due_after_so_many_days_outside_development() {
        let kept = |days: i64, passed| Kept {
            id: String::new(),
            ended: Timestamp(days * DAY * 1000),
            passed,
            rto_millis: None,
            rpo_seconds: None,
        };
        let key = |environment, newest: Option<&Kept>, now: i64| {
            let found = finding(environment, 35, newest, Timestamp(0), Timestamp(now * DAY * 1000));
            found.fault.map(|fault| fault.key)
        };
        use Environment::{Development, Production, Staging};
        assert_eq!(key(Development, None, 400), None);
        assert_eq!(key(Staging, None, 34), None, "a new instance has its time");
        assert_eq!(key(Staging, None, 35), Some("drills.never"));
        assert_eq!(key(Production, Some(&kept(100, true)), 134), None);
        assert_eq!(key(Production, Some(&kept(100, true)), 135), Some("drills.overdue"));
        assert_eq!(key(Production, Some(&kept(134, false)), 135), Some("drills.failed"));
    }

    #[tokio::test]
    async fn a_report_of_this_instance_is_kept_once_and_told() {
        let bench = Bench::of(Environment::Staging).await;
        instance::furnish(&*bench.documents, Timestamp(1)).await.unwrap();
        let (stamp, keyring) = (bench.stamp.clone(), Arc::new(bench.keyring));
        let (documents, access, audit) = (bench.documents.clone(), bench.access, bench.audit);
        let drills = Drills { documents, clock: bench.clock, access, audit, keyring: keyring.clone(), stamp };
        let key = keyring.current(Purpose::BackupSigning);
        let report = |id: &str, outcome| Report {
            instance: bench.stamp.id.clone(),
            ended: drills.clock.now().rfc3339(),
            ..report::tests::report(id, outcome)
        };
        let signed = |report: &Report, key| serde_json::to_value(Signed::new(report, key).unwrap()).unwrap();
        let passed = report("a", Outcome::Passed);
        let caller = Caller::system();
        let kept = drills.record(&caller, signed(&passed, Some(&key))).await.unwrap();
        assert_eq!((kept.passed, kept.rto_millis, kept.rpo_seconds), (true, Some(61_500), Some(300)));
        assert_eq!(drills.newest().await.unwrap().as_ref(), Some(&kept));
        let snapshot = drills.documents.snapshot().await.unwrap();
        assert_eq!(newest(&*snapshot).unwrap().as_ref(), Some(&kept));
        assert!(
            matches!(drills.record(&caller, signed(&passed, Some(&key))).await, Err(Error::Conflict(_))),
            "kept twice"
        );
        let foreign = Report { instance: "another".to_owned(), ..report("b", Outcome::Passed) };
        assert!(matches!(drills.record(&caller, signed(&foreign, Some(&key))).await, Err(Error::Invalid(_))));
        let future = Report { ended: "2999-01-01T00:00:00Z".to_owned(), ..report("b", Outcome::Passed) };
        assert!(matches!(drills.record(&caller, signed(&future, Some(&key))).await, Err(Error::Invalid(_))));
        let failed = signed(&report("c", Outcome::Failed), None);
        assert!(!drills.record(&caller, failed).await.unwrap().passed);
        assert_eq!(drills.list(&caller).await.unwrap().len(), 2);
        let told = |record: &Record| {
            let entry = record.after.as_ref().and_then(|after| after.get_str("entry").ok());
            entry.is_some_and(|entry| entry.contains("drills.record"))
        };
        let records = drills.documents.records(Sequence(0), 1000).await.unwrap();
        assert_eq!(records.iter().filter(|record| told(record)).count(), 2);
    }

    #[tokio::test]
    async fn a_copy_is_held_against_what_lives_by_what_nobody_changed_since() {
        let bench = Bench::of(Environment::Staging).await;
        let (stamp, keyring) = (bench.stamp.clone(), Arc::new(bench.keyring));
        let (documents, access, audit) = (bench.documents.clone(), bench.access, bench.audit);
        let drills = Drills { documents, clock: bench.clock, access, audit, keyring, stamp };
        let commit = async |collection: &str, id: &str, change: Change| {
            let (collection, id, expect) = (collection.to_owned(), id.to_owned(), Expect::Any);
            let operations = vec![Operation { collection, id, expect, change }];
            let batch =
                Batch { time: Timestamp(7), origin: Default::default(), operations, check: None, receipt: None };
            drills.documents.commit(batch).await.unwrap().sequence
        };
        let put = |n: i32| Change::Put(rawdoc! { "n": n });
        for name in ["c", "gone"] {
            commit("system.collections", name, Change::Put(rawdoc! {})).await;
        }
        for id in ["a", "b", "d"] {
            commit("c", id, put(1)).await;
        }
        let sequence = commit("gone", "x", put(1)).await;
        let mut samples = Vec::new();
        for (collection, id) in [("c", "a"), ("c", "b"), ("c", "d"), ("gone", "x")] {
            samples.push(Sample::of(collection, &drills.documents.get(collection, id).await.unwrap().unwrap()));
        }
        let lineage = drills.stamp.lineage;
        commit("c", "b", put(2)).await;
        commit("c", "e", put(2)).await;
        let last = commit("system.collections", "gone", Change::Delete).await;
        let copied = Copied { lineage, sequence, samples };
        let compared = drills.compare(&Caller::system(), copied.clone()).await.unwrap();
        assert_eq!((compared.sequence, compared.time), (last, Some(Timestamp(7))));
        let held = compared.held.unwrap();
        assert_eq!((held.equal, held.changed, held.different.len()), (2, 2, 0));
        assert_eq!((held.counts.get("c"), held.counts.get("gone")), (Some(&3), None));
        // A document that is another here, though nobody changed it.
        let mut wrong = copied.clone();
        wrong.samples[0].digest = wrong.samples[1].digest.clone();
        wrong.samples[1].digest = String::new();
        let held = drills.compare(&Caller::system(), wrong).await.unwrap().held.unwrap();
        assert_eq!(held.different, [("c".to_owned(), "a".to_owned())]);
        let other = Copied { lineage: lineage + 1, ..copied.clone() };
        assert_eq!(drills.compare(&Caller::system(), other).await.unwrap().held, None);
        let ahead = Copied { sequence: Sequence(last.0 + 99), ..copied };
        assert_eq!(drills.compare(&Caller::system(), ahead).await.unwrap().held, None);
    }
}
