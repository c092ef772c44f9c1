//! Backups read again while they lie there, a share each week, so that each is read in a quarter and bit rot is met
//! here before a restore meets it. Checked by signature: no private key is needed.

use super::{
    Backups, Error, Listed, Trust,
    chain::chains,
    desk::{aside, blocking},
    lane::Lane,
    list, signers,
    state::{Rotten, Sent, State},
    verify,
};
use crate::{
    base::clock::Timestamp,
    ports::documents::Sequence,
    services::{Result, access::Caller, audit::Event},
};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

const WEEK: i64 = 7 * 86_400;
const SHARES: i64 = 13;
/// Before the names of the subjects' keys' backups.
const KEYS: &str = "subjects/";
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
        let (mut read, mut there) = (0, HashSet::new());
        let keys = self.beside.as_ref().map(|_| (KEYS, &lane.keys));
        for (place, objects) in [("", &lane.target.objects)].into_iter().chain(keys) {
            let listing = objects.clone();
            let listed = blocking(move || list(&*listing)).await?;
            there.extend(listed.iter().map(|listed| format!("{place}{}", listed.name)));
            let own =
                |listed: &&Listed| listed.header.as_ref().is_ok_and(|(header, _)| header.instance == self.stamp.id);
            for Listed { name, .. } in listed.iter().filter(own).filter(|listed| shares.contains(&share(&listed.name)))
            {
                let (objects, keyring, wanted) = (objects.clone(), self.keyring.clone(), name.clone());
                match aside(move || verify(&*objects, &wanted, Trust::Signers(&signers(&keyring)))).await {
                    Ok(_) => read += 1,
                    // Deleted meanwhile.
                    Err(Error::NotFound(_)) => {}
                    Err(error @ Error::Damaged(_)) => self.found(lane, (place, &listed), name, &error).await?,
                    Err(other) => return Err(other),
                }
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

    /// Bit rot: which, and up to where the target is still good.
    async fn found(&self, lane: &Lane, (place, listed): (&str, &[Listed]), name: &str, error: &Error) -> Result<()> {
        let (now, target) = (self.clock.now(), lane.target.name.as_str());
        let known: HashSet<_> = self.state(lane).await?.damaged.into_iter().map(|damaged| damaged.name).collect();
        let within = |name: &str| format!("{place}{name}");
        if known.contains(&within(name)) {
            return Ok(());
        }
        let sound = listed.iter().filter(|listed| listed.name != name && !known.contains(&within(&listed.name)));
        let sound: Vec<_> = sound.cloned().collect();
        let good =
            chains(&sound, &self.stamp.id).into_iter().max_by_key(|chain| (chain.full.header.lineage, chain.upto()));
        let (good, good_until) = good.map(|chain| (within(&chain.full.name), chain.until())).unzip();
        let upto = listed.iter().find(|listed| listed.name == name);
        let upto = upto.and_then(|listed| listed.header.as_ref().ok()).map_or(Sequence(0), |(header, _)| header.upto);
        let shown = within(name);
        tracing::error!(target, name = shown, good, %error, "a backup is damaged");
        let rotten = Rotten { name: shown.clone(), found: now, good: good.clone(), good_until };
        {
            let _turn = lane.enter_surely().await;
            let note = |state: &mut State| {
                if state.damaged.len() < MOST {
                    state.damaged.push(rotten.clone());
                }
                // What the present chain needs: the next backup is a full one. Of a segment nothing goes on.
                let (full, segment) = match place {
                    KEYS => (&mut state.keys_full, &mut state.keys_segment),
                    _ => (&mut state.full, &mut state.segment),
                };
                let itself = full.as_ref().is_some_and(|full: &Sent| full.name == name);
                if itself && place != KEYS {
                    *full = None;
                } else if itself || full.as_ref().is_some_and(|full| upto > full.upto) {
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
