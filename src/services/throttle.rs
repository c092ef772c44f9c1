//! Guessing made slow: attempts at a proof are counted before they are checked, and after some failures each next one
//! waits longer. An account that exists and one that does not are treated alike.

use super::{Error, Result};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        random,
    },
    domain::address::subscriber,
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, Semaphore, futures::OwnedNotified};

/// What is forgiven, and how slow it gets.
struct Rule {
    /// Failures before the first delay, of a second; it doubles with each.
    allowed: u32,
    /// The longest delay, in milliseconds.
    longest: i64,
    /// Quiet milliseconds after the delay that make up for one failure.
    forgives: i64,
}

/// One account from one subscriber; one account from anywhere; one subscriber at any account. The strict rule is the
/// first: by the second, anybody could keep the owner out, so that it begins late and stays short.
const RULES: [Rule; 3] = [
    Rule { allowed: 5, longest: 900_000, forgives: 3_600_000 },
    Rule { allowed: 50, longest: 30_000, forgives: 300_000 },
    Rule { allowed: 30, longest: 900_000, forgives: 30_000 },
];

/// The place of that third rule; and attempts of one subscriber under way at once, so that nobody fills the queue alone.
const SUBSCRIBER: usize = 2;
const AT_ONCE: u32 = 16;

/// Where somebody has succeeded, what others fail at elsewhere does not concern them, for so long.
const REMEMBERED: i64 = 30 * 86_400_000;
/// Tallies at once. Each costs an attacker a checked attempt.
const MOST: usize = 100_000;
/// Attempts that wait for those before them to be judged; more are asked to come back.
const WAITING: usize = 64;

type Key = [u8; 16];

/// Failures of one kind.
#[derive(Default)]
struct Tally {
    failures: u32,
    /// Counted, and not judged yet.
    in_flight: u32,
    /// Since when failures are being forgiven: the end of the last delay.
    quiet: Timestamp,
    /// A success holds until here.
    known: Timestamp,
    judged: Arc<Notify>,
}

enum Verdict {
    Go,
    /// Milliseconds.
    Refused(i64),
    /// What is in flight decides.
    Wait(OwnedNotified),
}

pub struct Throttle {
    clock: SharedClock,
    /// Names are kept as hashes that mean nothing elsewhere.
    salt: [u8; 32],
    tallies: Mutex<HashMap<Key, Tally>>,
    waiting: Semaphore,
}

/// An attempt under way. Dropped without a word, it has failed: who hangs up gains nothing.
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    keys: [Key; 3],
    outcome: Outcome,
    /// Somebody has got in so from there before.
    pub known: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Failed,
    Succeeded,
    Void,
}

impl Attempt<'_> {
    pub fn succeeded(mut self) {
        self.outcome = Outcome::Succeeded;
    }

    /// As the proof came out. What was not judged, for a fault of ours or of the form, counts for nothing.
    pub fn of<T>(self, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Ok(_) => self.succeeded(),
            Err(Error::Unauthorized | Error::InvalidProof(_) | Error::Gone(_)) => {}
            Err(_) => self.void(),
        }
        outcome
    }

    /// It was never judged: the fault is ours.
    pub fn void(mut self) {
        self.outcome = Outcome::Void;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.throttle.settle(&self.keys, self.outcome);
    }
}

impl Throttle {
    pub fn new(clock: SharedClock) -> Self {
        let (tallies, waiting) = (Mutex::default(), Semaphore::new(WAITING));
        Self { clock, salt: random::array(), tallies, waiting }
    }

    /// Counts an attempt at `account`, as it was named, for a purpose (`login`…); or refuses it unchecked, with the time
    /// to wait. Right and wrong ones that come at once take turns.
    pub async fn attempt(&self, purpose: &str, account: &str, address: Option<IpAddr>) -> Result<Attempt<'_>> {
        let address = address.map(|address| subscriber(address).to_string()).unwrap_or_default();
        let account = account.trim().to_lowercase();
        // From nowhere, nobody answers for another account's failures.
        let whence = if address.is_empty() { &account } else { &address };
        let keys = [
            self.key(&[purpose, &account, &address]),
            self.key(&[purpose, "account", &account, ""]),
            self.key(&[purpose, "address", whence, ""]),
        ];
        let mut place = None;
        loop {
            let judged = match self.judge(&keys, !address.is_empty()) {
                Verdict::Go => {
                    let known = self.is_known(&keys);
                    return Ok(Attempt { throttle: self, keys, outcome: Outcome::Failed, known });
                }
                Verdict::Refused(millis) => return Err(Error::RateLimit { retry_after: seconds(millis) }),
                Verdict::Wait(judged) => judged,
            };
            if place.is_none() {
                place = Some(self.waiting.try_acquire().map_err(|_| Error::RateLimit { retry_after: 1 })?);
            }
            judged.await;
        }
    }

    fn is_known(&self, keys: &[Key; 3]) -> bool {
        let (now, tallies) = (self.clock.now(), self.lock());
        keys.first().and_then(|pair| tallies.get(pair)).is_some_and(|tally| tally.known > now)
    }

    /// A pair of somebody known answers for itself alone.
    fn judge(&self, keys: &[Key; 3], from_afar: bool) -> Verdict {
        let (now, mut tallies) = (self.clock.now(), self.lock());
        for (place, (key, rule)) in keys.iter().zip(&RULES).enumerate() {
            let Some(tally) = tallies.get_mut(key) else { continue };
            if place == SUBSCRIBER && from_afar && tally.in_flight >= AT_ONCE {
                return Verdict::Refused(1000);
            }
            match tally.judge(rule, now) {
                Verdict::Go if tally.known > now => break,
                Verdict::Go => {}
                other => return other,
            }
        }
        make_room(&mut tallies, now);
        for key in keys {
            tallies.entry(*key).or_default().in_flight += 1;
        }
        Verdict::Go
    }

    fn settle(&self, keys: &[Key; 3], outcome: Outcome) {
        let (now, mut tallies) = (self.clock.now(), self.lock());
        for (place, (key, rule)) in keys.iter().zip(&RULES).enumerate() {
            let Some(tally) = tallies.get_mut(key) else { continue };
            tally.in_flight = tally.in_flight.saturating_sub(1);
            match outcome {
                Outcome::Failed => tally.fail(rule, now),
                // Whoever got in once from here does not vouch for the rest.
                Outcome::Succeeded if place == 0 => {
                    (tally.failures, tally.known) = (0, Timestamp(now.0.saturating_add(REMEMBERED)));
                }
                Outcome::Succeeded | Outcome::Void => {}
            }
            tally.judged.notify_waiters();
            if tally.is_blank(now) {
                tallies.remove(key);
            }
        }
    }

    fn key(&self, parts: &[&str]) -> Key {
        let mut digest = Sha256::new_with_prefix(self.salt);
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let mut key = Key::default();
        key.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
        key
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn judge(&mut self, rule: &Rule, now: Timestamp) -> Verdict {
        self.forgive(rule, now);
        let free = rule.allowed.saturating_sub(self.failures);
        // A clock set back does not make it longer.
        let wait = self.quiet.0.saturating_sub(now.0).min(rule.longest);
        if free == 0 && wait > 0 {
            self.quiet = Timestamp(now.0.saturating_add(wait));
            return Verdict::Refused(wait);
        }
        // After a delay, one at a time.
        match self.in_flight < free.max(1) {
            true => Verdict::Go,
            false => Verdict::Wait(self.judged.clone().notified_owned()),
        }
    }

    fn forgive(&mut self, rule: &Rule, now: Timestamp) {
        let forgiven = now.0.saturating_sub(self.quiet.0).max(0) / rule.forgives;
        self.failures = self.failures.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.quiet.0 = self.quiet.0.saturating_add(forgiven.saturating_mul(rule.forgives));
    }

    fn fail(&mut self, rule: &Rule, now: Timestamp) {
        self.forgive(rule, now);
        self.failures = self.failures.saturating_add(1);
        let delay = match self.failures.checked_sub(rule.allowed) {
            Some(over) => (1000 << over.min(20)).min(rule.longest),
            None => 0,
        };
        self.quiet = Timestamp(now.0.saturating_add(delay));
    }

    fn is_blank(&self, now: Timestamp) -> bool {
        self.failures == 0 && self.in_flight == 0 && self.known <= now
    }
}

/// What says nothing goes; were that little, the tenth that says least.
fn make_room(tallies: &mut HashMap<Key, Tally>, now: Timestamp) {
    if tallies.len() + RULES.len() <= MOST {
        return;
    }
    tallies.retain(|_, tally| !tally.is_blank(now));
    if tallies.len() <= MOST - MOST / 10 {
        return;
    }
    let worth = |tally: &Tally| (tally.in_flight, tally.failures, tally.quiet);
    let mut all: Vec<_> = tallies.values().map(worth).collect();
    let (_, least, _) = all.select_nth_unstable(MOST / 10);
    let (least, mut room) = (*least, MOST / 10);
    tallies.retain(|_, tally| {
        let goes = worth(tally) <= least && tally.in_flight == 0 && room > 0;
        room -= usize::from(goes);
        !goes
    });
}

fn seconds(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or_default().div_ceil(1000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::FixedClock;
    use std::sync::atomic::Ordering;

    const HOME: &str = "192.0.2.1";

    fn throttle() -> (Arc<Throttle>, Arc<FixedClock>) {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        (Arc::new(Throttle::new(clock.clone())), clock)
    }

    async fn attempt<'a>(
        throttle: &'a Throttle,
        account: &str,
        address: &str,
    ) -> std::result::Result<Attempt<'a>, u64> {
        match throttle.attempt("login", account, address.parse().ok()).await {
            Ok(attempt) => Ok(attempt),
            Err(Error::RateLimit { retry_after }) => Err(retry_after),
            Err(other) => panic!("{other}"),
        }
    }

    /// Fails once, or says how long to wait.
    async fn fail(throttle: &Throttle, account: &str, address: &str) -> u64 {
        attempt(throttle, account, address).await.map_or_else(|wait| wait, |_attempt| 0)
    }

    fn wait(clock: &FixedClock, seconds: u64) {
        clock.0.fetch_add(seconds as i64 * 1000, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn after_five_failures_the_delay_doubles_to_a_quarter_of_an_hour() {
        let (throttle, clock) = throttle();
        for _ in 0..5 {
            assert_eq!(fail(&throttle, "a@example.cd", HOME).await, 0);
        }
        let mut delays = Vec::new();
        for _ in 0..12 {
            let delay = fail(&throttle, " A@Example.CD", HOME).await;
            delays.push(delay);
            wait(&clock, delay - 1);
            assert_eq!(fail(&throttle, "a@example.cd", HOME).await, 1);
            wait(&clock, 1);
            assert_eq!(fail(&throttle, "a@example.cd", HOME).await, 0);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        wait(&clock, 900);
        attempt(&throttle, "a@example.cd", HOME).await.unwrap().succeeded();
        for _ in 0..5 {
            assert_eq!(fail(&throttle, "a@example.cd", HOME).await, 0, "a success resets the pair");
        }
        assert_eq!(fail(&throttle, "a@example.cd", HOME).await, 1);
    }

    #[tokio::test]
    async fn nobody_is_kept_out_of_their_account_for_long() {
        let (throttle, clock) = throttle();
        attempt(&throttle, "owner", "198.51.100.1").await.unwrap().succeeded();
        let mut failed = 0;
        for n in 0..200 {
            failed += u32::from(fail(&throttle, "owner", &format!("203.0.113.{}", n % 100)).await == 0);
        }
        assert_eq!(failed, 50, "the account's own tally");
        attempt(&throttle, "owner", "198.51.100.1").await.expect("known here").void();
        for n in 0..20 {
            wait(&clock, 30);
            assert_eq!(fail(&throttle, "owner", &format!("203.0.114.{n}")).await, 0, "the delay grew past 30 s");
        }
        let longest = attempt(&throttle, "owner", "198.51.100.2").await.map(|_| ()).unwrap_err();
        assert!(longest <= 30, "{longest}");
    }

    #[tokio::test]
    async fn one_subscriber_does_not_try_every_account() {
        let (throttle, clock) = throttle();
        attempt(&throttle, "known", HOME).await.unwrap().succeeded();
        let mut failed = 0;
        for n in 0..100 {
            failed += u32::from(fail(&throttle, &format!("account-{n}"), HOME).await == 0);
        }
        assert_eq!(failed, 30);
        assert_eq!(fail(&throttle, "account-0", "192.0.2.2").await, 0);
        attempt(&throttle, "known", HOME).await.expect("known here").void();
        wait(&clock, 1 + 30 * 5);
        for n in 0..5 {
            assert_eq!(fail(&throttle, &format!("later-{n}"), HOME).await, 0, "five are forgiven");
        }
        assert!(fail(&throttle, "later-5", HOME).await > 0);
    }

    #[tokio::test]
    async fn of_fifty_at_once_five_wrong_ones_are_checked_and_every_right_one() {
        let (throttle, _) = throttle();
        let checked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let burst = async |right: bool| {
            checked.store(0, Ordering::Relaxed);
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let (throttle, checked) = (throttle.clone(), checked.clone());
                    tokio::spawn(async move {
                        if let Ok(attempt) = attempt(&throttle, "owner", HOME).await {
                            checked.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                            if right {
                                attempt.succeeded();
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            checked.load(Ordering::Relaxed)
        };
        assert_eq!(burst(true).await, 50);
        assert_eq!(burst(false).await, 5);
        assert_eq!(burst(true).await, 0, "the delay holds");
    }

    #[tokio::test]
    async fn purposes_and_names_do_not_run_into_each_other() {
        let (throttle, _) = throttle();
        for _ in 0..5 {
            fail(&throttle, "owner", HOME).await;
        }
        assert_eq!(fail(&throttle, "owner", HOME).await, 1);
        assert!(throttle.attempt("recovery", "owner", HOME.parse().ok()).await.is_ok());
        assert_ne!(throttle.key(&["a", "bc"]), throttle.key(&["ab", "c"]));
    }

    #[tokio::test]
    async fn a_clock_set_back_locks_nobody_out() {
        let (throttle, clock) = throttle();
        for _ in 0..5 {
            fail(&throttle, "owner", HOME).await;
        }
        clock.0.fetch_sub(86_400_000, Ordering::Relaxed);
        assert!(fail(&throttle, "owner", HOME).await > 0);
        wait(&clock, 900);
        assert_eq!(fail(&throttle, "owner", HOME).await, 0);
    }

    #[tokio::test]
    async fn what_was_never_judged_counts_for_nothing() {
        let (throttle, _) = throttle();
        for _ in 0..20 {
            attempt(&throttle, "owner", HOME).await.unwrap().void();
        }
        assert!(throttle.lock().is_empty());
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_frees_nobody() {
        let (mut tallies, now) = (HashMap::new(), Timestamp(1_800_000_000_000));
        for n in 0..MOST as u128 {
            let failures = if n == 7 { 40 } else { 1 + u32::from(n % 3 == 0) };
            tallies.insert(n.to_le_bytes(), Tally { failures, quiet: now, ..Tally::default() });
        }
        make_room(&mut tallies, now);
        assert_eq!(tallies.len(), MOST - MOST / 10);
        assert!(tallies.contains_key(&7_u128.to_le_bytes()), "the worst was let go");
    }
}
