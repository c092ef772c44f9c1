//! A backup on its way to one target: what is due there, one process at it, the outcome noted.
//!
//! A segment each minute is no entry of the audit log: a million a year would bury what people did, and each segment
//! carries the log itself up to a signed checkpoint. Full backups, what was asked for, and a target's first failure and
//! recovery are entries.

use super::{
    Created, Span,
    create::no_gap,
    desk::{Backups, blocking},
    file::Kind,
    lane::Lane,
    state::{BACKUPS, Claim, Sent, State},
};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::schedule::planned,
    ports::{documents::Sequence, objects::Objects},
    services::{Error, Result, access::Caller},
};
use std::{sync::Arc, time::Duration};

/// A claim counts for so long unless it is renewed: a process that died at it holds nobody up for longer.
pub(super) const LEASE: Duration = Duration::from_secs(120);
pub(super) const LEASE_MILLIS: i64 = LEASE.as_secs().cast_signed() * 1000;
/// How many records are looked at together for one that is worth a segment.
const LOOK: usize = 64;

/// Whether what was sent is there still, and as long as it was: not on another disk at the same place, or an emptied one,
/// or one put back to an hour ago. A target that cannot say is believed to hold it.
pub(super) async fn there(objects: &Arc<dyn Objects>, sent: &Sent) -> bool {
    let (objects, name) = (objects.clone(), sent.name.clone());
    match blocking(move || Ok(objects.size(&name)?)).await {
        Ok(size) => size.is_some_and(|size| size > sent.bytes),
        Err(_) => true,
    }
}

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
pub(super) enum Task {
    Documents(Span),
    Keys,
}

impl Task {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Documents(Span::Segment { .. }) => Kind::Segment,
            Self::Documents(Span::Full) | Self::Keys => Kind::Full,
        }
    }
}

impl Backups {
    /// Sends what is wanted, if anything is. `None`: nothing was, or another is at it.
    pub(super) async fn run(&self, lane: &Lane, wanted: Wanted, caller: &Caller) -> Result<Option<Created>> {
        let busy = match wanted {
            Wanted::Due => lane.enter(),
            Wanted::Last | Wanted::Asked(_) => lane.enter_soon().await,
            Wanted::Keys => Some(lane.enter_surely().await),
        };
        let running = || Error::Conflict(Fault::new("backups.running"));
        let Some(busy) = busy else { return if wanted.waits() { Err(running()) } else { Ok(None) } };
        let now = self.clock.now();
        let mut state = self.state(lane).await?;
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
            Err(error) => tracing::warn!(backup_target = lane.target.name, %error, "a backup is made without a claim"),
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

    /// Where a segment would go on: from the last, else from the full one. `None`: there is no chain, or the journal does
    /// not reach back to its end.
    pub(super) async fn goes_on(&self, lane: &Lane, state: &State) -> Result<Option<Sequence>> {
        let Some(full) = state.full.as_ref().filter(|_| state.lineage == self.stamp.lineage) else { return Ok(None) };
        let mut found = None;
        for last in [state.segment.as_ref(), Some(full)].into_iter().flatten() {
            // Of two looks the earlier first: what is written between them is no gap.
            let end = self.documents.statistics().await?.sequence;
            let first = self.documents.records(last.upto, 1).await?.first().map(|record| record.sequence);
            if no_gap(last.upto, first, end).is_ok() && there(&lane.target.objects, last).await {
                found = Some(last.upto);
                break;
            }
        }
        let Some(after) = found else { return Ok(None) };
        Ok(there(&lane.target.objects, full).await.then_some(after))
    }

    /// Whether the journal has anything after this place beside what backups note of themselves.
    pub(super) async fn something(&self, lane: &Lane, after: Sequence) -> Result<bool> {
        let mut from = lane.looked(after);
        loop {
            let records = self.documents.records(from, LOOK).await?;
            if records.iter().any(|record| record.collection != BACKUPS) {
                return Ok(true);
            }
            let Some(last) = records.last() else { return Ok(false) };
            from = last.sequence;
            lane.look(after, from);
        }
    }
}
