//! What an authority says of a certificate over time: good, revoked, nothing, and across restarts.

use super::*;
use crate::{
    domain::ocsp::{
        Question, Standing,
        bench::{Leaf as Signed, Signer},
    },
    ports::web::{Body, Request, Response},
};

const LIFE: i64 = 2 * DAY;

/// A responder that does as it is told, and the certificate it speaks of.
struct Desk {
    root: Signer,
    leaf: Signed,
    clock: SharedClock,
    says: Mutex<Option<Standing>>,
    /// From when it says that it was so, and for how many seconds; by itself, from now.
    of: Mutex<Option<(Timestamp, i64)>>,
    asked: AtomicUsize,
}

impl Desk {
    fn new(house: &House, required: bool) -> Arc<Self> {
        let root = Signer::root("A");
        let leaf = root.leaf(NAME, Some("http://ocsp.example.cd/a"), required);
        let (says, of, asked) = (Mutex::new(Some(Standing::Good)), Mutex::default(), AtomicUsize::default());
        Arc::new(Self { root, leaf, clock: house.bench.clock.clone(), says, of, asked })
    }

    fn say(&self, says: Option<Standing>) {
        *self.says.lock().unwrap() = says;
    }

    fn date(&self, from: Timestamp, life: i64) {
        *self.of.lock().unwrap() = Some((from, life));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn start(self: &Arc<Self>, house: &mut House) -> (Certificates, Arc<Stage>) {
        house.web = self.clone();
        house.start_by(Mode::Files(self.clone())).await
    }
}

#[async_trait::async_trait]
impl Web for Desk {
    async fn fetch(&self, request: Request) -> ports::Result<Response> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let question = Question::of(&self.leaf.chain).unwrap();
        let Some(Body::Ocsp(body)) = request.body else { panic!("another kind of request") };
        assert_eq!((request.url, body), (question.url.clone(), question.request().unwrap()));
        let (from, life) = self.of.lock().unwrap().unwrap_or((self.clock.now(), LIFE));
        match *self.says.lock().unwrap() {
            Some(standing) => {
                let times = (from, Some(from.plus_seconds(life)));
                Ok(Response { status: 200, body: self.root.answer(&question, standing, times, &[]) })
            }
            None => Err(ports::Error::Unavailable("away".to_owned())),
        }
    }
}

impl Kept for Desk {
    fn read(&self, _: Timestamp) -> ports::Result<Leaf> {
        let Certificate { not_before, not_after, .. } = Certificate::read(&self.leaf.chain[0]).unwrap();
        Ok(Leaf { chain: self.leaf.chain.clone(), key: self.leaf.key.clone().into(), not_before, not_after })
    }

    fn place(&self) -> String {
        "chain.pem".to_owned()
    }
}

fn stapled(stage: &Stage) -> bool {
    stage.staple.lock().unwrap().is_some()
}

fn is_revoked(house: &House, certificates: &Certificates, stage: &Stage, since: Timestamp) -> bool {
    certificates.served().unwrap().staple.unwrap().revoked() == Some(since)
        && certificates.metrics.render().contains("debrouille_certificate_revoked 1")
        && house.judged().0 == Level::Warning
        && !stapled(stage)
}

#[tokio::test]
async fn it_is_asked_for_again_at_half_its_time_and_the_old_one_stays_until_its_end() {
    let mut house = House::open().await;
    let desk = Desk::new(&house, false);
    let (certificates, stage) = desk.start(&mut house).await;
    assert!(!stapled(&stage) && desk.asked() == 0, "a start waits for nobody");
    certificates.tend().await.unwrap();
    assert!(stapled(&stage) && desk.asked() == 1);
    let next =
        certificates.served().unwrap().staple.unwrap().next.unwrap().seconds() - house.bench.clock.now().seconds();
    assert!((LIFE / 20 * 9..=LIFE / 2).contains(&next), "{next}");

    desk.say(None);
    house.bench.wait(LIFE / 20 * 9 - 10);
    certificates.tend().await.unwrap();
    assert_eq!(desk.asked(), 1, "asked too soon");
    house.bench.wait(LIFE / 20 + 10);
    certificates.tend().await.unwrap();
    let staple = certificates.served().unwrap().staple.unwrap();
    assert!(stapled(&stage) && staple.trouble.is_some() && desk.asked() == 2);
    certificates.tend().await.unwrap();
    assert_eq!(desk.asked(), 2, "asked without a pause");
    assert_eq!(house.judged().0, Level::Ok, "nobody misses it");

    // For one more day it may be away: an hour between questions, no more.
    let left = stage.staple.lock().unwrap().unwrap().as_secs();
    assert_eq!(left, (LIFE / 2).unsigned_abs());
    for _ in 0..20 {
        house.bench.wait(LIFE / 40 - 1);
        certificates.tend().await.unwrap();
        assert!(stapled(&stage));
    }
    assert_eq!(desk.asked(), 22);
    house.bench.wait(21);
    certificates.tend().await.unwrap();
    assert!(!stapled(&stage), "one that has ended is shown");
    assert!(certificates.served().unwrap().staple.unwrap().answer.is_none());
    desk.say(Some(Standing::Good));
    house.bench.wait(2 * 3600);
    certificates.tend().await.unwrap();
    assert!(stapled(&stage));
}

#[tokio::test]
async fn a_restart_has_it_at_once_unless_it_is_another_certificates_or_too_old() {
    let mut house = House::open().await;
    let desk = Desk::new(&house, false);
    desk.start(&mut house).await.0.tend().await.unwrap();
    desk.say(None);
    let (again, stage) = desk.start(&mut house).await;
    assert!(stapled(&stage));
    again.tend().await.unwrap();
    assert_eq!(desk.asked(), 1, "asked again for being started again");
    again.switch(again.mode()).await.unwrap();
    assert!(stapled(&stage), "a reload lost it");

    let other = Desk::new(&house, false);
    other.say(None);
    assert!(!stapled(&other.start(&mut house).await.1), "another certificate's");
    house.bench.wait(LIFE + 1);
    assert!(!stapled(&desk.start(&mut house).await.1), "one that has ended");
}

#[tokio::test]
async fn a_revoked_one_is_told_and_nothing_takes_that_back_but_a_newer_word() {
    let mut house = House::open().await;
    let desk = Desk::new(&house, false);
    let (certificates, stage) = desk.start(&mut house).await;
    certificates.tend().await.unwrap();
    let good = house.bench.clock.now();
    house.bench.wait(3600);
    let since = house.bench.clock.now();
    desk.say(Some(Standing::Revoked(since)));
    certificates.renew().await.unwrap();
    assert!(!stapled(&stage), "what it said before is shown");
    assert_eq!(certificates.served().unwrap().staple.unwrap().revoked(), Some(since));
    assert_eq!(house.judged(), (Level::Warning, true));
    assert!(certificates.metrics.render().contains("debrouille_certificate_revoked 1"));

    // Nor after a restart, nor by the old word said again.
    let (certificates, stage) = desk.start(&mut house).await;
    assert!(!stapled(&stage) && house.judged().0 == Level::Warning);
    desk.say(Some(Standing::Good));
    desk.date(good, 9 * LIFE);
    certificates.renew().await.unwrap();
    assert!(!stapled(&stage) && house.judged().0 == Level::Warning, "an older answer was believed");

    // Nor by keeping the authority away until its word has ended, by the old one then, or by one as old as the word itself.
    house.bench.wait(2 * LIFE);
    desk.say(None);
    certificates.tend().await.unwrap();
    assert!(is_revoked(&house, &certificates, &stage, since));
    desk.say(Some(Standing::Good));
    for from in [good, since] {
        desk.date(from, 9 * LIFE);
        certificates.renew().await.unwrap();
        assert!(is_revoked(&house, &certificates, &stage, since));
    }
    let (certificates, stage) = desk.start(&mut house).await;
    assert!(is_revoked(&house, &certificates, &stage, since));
    certificates.renew().await.unwrap();
    assert!(is_revoked(&house, &certificates, &stage, since));
    desk.date(since.plus_seconds(1), 9 * LIFE);
    certificates.renew().await.unwrap();
    assert!(stapled(&stage) && house.judged().0 == Level::Ok);
}

#[tokio::test]
async fn it_is_asked_for_daily_at_least_whatever_the_clocks_said() {
    let mut house = House::open().await;
    let desk = Desk::new(&house, false);
    let begin = house.bench.clock.now();
    // The authority's clock is ahead by as much as it may be.
    desk.date(begin.plus_seconds(300), 40 * DAY);
    let (certificates, stage) = desk.start(&mut house).await;
    certificates.tend().await.unwrap();
    assert!(stapled(&stage));
    let next = certificates.served().unwrap().staple.unwrap().next.unwrap().seconds() - begin.seconds();
    assert!((DAY / 10 * 9..=DAY).contains(&next), "{next}");
    house.bench.wait(DAY);
    certificates.tend().await.unwrap();
    assert_eq!(desk.asked(), 2);

    // Ours was, and is put right.
    desk.say(None);
    house.bench.wait(20 * DAY);
    certificates.tend().await.unwrap();
    house.bench.wait(-20 * DAY);
    certificates.tend().await.unwrap();
    assert_eq!(desk.asked(), 4, "it waits for the time that was never");
    house.bench.wait(DAY / 2);
    let (certificates, _) = desk.start(&mut house).await;
    house.bench.wait(DAY / 2);
    certificates.tend().await.unwrap();
    assert_eq!(desk.asked(), 5, "a start puts it off");
}

#[tokio::test]
async fn who_does_not_know_it_says_nothing_and_only_a_certificate_that_wants_it_warns() {
    for (required, expected) in [(false, Level::Ok), (true, Level::Warning)] {
        let mut house = House::open().await;
        let desk = Desk::new(&house, required);
        desk.say(Some(Standing::Unknown));
        let (certificates, stage) = desk.start(&mut house).await;
        certificates.tend().await.unwrap();
        assert!(!stapled(&stage));
        assert_eq!((desk.asked(), house.judged().0), (1, expected));
    }
    // One that has ended is missed before a question has failed.
    let mut house = House::open().await;
    let desk = Desk::new(&house, true);
    desk.start(&mut house).await.0.tend().await.unwrap();
    assert_eq!(house.judged().0, Level::Ok);
    house.bench.wait(LIFE + 1);
    let (certificates, _) = desk.start(&mut house).await;
    let trouble = certificates.served().unwrap().staple.unwrap().trouble.unwrap();
    assert_eq!((house.judged().0, trouble.key), (Level::Warning, "certificates.staple_awaited"));
    // Nobody can be asked where the issuer is not in the file.
    for (required, expected) in [(false, Level::Ok), (true, Level::Warning)] {
        let mut house = House::open().await;
        let mut desk = Desk::new(&house, required);
        Arc::get_mut(&mut desk).unwrap().leaf.chain.truncate(1);
        let (certificates, _) = desk.start(&mut house).await;
        certificates.tend().await.unwrap();
        assert_eq!((desk.asked(), house.judged().0), (0, expected));
        let staple = certificates.served().unwrap().staple;
        assert_eq!(staple.is_some(), required);
        if let Some(staple) = staple {
            assert_eq!((staple.next, staple.trouble.unwrap().key), (None, "certificates.staple_nobody"));
        }
        assert!(!certificates.metrics.render().contains("debrouille_certificate_revoked "));
    }
    // Nothing is asked of an authority that has nobody answer.
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, _) = house.start(&[&public]).await;
    certificates.tend().await.unwrap();
    assert!(certificates.served().unwrap().staple.is_none());
}
