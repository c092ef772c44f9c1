//! Backups read again while they lie there, a share each week, so that each is read in a quarter and bit rot is met
//! here before a restore meets it. Checked by signature: no private key is needed.

use super::{
    Backups, Error, Listed, Trust, Verified,
    chain::chains,
    create,
    desk::{aside, blocking},
    lane::{Lane, SUBJECTS},
    list, signers,
    state::{Rotten, Sent, State},
    verify,
};
use crate::{
    base::clock::Timestamp,
    ports::objects::Objects,
    services::{Result, access::Caller, audit::Event},
};
use sha2::{Digest, Sha256};
use std::{collections::HashSet, sync::Arc};

const WEEK: i64 = 7 * 86_400;
const SHARES: i64 = 13;
/// Damaged ones a state names.
const MOST: usize = 100;

impl Backups {
    /// Reads what is due of a target; answers how many backups that was. Cut short, it begins anew.
    pub async fn reread(&self, target: &str) -> Result<usize> {
        let lane = self.lane(target)?;
        let (week, state) = (self.clock.now().seconds().div_euclid(WEEK), self.state(lane).await?);
        let shares = due(state.reread, week);
        if shares.is_empty() {
            return Ok(0);
        }
        let sent = [&state.full, &state.segment, &state.keys_full, &state.keys_segment];
        let sent: HashSet<_> = sent.into_iter().flatten().map(|sent| sent.name.clone()).collect();
        let (mut read, mut there, mut unread) = (0, HashSet::new(), Vec::new());
        let keys = self.beside.as_ref().map(|_| (SUBJECTS, &lane.keys));
        for (place, objects) in [("", &lane.target.objects)].into_iter().chain(keys) {
            let listing = objects.clone();
            let listed = blocking(move || list(&*listing)).await?;
            there.extend(listed.iter().map(|listed| within(place, &listed.name)));
            // One that cannot be opened any more tells its instance by its name alone.
            let own = |listed: &&Listed| match &listed.header {
                Ok((header, _)) => header.instance == self.stamp.id,
                Err(_) => sent.contains(&listed.name),
            };
            for Listed { name, .. } in listed.iter().filter(own).filter(|listed| shares.contains(&share(&listed.name)))
            {
                match self.verified(objects, name).await {
                    Ok(_) => read += 1,
                    // Deleted meanwhile.
                    Err(Error::NotFound(_)) => {}
                    Err(error @ Error::Damaged(_)) => self.found(lane, (place, &listed), name, &error).await?,
                    Err(error @ Error::Internal(_)) => {
                        unread.push((place, objects, listed.clone(), name.clone(), error));
                    }
                    Err(other) => return Err(other),
                }
            }
        }
        for (place, objects, listed, name, error) in unread {
            // A disk that reads others has lost this one; one that reads nothing says nothing of any, nor does one that
            // was away for a while.
            if read == 0 {
                return Err(error);
            }
            match self.verified(objects, &name).await {
                Err(error @ Error::Internal(_)) => self.found(lane, (place, &listed), &name, &error).await?,
                again => drop(again?),
            }
        }
        let _turn = lane.enter_surely().await;
        let note = |state: &mut State| {
            state.reread = Some(week);
            state.damaged.retain(|damaged| there.contains(&damaged.name));
        };
        self.states.change(&lane.target.name, self.clock.now(), note).await?;
        Ok(read)
    }

    async fn verified(&self, objects: &Arc<dyn Objects>, name: &str) -> Result<Verified> {
        let (objects, keyring, name) = (objects.clone(), self.keyring.clone(), name.to_owned());
        aside(move || verify(&*objects, &name, Trust::Signers(&signers(&keyring)))).await
    }

    /// Bit rot: which, and up to where the target is still good.
    async fn found(&self, lane: &Lane, (place, listed): (&str, &[Listed]), name: &str, error: &Error) -> Result<()> {
        // From before the signing key was revoked: nobody says that it is ours, and nothing that it is damaged.
        let strange = matches!(error, Error::Damaged(fault) if fault.key == "backups.signer");
        if strange && self.revoked().is_some_and(|revoked| *name < *create::time(revoked)) {
            return Ok(());
        }
        let (now, target) = (self.clock.now(), lane.target.name.as_str());
        let known: HashSet<_> = self.state(lane).await?.damaged.into_iter().map(|damaged| damaged.name).collect();
        if known.contains(&within(place, name)) {
            return Ok(());
        }
        let sound = listed.iter().filter(|listed| listed.name != name && !known.contains(&within(place, &listed.name)));
        let sound: Vec<_> = sound.cloned().collect();
        let good =
            chains(&sound, &self.stamp.id).into_iter().max_by_key(|chain| (chain.full.header.lineage, chain.upto()));
        let (good, good_until) = good.map(|chain| (within(place, &chain.full.name), chain.until())).unzip();
        let header = listed.iter().find(|listed| listed.name == name).and_then(|listed| listed.header.as_ref().ok());
        let upto = header.map(|(header, _)| header.upto);
        let shown = within(place, name);
        tracing::error!(backup_target = target, name = shown, good, %error, "a backup is damaged");
        let rotten = Rotten { name: shown.clone(), found: now, good: good.clone(), good_until };
        {
            let _turn = lane.enter_surely().await;
            let note = |state: &mut State| {
                if state.damaged.len() < MOST {
                    state.damaged.push(rotten.clone());
                }
                // What the present chain needs: the next backup is a full one. Of a segment nothing goes on.
                let (full, segment) = match place {
                    SUBJECTS => (&mut state.keys_full, &mut state.keys_segment),
                    _ => (&mut state.full, &mut state.segment),
                };
                let itself = full.as_ref().is_some_and(|full: &Sent| full.name == name);
                if itself && place != SUBJECTS {
                    *full = None;
                    return;
                }
                // One without a header may be any of them.
                let follows = |full: &Sent| upto.is_none_or(|upto| upto > full.upto);
                if itself || full.as_ref().is_some_and(follows) {
                    (*full, *segment) = (None, None);
                }
            };
            self.states.change(target, now, note).await?;
        }
        let until = good_until.map(Timestamp::rfc3339).unwrap_or_default();
        let event = Event::new("backups.damaged").failed(error.to_string()).with("target", target).with("name", shown);
        let event = event.with("good", good.unwrap_or_default()).with("goodUntil", until);
        self.audit.record(&Caller::system(), event).await
    }
}

/// As a state names it.
fn within(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

fn share(name: &str) -> i64 {
    let hash: [u8; 32] = Sha256::digest(name).into();
    i64::from(hash.first().copied().unwrap_or_default()) % SHARES
}

/// The shares of this week, and of those that were missed.
fn due(last: Option<i64>, week: i64) -> HashSet<i64> {
    let weeks = match last {
        Some(last) if last == week => 0,
        Some(last) if last < week => (week - last).min(SHARES),
        // The first time, or the clock was ahead.
        _ => 1,
    };
    (0..weeks).map(|ago| (week - ago).rem_euclid(SHARES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_quarter_everything_is_read_whatever_weeks_are_missed() {
        for missed in [1, 2, 5, 13, 60] {
            let (mut read, mut last) = (HashSet::new(), None);
            for week in (2900..2926).step_by(missed) {
                read.extend(due(last, week));
                assert!(due(Some(week), week).is_empty());
                last = Some(week);
            }
            read.extend(due(last, 2926));
            assert_eq!(read.len() as i64, SHARES, "every {missed} weeks");
        }
        assert_eq!(due(Some(9000), 2900).len(), 1, "the clock was ahead");
        let shares: HashSet<_> = (0..200).map(|n| share(&format!("{n}.backup"))).collect();
        assert_eq!(shares.len() as i64, SHARES);
    }
}
