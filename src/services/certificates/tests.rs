//! Certificates over time: renewed, ordered, refused, restarted, with authorities that do as they are told.

mod kept;
mod staples;
mod times;

use super::*;
use crate::{
    backends::{certificates::internal::Internal, keys::local::LocalKeeper},
    base::{clock::Clock, environment::Environment},
    ports::{
        certificates::{Authority, Certificates as OwnIssuer, Denial, Order, Window},
        web::{Request, Response, Web},
    },
    services::{
        bench::{Bench, Root},
        health::{Level, Phase},
        keyring::{Keyring, Purpose},
        secrets::Vault,
    },
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zeroize::Zeroizing;

const DAY: i64 = 86_400;
const NAME: &str = "api.example.cd";

fn authority(now: Timestamp, days: u32) -> Internal {
    Internal::open(Authority::create(&[NAME.to_owned()], now).unwrap(), days).unwrap()
}

/// Our own authority: it can be out of reach, and another's turn comes after 200 days.
struct Own {
    away: AtomicBool,
    turns: [Internal; 2],
    second: Timestamp,
}

impl Own {
    fn turn(&self, now: Timestamp) -> &Internal {
        &self.turns[usize::from(now >= self.second)]
    }
}

#[async_trait::async_trait]
impl OwnIssuer for Own {
    async fn issue(&self, names: &[String], now: Timestamp) -> ports::Result<Leaf> {
        if self.away.load(Ordering::Relaxed) {
            return Err(ports::Error::Unavailable("on strike".to_owned()));
        }
        self.turn(now).issue(names, now).await
    }

    fn issuer(&self, now: Timestamp) -> ports::Result<String> {
        self.turn(now).issuer(now)
    }
}

/// A public authority that does as it is told.
struct Public {
    directory: &'static str,
    signs: Internal,
    does: Mutex<Does>,
    window: Mutex<Option<Window>>,
    orders: AtomicUsize,
    accounts: AtomicUsize,
    /// Whether the last order named what it replaces.
    replaced: AtomicBool,
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Issue,
    Refuse,
    /// Not before so many seconds have gone by.
    Bar(i64),
    /// Never answers.
    Hang,
}

impl Public {
    fn new(directory: &'static str, now: Timestamp) -> Arc<Self> {
        Self::for_days(90, directory, now)
    }

    fn for_days(days: u32, directory: &'static str, now: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            directory,
            signs: authority(now, days),
            does: Mutex::new(Does::Issue),
            window: Mutex::default(),
            orders: AtomicUsize::default(),
            accounts: AtomicUsize::default(),
            replaced: AtomicBool::default(),
        })
    }

    fn tell(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn counts(&self) -> (usize, usize) {
        (self.orders.load(Ordering::Relaxed), self.accounts.load(Ordering::Relaxed))
    }
}

#[async_trait::async_trait]
impl Issuer for Public {
    fn directory(&self) -> &str {
        self.directory
    }

    async fn register(&self, _: Timestamp) -> std::result::Result<Zeroizing<Vec<u8>>, Denial> {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Zeroizing::new(format!("{} {number}", self.directory).into_bytes()))
    }

    async fn order(&self, order: Order<'_>, now: Timestamp) -> std::result::Result<Leaf, Denial> {
        let denial = |error, again, stranger| Err(Denial { error, again, stranger });
        let known = format!("{} {}", self.directory, self.accounts.load(Ordering::Relaxed));
        if order.account != known.as_bytes() {
            return denial(ports::Error::Rejected(Fault::new("certificates.issuer_refused")), None, true);
        }
        self.orders.fetch_add(1, Ordering::Relaxed);
        self.replaced.store(order.replaces.is_some(), Ordering::Relaxed);
        let does = *self.does.lock().unwrap();
        match does {
            Does::Issue => Ok(self.signs.issue(order.names, now).await.unwrap()),
            Does::Refuse => denial(ports::Error::Rejected(Fault::new("certificates.issuer_refused")), None, false),
            Does::Hang => std::future::pending().await,
            Does::Bar(seconds) => {
                denial(ports::Error::Unavailable("busy".to_owned()), Some(now.plus_seconds(seconds)), false)
            }
        }
    }

    async fn window(&self, _: &[u8], _: &[u8], _: Timestamp) -> std::result::Result<Option<Window>, Denial> {
        Ok(*self.window.lock().unwrap())
    }
}

/// What is shown: of our own how often, of others' which.
#[derive(Default)]
struct Stage {
    own: AtomicUsize,
    public: Mutex<Option<Vec<u8>>>,
    /// For how long what an authority said is shown.
    staple: Mutex<Option<Duration>>,
}

impl Show for Stage {
    fn show(&self, _: &Leaf) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.own.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn show_public(&self, leaf: Option<&Leaf>) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.public.lock().unwrap() = leaf.map(|leaf| leaf.chain[0].clone());
        *self.staple.lock().unwrap() = None;
        Ok(())
    }

    fn staple(&self, _: &str, staple: Option<Staple>) {
        let public = self.public.lock().unwrap().clone();
        let fits = staple.filter(|staple| public.as_ref() == Some(&staple.leaf));
        *self.staple.lock().unwrap() = fits.map(|staple| staple.left);
    }
}

/// Where no responder is.
struct Nobody;

#[async_trait::async_trait]
impl Web for Nobody {
    async fn fetch(&self, request: Request) -> ports::Result<Response> {
        panic!("{} is asked", request.url)
    }
}

/// An instance that can be started again over what it wrote.
struct House {
    bench: Bench,
    folder: tempfile::TempDir,
    root: Arc<Root>,
    keyring: Arc<Keyring>,
    own: Arc<Own>,
    health: Arc<Health>,
    web: Arc<dyn Web>,
}

impl House {
    async fn open() -> Self {
        let bench = Bench::of(Environment::Staging).await;
        let folder = tempfile::tempdir().unwrap();
        let root = Root::create(&folder.path().join("root.key"));
        let keyring = Arc::new(bench.keyring.clone());
        let now = bench.clock.now();
        let own = Own {
            away: AtomicBool::default(),
            turns: [authority(now, 90), authority(now, 90)],
            second: now.plus_seconds(200 * DAY),
        };
        let health = Arc::new(Health::default());
        health.enter(Phase::Serving);
        Self { bench, folder, root, keyring, own: Arc::new(own), health, web: Arc::new(Nobody) }
    }

    /// As a start has it, with the keyring as it is on disk.
    async fn start(&self, issuers: &[&Arc<Public>]) -> (Certificates, Arc<Stage>) {
        let issuers: Vec<Arc<dyn Issuer>> = issuers.iter().map(|&issuer| issuer.clone() as Arc<dyn Issuer>).collect();
        let mode = if issuers.is_empty() { Mode::Internal } else { Mode::Acme(issuers) };
        self.start_by(mode).await
    }

    async fn start_by(&self, mode: Mode) -> (Certificates, Arc<Stage>) {
        let kept = Keyring::open(self.folder.path(), &self.bench.stamp, &*self.root).await;
        let keyring = kept.map_or_else(|_| self.keyring.clone(), Arc::new);
        let (stage, names) = (Arc::new(Stage::default()), vec![NAME.to_owned()]);
        let (clock, audit, documents) =
            (self.bench.clock.clone(), self.bench.audit.clone(), self.bench.documents.clone());
        let keeper = Arc::new(LocalKeeper::of(Some(self.folder.path().join("root.key"))));
        let (data, authority) = (self.folder.path().to_owned(), self.folder.path().join("ca.crt"));
        let vault = Vault { data, stamp: self.bench.stamp.clone(), root: self.root.clone(), keeper, authority };
        let certificates = Certificates {
            issuer: self.own.clone(),
            show: stage.clone(),
            names: names.clone(),
            clock: clock.clone(),
            metrics: Metrics::new(clock.clone()),
            health: self.health.clone(),
            orders: Orders::new(documents, (keyring, vault.shared()), audit, clock, names),
            staples: Staples::new(self.web.clone(), self.bench.documents.clone(), self.bench.clock.clone()),
            sources: Sources::of(mode),
        };
        certificates.begin().await.unwrap();
        (certificates, stage)
    }

    fn judged(&self) -> (Level, bool) {
        (self.health.findings()[0].level, self.health.ready())
    }
}

#[tokio::test]
async fn our_own_is_renewed_in_time_and_warns_before_it_fails() {
    let house = House::open().await;
    let (certificates, stage) = house.start(&[]).await;
    let shown = || stage.own.load(Ordering::Relaxed);
    house.bench.wait(53 * DAY);
    certificates.tend().await.unwrap();
    assert_eq!(shown(), 1, "renewed too soon");

    house.own.away.store(true, Ordering::Relaxed);
    house.bench.wait(6 * DAY);
    assert!(certificates.tend().await.is_err());
    assert_eq!(house.judged(), (Level::Warning, true));
    house.bench.wait(32 * DAY);
    assert!(certificates.tend().await.is_err());
    assert_eq!(house.judged(), (Level::Failure, false));

    house.own.away.store(false, Ordering::Relaxed);
    certificates.tend().await.unwrap();
    assert_eq!((house.judged().0, shown()), (Level::Ok, 2));

    // Another authority's turn, long before the end.
    house.bench.wait(108 * DAY);
    certificates.renew().await.unwrap();
    house.bench.wait(2 * DAY);
    certificates.tend().await.unwrap();
    certificates.tend().await.unwrap();
    let issuer = certificates.served().unwrap().shown.certificate.issuer;
    assert_eq!((issuer, shown()), (house.own.turns[1].issuer(Timestamp(0)).unwrap(), 4));
}

#[tokio::test]
async fn our_own_is_shown_until_one_is_ordered_and_that_one_survives_a_restart() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    public.tell(Does::Refuse);
    let (certificates, stage) = house.start(&[&public]).await;
    assert!(certificates.tend().await.is_err());
    let served = certificates.served().unwrap();
    assert!(served.fallback && served.trouble.is_some() && stage.public.lock().unwrap().is_none());
    assert_eq!((served.failures, house.judged()), (1, (Level::Warning, true)));
    let text = certificates.metrics.render();
    assert!(text.contains("debrouille_certificate_fallback 1") && text.contains("debrouille_certificate_failures 1"));

    // Nobody is asked before the pause is over, whatever starts anew.
    let (certificates, _) = house.start(&[&public]).await;
    certificates.tend().await.unwrap();
    house.bench.wait(200);
    certificates.tend().await.unwrap();
    assert_eq!(public.counts(), (1, 1));
    house.bench.wait(200);
    public.tell(Does::Issue);
    certificates.tend().await.unwrap();
    let served = certificates.served().unwrap();
    assert!(!served.fallback && served.failures == 0 && served.next.is_none() && served.trouble.is_none());
    assert_eq!((public.counts(), house.judged().0), ((2, 1), Level::Ok), "one account for all orders");

    let (again, stage) = house.start(&[&public]).await;
    assert_eq!(again.served().unwrap().shown, served.shown);
    assert!(stage.public.lock().unwrap().is_some());
    again.tend().await.unwrap();
    assert_eq!(public.counts(), (2, 1));
}

#[tokio::test]
async fn one_that_was_cut_on_the_way_counts_as_failed() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    public.tell(Does::Hang);
    let (certificates, _) = house.start(&[&public]).await;
    let cut = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(cut, certificates.tend()).await.is_err());
    public.tell(Does::Issue);
    let (certificates, _) = house.start(&[&public]).await;
    certificates.tend().await.unwrap();
    assert_eq!((public.counts().0, certificates.served().unwrap().failures), (1, 1));
    house.bench.wait(400);
    certificates.tend().await.unwrap();
    assert_eq!(public.counts().0, 2);
}

#[tokio::test]
async fn renewal_is_in_time_names_what_it_replaces_and_what_has_ended_is_not_shown() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, stage) = house.start(&[&public]).await;
    certificates.tend().await.unwrap();
    assert!(!public.replaced.load(Ordering::Relaxed));
    house.bench.wait(54 * DAY);
    certificates.tend().await.unwrap();
    assert_eq!(public.counts(), (1, 1), "renewed too soon");
    house.bench.wait(7 * DAY);
    certificates.tend().await.unwrap();
    assert_eq!(public.counts(), (2, 1));
    assert!(public.replaced.load(Ordering::Relaxed));

    // The authority wants it replaced at once.
    let now = house.bench.clock.now();
    let window = Window { start: now.plus_seconds(-DAY), end: now.plus_seconds(-1), again: now };
    *public.window.lock().unwrap() = Some(window);
    for orders in [3, 4] {
        for _ in 0..3 {
            certificates.tend().await.unwrap();
            assert_eq!(public.counts(), (orders - 1, 1), "more often than once a day");
        }
        house.bench.wait(13 * 3600);
        certificates.tend().await.unwrap();
        assert_eq!(public.counts(), (orders - 1, 1), "more often than once a day");
        house.bench.wait(11 * 3600 + 1);
        certificates.tend().await.unwrap();
        assert_eq!(public.counts(), (orders, 1));
    }

    *public.window.lock().unwrap() = None;
    public.tell(Does::Refuse);
    house.bench.wait(80 * DAY);
    assert!(certificates.tend().await.is_err());
    assert!(!certificates.served().unwrap().fallback, "what is still good is not shown");
    assert_eq!(house.judged(), (Level::Warning, true));
    house.bench.wait(11 * DAY);
    assert!(certificates.tend().await.is_err());
    assert!(certificates.served().unwrap().fallback && stage.public.lock().unwrap().is_none());
}

#[tokio::test]
async fn authorities_are_asked_in_their_order_and_left_alone_as_they_wish() {
    let house = House::open().await;
    let now = house.bench.clock.now();
    let (first, second) = (Public::new("https://a.example.cd/d", now), Public::new("https://b.example.cd/d", now));
    first.tell(Does::Bar(DAY));
    second.tell(Does::Refuse);
    let (certificates, _) = house.start(&[&first, &second]).await;
    assert!(certificates.tend().await.is_err());
    house.bench.wait(400);
    assert!(certificates.tend().await.is_err());
    assert_eq!((first.counts().0, second.counts().0), (1, 2));
    // Even when the operator wants it now, and it starts anew.
    let (certificates, _) = house.start(&[&first, &second]).await;
    assert!(certificates.renew().await.is_err());
    assert_eq!((first.counts().0, second.counts().0), (1, 3));
    house.bench.wait(DAY);
    first.tell(Does::Issue);
    certificates.tend().await.unwrap();
    assert_eq!((first.counts().0, second.counts().0), (2, 3));

    // The one it is of is no longer among them.
    second.tell(Does::Issue);
    let (certificates, _) = house.start(&[&second]).await;
    assert!(!certificates.served().unwrap().fallback);
    certificates.tend().await.unwrap();
    assert_eq!(second.counts().0, 4);

    // An account that the authority forgot.
    second.accounts.fetch_add(1, Ordering::Relaxed);
    certificates.renew().await.unwrap();
    assert_eq!(second.counts(), (5, 3));
}

#[tokio::test]
async fn another_source_takes_over_without_a_restart() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, stage) = house.start(&[]).await;
    certificates.tend().await.unwrap();
    certificates.switch(Mode::Acme(vec![public.clone()])).await.unwrap();
    assert!(certificates.served().unwrap().fallback);
    certificates.tend().await.unwrap();
    assert!(!certificates.served().unwrap().fallback && stage.public.lock().unwrap().is_some());

    /// A pair that is not there yet.
    struct Absent;
    impl Kept for Absent {
        fn read(&self, _: Timestamp) -> ports::Result<Leaf> {
            Err(ports::Error::Rejected(Fault::new("certificates.no_files")))
        }
        fn place(&self) -> String {
            String::new()
        }
    }
    assert!(certificates.switch(Mode::Files(Arc::new(Absent))).await.is_err());
    let served = certificates.served().unwrap();
    assert!(served.mode == "files" && !served.fallback && served.trouble.is_some(), "the last good one is gone");
    certificates.switch(Mode::Internal).await.unwrap();
    assert!(stage.public.lock().unwrap().is_none());
    assert!(certificates.served().unwrap().trouble.is_none());
    // Ordered before, and good still: not ordered again.
    certificates.switch(Mode::Acme(vec![public.clone()])).await.unwrap();
    assert!(!certificates.served().unwrap().fallback);
    assert_eq!(public.counts(), (1, 1));
}

#[tokio::test]
async fn of_keys_the_one_before_stays_and_of_accounts_one_with_each() {
    let house = House::open().await;
    let now = house.bench.clock.now();
    let (first, second) = (Public::new("https://a.example.cd/d", now), Public::new("https://b.example.cd/d", now));
    let (certificates, _) = house.start(&[&first]).await;
    for _ in 0..3 {
        certificates.renew().await.unwrap();
    }
    certificates.switch(Mode::Acme(vec![second.clone()])).await.unwrap();
    certificates.renew().await.unwrap();
    second.accounts.fetch_add(1, Ordering::Relaxed);
    certificates.renew().await.unwrap();
    let kept = Keyring::open(house.folder.path(), &house.bench.stamp, &*house.root).await.unwrap();
    let versions = |purpose| kept.versions(purpose).map(|key| key.version).collect::<Vec<_>>();
    assert_eq!((versions(Purpose::Tls), versions(Purpose::Acme)), (vec![4, 5], vec![1, 3]));
}

#[tokio::test]
async fn ours_is_for_what_our_authority_can_and_others_for_what_they_say() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (mut certificates, _) = house.start(&[&public]).await;
    certificates.names = vec![NAME.to_owned(), "elsewhere.example.org".to_owned()];
    certificates.renew_own().await.unwrap();
    assert_eq!(certificates.served().unwrap().shown.certificate.names, [NAME]);
    *certificates.sources.mode.write().unwrap() = Mode::Internal;
    assert!(certificates.renew_own().await.is_err(), "our own alone, and not for all names");

    /// A pair for another name.
    struct Foreign(Leaf);
    impl Kept for Foreign {
        fn read(&self, _: Timestamp) -> ports::Result<Leaf> {
            Ok(self.0.clone())
        }
        fn place(&self) -> String {
            "foreign.pem".to_owned()
        }
    }
    let now = house.bench.clock.now();
    let names = ["www.example.cd".to_owned()];
    let foreign =
        Internal::open(Authority::create(&names, now).unwrap(), 90).unwrap().issue(&names, now).await.unwrap();
    certificates.switch(Mode::Files(Arc::new(Foreign(foreign)))).await.unwrap();
    let served = certificates.served().unwrap();
    assert!(served.fallback && served.trouble.unwrap().to_string().contains(NAME));
    assert_eq!(house.judged(), (Level::Warning, true));
}
