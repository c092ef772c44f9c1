//! How much a counter grew and when, for a month in a few hundred figures: the older, the coarser.

use std::collections::VecDeque;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The longest that is remembered, in seconds.
pub const LONGEST: i64 = 30 * DAY;

/// From which age on figures are kept in steps of so many seconds. Each window that is asked for reaches into steps of a
/// twelfth of it at most.
const STEPS: [(i64, i64); 4] = [(0, MINUTE), (2 * HOUR, 5 * MINUTE), (7 * HOUR, 30 * MINUTE), (4 * DAY, 6 * HOUR)];

/// When a step began, in seconds, and what was counted in it; in order of time.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Tally(VecDeque<(i64, f64)>);

impl Tally {
    /// Counts `amount` in the minute of `now`. What a clock that was ahead left is let go.
    pub fn add(&mut self, now: i64, amount: f64) {
        let minute = floor(now, MINUTE);
        self.0.retain(|(start, _)| *start <= minute);
        match self.0.back_mut() {
            Some((start, counted)) if *start == minute => *counted += amount,
            _ if amount != 0.0 => self.0.push_back((minute, amount)),
            _ => {}
        }
    }

    /// What was counted in the last `window` seconds.
    pub fn within(&self, now: i64, window: i64) -> f64 {
        self.0.iter().rev().take_while(|(start, _)| *start >= now - window).map(|(_, counted)| counted).sum()
    }

    /// Minute by minute, the one that runs last.
    pub fn minutes(&self, now: i64, count: usize) -> Vec<f64> {
        let last = floor(now, MINUTE);
        let mut minutes = vec![0.0; count];
        for (start, counted) in self.0.iter().rev() {
            let Ok(age) = usize::try_from((last - start) / MINUTE) else { continue };
            match count.checked_sub(age + 1).and_then(|at| minutes.get_mut(at)) {
                Some(minute) => *minute += counted,
                None => break,
            }
        }
        minutes
    }

    /// Widens what has aged, and lets go of what is older than `keep` seconds.
    pub fn age(&mut self, now: i64, keep: i64) {
        let mut aged: VecDeque<(i64, f64)> = VecDeque::with_capacity(self.0.len());
        for (start, counted) in self.0.drain(..).filter(|(start, _)| *start > now - keep - MINUTE) {
            let step = STEPS.iter().rev().find(|(age, _)| now - start >= *age).map_or(MINUTE, |(_, step)| *step);
            let start = floor(start, step);
            match aged.back_mut() {
                Some((known, sum)) if *known == start => *sum += counted,
                _ => aged.push_back((start, counted)),
            }
        }
        self.0 = aged;
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn floor(seconds: i64, step: i64) -> i64 {
    seconds.div_euclid(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_remembered_in_few_figures_and_nothing_is_counted_twice() {
        let mut tally = Tally::default();
        let begin = 1_800_000_000;
        for minute in 0..45 * 1440 {
            tally.add(begin + minute * MINUTE, 1.0);
            tally.age(begin + minute * MINUTE, LONGEST);
        }
        let now = begin + (45 * 1440 - 1) * MINUTE + 59;
        for window in [5 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, 3 * DAY, LONGEST] {
            let (expected, counted) = ((window / MINUTE) as f64, tally.within(now, window));
            assert!((counted - expected).abs() <= expected / 12.0 + 1.0, "{window}: {counted}");
        }
        assert!(tally.0.len() < 600, "{}", tally.0.len());
        assert!(tally.0.iter().zip(tally.0.iter().skip(1)).all(|(one, next)| one.0 < next.0), "out of order");
        assert_eq!(tally.minutes(now, 60), [1.0; 60]);
        tally.age(now, HOUR);
        assert!(tally.within(now, LONGEST) < 63.0);
    }

    #[test]
    fn minutes_without_anything_are_zero_and_a_clock_put_back_counts_on() {
        let mut tally = Tally::default();
        tally.add(60, 2.0);
        tally.add(119, 1.0);
        tally.add(240, 4.0);
        assert_eq!(tally.minutes(250, 5), [0.0, 3.0, 0.0, 0.0, 4.0]);
        assert_eq!((tally.within(250, 100), tally.within(250, 190)), (4.0, 7.0));
        tally.add(70, 8.0);
        assert_eq!((tally.within(70, 100), tally.minutes(70, 1)), (11.0, vec![11.0]));
        tally.add(80, 0.0);
        assert!(!tally.is_empty());
    }
}
