//! What is planned: what runs next at each target, what is kept there and why, what goes.

use super::{
    Listed, Retained, Trust, create,
    desk::{Backups, Settings, blocking},
    file::{Kind, manifest_at_end},
    lane::{Lane, Tally},
    list, read,
    retention::retain,
    signers,
    state::State,
};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::schedule::planned,
    ports::{
        documents::Sequence,
        objects::{FORBIDDEN, Objects},
    },
    services::{
        Error, Result,
        access::{Action, Caller, Resource},
        audit::Event,
        keyring::Purpose,
    },
};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// So many seconds at most a run comes after its hour, so that instances that share a target do not come together.
const SPREAD: i64 = 600;

pub struct Plan {
    pub settings: Settings,
    pub targets: Vec<Outlook>,
}

/// A target: how it stands, and what is kept there.
pub struct Outlook {
    pub name: String,
    pub place: String,
    pub state: State,
    /// The next full one.
    pub next: Timestamp,
    pub retained: Result<Retained>,
}

/// A target as metrics and findings show it.
pub struct Watch {
    pub name: String,
    pub state: State,
    pub next: Timestamp,
    pub full: Tally,
    pub segment: Tally,
}

/// Names of an instance's full backups whose manifest is nobody's who is believed, or another's.
fn unsigned(objects: &dyn Objects, listed: &[Listed], instance: &str, trust: Trust<'_>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for Listed { name, bytes, header } in listed {
        let Ok((header, _)) = header else { continue };
        if header.instance != instance || header.kind != Kind::Full {
            continue;
        }
        match manifest_at_end(header, *bytes, |from| read(objects, name, from), trust) {
            // A disk that does not read now says nothing against it.
            Ok(_) | Err(Error::NotFound(_) | Error::Internal(_)) => {}
            Err(Error::Damaged(_)) => found.push(name.clone()),
            Err(other) => return Err(other),
        }
    }
    Ok(found)
}

impl Backups {
    pub async fn plan(&self, caller: &Caller, target: Option<&str>) -> Result<Plan> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        let targets = self.wanted(target)?.into_iter().map(async |lane| {
            let state = self.state(lane).await?;
            let next = planned(state.next, self.next(lane, self.clock.now()));
            let retained = self.retained(lane, &state).await;
            let (name, place) = (lane.target.name.clone(), lane.target.objects.place());
            Ok(Outlook { name, place, state, next, retained })
        });
        let targets = join_all(targets).await.into_iter().collect::<Result<_>>()?;
        Ok(Plan { settings: self.settings.clone(), targets })
    }

    /// What is kept at a target as it is now.
    pub(super) async fn retained(&self, lane: &Lane, state: &State) -> Result<Retained> {
        let (objects, instance, now) = (lane.target.objects.clone(), self.stamp.id.clone(), self.clock.now());
        let mut rotten: HashSet<_> = state.damaged.iter().map(|damaged| damaged.name.clone()).collect();
        let revoked = self.revoked();
        let (rules, zone, keyring) = (self.settings.rules, self.settings.schedule.zone().clone(), self.keyring.clone());
        blocking(move || {
            let listed = list(&*objects)?;
            // Whoever may write there could put a full one for each day, for which the true ones would go.
            rotten.extend(unsigned(&*objects, &listed, &instance, Trust::Signers(&signers(&keyring)))?);
            let mut retained = retain(&listed, &instance, &rotten, &rules, &zone, now);
            // In cold storage they may be what others hang on.
            let hidden = |fault: &Fault| fault.key == FORBIDDEN;
            if listed.iter().any(|listed| listed.header.as_ref().is_err_and(hidden)) {
                retained.dropped.clear();
            }
            // From before the signing key was revoked: whether it is ours no signature tells any more, so a person must.
            if let Some(revoked) = revoked {
                retained.dropped.retain(|name| *name >= create::time(revoked));
            }
            Ok(retained)
        })
        .await
    }

    /// How each target stands, from what is known of it without asking it.
    pub async fn watch(&self) -> Result<Vec<Watch>> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            let state = self.state(lane).await?;
            let next = planned(state.next, self.next(lane, self.clock.now()));
            let (full, segment) = (lane.tally(Kind::Full), lane.tally(Kind::Segment));
            all.push(Watch { name: lane.target.name.clone(), state, next, full, segment });
        }
        Ok(all)
    }

    /// Up to where every target has the journal, and which has the least; `None`: nothing is sent anywhere.
    pub async fn received(&self) -> Result<Option<(String, Sequence)>> {
        if !self.are_configured() {
            return Ok(None);
        }
        let mut least: Option<(String, Sequence)> = None;
        for lane in &self.lanes {
            let state = self.state(lane).await?;
            let last = state.last().filter(|_| state.lineage == self.stamp.lineage);
            let upto = last.map_or(Sequence(0), |last| last.upto);
            if least.as_ref().is_none_or(|(_, known)| upto < *known) {
                least = Some((lane.target.name.clone(), upto));
            }
        }
        Ok(least)
    }

    /// Tells the audit log of another plan than the last time, and takes back what a process that died had claimed:
    /// the store is held by this one alone.
    pub async fn begin(&self) -> Result<()> {
        let (now, system) = (self.clock.now(), Caller::system());
        for lane in &self.lanes {
            if self.states.read(&lane.target.name).await?.claim.is_some() {
                self.states.change(&lane.target.name, now, |state| state.claim = None).await?;
            }
        }
        if !self.are_configured() {
            return Ok(());
        }
        let Settings { schedule, every, rules, .. } = &self.settings;
        let targets = self.lanes.iter().map(|lane| format!("{}={}", lane.target.name, lane.target.objects.place()));
        let targets = targets.collect::<Vec<_>>();
        let zone = schedule.zone().name().unwrap_or_default();
        let text = format!("{} {zone} {} {rules:?} {targets:?}", schedule.text(), every.as_secs());
        if self.states.replan(&text, now).await? {
            let keep = serde_json::to_value(rules).unwrap_or_default();
            let event = Event::new("backups.plan").with("schedule", schedule.text()).with("timezone", zone);
            let event = event.with("segmentSeconds", every.as_secs()).with("keep", keep).with("targets", targets);
            self.audit.record(&system, event).await?;
        }
        Ok(())
    }

    /// What is there to go on from: nothing that a revoked key signed.
    pub(super) async fn state(&self, lane: &Lane) -> Result<State> {
        let state = lane.newest(self.states.read(&lane.target.name).await?);
        Ok(self.revoked().into_iter().fold(state, State::since))
    }

    pub(super) fn revoked(&self) -> Option<Timestamp> {
        self.keyring.revoked_at(Purpose::BackupSigning)
    }

    /// When who plans now would make the next full backup.
    pub(super) fn next(&self, lane: &Lane, now: Timestamp) -> Timestamp {
        let schedule = &self.settings.schedule;
        let never = Timestamp(i64::MAX);
        let Some(first) = schedule.next(now) else { return never };
        let gap = schedule.next(first).map_or(0, |second| second.seconds() - first.seconds());
        let hash = Sha256::digest(format!("{} {}", self.stamp.id, lane.target.name));
        let late = i64::from(hash.first().copied().unwrap_or_default()) * SPREAD.min(gap / 10) / 255;
        schedule.next(now.plus_seconds(-late)).map_or(never, |next| next.plus_seconds(late))
    }
}
