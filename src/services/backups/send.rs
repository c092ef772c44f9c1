//! A backup being sent under a claim that is renewed meanwhile, the keys before what they open; beside a full one, which
//! may take hours, the segments that are due. What became of it is noted.

use super::{
    Created, Request, Span, Trust,
    create::{self, JOURNAL_GAP},
    desk::{Backups, aside},
    file::Kind,
    lane::Lane,
    newest,
    ship::{LEASE, LEASE_MILLIS, Task, there},
    signers,
    state::{Claim, Sent, State},
};
use crate::{
    base::{
        clock::{Stopwatch, Timestamp},
        fault::Fault,
    },
    ports::{documents::Snapshot, objects::Objects},
    services::{Error, Result, access::Caller, audit::Event},
};
use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// What work off the request's thread holds on to.
#[derive(Clone)]
struct Hold {
    /// To its end, whoever gave up waiting for it.
    _busy: Arc<OwnedMutexGuard<()>>,
    lost: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
}

/// Work whose end nobody waits for any more stops, so that the last segment can leave before a stop.
struct Attended(Arc<AtomicBool>);

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// To be written: of which moment, and after which other.
struct Written {
    span: Span,
    now: Timestamp,
    previous: Option<[u8; 32]>,
}

impl Backups {
    /// Sends it under the claim, and lets go of that.
    pub(super) async fn carry_out(
        &self,
        lane: &Lane,
        mut state: State,
        task: Task,
        busy: OwnedMutexGuard<()>,
        caller: &Caller,
    ) -> Result<Option<Created>> {
        let (watch, lost) = (Stopwatch::start(), Arc::new(AtomicBool::new(false)));
        let _attended = Attended(lost.clone());
        let hold = Hold { _busy: Arc::new(busy), lost, progress: lane.progress.clone() };
        let sent = self.send(lane, &mut state, task, &hold, caller).await;
        state.claim = None;
        self.became(lane, &mut state, (task, sent, watch), &hold, caller).await
    }

    async fn send(
        &self,
        lane: &Lane,
        state: &mut State,
        task: Task,
        hold: &Hold,
        caller: &Caller,
    ) -> Result<Option<Created>> {
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
        let last = self.keys_go_on(lane, state).await;
        let keys = pin!(self.send_keys(lane, last, task, hold));
        if let Some(keys) = self.claimed(lane, state, hold, keys, Duration::MAX).await.transpose()?.flatten() {
            state.sent_keys(&keys);
        }
        let Some((span, snapshot)) = documents else { return Ok(None) };
        let (beside, from) = match span {
            Span::Full => (self.settings.every, state.last()),
            Span::Segment { after } => {
                (Duration::MAX, state.segment.iter().chain(&state.full).find(|sent| sent.upto == after))
            }
        };
        let previous = from.filter(|_| state.lineage == self.stamp.lineage).and_then(Sent::hash);
        let written = Written { span, now, previous };
        let mut work = pin!(self.write(snapshot, lane.target.objects.clone(), written, hold.clone()));
        loop {
            match self.claimed(lane, state, hold, work.as_mut(), beside).await {
                Some(made) => return made.map(Some),
                None => self.segment_beside(lane, state, hold, caller).await,
            }
        }
    }

    /// Does it while the claim is renewed. `None`: it is not done within this time.
    async fn claimed<T>(
        &self,
        lane: &Lane,
        state: &mut State,
        hold: &Hold,
        mut work: Pin<&mut impl Future<Output = T>>,
        most: Duration,
    ) -> Option<T> {
        let mut over = pin!(tokio::time::sleep(most));
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = &mut over => return None,
                () = tokio::time::sleep(LEASE / 4) => {
                    let now = self.clock.now();
                    let until = now.plus_seconds(LEASE_MILLIS / 1000);
                    state.claim = Some(Claim { holder: self.holder.clone(), until });
                    if let Ok(false) = self.states.note(&lane.target.name, &self.holder, state, now).await {
                        tracing::warn!(backup_target = lane.target.name, "another process took a backup over");
                        hold.lost.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// A full backup may take hours: what is written meanwhile leaves all the same.
    async fn segment_beside(&self, lane: &Lane, state: &mut State, hold: &Hold, caller: &Caller) {
        if hold.lost.load(Ordering::Relaxed)
            || !lane.target.takes_segments(self.clock.now())
            || lane.rests(Kind::Segment)
        {
            return;
        }
        let due = async {
            let Some(after) = self.goes_on(lane, state).await? else { return Ok(None) };
            Ok(self.something(lane, after).await?.then_some(Task::Documents(Span::Segment { after })))
        };
        let due: Result<_> = due.await;
        let watch = Stopwatch::start();
        let became = match due {
            Ok(None) => return,
            Ok(Some(task)) => {
                let sent = Box::pin(self.send(lane, state, task, hold, caller)).await;
                self.became(lane, state, (task, sent, watch), hold, caller).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = became {
            tracing::warn!(backup_target = lane.target.name, %error, "no segment left beside a full backup");
        }
    }

    /// Notes what became of it.
    async fn became(
        &self,
        lane: &Lane,
        state: &mut State,
        (task, sent, watch): (Task, Result<Option<Created>>, Stopwatch),
        hold: &Hold,
        caller: &Caller,
    ) -> Result<Option<Created>> {
        let (now, name, kind) = (self.clock.now(), &lane.target.name, task.kind());
        let mut told = None;
        match &sent {
            Ok(Some(created)) => {
                lane.succeeded(kind, created.manifest.body_bytes, watch.millis());
                state.sent(created);
                if kind == Kind::Full {
                    state.next = Some(self.next(lane, now));
                }
                told = state.succeeded(kind).map(|failure| {
                    tracing::info!(backup_target = name, times = failure.times, "backups go on");
                    let since = failure.since.rfc3339();
                    Event::new("backups.recovered").with("since", since).with("times", failure.times)
                });
            }
            Ok(None) => {}
            Err(error) => {
                lane.failed(kind);
                let fault = fault(error);
                tracing::error!(backup_target = name, kind = kind.name(), %error, "a backup failed");
                if state.failed(kind, &fault, now) {
                    told = Some(Event::new("backups.failed").failed(fault.to_string()).with("rule", fault.key));
                }
            }
        }
        match self.states.note(name, &self.holder, state, now).await {
            Ok(true) => lane.keep(None),
            Ok(false) => {
                tracing::warn!(backup_target = name, "another process noted otherwise of a backup");
                hold.lost.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(backup_target = name, %error, "what became of a backup is not on disk yet");
                lane.keep(Some(state.clone()));
            }
        }
        if let Some(event) = told {
            let event = event.with("target", name.as_str()).with("kind", kind.name());
            if let Err(error) = self.audit.record(caller, event).await {
                tracing::warn!(backup_target = name, %error, "what became of a target is not in the audit log");
            }
        }
        // A target's disk that fails is nobody's bug, one that is full is not the server's: who asked is told in words.
        sent.map_err(|error| match error {
            Error::Internal(_) | Error::Full => Error::OutOfReach(fault(&error)),
            other => other,
        })
    }

    /// Where a segment of the keys goes on from, while all it needs is there.
    async fn keys_go_on(&self, lane: &Lane, state: &State) -> Option<Sent> {
        let last = state.last_keys().filter(|_| state.lineage == self.stamp.lineage)?;
        for needed in state.keys_full.iter().chain(&state.keys_segment) {
            if !there(&lane.keys, needed).await {
                return None;
            }
        }
        Some(last.clone())
    }

    /// With a full backup a full one; with a segment what changed since the last, if anything.
    async fn send_keys(&self, lane: &Lane, last: Option<Sent>, task: Task, hold: &Hold) -> Result<Option<Created>> {
        let Some(beside) = &self.beside else { return Ok(None) };
        let now = self.clock.now();
        let snapshot = beside.seals.snapshot().await?;
        let previous = last.as_ref().and_then(Sent::hash);
        let send =
            |span| self.write(snapshot.clone(), lane.keys.clone(), Written { span, now, previous }, hold.clone());
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
        Written { span, now, previous }: Written,
        hold: Hold,
    ) -> Result<Created> {
        let (stamp, keyring) = (self.stamp.clone(), self.keyring.clone());
        let (recipients, configuration) = (self.recipients.clone(), self.settings.configuration.clone());
        aside(move || {
            let hold = hold;
            // Of an earlier release, or of before a restore: a target that cannot be read shows none.
            let linked = || {
                let found = newest(&*target, &stamp.id, Trust::Signers(&signers(&keyring)), (None, now));
                Some(found.ok()??.1.hash())
            };
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
