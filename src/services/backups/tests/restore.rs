//! Restores to any point: every state of a store comes back out of full backups and segments.

use super::*;
use crate::ports::documents::{RECEIPTS, Receipt};
use proptest::prelude::*;

/// What a store shows, receipts aside: they are not journalled.
type Shown = (Sequence, BTreeMap<String, Vec<RawDocumentBuf>>, Vec<Record>);

fn shown(snapshot: &dyn Snapshot) -> Shown {
    let names = snapshot.collections().unwrap().into_iter().filter(|name| name != RECEIPTS);
    let rows = names.map(|name| {
        let rows = snapshot.documents(&name, None, 100_000).unwrap();
        assert_eq!(snapshot.count(&name).unwrap(), rows.len() as u64, "{name}");
        (name, rows)
    });
    (snapshot.sequence(), rows.collect(), snapshot.records(Sequence(0), 100_000).unwrap())
}

/// A step of a store's life.
#[derive(Debug, Clone)]
enum Step {
    /// Puts and deletes in one batch: collection, id, value (0: delete).
    Write(Vec<(u8, u8, u8)>),
    /// A collection defined, altered or dropped, by its indexes.
    Define(u8, Option<u8>),
    Full,
    Segment,
}

fn step() -> impl Strategy<Value = Step> {
    let write = proptest::collection::vec((0..3_u8, 0..6_u8, 0..4_u8), 1..5).prop_map(Step::Write);
    let define = (0..3_u8, proptest::option::weighted(0.7, 0..4_u8)).prop_map(|(name, kind)| Step::Define(name, kind));
    prop_oneof![6 => write, 3 => define, 1 => Just(Step::Full), 2 => Just(Step::Segment)]
}

fn name(number: u8) -> String {
    format!("c{number}")
}

fn operation(collection: String, id: String, change: Change) -> Operation {
    Operation { collection, id, expect: Expect::Any, change }
}

/// Its batch, at a time of its own; what the store refuses changes nothing.
async fn live(store: &Embedded, number: usize, step: &Step) {
    let operations = match step {
        Step::Write(writes) => writes
            .iter()
            .map(|(collection, id, value)| {
                let change = match value {
                    0 => Change::Delete,
                    value => Change::Put(raw(doc! {"v": i32::from(*value), "twice": i32::from(*value) / 2})),
                };
                operation(name(*collection), id.to_string(), change)
            })
            .collect(),
        Step::Define(collection, kind) => {
            let change = match kind {
                None => Change::Delete,
                Some(0) => Change::Put(raw(doc! {})),
                Some(1) => Change::Put(raw(doc! {"indexes": ["v"]})),
                Some(2) => Change::Put(raw(doc! {"indexes": ["v", {"keys": "twice", "unique": true}]})),
                Some(_) => Change::Put(raw(doc! {"indexes": ["-v,twice"]})),
            };
            vec![operation(COLLECTIONS.to_owned(), name(*collection), change)]
        }
        Step::Full | Step::Segment => return,
    };
    let receipt = Receipt { key: number.to_string(), fingerprint: "f".to_owned(), expires: Timestamp(i64::MAX / 2) };
    let batch = Batch { time: Timestamp(number as i64 * 10), receipt: Some(receipt), ..batch(operations) };
    let _ = store.commit(batch).await;
}

struct Life {
    instance: Instance,
    /// After each commit.
    states: Vec<Shown>,
    /// Where the first full backup ends, and the last segment.
    reach: Option<(Sequence, Sequence)>,
}

impl Life {
    async fn of(steps: &[Step]) -> Self {
        let mut life = Self { instance: instance(Environment::Staging), states: Vec::new(), reach: None };
        let store = engine();
        for (number, step) in steps.iter().enumerate() {
            live(&store, number, step).await;
            let snapshot = store.snapshot().await.unwrap();
            if life.states.last().is_none_or(|state| state.0 != snapshot.sequence()) {
                life.states.push(shown(&*snapshot));
            }
            let span = match (step, life.reach) {
                (Step::Full, _) => Span::Full,
                (Step::Segment, Some((_, after))) if after < snapshot.sequence() => Span::Segment { after },
                _ => continue,
            };
            life.back_up(&*snapshot, span, number as i64 * 10);
            life.reach = match (span, life.reach) {
                (Span::Full, None) => Some((snapshot.sequence(), snapshot.sequence())),
                // Segments go on from one another, whatever full backups are made between.
                (Span::Full, Some(reach)) => Some(reach),
                (Span::Segment { .. }, reach) => reach.map(|(first, _)| (first, snapshot.sequence())),
            };
        }
        life
    }

    fn back_up(&self, snapshot: &dyn Snapshot, span: Span, now: i64) -> Created {
        let instance = &self.instance;
        let request = Request {
            stamp: &instance.stamp,
            keyring: &instance.keyring,
            recipients: &instance.recipients,
            now: Timestamp(now),
            span,
            previous: [0; 32],
            configuration: None,
        };
        create(&request, snapshot, &instance.folder, &mut |_| Ok(())).unwrap()
    }

    fn begin<T>(&self, wanted: &Wanted, then: impl FnOnce(Restore<'_>) -> T) -> Result<T> {
        let signers = signers(&self.instance.keyring);
        let (identity, trust) = (&self.instance.identity, Trust::Signers(&signers));
        let asked = Asked { wanted, identity, trust, environment: Environment::Staging, instance: None, anchor: None };
        Restore::begin(&self.instance.folder, asked, &mut |_| Ok(())).map(then)
    }

    /// The store that comes of it, what it shows, and where it ends.
    async fn restored(&self, wanted: &Wanted) -> Result<(Embedded, Shown, Plan)> {
        let store = engine();
        let handle = tokio::runtime::Handle::current();
        let plan = tokio::task::block_in_place(|| {
            self.begin(wanted, |restore| {
                let mut tally = Tally::default();
                let mut put = |part: Load| {
                    tally.part(&part);
                    put_in(&store, &handle, part)
                };
                restore.load(&[], &mut put, &mut |_| Ok(())).unwrap();
                (restore.plan().clone(), tally)
            })
        });
        let (plan, tally) = plan?;
        let shown = shown(&*store.snapshot().await.unwrap());
        for (name, rows) in shown.1.iter().filter(|(_, rows)| !rows.is_empty()) {
            assert_eq!(tally.collections.get(name), Some(&(rows.len() as u64)), "{name}");
        }
        Ok((store, shown, plan))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Commits of every kind, backups at random between them: each state there was since the first full backup comes
    /// back as it was, by its sequence and by its time; what is within a transaction, or never backed up, does not.
    #[test]
    fn every_state_comes_back(mut steps in proptest::collection::vec(step(), 4..40)) {
        steps.insert(0, Step::Define(0, Some(1)));
        steps.insert(1, Step::Define(1, Some(0)));
        steps.push(Step::Segment);
        runtime().block_on(async {
            let life = Life::of(&steps).await;
            let Some((first, last)) = life.reach else { return };
            let whole: Vec<Sequence> = life.states.iter().map(|state| state.0).collect();
            for sequence in (first.0.saturating_sub(1)..=last.0 + 1).map(Sequence) {
                let restored = life.restored(&Wanted::Sequence(sequence)).await;
                let known = life.states.iter().find(|state| state.0 == sequence);
                let covered = sequence >= first && sequence <= last;
                match (known.filter(|_| covered), restored) {
                    (Some(known), Ok((_, shown, plan))) => {
                        assert!(shown == *known, "at {sequence:?}:\n{shown:?}\n{known:?}");
                        assert_eq!(plan.point.sequence, sequence);
                    }
                    (None, Err(error)) => {
                        let key = if covered { "backups.within" } else { "backups.unreached" };
                        assert_eq!(fault(error).key, key, "at {sequence:?} of {whole:?}");
                    }
                    (known, restored) => panic!("{sequence:?}: {} {:?}", known.is_some(), restored.err()),
                }
            }
            for number in 0..steps.len() as i64 {
                // The state after the last step not later than this.
                let Ok((_, shown, plan)) = life.restored(&Wanted::At(Timestamp(number * 10 + 5))).await else { continue };
                let time = |state: &&Shown| state.2.last().is_none_or(|record| record.time.0 <= number * 10 + 5);
                let known = life.states.iter().filter(time).rfind(|state| state.0 <= last).unwrap();
                assert!(plan.older.is_none() && shown == *known, "at {number}");
            }
            let (_, latest, plan) = life.restored(&Wanted::Latest).await.unwrap();
            assert_eq!((latest.0, plan.beyond, plan.older), (last, None, None));
        });
    }
}
