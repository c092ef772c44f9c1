//! A backup on its way to one target: what is due there, one process at it, the outcome noted.
//!
//! A segment each minute is no entry of the audit log: a million a year would bury what people did, and each segment
//! carries the log itself up to a signed checkpoint. Full backups, what was asked for, and a target's first failure and
//! recovery are entries.

use super::{
    Created, Request, Span, Trust,
    create::{self, JOURNAL_GAP, no_gap},
    desk::{Backups, blocking},
    file::Kind,
    lane::Lane,
    newest, signers,
    state::{BACKUPS, Claim, Sent, State},
};
use crate::{
    base::{
        clock::{Stopwatch, Timestamp},
        fault::Fault,
    },
    domain::schedule::planned,
    ports::{
        documents::{Sequence, Snapshot},
        objects::Objects,
    },
    services::{Error, Result, access::Caller, audit::Event},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// A claim counts for so long unless it is renewed: a process that died at it holds nobody up for longer.
const LEASE: Duration = Duration::from_secs(120);
const LEASE_MILLIS: i64 = 120_000;
/// How many records are looked at together for one that is worth a segment.
const LOOK: usize = 64;

/// What is wanted of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What the schedule says.
    Due,
    /// The last there is before a stop.
    Last,
    /// Somebody asks for one.
    Asked(Kind),
    /// Of the subjects' keys alone, a full one.
    Keys,
}

impl Wanted {
    fn waits(self) -> bool {
        matches!(self, Self::Asked(_) | Self::Keys)
    }
}

/// What a run sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Documents(Span),
    Keys,
}

impl Task {
    fn kind(self) -> Kind {
        match self {
            Self::Documents(Span::Segment { .. }) => Kind::Segment,
            Self::Documents(Span::Full) | Self::Keys => Kind::Full,
        }
    }
}

/// What was sent, up to the failure if there was one.
#[derive(Default)]
struct Sending {
    keys: Option<Created>,
    documents: Option<Created>,
}

/// What work off the request's thread holds on to.
struct Hold {
    /// To its end, whoever gave up waiting for it.
    _busy: Arc<OwnedMutexGuard<()>>,
    lost: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
}

impl Backups {
    /// Sends what is wanted, if anything is. `None`: nothing was, or another is at it.
    pub(super) async fn run(&self, lane: &Lane, wanted: Wanted, caller: &Caller) -> Result<Option<Created>> {
        let busy = match wanted {
            Wanted::Due | Wanted::Last => lane.enter(),
            Wanted::Asked(_) => lane.enter_soon().await,
            Wanted::Keys => Some(lane.enter_surely().await),
        };
        let running = || Error::Conflict(Fault::new("backups.running"));
        let Some(busy) = busy else { return if wanted.waits() { Err(running()) } else { Ok(None) } };
        let now = self.clock.now();
        let mut state = lane.newest(self.states.read(&lane.target.name).await?);
        let others = state.claim.as_ref().is_some_and(|claim| {
            // One that counts longer than it may was made by a clock that was ahead.
            claim.holder != self.holder && claim.until > now && claim.until.0 <= now.0 + LEASE_MILLIS
        });
        if others {
            return if wanted.waits() { Err(running()) } else { Ok(None) };
        }
        let Some(task) = self.decide(lane, &state, wanted, now).await? else { return Ok(None) };
        state.next = Some(planned(state.next, self.next(lane, now)));
        state.attempted = Some(now);
        state.claim = Some(Claim { holder: self.holder.clone(), until: now.plus_seconds(LEASE_MILLIS / 1000) });
        match self.states.write(&lane.target.name, &mut state, now).await {
            Ok(true) => {}
            Ok(false) => return if wanted.waits() { Err(running()) } else { Ok(None) },
            // What cannot be written to is backed up all the same; others cannot claim it either.
            Err(error) => tracing::warn!(target = lane.target.name, %error, "a backup is made without a claim"),
        }
        self.carry_out(lane, state, task, busy, caller).await
    }

    /// What is to be sent now; `None`: nothing.
    async fn decide(&self, lane: &Lane, state: &State, wanted: Wanted, now: Timestamp) -> Result<Option<Task>> {
        let full = Some(Task::Documents(Span::Full));
        if let Wanted::Asked(Kind::Full) = wanted {
            return Ok(full);
        }
        if wanted == Wanted::Keys {
            return Ok(self.beside.as_ref().map(|_| Task::Keys));
        }
        let open = lane.target.takes_fulls(now) && !lane.rests(Kind::Full);
        let Some(after) = self.goes_on(lane, state).await? else {
            let may = match wanted {
                Wanted::Last => false,
                Wanted::Asked(_) => true,
                Wanted::Due | Wanted::Keys => open,
            };
            return Ok(full.filter(|_| may));
        };
        let due = planned(state.next, self.next(lane, now)) <= now;
        if wanted == Wanted::Due && due && open {
            return Ok(full);
        }
        let takes = lane.target.takes_segments(now) && !lane.rests(Kind::Segment);
        let may = matches!(wanted, Wanted::Asked(_)) || takes;
        let segment = Some(Task::Documents(Span::Segment { after }));
        Ok(if may && self.something(lane, after).await? { segment } else { None })
    }

    /// Where a segment would go on; `None`: there is no chain, or the journal does not reach back to its end.
    async fn goes_on(&self, lane: &Lane, state: &State) -> Result<Option<Sequence>> {
        let (Some(full), Some(last)) = (&state.full, state.last()) else { return Ok(None) };
        if state.lineage != self.stamp.lineage {
            return Ok(None);
        }
        // Of two looks the earlier first: what is written between them is no gap.
        let end = self.documents.statistics().await?.sequence;
        let first = self.documents.records(last.upto, 1).await?.first().map(|record| record.sequence);
        if no_gap(last.upto, first, end).is_err() {
            return Ok(None);
        }
        // Another disk at the same place, or an emptied one. A target that cannot say is believed to hold it.
        let (objects, name) = (lane.target.objects.clone(), full.name.clone());
        let there = blocking(move || Ok(objects.size(&name)?)).await;
        Ok((!matches!(there, Ok(None))).then_some(last.upto))
    }

    /// Whether the journal has anything after this place beside what backups note of themselves.
    async fn something(&self, lane: &Lane, after: Sequence) -> Result<bool> {
        let mut from = after.max(lane.looked());
        loop {
            let records = self.documents.records(from, LOOK).await?;
            if records.iter().any(|record| record.collection != BACKUPS) {
                return Ok(true);
            }
            let Some(last) = records.last() else { return Ok(false) };
            from = last.sequence;
            lane.look(from);
        }
    }

    /// Sends it under the claim, which is renewed meanwhile, and notes what became of it.
    async fn carry_out(
        &self,
        lane: &Lane,
        mut state: State,
        task: Task,
        busy: OwnedMutexGuard<()>,
        caller: &Caller,
    ) -> Result<Option<Created>> {
        let (watch, name) = (Stopwatch::start(), &lane.target.name);
        let (busy, lost) = (Arc::new(busy), Arc::new(AtomicBool::new(false)));
        let mut sending = Sending::default();
        let before = state.clone();
        let sent = {
            let work = self.send(lane, &before, task, (&busy, &lost), &mut sending);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    sent = &mut work => break sent,
                    () = tokio::time::sleep(LEASE / 4) => {
                        let now = self.clock.now();
                        let until = now.plus_seconds(LEASE_MILLIS / 1000);
                        state.claim = Some(Claim { holder: self.holder.clone(), until });
                        if let Ok(false) = self.states.note(name, &self.holder, &mut state, now).await {
                            tracing::warn!(target = name, "another process took a backup over");
                            lost.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        };
        let now = self.clock.now();
        state.claim = None;
        if let Some(keys) = &sending.keys {
            state.sent_keys(keys);
        }
        let (kind, mut told) = (task.kind(), None);
        let outcome = match (sent, sending.documents) {
            (Ok(()), Some(created)) => {
                lane.succeeded(kind, created.manifest.body_bytes, watch.millis());
                state.sent(&created);
                if kind == Kind::Full {
                    state.next = Some(self.next(lane, now));
                }
                told = state.succeeded(kind).map(|failure| {
                    tracing::info!(target = name, times = failure.times, "backups go on");
                    let since = failure.since.rfc3339();
                    Event::new("backups.recovered").with("since", since).with("times", failure.times)
                });
                Ok(Some(created))
            }
            (Ok(()), None) => Ok(None),
            (Err(error), _) => {
                lane.failed(kind);
                let fault = fault(&error);
                tracing::error!(target = name, kind = kind.name(), %error, "a backup failed");
                if state.failed(kind, &fault, now) {
                    told = Some(Event::new("backups.failed").failed(fault.to_string()).with("rule", fault.key));
                }
                Err(error)
            }
        };
        match self.states.note(name, &self.holder, &mut state, now).await {
            Ok(true) => lane.keep(None),
            Ok(false) => tracing::warn!(target = name, "another process noted otherwise of a backup"),
            Err(error) => {
                tracing::warn!(target = name, %error, "what became of a backup is not on disk yet");
                lane.keep(Some(state));
            }
        }
        if let Some(event) = told {
            let event = event.with("target", name.as_str()).with("kind", kind.name());
            if let Err(error) = self.audit.record(caller, event).await {
                tracing::warn!(target = name, %error, "what became of a target is not in the audit log");
            }
        }
        outcome
    }

    async fn send(
        &self,
        lane: &Lane,
        state: &State,
        task: Task,
        (busy, lost): (&Arc<OwnedMutexGuard<()>>, &Arc<AtomicBool>),
        sending: &mut Sending,
    ) -> Result<()> {
        let hold = || Hold { _busy: busy.clone(), lost: lost.clone(), progress: lane.progress.clone() };
        // What was done up to here is under a checkpoint that travels with it.
        if let Err(error) = self.audit.seal().await {
            tracing::warn!(%error, "a backup goes without the last of the audit log sealed");
        }
        // Before the snapshot: what was acknowledged after this moment need not be in it.
        let now = self.clock.now();
        let documents = match task {
            Task::Documents(span) => Some((span, self.documents.snapshot().await?)),
            Task::Keys => None,
        };
        // The keys' after the documents' and sent before them: whatever is sealed in it, its key is there already.
        sending.keys = self.send_keys(lane, state, task, hold).await?;
        let Some((span, snapshot)) = documents else { return Ok(()) };
        let last = state.last().filter(|_| state.lineage == self.stamp.lineage);
        let previous = last.and_then(Sent::hash);
        let target = lane.target.objects.clone();
        sending.documents = Some(self.write(snapshot, target, (span, now, previous), hold()).await?);
        Ok(())
    }

    /// With a full backup a full one; with a segment what changed since the last, if anything.
    async fn send_keys(
        &self,
        lane: &Lane,
        state: &State,
        task: Task,
        hold: impl Fn() -> Hold,
    ) -> Result<Option<Created>> {
        let Some(beside) = &self.beside else { return Ok(None) };
        let now = self.clock.now();
        let snapshot = beside.seals.snapshot().await?;
        let last = state.last_keys().filter(|_| state.lineage == self.stamp.lineage);
        let previous = last.and_then(Sent::hash);
        let send = |span| self.write(snapshot.clone(), lane.keys.clone(), (span, now, previous), hold());
        let made = match last {
            Some(last) if task.kind() == Kind::Segment => {
                if last.upto == snapshot.sequence() {
                    return Ok(None);
                }
                match send(Span::Segment { after: last.upto }).await {
                    // An erasure trims that journal.
                    Err(Error::Conflict(fault)) if fault.key == JOURNAL_GAP => send(Span::Full).await?,
                    made => made?,
                }
            }
            _ => send(Span::Full).await?,
        };
        Ok(Some(made))
    }

    async fn write(
        &self,
        snapshot: Arc<dyn Snapshot>,
        target: Arc<dyn Objects>,
        (span, now, previous): (Span, Timestamp, Option<[u8; 32]>),
        hold: Hold,
    ) -> Result<Created> {
        let (stamp, keyring) = (self.stamp.clone(), self.keyring.clone());
        let (recipients, configuration) = (self.recipients.clone(), self.settings.configuration.clone());
        blocking(move || {
            let hold = hold;
            // Of an earlier release, or of before a restore: a target that cannot be read shows none.
            let linked = || Some(newest(&*target, &stamp.id, Trust::Signers(&signers(&keyring)), None).ok()??.1.hash());
            let previous = previous.or_else(linked).unwrap_or_default();
            let configuration = configuration.as_ref().filter(|_| span == Span::Full).map(|text| text.expose());
            let request = Request {
                stamp: &stamp,
                keyring: &keyring,
                recipients: &recipients,
                now,
                span,
                previous,
                configuration,
            };
            create::create(&request, &*snapshot, &*target, &mut |_| {
                hold.progress.fetch_add(1, Ordering::Relaxed);
                match hold.lost.load(Ordering::Relaxed) {
                    true => Err(Error::Conflict(Fault::new("backups.running"))),
                    false => Ok(()),
                }
            })
        })
        .await
    }
}

/// What went wrong, in words.
pub(super) fn fault(error: &Error) -> Fault {
    match error {
        Error::Refused(fault)
        | Error::Damaged(fault)
        | Error::Invalid(fault)
        | Error::Conflict(fault)
        | Error::OutOfReach(fault)
        | Error::NotFound(fault) => fault.clone(),
        other => Fault::new("backups.failed").with("cause", other),
    }
}
