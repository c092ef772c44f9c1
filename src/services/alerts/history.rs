//! What the counters did, from one look at the metrics to the next: enough for every window of the table of alerts, for a
//! month's budget of errors, and for the last hour minute by minute.

use crate::{
    base::metrics::{
        alerts::{ALERTS, When},
        series::Point,
    },
    domain::tally::{LONGEST, Tally},
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Minutes shown of what is not counted by the month.
pub const MINUTES: usize = 60;
const HOUR: i64 = 3600;

pub const REQUESTS: &str = "requests";
pub const FAILURES: &str = "failures";
pub const CPU: &str = "cpu";
const SECONDS: &str = "seconds";
const ANSWERS: &str = "answers";
const BUCKET: &str = "le=";

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct History {
    tallies: BTreeMap<String, Tally>,
    /// Wanted for minutes alone.
    #[serde(skip)]
    brief: BTreeMap<String, Tally>,
    /// As the counters stood at the last look; a process begins at zero.
    #[serde(skip)]
    before: HashMap<String, f64>,
    /// Bytes held, by the minute.
    #[serde(skip)]
    memory: VecDeque<(i64, f64)>,
}

impl History {
    /// Takes a look at `now`, in seconds.
    pub fn observe(&mut self, points: &[Point], now: i64) {
        let mut totals: HashMap<String, f64> = HashMap::new();
        for point in points {
            for key in keys(point) {
                *totals.entry(key).or_default() += point.value;
            }
            if point.name == "process_resident_memory_bytes" {
                self.memory.retain(|(minute, _)| *minute < now / 60 && *minute > now / 60 - MINUTES as i64);
                self.memory.push_back((now / 60, point.value));
            }
        }
        for (key, total) in totals {
            let before = self.before.insert(key.clone(), total).unwrap_or_default();
            let grown = (total - before).max(0.0);
            let (tallies, kept) = match kept(&key) {
                Some(kept) => (&mut self.tallies, kept),
                None => (&mut self.brief, HOUR),
            };
            let tally = tallies.entry(key).or_default();
            tally.add(now, grown);
            tally.age(now, kept);
        }
        for tally in self.tallies.values_mut() {
            tally.age(now, LONGEST);
        }
        self.tallies.retain(|_, tally| !tally.is_empty());
    }

    fn tally(&self, key: &str) -> Option<&Tally> {
        self.tallies.get(key).or_else(|| self.brief.get(key))
    }

    pub fn within(&self, key: &str, now: i64, window: i64) -> f64 {
        self.tally(key).map_or(0.0, |tally| tally.within(now, window))
    }

    pub fn minutes(&self, key: &str, now: i64) -> Vec<f64> {
        self.tally(key).map_or_else(|| vec![0.0; MINUTES], |tally| tally.minutes(now, MINUTES))
    }

    /// Of requests, the part that failed; `None`: there were none.
    pub fn failing(&self, now: i64, window: i64) -> Option<f64> {
        let requests = self.within(REQUESTS, now, window);
        (requests > 0.0).then(|| self.within(FAILURES, now, window) / requests)
    }

    /// Seconds until an answer, in the mean.
    pub fn mean(&self, now: i64, window: i64) -> Option<f64> {
        let answers = self.within(ANSWERS, now, window);
        (answers > 0.0).then(|| self.within(SECONDS, now, window) / answers)
    }

    /// Seconds within which 95 of a hundred answers came.
    pub fn p95(&self, now: i64, window: i64) -> Option<f64> {
        quantile(0.95, self.buckets(|tally| tally.within(now, window)))
    }

    /// Answers that took longer than that, a bound of a bucket, and all.
    pub fn slower(&self, than: f64, now: i64, window: i64) -> (f64, f64) {
        let buckets = self.buckets(|tally| tally.within(now, window));
        let all = buckets.last().map_or(0.0, |(_, all)| *all);
        let within = buckets.iter().find(|(bound, _)| *bound >= than).map_or(0.0, |(_, within)| *within);
        (all - within, all)
    }

    /// The same, minute by minute; 0 where there were none.
    pub fn p95_minutes(&self, now: i64) -> Vec<f64> {
        let all = self.buckets(|tally| tally.minutes(now, MINUTES));
        let of = |minute: usize| all.iter().map(move |(bound, minutes)| (*bound, minutes[minute])).collect();
        (0..MINUTES).map(|minute| quantile(0.95, of(minute)).unwrap_or_default()).collect()
    }

    pub fn memory_minutes(&self, now: i64) -> Vec<f64> {
        let mut minutes = vec![0.0; MINUTES];
        for (minute, bytes) in &self.memory {
            let place = usize::try_from(now / 60 - minute).ok().and_then(|age| MINUTES.checked_sub(age + 1));
            if let Some(slot) = place.and_then(|place| minutes.get_mut(place)) {
                *slot = *bytes;
            }
        }
        minutes
    }

    /// What a counter of the table has grown by, place by place.
    pub fn grown<'a>(&'a self, counter: &'a str, now: i64, window: i64) -> impl Iterator<Item = (&'a str, f64)> {
        let of = move |(key, tally): (&'a String, &'a Tally)| {
            let place = key.strip_prefix(counter)?.strip_prefix('|')?;
            Some((place, tally.within(now, window)))
        };
        self.tallies.iter().filter_map(of)
    }

    fn buckets<T>(&self, read: impl Fn(&Tally) -> T) -> Vec<(f64, T)> {
        let bound = |key: &str| key.strip_prefix(BUCKET).and_then(|bound| bound.parse::<f64>().ok());
        let buckets = self.brief.iter().filter_map(|(key, tally)| Some((bound(key)?, read(tally))));
        let mut buckets: Vec<_> = buckets.collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }
}

/// Seconds for which it must be known over restarts; `None`: it need not.
fn kept(key: &str) -> Option<i64> {
    if [REQUESTS, FAILURES].contains(&key) {
        return Some(LONGEST);
    }
    let (counter, _) = key.split_once('|')?;
    let windows = ALERTS.iter().filter_map(|alert| match alert.when {
        When::Grew { counter: known, window, .. } if known == counter => Some(window + HOUR),
        _ => None,
    });
    windows.max()
}

/// Under which a point is counted, if at all.
fn keys(point: &Point) -> Vec<String> {
    match point.name.as_str() {
        "debrouille_http_requests_total" if point.label("status") == Some("5xx") => {
            vec![REQUESTS.to_owned(), FAILURES.to_owned()]
        }
        "debrouille_http_requests_total" => vec![REQUESTS.to_owned()],
        "debrouille_http_request_duration_seconds_sum" => vec![SECONDS.to_owned()],
        "debrouille_http_request_duration_seconds_count" => vec![ANSWERS.to_owned()],
        "debrouille_http_request_duration_seconds_bucket" => {
            point.label("le").map(|bound| format!("{BUCKET}{bound}")).into_iter().collect()
        }
        "process_cpu_seconds_total" => vec![CPU.to_owned()],
        name if ALERTS.iter().any(|alert| watches(&alert.when, point)) => vec![format!("{name}|{}", point.place())],
        _ => Vec::new(),
    }
}

fn watches(when: &When, point: &Point) -> bool {
    let When::Grew { counter, only, .. } = when else { return false };
    point.name == *counter && only.is_none_or(|(label, value)| point.label(label) == Some(value))
}

/// As Prometheus' `histogram_quantile` has it: within a bucket evenly spread, beyond the last bound that bound. `buckets`
/// are cumulative, in the order of their bounds.
fn quantile(part: f64, buckets: Vec<(f64, f64)>) -> Option<f64> {
    let rank = buckets.last().map(|(_, all)| part * all).filter(|rank| *rank > 0.0)?;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (lower, below) = at.checked_sub(1).and_then(|at| buckets.get(at)).copied().unwrap_or_default();
    let (upper, count) = buckets[at];
    Some(if upper.is_infinite() { lower } else { lower + (upper - lower) * (rank - below) / (count - below).max(1e-9) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::series;

    #[test]
    fn looks_add_up_over_restarts() {
        let text = |good: u32, bad: u32| {
            format!(
                "debrouille_http_requests_total{{route=\"/a\",status=\"2xx\"}} {good}\n\
                 debrouille_http_requests_total{{route=\"/b\",status=\"5xx\"}} {bad}\n\
                 debrouille_job_failures_total{{job=\"x\"}} {bad}\nprocess_resident_memory_bytes {good}\n"
            )
        };
        let mut history = History::default();
        history.observe(&series::read(&text(90, 10)), 6000);
        history.observe(&series::read(&text(98, 12)), 6015);
        assert_eq!((history.within(REQUESTS, 6015, 300), history.within(FAILURES, 6015, 300)), (110.0, 12.0));
        assert_eq!(history.grown("debrouille_job_failures_total", 6015, 300).collect::<Vec<_>>(), [("job=x", 12.0)]);
        // What was counted before a start stays; the counters begin anew.
        let kept = serde_json::to_string(&history).unwrap();
        let mut again: History = serde_json::from_str(&kept).unwrap();
        again.observe(&series::read(&text(8, 2)), 6100);
        assert_eq!(again.within(REQUESTS, 6100, 300), 120.0);
        assert_eq!(again.grown("debrouille_job_failures_total", 6100, 300).collect::<Vec<_>>(), [("job=x", 14.0)]);
        assert_eq!(again.failing(6100, 300), Some(14.0 / 120.0));
        assert_eq!(
            (again.minutes(REQUESTS, 6100)[58..].to_vec(), again.memory_minutes(6100)[59]),
            (vec![110.0, 10.0], 8.0)
        );
        assert_eq!(again.failing(90_000, 300), None);
    }

    #[test]
    fn answers_that_took_too_long_are_counted() {
        let text = |quick: u32, all: u32| {
            let bucket = "debrouille_http_request_duration_seconds_bucket";
            format!("{bucket}{{le=\"0.1\"}} 1\n{bucket}{{le=\"0.5\"}} {quick}\n{bucket}{{le=\"+Inf\"}} {all}\n")
        };
        let mut history = History::default();
        assert_eq!(history.slower(0.5, 6000, HOUR), (0.0, 0.0));
        history.observe(&series::read(&text(6, 10)), 6000);
        history.observe(&series::read(&text(7, 13)), 6015);
        assert_eq!(history.slower(0.5, 6015, HOUR), (6.0, 13.0));
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let buckets = vec![(0.1, 60.0), (0.5, 90.0), (1.0, 100.0), (f64::INFINITY, 100.0)];
        assert_eq!(quantile(0.5, buckets.clone()), Some(0.1 * 50.0 / 60.0));
        assert!((quantile(0.95, buckets).unwrap() - 0.75).abs() < 1e-9);
        assert_eq!(quantile(0.95, vec![(5.0, 10.0), (f64::INFINITY, 100.0)]), Some(5.0));
        assert_eq!((quantile(0.95, vec![(1.0, 0.0)]), quantile(0.95, Vec::new())), (None, None));
    }
}
