//! Whether a release that was started does what it must: ready in time, and well for as long as it is watched.

use crate::{
    base::{
        clock::Timestamp,
        fault::Fault,
        metrics::alerts::{AVAILABILITY, P95_SECONDS},
    },
    ports::appliance::Seen,
};

/// So many times faster than an objective allows errors or slow answers end it (Site Reliability Workbook, chapter 5: a
/// month's budget in two days).
const BURN: f64 = 14.4;
/// Of a hundred answers five may take longer than the objective says.
const SLOW: f64 = 0.05;
/// Fewer requests tell nothing.
const REQUESTS: u64 = 50;
/// A look that fails is tried again for so long: it may be at work.
const PATIENCE_SECONDS: i64 = 10;

/// What is expected, and what was seen so far.
#[derive(Debug, Clone)]
pub struct Watch {
    pub version: String,
    /// A process that was asked to end: what it still says tells nothing.
    pub past: Option<String>,
    /// Counters before it was started.
    pub requests: u64,
    pub failures: u64,
    pub ready_by: Timestamp,
    /// `None`: ready is enough.
    pub until: Option<Timestamp>,
    /// The process that was ready first.
    process: Option<String>,
    well: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Wait,
    /// For the first time.
    Ready,
    Sound,
    Broken(Fault),
}

impl Watch {
    pub fn new(
        version: String,
        past: Option<String>,
        (requests, failures): (u64, u64),
        ready_by: Timestamp,
        until: Option<Timestamp>,
    ) -> Self {
        Self { version, past, requests, failures, ready_by, until, process: None, well: ready_by }
    }

    /// Judges what was seen, or why nothing was.
    pub fn judge(&mut self, now: Timestamp, seen: Result<&Seen, &str>) -> Verdict {
        let fault = match seen {
            Ok(seen) if seen.version != self.version => {
                Fault::new("updates.other_answers").with("found", &seen.version).with("expected", &self.version)
            }
            Ok(seen) if self.past.as_ref() == Some(&seen.started) => Fault::new("updates.not_restarted"),
            Ok(seen) if !seen.ready => Fault::new("updates.unready").with("faults", &seen.faults),
            Ok(seen) => return self.well(now, seen),
            Err(why) => Fault::new("updates.no_answer").with("why", why),
        };
        let patient = match self.process {
            None => now < self.ready_by,
            Some(_) => now < self.well.plus_seconds(PATIENCE_SECONDS),
        };
        if patient { Verdict::Wait } else { Verdict::Broken(fault) }
    }

    fn well(&mut self, now: Timestamp, seen: &Seen) -> Verdict {
        self.well = now;
        let first = self.process.is_none();
        if *self.process.get_or_insert_with(|| seen.started.clone()) != seen.started {
            return Verdict::Broken(Fault::new("updates.restarted"));
        }
        let requests = seen.requests.saturating_sub(self.requests);
        let failures = seen.failures.saturating_sub(self.failures);
        if requests >= REQUESTS && failures as f64 > requests as f64 * (1.0 - AVAILABILITY) * BURN {
            let fault = Fault::new("updates.burning").with("failures", failures).with("requests", requests);
            return Verdict::Broken(fault);
        }
        if seen.answers >= REQUESTS && seen.slow as f64 > seen.answers as f64 * SLOW * BURN {
            let fault = Fault::new("updates.slow").with("slow", seen.slow).with("answers", seen.answers);
            return Verdict::Broken(fault.with("seconds", P95_SECONDS));
        }
        match self.until {
            _ if first => Verdict::Ready,
            Some(until) if now < until => Verdict::Wait,
            _ => Verdict::Sound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(version: &str) -> Seen {
        Seen {
            version: version.to_owned(),
            ready: true,
            faults: String::new(),
            started: "a".to_owned(),
            requests: 1000,
            failures: 10,
            answers: 0,
            slow: 0,
            backed_up: None,
        }
    }

    fn watch() -> Watch {
        Watch::new("2".to_owned(), Some("past".to_owned()), (1000, 10), Timestamp(30_000), Some(Timestamp(600_000)))
    }

    fn broken(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Broken(fault) => fault.key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_must_be_ready_in_time_itself() {
        let mut watch = watch();
        let at =
            |watch: &mut Watch, second: i64, seen: Result<&Seen, &str>| watch.judge(Timestamp(second * 1000), seen);
        assert_eq!(at(&mut watch, 1, Err("refused")), Verdict::Wait);
        assert_eq!(at(&mut watch, 2, Ok(&seen("1"))), Verdict::Wait, "the first one still answers");
        assert_eq!(broken(at(&mut watch.clone(), 30, Ok(&seen("1")))), "updates.other_answers");
        assert_eq!(broken(at(&mut watch.clone(), 30, Err("refused"))), "updates.no_answer");
        let past = Seen { started: "past".to_owned(), ..seen("2") };
        assert_eq!(at(&mut watch, 3, Ok(&past)), Verdict::Wait, "the same release, about to be started anew");
        assert_eq!(broken(at(&mut watch.clone(), 30, Ok(&past))), "updates.not_restarted");
        let unready = Seen { ready: false, ..seen("2") };
        assert_eq!(at(&mut watch, 29, Ok(&unready)), Verdict::Wait);
        assert_eq!(broken(at(&mut watch.clone(), 30, Ok(&unready))), "updates.unready");
        assert_eq!(at(&mut watch, 29, Ok(&seen("2"))), Verdict::Ready);
    }

    #[test]
    fn it_must_stay_well_for_as_long_as_it_is_watched() {
        let ready = || {
            let mut watch = watch();
            assert_eq!(watch.judge(Timestamp(5_000), Ok(&seen("2"))), Verdict::Ready);
            watch
        };
        let mut sound = ready();
        assert_eq!(sound.judge(Timestamp(599_000), Ok(&seen("2"))), Verdict::Wait);
        assert_eq!(sound.judge(Timestamp(600_000), Ok(&seen("2"))), Verdict::Sound);
        let other = Seen { started: "b".to_owned(), ..seen("2") };
        assert_eq!(broken(ready().judge(Timestamp(6_000), Ok(&other))), "updates.restarted");
        let mut quiet = ready();
        assert_eq!(quiet.judge(Timestamp(14_000), Err("timeout")), Verdict::Wait);
        assert_eq!(quiet.judge(Timestamp(14_500), Ok(&seen("2"))), Verdict::Wait, "it came back");
        assert_eq!(quiet.judge(Timestamp(24_000), Err("timeout")), Verdict::Wait);
        assert_eq!(broken(quiet.judge(Timestamp(24_500), Err("timeout"))), "updates.no_answer");
        let counted = |requests, failures| Seen { requests, failures, ..seen("2") };
        assert_eq!(ready().judge(Timestamp(6_000), Ok(&counted(1049, 59))), Verdict::Wait, "too few to tell");
        assert_eq!(ready().judge(Timestamp(6_000), Ok(&counted(2000, 24))), Verdict::Wait, "1.4 %");
        assert_eq!(broken(ready().judge(Timestamp(6_000), Ok(&counted(2000, 25)))), "updates.burning");
        let slow = |answers, slow| Seen { answers, slow, ..seen("2") };
        assert_eq!(ready().judge(Timestamp(6_000), Ok(&slow(49, 49))), Verdict::Wait, "too few to tell");
        assert_eq!(ready().judge(Timestamp(6_000), Ok(&slow(100, 72))), Verdict::Wait, "72 %");
        assert_eq!(broken(ready().judge(Timestamp(6_000), Ok(&slow(100, 73)))), "updates.slow");
        let mut brief = Watch::new("2".to_owned(), None, (0, 0), Timestamp(30_000), None);
        assert_eq!(brief.judge(Timestamp(1), Ok(&seen("2"))), Verdict::Ready);
        assert_eq!(brief.judge(Timestamp(2), Ok(&seen("2"))), Verdict::Sound);
    }
}
