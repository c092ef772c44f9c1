//! What is ordered of public authorities: an account with each, one certificate, when it is replaced, and how long after a
//! failure none is asked. All of it survives a restart, so that a restart never asks twice.

use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random,
    },
    domain::certificate::Certificate,
    ports::{
        self,
        certificates::{Denial, Issuer, Leaf, Order, Window},
        documents::{Batch, Change, Documents, Expect, Operation},
    },
    services::{
        Error, Result,
        access::Caller,
        audit::{Audit, Event},
        keyring::{Keyring, Purpose},
        secrets::Vault,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// One document.
pub const ORDERS: &str = "system.orders";
const ID: &str = "certificate";

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Seconds without an attempt after a first failure; each further one takes three times as long.
const FIRST_PAUSE: i64 = 300;
const LONGEST_PAUSE: i64 = 12 * HOUR;
/// What an authority may ask for at most.
const LONGEST_BAR: i64 = 8 * DAY;

pub struct Orders {
    documents: Arc<dyn Documents>,
    keyring: Arc<Keyring>,
    vault: Arc<tokio::sync::Mutex<Vault>>,
    audit: Arc<Audit>,
    clock: SharedClock,
    /// Host names and addresses that are certified.
    names: Vec<String>,
    state: Mutex<State>,
    /// Issued by the authority of this directory, and not on disk: the vault, or the disk, failed meanwhile.
    unkept: Mutex<Option<(String, Leaf)>>,
    /// One order at a time.
    turn: tokio::sync::Mutex<()>,
}

/// As the document keeps it.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct State {
    certificate: Option<Held>,
    /// In a row.
    failures: u32,
    /// No attempt before.
    next: Timestamp,
    /// By the directory: not to be asked before, by its own word.
    barred: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Held {
    /// Of which authority it is.
    directory: String,
    /// DER in hex, its own first.
    chain: Vec<String>,
    /// The version of its private key in the keyring.
    key: u32,
    issued: Timestamp,
    renewal: Timestamp,
    /// When the authority is asked again when it wants it replaced.
    ask: Timestamp,
}

impl Held {
    fn first(&self) -> Vec<u8> {
        self.chain.first().and_then(|der| hex::decode(der).ok()).unwrap_or_default()
    }
}

impl Orders {
    pub fn new(
        documents: Arc<dyn Documents>,
        (keyring, vault): (Arc<Keyring>, Arc<tokio::sync::Mutex<Vault>>),
        audit: Arc<Audit>,
        clock: SharedClock,
        names: Vec<String>,
    ) -> Self {
        let (state, unkept, turn) = (Mutex::default(), Mutex::default(), tokio::sync::Mutex::default());
        Self { documents, keyring, vault, audit, clock, names, state, unkept, turn }
    }

    /// Reads what was ordered before this start.
    pub async fn recall(&self) -> Result<()> {
        let Some(document) = self.documents.get(ORDERS, ID).await? else { return Ok(()) };
        let state = bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(error.into()))?;
        *self.state() = state;
        Ok(())
    }

    /// The certificate ordered last, as long as it lasts.
    pub fn leaf(&self) -> Option<Leaf> {
        let held = self.state().certificate.clone()?;
        // A keyring from a backup of before it was made has no key for it: another is ordered.
        let key = self.keyring.versions(Purpose::Tls).find(|key| key.version == held.key);
        let (Some(key), Ok(Certificate { not_before, not_after, .. })) = (key, Certificate::read(&held.first())) else {
            self.state().certificate = None;
            return None;
        };
        let chain = held.chain.iter().filter_map(|der| hex::decode(der).ok()).collect();
        let leaf = Leaf { chain, key: key.material.clone(), not_before, not_after };
        Some(leaf).filter(|leaf| self.clock.now() < leaf.not_after)
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When the next one is ordered.
    pub fn renewal(&self) -> Option<Timestamp> {
        self.state().certificate.as_ref().map(|held| held.renewal)
    }

    /// Failures in a row, and when the next attempt is, after any.
    pub fn attempts(&self) -> (u32, Option<Timestamp>) {
        let state = self.state();
        (state.failures, Some(state.next).filter(|_| state.failures > 0))
    }

    /// Orders one if it is time; `None`: it is not.
    pub async fn tend(&self, issuers: &[Arc<dyn Issuer>]) -> Result<Option<Leaf>> {
        let Ok(_turn) = self.turn.try_lock() else { return Ok(None) };
        self.ask(issuers).await;
        let now = self.clock.now();
        if !self.is_due(issuers, now) || waits(self.state().next, now, LONGEST_PAUSE * 2) {
            return Ok(None);
        }
        self.attempt(issuers).await.map(Some)
    }

    /// Orders one now, whatever failed before.
    pub async fn order(&self, issuers: &[Arc<dyn Issuer>]) -> Result<Leaf> {
        let busy = |_| Error::OutOfReach(Fault::new("certificates.busy"));
        let _turn = self.turn.try_lock().map_err(busy)?;
        self.attempt(issuers).await
    }

    fn is_due(&self, issuers: &[Arc<dyn Issuer>], now: Timestamp) -> bool {
        let state = self.state();
        let Some(held) = &state.certificate else { return true };
        let Ok(read) = Certificate::read(&held.first()) else { return true };
        let known = issuers.iter().any(|issuer| issuer.directory() == held.directory);
        let covers = self.names.iter().all(|name| read.covers(name));
        // One that is old as it comes, by a clock that is wrong or an authority that is, is no reason to order without end.
        let settled = !waits(held.issued.plus_seconds(LONGEST_PAUSE), now, LONGEST_PAUSE);
        !known || !covers || settled && (now >= held.renewal || now >= read.not_after)
    }

    /// When the authority wants it replaced (RFC 9773): asked once a day, or as it says.
    async fn ask(&self, issuers: &[Arc<dyn Issuer>]) {
        let now = self.clock.now();
        let Some(held) = self.state().certificate.clone().filter(|held| !waits(held.ask, now, DAY)) else { return };
        let Some(issuer) = issuers.iter().find(|issuer| issuer.directory() == held.directory) else { return };
        let Some(account) = self.account(&held.directory) else { return };
        // Before it is asked, whatever becomes of the answer.
        self.note(held.renewal, now.plus_seconds(DAY)).await;
        match issuer.window(&account, &held.first(), now).await {
            Ok(Some(window)) => {
                let renewal = self.within(window, &held);
                if renewal != held.renewal {
                    let renewal = renewal.rfc3339();
                    tracing::info!(issuer = held.directory, renewal, "another time to renew the certificate");
                }
                self.note(renewal, window.again.clamp(now.plus_seconds(HOUR), now.plus_seconds(DAY))).await;
            }
            Ok(None) => {}
            Err(Denial { error, again, .. }) => {
                tracing::warn!(issuer = held.directory, %error, "not said when the certificate is to be renewed");
                self.note(held.renewal, again.unwrap_or(now).clamp(now.plus_seconds(6 * HOUR), now.plus_seconds(DAY)))
                    .await;
            }
        }
    }

    async fn note(&self, renewal: Timestamp, ask: Timestamp) {
        if let Some(held) = &mut self.state().certificate {
            (held.renewal, held.ask) = (renewal, ask);
        }
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "the time to renew the certificate is not written");
        }
    }

    /// A moment in the window, by chance; one that was drawn before and lies in it stays. Never so late that nothing could be
    /// tried again.
    fn within(&self, window: Window, held: &Held) -> Timestamp {
        let Ok(Certificate { not_before, not_after, .. }) = Certificate::read(&held.first()) else {
            return held.renewal;
        };
        let latest = not_after.plus_seconds((not_before.seconds() - not_after.seconds()) / 6);
        drawn(window, held.renewal).min(latest)
    }

    /// Asks one authority after the other. It counts as failed before it is made: a crash on the way starts no storm.
    async fn attempt(&self, issuers: &[Arc<dyn Issuer>]) -> Result<Leaf> {
        // What it issues could not be kept, and would be ordered again each time. Not counted: nobody was asked.
        self.vault.lock().await.prove().await?;
        if let Some((directory, leaf)) = self.left(issuers) {
            return self.keep(&directory, leaf).await;
        }
        let failed = || {
            let now = self.clock.now();
            let mut state = self.state();
            state.next = now.plus_seconds(pause(state.failures));
            state.barred.retain(|_, until| waits(*until, now, LONGEST_BAR));
        };
        self.count();
        failed();
        self.save().await?;
        let mut last = Error::OutOfReach(Fault::new("certificates.no_issuer"));
        for issuer in issuers {
            let directory = issuer.directory();
            if let Some(until) = self.state().barred.get(directory) {
                let fault = Fault::new("certificates.barred").with("issuer", directory);
                last = Error::OutOfReach(fault.with("until", until.rfc3339()));
                continue;
            }
            match self.ordered(&**issuer, self.clock.now()).await {
                Ok(leaf) => return self.keep(directory, leaf).await,
                Err(Denial { error, again, .. }) => {
                    tracing::warn!(issuer = directory, %error, "no certificate from this authority");
                    last = error.into();
                    if let Some(again) = again {
                        self.state().barred.insert(directory.to_owned(), again);
                        self.save().await?;
                    }
                }
            }
        }
        // It may have taken longer than the pause.
        failed();
        self.save().await?;
        Err(last)
    }

    fn count(&self) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
    }

    /// With the account there is; where the authority does not know it any more, with another.
    async fn ordered(&self, issuer: &dyn Issuer, now: Timestamp) -> std::result::Result<Leaf, Denial> {
        if let Some(account) = self.account(issuer.directory()) {
            let before = self.state().certificate.clone().filter(|held| held.directory == issuer.directory());
            let replaces = before.map(|held| held.first());
            let order = Order { account: &account, names: &self.names, replaces: replaces.as_deref() };
            match issuer.order(order, now).await {
                Err(denial) if denial.stranger => {}
                answer => return answer,
            }
        }
        let own = |error| Denial { error: ports::Error::Backend(Box::new(error)), again: None, stranger: false };
        self.vault.lock().await.prove().await.map_err(own)?;
        let (account, directory) = (issuer.register(now).await?, issuer.directory());
        let vault = self.vault.lock().await;
        let kept = vault.keep(&self.keyring, Purpose::Acme, now, (account.clone(), directory.as_bytes()), None).await;
        drop(vault);
        kept.map_err(own)?;
        tracing::info!(issuer = directory, "account made with an authority");
        // It has nothing of this account to replace.
        issuer.order(Order { account: &account, names: &self.names, replaces: None }, now).await
    }

    /// What an authority that is still asked issued, and could not be kept.
    fn left(&self, issuers: &[Arc<dyn Issuer>]) -> Option<(String, Leaf)> {
        let left = self.unkept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        left.filter(|(directory, leaf)| {
            issuers.iter().any(|issuer| issuer.directory() == directory) && self.clock.now() < renewal(leaf)
        })
    }

    /// On disk before it is shown: its key first, which nobody could make again.
    async fn keep(&self, directory: &str, leaf: Leaf) -> Result<Leaf> {
        let unkept = || self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        *unkept() = Some((directory.to_owned(), leaf.clone()));
        let kept = self.written(directory, leaf).await?;
        *unkept() = None;
        Ok(kept)
    }

    async fn written(&self, directory: &str, leaf: Leaf) -> Result<Leaf> {
        let now = self.clock.now();
        let read = Certificate::read(leaf.chain.first().map(Vec::as_slice).unwrap_or_default());
        let read = read.map_err(|error| Error::Internal(error.into()))?;
        let vault = self.vault.lock().await;
        // Until the document names the new one, the one it names must be there.
        let named = self.state().certificate.as_ref().map(|held| held.key);
        let key = vault.keep(&self.keyring, Purpose::Tls, now, (leaf.key.clone(), &[]), named).await?;
        drop(vault);
        let held = Held {
            directory: directory.to_owned(),
            chain: leaf.chain.iter().map(hex::encode).collect(),
            key,
            issued: now,
            renewal: renewal(&leaf),
            // Not sooner: an authority that always wants its certificates replaced at once must not be asked without end.
            ask: now.plus_seconds(DAY),
        };
        let event = Event::new("certificates.issue")
            .with("issuer", directory)
            .with("names", self.names.clone())
            .with("end", read.not_after.rfc3339())
            .with("fingerprint", read.fingerprint);
        let barred = self.state().barred.clone();
        let state = State { certificate: Some(held), barred, ..State::default() };
        self.write(&state, Some(event)).await?;
        *self.state() = state;
        tracing::info!(
            issuer = directory,
            names = self.names.join(" "),
            end = read.not_after.rfc3339(),
            "certificate issued"
        );
        Ok(leaf)
    }

    fn account(&self, directory: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut accounts = self.keyring.versions(Purpose::Acme);
        Some(accounts.find(|key| key.public == directory.as_bytes())?.material.clone())
    }

    async fn save(&self) -> Result<()> {
        let state = self.state().clone();
        self.write(&state, None).await
    }

    async fn write(&self, state: &State, event: Option<Event>) -> Result<()> {
        let document = bson::serialize_to_raw_document_buf(state).map_err(|error| Error::Internal(error.into()))?;
        let (collection, id, caller) = (ORDERS.to_owned(), ID.to_owned(), Caller::system());
        let mut operations = vec![Operation { collection, id, expect: Expect::Any, change: Change::Put(document) }];
        if let Some(event) = event {
            operations.push(self.audit.operation(&caller, event)?);
        }
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds until the next attempt after so many failures in a row, give or take a tenth.
fn pause(failures: u32) -> i64 {
    let steps = failures.saturating_sub(1).min(10);
    let pause = FIRST_PAUSE.saturating_mul(3_i64.pow(steps)).min(LONGEST_PAUSE);
    pause * 9 / 10 + share(pause / 5)
}

/// At two thirds of its life, less up to a twentieth, so that not all come at once.
fn renewal(leaf: &Leaf) -> Timestamp {
    let life = leaf.not_after.seconds().saturating_sub(leaf.not_before.seconds());
    leaf.not_before.plus_seconds(life / 3 * 2 - share(life / 20))
}

/// Whether something is to be waited for; one further ahead than it can be is from a clock that was.
pub(super) fn waits(until: Timestamp, now: Timestamp, most: i64) -> bool {
    until > now && until <= now.plus_seconds(most)
}

fn drawn(window: Window, before: Timestamp) -> Timestamp {
    if window.end <= window.start || window.start <= before && before <= window.end {
        return before;
    }
    window.start.plus_seconds(share(window.end.seconds().saturating_sub(window.start.seconds())))
}

/// 0 to so much, by chance.
pub(super) fn share(most: i64) -> i64 {
    let drawn = u32::from_le_bytes(random::array::<4>());
    most.max(0).saturating_mul(i64::from(drawn >> 8)) >> 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_day() {
        for (failures, expected) in [(1, 300), (2, 900), (3, 2700), (5, 24_300), (6, 43_200), (u32::MAX, 43_200)] {
            for _ in 0..100 {
                let pause = pause(failures);
                assert!(pause >= expected * 9 / 10 && pause <= expected * 11 / 10, "{failures}: {pause}");
            }
        }
    }

    #[test]
    fn renews_about_two_thirds_in_and_not_all_at_once() {
        let at = |days: i64| {
            let leaf = Leaf {
                chain: Vec::new(),
                key: Zeroizing::default(),
                not_before: Timestamp(0),
                not_after: Timestamp(days * DAY * 1000),
            };
            renewal(&leaf).seconds()
        };
        for days in [6, 45, 90] {
            let all: Vec<_> = (0..50).map(|_| at(days)).collect();
            assert!(all.iter().all(|at| *at > days * DAY * 6 / 10 && *at <= days * DAY * 2 / 3), "{all:?}");
            assert!(all.iter().min() != all.iter().max());
        }
    }

    #[test]
    fn a_window_is_kept_to_and_drawn_from_once() {
        let (start, end) = (Timestamp(1_000_000), Timestamp(9_000_000));
        let window = Window { start, end, again: end };
        assert_eq!(drawn(window, Timestamp(2_000_000)), Timestamp(2_000_000));
        for _ in 0..100 {
            for outside in [Timestamp(0), Timestamp(10_000_000)] {
                let drawn = drawn(window, outside);
                assert!(start <= drawn && drawn <= end, "{drawn:?}");
            }
        }
        let turned = Window { start: end, end: start, again: end };
        assert_eq!(drawn(turned, Timestamp(5)), Timestamp(5), "a window that is none was believed");
    }

    #[test]
    fn what_a_clock_that_was_ahead_wrote_is_not_waited_for() {
        let now = Timestamp(1_000_000);
        assert!(waits(now.plus_seconds(60), now, 100));
        for not in [now, now.plus_seconds(-1), now.plus_seconds(101), now.plus_seconds(400 * DAY)] {
            assert!(!waits(not, now, 100), "{not:?}");
        }
    }
}
