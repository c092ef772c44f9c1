//! How far each identity is trusted: events are noted in memory, where requests read the level, and written at once
//! when they weigh much, else within a minute.

use super::{
    Error, Result,
    access::{Access, Action, Caller, Resource},
    documents::every,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    domain::{
        filter::Filter,
        trust::{Event, Rules, Score},
    },
    ports::documents::{Batch, Change, Documents, Expect, Operation},
};
use bson::RawDocumentBuf;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

pub const TRUST: &str = "system.trust";

/// Points from which an event is written at once.
const WEIGHTY: i32 = 10;
/// Records written in one commit.
const AT_ONCE: usize = 500;
/// Characters of a reason.
const REASON: usize = 500;

/// What is kept of an identity.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Record {
    #[serde(rename = "_id")]
    pub identity: String,
    #[serde(flatten)]
    pub score: Score,
    /// By the name of the event.
    #[serde(default)]
    pub events: BTreeMap<String, Tally>,
    #[serde(default)]
    pub adjusted: Option<Adjustment>,
}

/// How often an event counted, and when last.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    pub count: i64,
    pub last: Timestamp,
}

/// The last word of an administrator.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Adjustment {
    pub level: u8,
    pub reason: String,
    pub by: String,
    pub at: Timestamp,
}

struct Held {
    record: Record,
    /// Not on disk yet.
    fresh: bool,
}

pub struct Trust {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    rules: Rules,
    held: RwLock<HashMap<String, Held>>,
    /// One write at a time: an older state never follows a newer one.
    writing: tokio::sync::Mutex<()>,
}

impl Trust {
    pub fn new(documents: Arc<dyn Documents>, clock: SharedClock, rules: Rules) -> Self {
        Self { documents, clock, rules, held: RwLock::default(), writing: tokio::sync::Mutex::default() }
    }

    /// Reads back, at start-up, what was written.
    pub async fn recall(&self) -> Result<()> {
        let read = |document: RawDocumentBuf| -> Result<Record> {
            bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(error.into()))
        };
        for record in every(&*self.documents, TRUST, Filter::all(), read).await? {
            self.write().insert(record.identity.clone(), Held { record, fresh: false });
        }
        Ok(())
    }

    /// 0 to 100. Asked at each request: no look at the disk.
    pub fn level(&self, identity: &str) -> u8 {
        let now = self.clock.now();
        match self.read().get(identity) {
            Some(held) => held.record.score.level(&self.rules, now),
            None => self.rules.baseline(),
        }
    }

    /// Notes an event, in memory: [`Self::flush`] writes it.
    pub fn note(&self, identity: &str, event: Event) {
        let now = self.clock.now();
        if self.read().get(identity).is_some_and(|held| !held.record.counts(event, now, &self.rules)) {
            return;
        }
        let mut all = self.write();
        let held = all.entry(identity.to_owned()).or_insert_with(|| Held { record: self.blank(identity), fresh: true });
        if !held.record.counts(event, now, &self.rules) {
            return;
        }
        held.fresh = true;
        let tally = held.record.events.entry(event.name().to_owned()).or_default();
        // The first day begins with the first use.
        if event == Event::DayClean && tally.last == Timestamp::default() {
            tally.last = now;
            return;
        }
        *tally = Tally { count: tally.count.saturating_add(1), last: now };
        held.record.score = held.record.score.moved(event, &self.rules, now);
        tracing::debug!(identity, event = event.name(), "trust moved");
    }

    /// Notes an event, and writes it at once when it weighs much. That the disk is full changes nothing for who asks.
    pub async fn record(&self, identity: &str, event: Event) {
        self.note(identity, event);
        if self.rules.weight(event).abs() < WEIGHTY {
            return;
        }
        if let Err(error) = self.flush().await {
            tracing::warn!(identity, event = event.name(), %error, "trust is not written yet");
        }
    }

    /// Writes what is not on disk yet; what fails is tried again by the next.
    pub async fn flush(&self) -> Result<()> {
        let _writing = self.writing.lock().await;
        loop {
            let some = self.take_fresh();
            if some.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.commit(&Caller::system(), &some).await {
                let mut all = self.write();
                for record in &some {
                    if let Some(held) = all.get_mut(&record.identity) {
                        held.fresh = true;
                    }
                }
                return Err(error);
            }
        }
    }

    /// Some that are to be written, taken and marked under one lock: what is noted from then on is fresh again.
    fn take_fresh(&self) -> Vec<Record> {
        let mut all = self.write();
        let fresh = all.values_mut().filter(|held| held.fresh).take(AT_ONCE);
        fresh
            .map(|held| {
                held.fresh = false;
                held.record.clone()
            })
            .collect()
    }

    /// What is known of an identity, and its level now.
    pub fn describe(&self, access: &Access, caller: &Caller, identity: &str) -> Result<(u8, Record)> {
        access.decide(caller, Action::View, Resource::Module("trust"))?;
        let held = self.read().get(identity).map(|held| held.record.clone());
        Ok((self.level(identity), held.unwrap_or_else(|| self.blank(identity))))
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Sets the level, for a reason that stays. Time brings it back to the baseline as it does any other.
    pub async fn adjust(
        &self,
        access: &Access,
        caller: &Caller,
        identity: &str,
        level: u8,
        reason: &str,
    ) -> Result<(u8, Record)> {
        access.decide(caller, Action::Manage, Resource::Module("trust"))?;
        let reason = reason.trim();
        if level > 100 {
            return Err(Error::Invalid(Fault::new("trust.level").at("level").with("level", level)));
        }
        if reason.is_empty() || reason.chars().count() > REASON {
            return Err(Error::Invalid(Fault::new("trust.reason").at("reason").with("limit", REASON)));
        }
        let _writing = self.writing.lock().await;
        let now = self.clock.now();
        let score = Score::new(level, now);
        let adjusted = Some(Adjustment { level, reason: reason.to_owned(), by: caller.actor(), at: now });
        let held = self.read().get(identity).map(|held| held.record.clone());
        let record = Record { score, adjusted, ..held.unwrap_or_else(|| self.blank(identity)) };
        self.commit(caller, std::slice::from_ref(&record)).await?;
        // Events noted meanwhile keep their tally; the administrator has the last word on the score.
        let mut all = self.write();
        let held = all.entry(identity.to_owned()).or_insert_with(|| Held { record: record.clone(), fresh: false });
        (held.record.score, held.record.adjusted) = (record.score, record.adjusted);
        Ok((level, held.record.clone()))
    }

    /// Keeps nothing of an identity: why an administrator moved its level may name it.
    pub(super) async fn forget(&self, caller: &Caller, identity: &str) -> Result<()> {
        let _writing = self.writing.lock().await;
        self.write().remove(identity);
        if self.documents.get(TRUST, identity).await?.is_none() {
            return Ok(());
        }
        let (collection, id) = (TRUST.to_owned(), identity.to_owned());
        let operations = vec![Operation { collection, id, expect: Expect::Any, change: Change::Delete }];
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }

    async fn commit(&self, caller: &Caller, records: &[Record]) -> Result<()> {
        let put = |record: &Record| -> Result<Operation> {
            let document =
                bson::serialize_to_raw_document_buf(record).map_err(|error| Error::Internal(error.into()))?;
            let (collection, id) = (TRUST.to_owned(), record.identity.clone());
            Ok(Operation { collection, id, expect: Expect::Any, change: Change::Put(document) })
        };
        let operations = records.iter().map(put).collect::<Result<Vec<_>>>()?;
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }

    fn blank(&self, identity: &str) -> Record {
        let score = Score::new(self.rules.baseline(), self.clock.now());
        Record { identity: identity.to_owned(), score, events: BTreeMap::new(), adjusted: None }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Held>> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// Whether an event counts now: its spacing is over, and a clean day was one.
    fn counts(&self, event: Event, now: Timestamp, rules: &Rules) -> bool {
        let within = |name: &str, seconds: i64| {
            self.events.get(name).is_some_and(|tally| tally.last.plus_seconds(seconds) > now)
        };
        let spoiled = || Event::ALL.iter().any(|other| rules.weight(*other) < 0 && within(other.name(), 86_400));
        !within(event.name(), event.spacing()) && (event != Event::DayClean || !spoiled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::clock::{Clock, FixedClock},
        services::instance,
    };
    use crate::{base::environment::Environment, services::access::Subject};
    use std::sync::atomic::Ordering;

    async fn trust() -> (Trust, Arc<FixedClock>) {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let backend = redb::backends::InMemoryBackend::new();
        let store = Embedded::open_over(backend, Options::default(), clock.clone()).unwrap();
        let documents: Arc<dyn Documents> = Arc::new(store);
        instance::furnish(&*documents, clock.now()).await.unwrap();
        (Trust::new(documents, clock.clone(), Rules::default()), clock)
    }

    async fn restarted(trust: &Trust) -> Trust {
        let again = Trust::new(trust.documents.clone(), trust.clock.clone(), Rules::default());
        again.recall().await.unwrap();
        again
    }

    fn wait(clock: &FixedClock, seconds: i64) {
        clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn what_is_noted_while_it_is_written_is_written_next() {
        let (trust, _) = trust().await;
        trust.note("a", Event::LoginFailed);
        assert_eq!(trust.take_fresh().len(), 1);
        trust.note("a", Event::MfaPassed);
        let next = trust.take_fresh();
        assert_eq!((next.len(), next[0].events.len()), (1, 2));
        assert!(trust.take_fresh().is_empty());
    }

    #[tokio::test]
    async fn what_weighs_much_is_on_disk_at_once_and_the_rest_within_a_flush() {
        let (trust, _) = trust().await;
        trust.record("thief", Event::RefreshReplayed).await;
        trust.record("clumsy", Event::LoginFailed).await;
        assert_eq!([trust.level("thief"), trust.level("clumsy"), trust.level("other")], [30, 48, 50]);
        trust.note("late", Event::LoginFailed);
        let again = restarted(&trust).await;
        assert_eq!([again.level("thief"), again.level("clumsy"), again.level("late")], [30, 50, 50]);
        trust.flush().await.unwrap();
        let again = restarted(&trust).await;
        assert_eq!([again.level("thief"), again.level("clumsy"), again.level("late")], [30, 48, 48]);
        trust.note("other", Event::Denied);
        let sequence = trust.documents.statistics().await.unwrap().sequence;
        trust.flush().await.unwrap();
        trust.flush().await.unwrap();
        assert_eq!(trust.documents.statistics().await.unwrap().sequence.0, sequence.0 + 1, "written without news");
    }

    #[tokio::test]
    async fn a_flood_counts_once() {
        let (trust, clock) = trust().await;
        for _ in 0..100 {
            trust.note("owner", Event::LoginFailed);
        }
        assert_eq!(trust.level("owner"), 48);
        wait(&clock, 600);
        trust.note("owner", Event::LoginFailed);
        assert_eq!(trust.level("owner"), 46);
    }

    #[tokio::test]
    async fn days_are_clean_when_nothing_spoiled_them() {
        let (trust, clock) = trust().await;
        let day = || trust.note("owner", Event::DayClean);
        day();
        assert_eq!(trust.level("owner"), 50, "a day that has not passed");
        wait(&clock, 86_400);
        day();
        day();
        assert_eq!(trust.level("owner"), 51);
        wait(&clock, 86_400);
        trust.note("owner", Event::Denied);
        day();
        assert_eq!(trust.level("owner"), 50);
        wait(&clock, 86_399);
        day();
        assert_eq!(trust.level("owner"), 50);
        wait(&clock, 1);
        day();
        assert_eq!(trust.level("owner"), 51);
    }

    #[tokio::test]
    async fn an_administrator_has_the_last_word_and_it_stays() {
        let (trust, clock) = trust().await;
        let access = Access::new(Environment::Development, clock, Arc::new(restarted(&trust).await));
        let by = Caller::system();
        trust.record("owner", Event::RefreshReplayed).await;
        let (level, record) = trust.adjust(&access, &by, "owner", 80, " met in person ").await.unwrap();
        let adjusted = record.adjusted.unwrap();
        assert_eq!((level, adjusted.reason.as_str(), adjusted.by.as_str()), (80, "met in person", "system"));
        let (level, record) = restarted(&trust).await.describe(&access, &by, "owner").unwrap();
        assert_eq!((level, record.events["refresh.replayed"].count), (80, 1));
        for (level, reason, rule) in
            [(101, "x", "trust.level"), (1, " ", "trust.reason"), (1, &"x".repeat(501), "trust.reason")]
        {
            let error = trust.adjust(&access, &by, "owner", level, reason).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid(fault) if fault.key == rule), "{error}");
        }
        let nobody = Caller { subject: Subject::Anonymous, ..Caller::system() };
        assert!(trust.adjust(&access, &nobody, "owner", 1, "x").await.is_err());
        assert!(trust.describe(&access, &nobody, "owner").is_err());
        assert_eq!(trust.level("owner"), 80);
    }
}
