//! Passwords: argon2id (RFC 9106), as dear as this machine can pay, its work bounded to the cores, so that logins cannot
//! starve the server.

use super::{foreign, known::is_common};
use crate::{
    base::{clock::Stopwatch, fault::Fault, process, random},
    services::{Error, Result},
};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use std::{
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Shortest allowed, in characters: of a person, of an administrator. Longest: a bound on work, not on taste.
const SHORTEST: usize = 12;
const SHORTEST_ADMIN: usize = 16;
const LONGEST: usize = 1024;
/// At work beside all others, for who got in so before.
const KNOWN: usize = 1;
/// How many may wait for a core before the next is asked to come back.
const QUEUE: usize = 64;
/// What one hash may take, and what a failed proof takes whatever had to be hashed for it.
const LONGEST_HASH: Duration = Duration::from_millis(250);
const FAILURE: Duration = Duration::from_millis(320);
/// Hashes brought along may cost more than ours: failures then take as long as the slowest seen, to this bound.
const SLOWEST: Duration = Duration::from_secs(3);

/// Memory in KiB and passes, one lane: the dearest that fits is taken. RFC 9106's second choice down to OWASP's floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost(u32, u32);
const FLOOR: Cost = Cost(19 * 1024, 2);
const COSTS: [Cost; 4] = [Cost(64 * 1024, 3), Cost(64 * 1024, 2), Cost(46 * 1024, 2), Cost(32 * 1024, 2)];

/// What hashing a wrong password costs is what an unknown account costs: nobody learns which exists.
static DECOY: LazyLock<String> = LazyLock::new(|| hash(FLOOR, DECOY_WORDS).expect("fixed input, fixed parameters"));
const DECOY_WORDS: &[u8] = b"a password nobody has";

/// What comparing a password with the one kept tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub right: bool,
    /// What is kept costs less than it should, or is of another kind: hash the password anew now that it is known.
    pub outdated: bool,
}

/// What was found to fit this machine, with the decoy that costs as much.
struct Settled {
    cost: Cost,
    decoy: String,
}

/// Whose turn it is: who got in so before has a core more than all others, and does not wait behind those who never did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Known,
    Others,
}

/// How many may be at work, and wait for it.
#[derive(Clone)]
struct Line {
    cores: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Line {
    fn of(cores: usize) -> Self {
        Self { cores: Arc::new(Semaphore::new(cores)), queue: Arc::new(Semaphore::new(cores + QUEUE)) }
    }
}

pub struct Passwords {
    known: Line,
    others: Line,
    /// Hashes at work at once: of both lines.
    at_once: usize,
    /// New passwords take one core of two: whoever floods a registration must not keep people from a login.
    new: (Arc<Semaphore>, Arc<Semaphore>),
    /// Milliseconds the slowest hash of another kind took.
    slowest: Arc<AtomicU64>,
    /// Empty until measured: the floor then.
    settled: Arc<OnceLock<Settled>>,
    #[cfg(test)]
    jobs: std::sync::atomic::AtomicUsize,
}

impl Passwords {
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            known: Line::of(KNOWN),
            others: Line::of(cores),
            at_once: cores + KNOWN,
            new: (Arc::new(Semaphore::new(cores.div_ceil(2) + QUEUE)), Arc::new(Semaphore::new(cores.div_ceil(2)))),
            slowest: Arc::default(),
            settled: Arc::default(),
            #[cfg(test)]
            jobs: Default::default(),
        }
    }

    /// Measures what this machine can pay. At start, beside the requests; before, the floor holds.
    pub async fn calibrate(&self) -> Result<()> {
        let most = process::memory().map_or(u64::from(FLOOR.0), |bytes| self.share(bytes));
        let settled = self.run(Lane::Others, move || settle(most)).await?.map_err(internal)?;
        tracing::info!(memory_kib = settled.cost.0, passes = settled.cost.1, "password hashes calibrated");
        let _ = self.settled.set(settled);
        Ok(())
    }

    /// KiB for each hash: all that are at work at once may fill a quarter of the memory.
    fn share(&self, memory: u64) -> u64 {
        memory / 4 / 1024 / u64::try_from(self.at_once).unwrap_or(u64::MAX)
    }

    /// Checks the rules and answers the PHC string to keep.
    pub async fn hash(&self, password: Zeroizing<String>, administrator: bool, email: &str) -> Result<String> {
        let shortest = if administrator { SHORTEST_ADMIN } else { SHORTEST };
        let normal = normalise(&password);
        if password.chars().count().min(normal.chars().count()) < shortest || password.len().max(normal.len()) > LONGEST
        {
            let fault = Fault::new("identities.password_length").at("password");
            return Err(Error::Invalid(fault.with("shortest", shortest).with("longest", LONGEST)));
        }
        let _place = self.new.0.try_acquire().map_err(|_| Error::RateLimit { retry_after: 5 })?;
        let _turn = self.new.1.acquire().await.map_err(|error| Error::Internal(Box::new(error)))?;
        let (cost, email) = (self.cost(), email.to_owned());
        let hashed = self.run(Lane::Others, move || match is_common(&normal, &email) {
            true => Ok(None),
            false => hash(cost, normal.as_bytes()).map(Some),
        });
        let common = || Error::Invalid(Fault::new("identities.password_common").at("password"));
        hashed.await?.map_err(internal)?.ok_or_else(common)
    }

    /// What to keep of a password that passed the rules of its time.
    pub async fn rehash(&self, password: Zeroizing<String>) -> Result<String> {
        let cost = self.cost();
        self.run(Lane::Known, move || hash(cost, normalise(&password).as_bytes())).await?.map_err(internal)
    }

    /// Whether the password is the one kept. `None`: no such account; takes as long.
    pub async fn verify(&self, password: Zeroizing<String>, kept: Option<String>, lane: Lane) -> Result<Verdict> {
        if password.len() > LONGEST {
            return Ok(Verdict { right: false, outdated: false });
        }
        let (settled, slowest, cost) = (self.settled.clone(), self.slowest.clone(), self.cost());
        self.run(lane, move || {
            let begun = Stopwatch::start();
            let decoy = || settled.get().map_or_else(|| DECOY.as_str(), |settled| &settled.decoy);
            let (text, known) = (kept.as_deref().unwrap_or_else(decoy), kept.is_some());
            let normal = normalise(&password);
            if is_kept(normal.as_bytes(), text)? {
                return Ok(Verdict { right: known, outdated: is_outdated(text, cost) });
            }
            // Hashed before passwords were normalised.
            let right = *normal != *password && is_kept(password.as_bytes(), text)?;
            if is_foreign(text) {
                let took = u64::try_from(begun.elapsed().min(SLOWEST).as_millis()).unwrap_or_default();
                slowest.fetch_max(took, Ordering::Relaxed);
            }
            Ok(Verdict { right: right && known, outdated: true })
        })
        .await?
    }

    /// Waits until a failure has taken what every failure takes: what is kept may cost less than what is measured now.
    pub async fn even(&self, begun: Stopwatch) {
        if self.settled.get().is_some() {
            let longest = FAILURE.max(Duration::from_millis(self.slowest.load(Ordering::Relaxed)));
            tokio::time::sleep(longest.saturating_sub(begun.elapsed())).await;
        }
    }

    fn cost(&self) -> Cost {
        self.settled.get().map_or(FLOOR, |settled| settled.cost)
    }

    async fn run<T: Send + 'static>(&self, lane: Lane, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        #[cfg(test)]
        self.jobs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (known, others) = (self.known.clone(), self.others.clone());
        let own = known.queue.try_acquire_owned().ok().filter(|_| lane == Lane::Known);
        let place = own.map_or_else(|| others.queue.try_acquire_owned().map_err(|_| lane), Ok);
        let _place = place.map_err(|_| Error::RateLimit { retry_after: 5 })?;
        let core = match lane {
            // Whichever is free first: one kept for them, or one of all.
            Lane::Known => tokio::select! {
                core = known.cores.acquire_owned() => core,
                core = others.cores.acquire_owned() => core,
            },
            Lane::Others => others.cores.acquire_owned().await,
        };
        let core = core.map_err(|error| Error::Internal(Box::new(error)))?;
        tokio::task::spawn_blocking(move || {
            let _core = core;
            work()
        })
        .await
        .map_err(|error| Error::Internal(Box::new(error)))
    }

    /// How much was hashed or compared so far.
    #[cfg(test)]
    pub fn jobs(&self) -> usize {
        self.jobs.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

fn engine(cost: Cost) -> Argon2<'static> {
    let params = Params::new(cost.0, cost.1, 1, None).expect("within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(cost: Cost, password: &[u8]) -> std::result::Result<String, argon2::password_hash::Error> {
    Ok(engine(cost).hash_password_with_salt(password, &random::array::<16>())?.to_string())
}

/// The dearest cost whose hash, the better of two, stays within the bound and within `most` KiB; else the floor.
fn settle(most: u64) -> std::result::Result<Settled, argon2::password_hash::Error> {
    for cost in COSTS.into_iter().filter(|cost| u64::from(cost.0) <= most) {
        for _ in 0..2 {
            let watch = Stopwatch::start();
            let decoy = hash(cost, DECOY_WORDS)?;
            if watch.elapsed() <= LONGEST_HASH {
                return Ok(Settled { cost, decoy });
            }
        }
    }
    Ok(Settled { cost: FLOOR, decoy: hash(FLOOR, DECOY_WORDS)? })
}

/// Compares with what is kept, whatever kind of hash that is: argon2 in all its kinds so far.
fn is_kept(password: &[u8], kept: &str) -> Result<bool> {
    if foreign::is_bcrypt(kept) {
        return Ok(foreign::verify_bcrypt(password, kept));
    }
    let parsed = PasswordHash::new(kept).map_err(internal)?;
    Ok(engine(FLOOR).verify_password(password, &parsed).is_ok())
}

/// Whether somebody else decided what it costs to compare.
fn is_foreign(kept: &str) -> bool {
    let ours = PasswordHash::new(kept).ok().and_then(|parsed| Params::try_from(&parsed).ok());
    ours.is_none_or(|params| {
        !COSTS.iter().chain([&FLOOR]).any(|cost| (cost.0, cost.1) == (params.m_cost(), params.t_cost()))
    })
}

/// Whether what is kept is less than `cost`, or of another kind.
fn is_outdated(kept: &str, cost: Cost) -> bool {
    let params = PasswordHash::new(kept).ok().filter(|parsed| parsed.algorithm.as_str() == "argon2id");
    let Some(params) = params.and_then(|parsed| Params::try_from(&parsed).ok()) else { return true };
    let work = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
    params.m_cost() < FLOOR.0 || work(params.m_cost(), params.t_cost()) < work(cost.0, cost.1)
}

/// The same characters whatever keyboard or system typed them (NIST SP 800-63B).
fn normalise(password: &str) -> Zeroizing<String> {
    Zeroizing::new(password.nfkc().collect())
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    const RIGHT: Verdict = Verdict { right: true, outdated: false };

    #[tokio::test]
    async fn keeps_only_what_verifies_the_right_password() {
        let passwords = Passwords::new();
        let kept = passwords.hash(secret("correct horse battery"), true, "a@b.cd").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_eq!(
            passwords.verify(secret("correct horse battery"), Some(kept.clone()), Lane::Others).await.unwrap(),
            RIGHT
        );
        assert!(!passwords.verify(secret("correct horse batterz"), Some(kept), Lane::Others).await.unwrap().right);
        let decoy = passwords.verify(secret("a password nobody has"), None, Lane::Others).await.unwrap();
        assert!(!decoy.right, "the decoy let someone in");
    }

    #[tokio::test]
    async fn who_got_in_before_does_not_wait_behind_those_who_never_did() {
        let passwords = Passwords::new();
        let _flood = passwords
            .others
            .queue
            .clone()
            .try_acquire_many_owned(u32::try_from(passwords.others.queue.available_permits()).unwrap());
        let others = passwords.verify(secret("a guess"), None, Lane::Others).await;
        assert!(matches!(others, Err(Error::RateLimit { .. })), "{others:?}");
        assert!(!passwords.verify(secret("a guess"), None, Lane::Known).await.unwrap().right);
    }

    #[tokio::test]
    async fn refuses_short_endless_and_common_ones() {
        let passwords = Passwords::new();
        let refused =
            async |words: &str, administrator| match passwords.hash(secret(words), administrator, "ana@b.cd").await {
                Err(Error::Invalid(fault)) => fault.key,
                other => panic!("{words}: {other:?}"),
            };
        assert_eq!(refused("fifteen chars..", true).await, "identities.password_length");
        assert!(passwords.hash(secret("fifteen chars.."), false, "ana@b.cd").await.is_ok());
        assert_eq!(refused("eleven char", false).await, "identities.password_length");
        assert_eq!(refused(&"x".repeat(1025), false).await, "identities.password_length");
        // One character, eighteen once normalised.
        assert_eq!(refused("ﷺ", false).await, "identities.password_length");
        assert_eq!(refused("Password12345678", false).await, "identities.password_common");
        assert!(!passwords.verify(secret(&"x".repeat(1025)), None, Lane::Others).await.unwrap().right);
    }

    #[tokio::test]
    async fn the_same_characters_are_the_same_password() {
        let passwords = Passwords::new();
        let (composed, apart) = ("le caf\u{e9} du matin", "le cafe\u{301} du matin");
        let kept = passwords.hash(secret(apart), false, "a@b.cd").await.unwrap();
        assert_eq!(passwords.verify(secret(composed), Some(kept.clone()), Lane::Others).await.unwrap(), RIGHT);
        // Kept as it was typed, by an earlier release.
        let earlier = hash(FLOOR, apart.as_bytes()).unwrap();
        let verdict = passwords.verify(secret(apart), Some(earlier), Lane::Others).await.unwrap();
        assert_eq!(verdict, Verdict { right: true, outdated: true });
    }

    #[tokio::test]
    async fn calibrated_hashes_are_within_bounds_and_replace_weaker_ones() {
        let passwords = Passwords::new();
        let weak = passwords.hash(secret("correct horse battery"), true, "a@b.cd").await.unwrap();
        let (cost, decoy) = (Cost(FLOOR.0, 3), hash(Cost(FLOOR.0, 3), DECOY_WORDS).unwrap());
        assert!(passwords.settled.set(Settled { cost, decoy }).is_ok());
        let verdict = passwords.verify(secret("correct horse battery"), Some(weak), Lane::Others).await.unwrap();
        assert_eq!(verdict, Verdict { right: true, outdated: true });
        let strong = passwords.rehash(secret("correct horse battery")).await.unwrap();
        assert!(strong.contains("m=19456,t=3,p=1"), "{strong}");
        assert_eq!(passwords.verify(secret("correct horse battery"), Some(strong), Lane::Others).await.unwrap(), RIGHT);
        // However little memory there is, never below the floor; whatever was chosen is kept.
        assert_eq!(settle(0).unwrap().cost, FLOOR);
        let settled = settle(u64::MAX).unwrap();
        assert!(!is_outdated(&settled.decoy, settled.cost) && work(settled.cost) >= work(FLOOR));
        for other in ["$argon2i$v=19$m=65536,t=9,p=1$c2FsdHNhbHQ$aGFzaGhhc2g", "$2b$10$x", ""] {
            assert!(is_outdated(other, FLOOR), "{other}");
        }
    }

    #[tokio::test]
    async fn all_that_are_at_work_at_once_fill_a_quarter_of_the_memory() {
        let passwords = Passwords::new();
        // Both lines full, as `run` fills them.
        let lines = [&passwords.known, &passwords.others];
        let permits: usize = lines.iter().map(|line| line.cores.available_permits()).sum();
        let _busy = lines.map(|line| line.cores.clone().try_acquire_owned().unwrap());
        let memory: u64 = 8 << 30;
        let filled = passwords.share(memory) * 1024 * u64::try_from(permits).unwrap();
        assert!((memory / 5..=memory / 4).contains(&filled), "{filled} by {permits}");
    }

    fn work(cost: Cost) -> u32 {
        cost.0 * cost.1
    }

    #[tokio::test]
    async fn a_failure_takes_its_time_once_calibrated() {
        let passwords = Passwords::new();
        let watch = Stopwatch::start();
        passwords.even(watch).await;
        assert!(watch.elapsed() < FAILURE);
        passwords.calibrate().await.unwrap();
        let watch = Stopwatch::start();
        passwords.even(watch).await;
        assert!(watch.elapsed() >= FAILURE);
    }
}
