//! What is found and who is told, with the table's own proofs and a clock that is moved by hand.

use super::*;
use crate::{
    base::{
        clock::Clock,
        environment::Environment,
        metrics::{alerts::ALERTS, series::Point},
    },
    ports::{self, notices::Notice},
    services::bench::Bench,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// promtool's writing of samples a minute apart: `0x10 0+5x30`.
fn samples(text: &str) -> Vec<f64> {
    let mut all = Vec::new();
    for part in text.split(' ') {
        let (values, times) = part.split_once('x').unwrap_or((part, "0"));
        let (first, step) = values.split_once('+').unwrap_or((values, "0"));
        let (first, step): (f64, f64) = (first.parse().unwrap(), step.parse().unwrap());
        all.extend((0..=times.parse::<u32>().unwrap()).map(|n| first + step * f64::from(n)));
    }
    all
}

/// Without the labels that Prometheus adds.
fn own(mut point: Point) -> Point {
    point.labels.retain(|(name, _)| !["instance", "job"].contains(&name.as_str()));
    for (name, _) in &mut point.labels {
        *name = name.trim_start_matches("exported_").to_owned();
    }
    point
}

#[test]
fn every_alert_of_the_table_is_quiet_fires_and_ends_here_as_at_prometheus() {
    let minutes = |text: &str| text.trim_end_matches('m').parse::<usize>().unwrap();
    let mut seen = 0;
    for alert in ALERTS.iter().filter(|alert| !matches!(alert.when, crate::base::metrics::alerts::When::Down)) {
        let read = |series: &str| own(series::read(&format!("{series} 0")).remove(0));
        let given: Vec<_> = alert.proof.series.iter().map(|(series, text)| (read(series), samples(text))).collect();
        let (fires, over) = (minutes(alert.proof.fires), minutes(alert.proof.over));
        let labels = alert.proof.labels.iter().filter(|(name, _)| !["instance", "job"].contains(name));
        let labels: Vec<_> =
            labels.map(|(name, value)| format!("{}={value}", name.trim_start_matches("exported_"))).collect();
        let (mut history, mut known) = (History::default(), Vec::new());
        for minute in 0..=over {
            let at = |(point, values): &(Point, Vec<f64>)| Some(Point { value: *values.get(minute)?, ..point.clone() });
            let points: Vec<_> = given.iter().filter_map(at).collect();
            let now = Timestamp(minute as i64 * 60_000);
            history.observe(&points, now.seconds());
            let wrong = judge::wrong(&points, &history, now);
            judge::step(&mut known, wrong, &points, &[], now);
            let mine = known.iter().find(|known| known.name == alert.name && known.fires());
            if [5, fires, over].contains(&minute) {
                assert_eq!(mine.is_some(), minute == fires, "{} at {minute}: {known:?}", alert.name);
                seen += 1;
            }
            if let Some(known) = mine {
                let mut place: Vec<_> = known.place.split_whitespace().collect();
                place.sort_unstable();
                assert_eq!(place, labels, "{}", alert.name);
            }
        }
        assert!(known.iter().any(|known| known.name == alert.name && known.ended.is_some()), "{}", alert.name);
    }
    assert_eq!(seen, 3 * (ALERTS.len() - 1));
}

/// A way that is open or not, and what went by it.
#[derive(Default)]
struct Way {
    closed: AtomicBool,
    /// Ids of every attempt.
    tried: Mutex<Vec<String>>,
    had: Mutex<Vec<Notice>>,
}

struct Named(&'static str, Arc<Way>);

#[async_trait::async_trait]
impl Channel for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn carries(&self, critical: bool) -> bool {
        critical || self.0 != "sms"
    }

    async fn send(&self, notice: &Notice) -> ports::Result<()> {
        self.1.tried.lock().unwrap().push(notice.id.clone());
        if self.1.closed.load(Ordering::Relaxed) {
            return Err(ports::Error::Unavailable("closed".to_owned()));
        }
        self.1.had.lock().unwrap().push(notice.clone());
        Ok(())
    }
}

struct Desk {
    bench: Bench,
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    mail: Arc<Way>,
    hook: Arc<Way>,
    alerts: Alerts,
}

impl Desk {
    async fn new() -> Self {
        let bench = Bench::of(Environment::Production).await;
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new(bench.clock.clone()));
        let (mail, hook, health) = (Arc::<Way>::default(), Arc::<Way>::default(), Arc::<Health>::default());
        let alerts = alerts(&bench, &folder, (&metrics, &health), (&mail, &hook));
        alerts.begin();
        Self { bench, folder, metrics, health, mail, hook, alerts }
    }

    /// As another process finds it.
    async fn restart(&mut self) {
        self.metrics = Metrics::new(self.bench.clock.clone());
        self.alerts = alerts(&self.bench, &self.folder, (&self.metrics, &self.health), (&self.mail, &self.hook));
        self.alerts.begin();
    }

    fn read_only(&self, is: bool) {
        self.metrics.sample(|sample| sample.read_only = Some(is));
    }

    /// Looks and tells each 15 seconds.
    async fn pass(&self, seconds: i64) {
        for _ in 0..seconds / 15 {
            self.bench.wait(15);
            self.alerts.watch().await;
            for way in 0..2 {
                self.alerts.tell(way).await;
            }
        }
    }

    fn told(way: &Way) -> Vec<String> {
        way.had.lock().unwrap().iter().map(|notice| notice.subject.split(" (").next().unwrap().to_owned()).collect()
    }
}

fn alerts(
    bench: &Bench,
    folder: &tempfile::TempDir,
    (metrics, health): (&Arc<Metrics>, &Arc<Health>),
    (mail, hook): (&Arc<Way>, &Arc<Way>),
) -> Alerts {
    let channels: Vec<Arc<dyn Channel>> =
        vec![Arc::new(Named("mail", mail.clone())), Arc::new(Named("webhook", hook.clone()))];
    let head = Head { host: "api.example.cd".to_owned(), environment: "production" };
    let told = (bench.clock.clone() as SharedClock, metrics.clone(), health.clone());
    let rights = (bench.access.clone(), bench.audit.clone());
    Alerts::new(told, rights, folder.path().join(FILE), head, channels)
}

const FIRES: &str = "Alerte critique / Critical alert: DebrouilleReadOnly";
const ENDED: &str = "Fin d'alerte / Resolved: DebrouilleReadOnly";

#[tokio::test]
async fn each_way_is_told_once_of_the_beginning_and_once_of_the_end_whatever_restarts() {
    let mut desk = Desk::new().await;
    desk.pass(300).await;
    assert!(Desk::told(&desk.mail).is_empty());
    desk.read_only(true);
    desk.pass(75).await;
    assert!(Desk::told(&desk.mail).is_empty(), "others are waited for");
    desk.pass(45).await;
    assert_eq!(Desk::told(&desk.mail), [FIRES]);
    desk.pass(900).await;
    desk.restart().await;
    desk.pass(300).await;
    desk.read_only(true);
    desk.pass(900).await;
    // Well for a moment is not well.
    desk.read_only(false);
    desk.pass(120).await;
    desk.read_only(true);
    desk.pass(600).await;
    assert_eq!(Desk::told(&desk.mail), [FIRES]);
    desk.read_only(false);
    desk.pass(420).await;
    assert_eq!(
        (Desk::told(&desk.mail), Desk::told(&desk.hook)),
        (vec![FIRES.into(), ENDED.into()], vec![FIRES.into(), ENDED.into()])
    );
    let had = desk.hook.had.lock().unwrap().clone();
    assert!(had[0].urgent && !had[1].urgent && had[0].id != had[1].id);
    assert_eq!(
        (&had[0].data["alerts"][0]["status"], &had[1].data["alerts"][0]["status"]),
        (&"firing".into(), &"resolved".into())
    );
    assert!(had[0].text.contains("CRITIQUE DebrouilleReadOnly") && had[0].text.contains("CRITICAL DebrouilleReadOnly"));
    assert!(had[0].short.chars().count() <= 160);
    desk.pass(7200).await;
    desk.restart().await;
    desk.pass(600).await;
    assert_eq!(Desk::told(&desk.mail).len(), 2);
    let caller = Caller { subject: crate::services::access::Subject::System, ..Caller::system() };
    assert_eq!(desk.alerts.list(&caller).unwrap().len(), 1, "shown for a day");
    desk.pass(25 * 3600).await;
    assert!(desk.alerts.list(&caller).unwrap().is_empty());
}

#[tokio::test]
async fn a_way_that_is_closed_holds_up_no_other_and_is_told_all_later() {
    let mut desk = Desk::new().await;
    desk.mail.closed.store(true, Ordering::Relaxed);
    desk.read_only(true);
    desk.pass(240).await;
    assert_eq!(Desk::told(&desk.hook), [FIRES]);
    let untold = |desk: &Desk| {
        desk.health.findings().iter().any(|finding| finding.check == "alerts:mail" && finding.fault.is_some())
    };
    assert!(untold(&desk) && desk.metrics.render().contains("alert_channel_failing{channel=\"mail\"}"));
    // It came and went meanwhile, and the process too.
    desk.read_only(false);
    desk.pass(420).await;
    desk.restart().await;
    desk.mail.closed.store(false, Ordering::Relaxed);
    desk.pass(60).await;
    assert_eq!((Desk::told(&desk.mail), Desk::told(&desk.hook).len()), (vec![ENDED.to_owned()], 2));
    assert!(desk.mail.had.lock().unwrap()[0].text.contains("TERMINÉ DebrouilleReadOnly"));
    assert!(!untold(&desk));
}

#[tokio::test]
async fn attempts_grow_rarer_and_keep_their_id() {
    let desk = Desk::new().await;
    desk.mail.closed.store(true, Ordering::Relaxed);
    desk.read_only(true);
    desk.pass(600).await;
    let tried = desk.mail.tried.lock().unwrap().clone();
    assert!(tried.len() > 2 && tried.iter().take(3).all(|id| *id == tried[0]), "{tried:?}");
    assert_ne!(tried[0], desk.hook.had.lock().unwrap()[0].id, "each way has its own");
    desk.pass(4 * 3600).await;
    let failures = desk.metrics.sampled().alert_channels.iter().find(|(name, _)| *name == "mail").unwrap().1;
    assert!((12..=16).contains(&failures), "{failures}");
    desk.mail.closed.store(false, Ordering::Relaxed);
    desk.pass(1815).await;
    // That it was closed is told by the other, and here when it is over.
    let [late, _] = Desk::told(&desk.mail).try_into().unwrap();
    assert!(late.ends_with("DebrouilleAlertsUntold [channel=mail], DebrouilleReadOnly"), "{late}");
    assert!(Desk::told(&desk.hook)[1].ends_with("Warning: DebrouilleAlertsUntold [channel=mail]"));
}

#[tokio::test]
async fn what_comes_together_is_one_notice_and_only_what_is_critical_comes_before_its_time() {
    let desk = Desk::new().await;
    let target = crate::base::metrics::backups::Target { name: "usb".to_owned(), failing: 5, ..Default::default() };
    desk.metrics.sample(|sample| {
        sample.backups =
            vec![target.clone(), crate::base::metrics::backups::Target { name: "s3".to_owned(), ..target }];
        sample.journal_let_go = Some(1);
    });
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail).len(), 1);
    let text = desk.mail.had.lock().unwrap()[0].text.clone();
    for words in ["[target=usb]", "[target=s3]", "DebrouilleJournalLost"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    // Ends are not urgent; a critical one is.
    desk.metrics.sample(|sample| sample.drill = Some(drill()));
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail).len(), 2);
    assert_eq!(desk.metrics.sampled().alerts, [(Severity::Critical, 2), (Severity::Warning, 2)]);
}

fn drill() -> crate::base::metrics::Drill {
    crate::base::metrics::Drill {
        ended: Timestamp(1_800_000_000_000),
        passed: false,
        rto_seconds: None,
        rpo_seconds: None,
    }
}

#[tokio::test]
async fn one_that_fell_says_how_long_it_was_down_and_one_that_stopped_does_not() {
    let mut desk = Desk::new().await;
    desk.pass(120).await;
    desk.alerts.finish().await;
    desk.bench.wait(3600);
    desk.restart().await;
    desk.pass(120).await;
    assert!(Desk::told(&desk.mail).is_empty());
    let fell = desk.bench.clock.now();
    desk.bench.wait(3600);
    desk.restart().await;
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail), ["Fin d'alerte / Resolved: DebrouilleDown"]);
    let ends = desk.mail.had.lock().unwrap()[0].data["alerts"][0].clone();
    let began: &str = ends["startsAt"].as_str().unwrap();
    assert!(began <= fell.rfc3339().as_str() && began >= fell.plus_seconds(-61).rfc3339().as_str(), "{ends}");
    // Back at once is no alert.
    desk.bench.wait(30);
    desk.restart().await;
    desk.pass(600).await;
    assert_eq!(Desk::told(&desk.mail).len(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_or_written_silences_nothing() {
    let mut desk = Desk::new().await;
    let file = desk.folder.path().join(FILE);
    std::fs::write(&file, "{").unwrap();
    desk.restart().await;
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    desk.read_only(true);
    desk.pass(120).await;
    assert_eq!(Desk::told(&desk.mail), [FIRES]);
    // A clock put back by a year neither fires nor bars.
    desk.bench.wait(-365 * 86_400);
    desk.pass(60).await;
    desk.read_only(false);
    desk.pass(420).await;
    assert_eq!(Desk::told(&desk.mail), [FIRES, ENDED]);
}

#[tokio::test]
async fn the_budget_of_errors_is_what_is_left_of_a_month() {
    let desk = Desk::new().await;
    for n in 0..10_000 {
        desk.metrics.request(
            Some("/a".into()),
            "GET",
            if n % 2_000 == 0 { 500 } else { 200 },
            std::time::Duration::from_millis(20),
            None,
        );
    }
    desk.pass(30).await;
    let seen = desk.alerts.seen(&Caller::system()).unwrap();
    assert_eq!((seen.objectives.requests, seen.objectives.failures), (10_000.0, 5.0));
    assert!((seen.objectives.budget_left - 0.5).abs() < 1e-6, "{:?}", seen.objectives);
    assert!((seen.objectives.burns[0] - 0.5).abs() < 1e-6);
    assert!((seen.objectives.mean.unwrap() - 0.02).abs() < 1e-3);
    assert!(desk.metrics.render().contains("debrouille_error_budget_left_ratio 0.5"));
    let anonymous = Caller { subject: crate::services::access::Subject::Anonymous, ..Caller::system() };
    assert!(desk.alerts.seen(&anonymous).is_err() && desk.alerts.test(&anonymous).await.is_err());
    let tried = desk.alerts.test(&Caller::system()).await.unwrap();
    assert_eq!(tried, [("mail", None), ("webhook", None)]);
    // Whoever tries it wakes people: the log says who.
    desk.bench.audit.seal().await.unwrap();
    let search = crate::services::audit::Search { action: Some("alerts.test".to_owned()), ..Default::default() };
    assert_eq!(desk.bench.audit.list(&Caller::system(), &search).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn what_is_urgent_waits_for_no_pause() {
    let desk = Desk::new().await;
    desk.mail.closed.store(true, Ordering::Relaxed);
    desk.read_only(true);
    desk.pass(2 * 3600).await;
    let tried = desk.mail.tried.lock().unwrap().len();
    desk.pass(60).await;
    assert_eq!(desk.mail.tried.lock().unwrap().len(), tried, "it rests");
    desk.mail.closed.store(false, Ordering::Relaxed);
    desk.metrics.sample(|sample| sample.drill = Some(drill()));
    desk.pass(30).await;
    assert_eq!(Desk::told(&desk.mail).len(), 1);
}

#[tokio::test]
async fn figures_that_are_not_there_yet_end_nothing() {
    let mut desk = Desk::new().await;
    desk.metrics.sample(|sample| sample.drill = Some(drill()));
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail).len(), 1);
    // As after a start, until the job that knows has run.
    desk.restart().await;
    desk.pass(1800).await;
    assert_eq!(Desk::told(&desk.mail).len(), 1);
    // Gone for good is over, too.
    desk.pass(2400).await;
    assert!(Desk::told(&desk.mail)[1].starts_with("Fin d'alerte"));
}

#[tokio::test]
async fn what_comes_back_again_and_again_is_told_ever_more_rarely() {
    let desk = Desk::new().await;
    for _ in 0..60 {
        desk.read_only(true);
        desk.pass(180).await;
        desk.read_only(false);
        desk.pass(420).await;
    }
    // Ten hours, sixty times.
    let told = Desk::told(&desk.mail).len();
    assert!((3..=8).contains(&told), "{told}");
    assert!(desk.alerts.list(&Caller::system()).unwrap()[0].fires());
}

#[tokio::test]
async fn one_that_falls_again_and_again_or_is_not_fit_to_serve_says_so() {
    let mut desk = Desk::new().await;
    for _ in 0..3 {
        desk.pass(30).await;
        desk.restart().await;
    }
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail), ["Alerte critique / Critical alert: DebrouilleRestarting"]);
    // Not while it starts or drains.
    desk.health.report(Finding::failure("store", Fault::new("health.damaged")));
    desk.pass(120).await;
    assert_eq!(Desk::told(&desk.mail).len(), 1);
    desk.health.enter(Phase::Serving);
    desk.pass(150).await;
    assert!(Desk::told(&desk.mail)[1].ends_with("DebrouilleUnready"));
    // A start that came to nothing, and one that was told to stop, leave it at that.
    let before = desk.alerts.state().fallen.len();
    desk.alerts.finish().await;
    desk.restart().await;
    desk.restart().await;
    assert_eq!(desk.alerts.state().fallen.len(), before);
}

#[tokio::test]
async fn a_way_that_is_new_is_told_what_fires_and_not_what_is_over() {
    let mut desk = Desk::new().await;
    desk.read_only(true);
    desk.pass(150).await;
    desk.read_only(false);
    desk.pass(420).await;
    desk.metrics.sample(|sample| sample.drill = Some(drill()));
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail).len(), 3);
    desk.alerts.finish().await;
    desk.mail = Arc::default();
    desk.alerts.channels.clear();
    let told = (desk.bench.clock.clone() as SharedClock, desk.metrics.clone(), desk.health.clone());
    let (rights, head) = ((desk.bench.access.clone(), desk.bench.audit.clone()), desk.alerts.head.clone());
    let channels: Vec<Arc<dyn Channel>> = vec![Arc::new(Named("push", desk.mail.clone()))];
    desk.alerts = Alerts::new(told, rights, desk.folder.path().join(FILE), head, channels);
    desk.alerts.begin();
    desk.pass(60).await;
    assert_eq!(Desk::told(&desk.mail), ["Alerte critique / Critical alert: DebrouilleDrillFailed"]);
}

#[tokio::test]
async fn a_way_for_what_is_critical_is_told_nothing_else() {
    let mut desk = Desk::new().await;
    desk.alerts.channels = vec![Arc::new(Named("sms", desk.mail.clone()))];
    desk.metrics.sample(|sample| sample.drill = Some(drill()));
    let target = crate::base::metrics::backups::Target { name: "usb".to_owned(), failing: 5, ..Default::default() };
    desk.metrics.sample(|sample| sample.backups = vec![target]);
    desk.pass(900).await;
    assert_eq!(Desk::told(&desk.mail), ["Alerte critique / Critical alert: DebrouilleDrillFailed"]);
}

#[tokio::test]
async fn hundreds_at_once_are_one_notice_that_can_be_taken() {
    let desk = Desk::new().await;
    let target = |n| crate::base::metrics::backups::Target { name: format!("t{n}"), failing: 9, ..Default::default() };
    desk.metrics.sample(|sample| sample.backups = (0..300).map(target).collect());
    desk.pass(60).await;
    let notice = desk.mail.had.lock().unwrap()[0].clone();
    assert!(notice.subject.len() < 300 && notice.subject.contains("[target=t0]"), "{}", notice.subject);
    assert!(notice.text.contains("270") && notice.text.len() < 12_000, "{}", notice.text.len());
    assert_eq!(notice.data["alerts"].as_array().unwrap().len(), 30);
    // For what another carries, nobody waits.
    let known = desk.alerts.list(&Caller::system()).unwrap();
    assert!(known.iter().all(|alert| alert.told.len() == 2));
}

#[tokio::test]
async fn a_month_takes_little_room() {
    let desk = Desk::new().await;
    for n in 0..40 * 24 {
        for route in ["/a", "/b", "/c"] {
            desk.metrics.request(
                Some(route.into()),
                "GET",
                if n % 7 == 0 { 500 } else { 200 },
                std::time::Duration::from_millis(n),
                None,
            );
        }
        desk.metrics.job_ran("a", None);
        desk.bench.wait(3600);
        desk.alerts.watch().await;
    }
    let size = std::fs::metadata(desk.folder.path().join(FILE)).unwrap().len();
    assert!(size < 20_000, "{size}");
}
