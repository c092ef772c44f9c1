//! Where the table of alerts is wrong at this moment, and what becomes of each alert: pending, firing, ended.

use super::history::History;
use crate::{
    base::{
        clock::Timestamp,
        metrics::{
            alerts::{ALERTS, Alert, FEWEST_FAILURES, Severity, When, budget},
            series::Point,
        },
    },
    ports::notices::Channel,
};
use std::{collections::BTreeMap, sync::Arc};

/// Seconds without a fault after which an alert has ended: one that comes and goes is one alert.
pub const QUIET: i64 = 300;
/// Seconds after which one whose figures are gone has ended: a target that is configured no more.
const GONE: i64 = 3600;
/// One that comes back within so many seconds must be well for twice as long each time, this long at most.
const RETURN: i64 = 3600;
const LONGEST_QUIET: i64 = 2 * 3600;
/// Seconds for which one that ended is still shown.
const SHOWN: i64 = 24 * 3600;
/// Seconds after which one is forgotten, whoever was not told.
const FORGOTTEN: i64 = 7 * 24 * 3600;
const FIVE_MINUTES: i64 = 300;

/// One alert at one place.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    pub name: String,
    /// Its labels: `target=usb kind=full`; empty where there is but one.
    pub place: String,
    pub severity: Severity,
    /// Since when it is wrong.
    pub since: Timestamp,
    /// Since when it fires: it was wrong for long enough.
    pub fired: Option<Timestamp>,
    /// Since when it is well again.
    pub quiet: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// How often it has come back of late.
    #[serde(default)]
    pub returns: u32,
    /// By channel: who was told that it fired, and (`true`) that it ended.
    pub told: BTreeMap<String, bool>,
}

impl Known {
    pub fn new(alert: &Alert, place: String, since: Timestamp, fired: Option<Timestamp>) -> Self {
        let (quiet, ended, returns, told) = Default::default();
        Self { name: alert.name.to_owned(), place, severity: alert.severity, since, fired, quiet, ended, returns, told }
    }

    /// Whether they are one: the same at the same place, from the same beginning.
    pub fn is(&self, other: &Self) -> bool {
        (&self.name, &self.place, self.since) == (&other.name, &other.place, other.since)
    }

    pub fn fires(&self) -> bool {
        self.fired.is_some() && self.ended.is_none()
    }

    /// Whether all that is to be said of it was said by all.
    fn is_told(&self, channels: &[Arc<dyn Channel>]) -> bool {
        let told = |channel: &Arc<dyn Channel>| self.told.get(channel.name()) == Some(&true);
        channels.iter().all(|channel| !channel.carries(self.severity == Severity::Critical) || told(channel))
    }

    /// Seconds for which it must be well, by what is known of it now.
    fn quiet_for(&self, points: &[Point]) -> i64 {
        let gauge = Alert::named(&self.name).and_then(|alert| match alert.when {
            When::Above(name, _) | When::Below(name, _) | When::EndsWithin(name, _) => Some(name),
            _ => None,
        });
        let here = |name| points.iter().any(|point| point.name == name && point.place() == self.place);
        match gauge.is_none_or(here) {
            true => (QUIET << self.returns.min(10)).min(LONGEST_QUIET),
            false => GONE,
        }
    }
}

/// Every place where something is wrong.
pub fn wrong(points: &[Point], history: &History, now: Timestamp) -> Vec<(&'static Alert, String)> {
    let places = |alert: &'static Alert| {
        wrong_places(&alert.when, points, history, now.seconds()).into_iter().map(move |place| (alert, place))
    };
    ALERTS.iter().flat_map(places).collect()
}

fn wrong_places(when: &When, points: &[Point], history: &History, now: i64) -> Vec<String> {
    let gauge = |name: &str, is_wrong: &dyn Fn(f64) -> bool| {
        let named = points.iter().filter(|point| point.name == name && is_wrong(point.value));
        named.map(Point::place).collect::<Vec<_>>()
    };
    let part = |part: &str, whole: &str, is_wrong: &dyn Fn(f64) -> bool| {
        let of = |name: &str| points.iter().find(|point| point.name == name).map(|point| point.value);
        let ratio = of(part).zip(of(whole)).map(|(part, whole)| part / whole);
        everywhere(ratio.is_some_and(is_wrong))
    };
    match *when {
        // Known only afterwards, by who begins again.
        When::Down => Vec::new(),
        When::Above(name, bound) => gauge(name, &|value| value > bound),
        When::Below(name, bound) => gauge(name, &|value| value < bound),
        When::EndsWithin(name, seconds) => gauge(name, &|value| value - (now as f64) < seconds as f64),
        When::PartAbove(some, whole, bound) => part(some, whole, &|ratio| ratio > bound),
        When::PartBelow(some, whole, bound) => part(some, whole, &|ratio| ratio < bound),
        When::Grew { counter, window, by, .. } => {
            let grown = history.grown(counter, now, window).filter(|(_, grown)| *grown > by);
            grown.map(|(place, _)| place.to_owned()).collect()
        }
        When::Burns { times, long, short } => {
            let enough = history.within(super::history::FAILURES, now, long) > FEWEST_FAILURES;
            let burns = |window| history.failing(now, window).is_some_and(|part| part > times * budget());
            everywhere(enough && burns(long) && burns(short))
        }
        When::MeanAbove(seconds) => everywhere(history.mean(now, FIVE_MINUTES).is_some_and(|mean| mean > seconds)),
        When::P95Above(seconds) => everywhere(history.p95(now, FIVE_MINUTES).is_some_and(|p95| p95 > seconds)),
    }
}

fn everywhere(is_wrong: bool) -> Vec<String> {
    if is_wrong { vec![String::new()] } else { Vec::new() }
}

/// What becomes of the alerts that are known. Answers whether anything fired or ended.
pub fn step(
    known: &mut Vec<Known>,
    wrong: Vec<(&'static Alert, String)>,
    points: &[Point],
    channels: &[Arc<dyn Channel>],
    now: Timestamp,
) -> bool {
    let mut changed = false;
    // A clock that was ahead.
    for time in known.iter_mut().flat_map(|alert| [&mut alert.fired, &mut alert.quiet, &mut alert.ended]).flatten() {
        *time = (*time).min(now);
    }
    for alert in known.iter_mut().filter(|alert| alert.ended.is_none()) {
        let waits = Alert::named(&alert.name).map_or(0, |alert| alert.wait);
        alert.since = alert.since.min(now);
        if wrong.iter().any(|(wrong, place)| wrong.name == alert.name && *place == alert.place) {
            alert.quiet = None;
            if alert.fired.is_none() && alert.since.plus_seconds(waits) <= now {
                alert.fired = Some(now);
                changed = true;
            }
        } else {
            let quiet = *alert.quiet.get_or_insert(now);
            if quiet.plus_seconds(alert.quiet_for(points)) <= now {
                alert.ended = Some(quiet);
                changed |= alert.fired.is_some();
            }
        }
    }
    // What was never told of is not missed, nor what is no longer watched.
    known.retain(|alert| alert.fired.is_some() || alert.quiet.is_none());
    known.retain(|alert| Alert::named(&alert.name).is_some());
    known.retain(|alert| {
        let Some(ended) = alert.ended else { return true };
        ended.plus_seconds(if alert.is_told(channels) { SHOWN } else { FORGOTTEN }) > now
    });
    for (alert, place) in wrong {
        let active = |known: &Known| known.ended.is_none() && known.name == alert.name && known.place == place;
        if !known.iter().any(active) {
            let fired = (alert.wait == 0).then_some(now);
            changed |= fired.is_some();
            let last = known.iter().rev().find(|known| known.name == alert.name && known.place == place);
            let of_late = |ended: Timestamp| ended.plus_seconds(RETURN) > now;
            let returns = last.filter(|last| last.ended.is_some_and(of_late)).map_or(0, |last| last.returns + 1);
            known.push(Known { returns, ..Known::new(alert, place, now, fired) });
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::series;

    /// What is wrong after these looks, a minute apart.
    fn wrong_after(looks: impl IntoIterator<Item = String>) -> Vec<(&'static str, String)> {
        let (mut history, mut found) = (History::default(), Vec::new());
        for (minute, text) in looks.into_iter().enumerate() {
            let (points, now) = (series::read(&text), Timestamp(minute as i64 * 60_000));
            history.observe(&points, now.seconds());
            found = wrong(&points, &history, now);
        }
        found.into_iter().map(|(alert, place)| (alert.name, place)).collect()
    }

    fn requests(good: u32, bad: u32) -> String {
        let line = |status, count| format!("debrouille_http_requests_total{{status=\"{status}\"}} {count}\n");
        line("2xx", good) + &line("5xx", bad)
    }

    #[test]
    fn bounds_are_those_of_the_table() {
        let at = |text: &str| wrong_after([text.to_owned()]).len();
        for (well, ill) in [
            ("debrouille_unclean_starts 2\n", "debrouille_unclean_starts 3\n"),
            ("debrouille_ready 1\n", "debrouille_ready 0\n"),
            (
                "debrouille_certificate_end_timestamp_seconds 86400\n",
                "debrouille_certificate_end_timestamp_seconds 86399\n",
            ),
            ("process_open_fds 80\nprocess_max_fds 100\n", "process_open_fds 81\nprocess_max_fds 100\n"),
            (
                "debrouille_volume_free_bytes 15\ndebrouille_volume_size_bytes 100\n",
                "debrouille_volume_free_bytes 14\ndebrouille_volume_size_bytes 100\n",
            ),
            ("debrouille_job_failures_total{job=\"x\"} 2\n", "debrouille_job_failures_total{job=\"x\"} 3\n"),
            (
                "debrouille_connections_refused_total{reason=\"handshake\"} 9\n",
                "debrouille_connections_refused_total{reason=\"waiting\"} 1\n",
            ),
        ] {
            assert_eq!((at(well), at(ill)), (0, 1), "{ill}");
        }
    }

    /// Neither a few minutes of many errors, nor a few errors of a quiet night.
    #[test]
    fn a_budget_of_errors_is_not_burnt_by_little() {
        let burns = |looks: Vec<String>| wrong_after(looks).iter().any(|(name, _)| *name == "DebrouilleErrorsFast");
        let hour = |bad: u32| (0..60).map(|n| requests(n * 600, 0)).chain([requests(36_000, bad)]).collect();
        assert!(!burns(hour(400)) && burns(hour(600)), "of 36 000, 1.44 %");
        assert!(!burns(vec![requests(100, 4)]) && burns(vec![requests(100, 5)]));
    }

    #[test]
    fn one_place_that_is_well_again_ends_whatever_the_other_does() {
        let alert = Alert::named("DebrouilleBackupFailing").unwrap();
        let [usb, s3] = ["target=usb", "target=s3"].map(|place| (alert, place.to_owned()));
        let points = series::read("debrouille_backup_failing{target=\"usb\"} 0\n");
        let mut known = Vec::new();
        step(&mut known, vec![usb, s3.clone()], &points, &[], Timestamp(0));
        for seconds in [15, 15 + QUIET] {
            step(&mut known, vec![s3.clone()], &points, &[], Timestamp(seconds * 1000));
        }
        let ended: Vec<_> = known.iter().map(|alert| (&*alert.place, alert.ended.is_some())).collect();
        assert_eq!(ended, [("target=usb", true), ("target=s3", false)]);
    }
}
