//! Trust: how far an identity is believed, 0 to 100; events move it, time brings it back to where everyone begins.

use crate::base::{clock::Timestamp, fault::Fault};

const MOST: f64 = 100.0;
const DAY_MILLIS: f64 = 86_400_000.0;
/// At this level a limit is what is configured.
const NEUTRAL: u32 = 50;

/// What moves the score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A wrong password was given for the account.
    LoginFailed,
    /// A refresh token was used twice: one of the two was stolen.
    RefreshReplayed,
    /// A request over the limit was refused.
    RateLimited,
    /// Something not allowed was tried.
    Denied,
    /// A second factor was shown.
    MfaPassed,
    /// A day of use without any of the above that count against.
    DayClean,
}

impl Event {
    pub const ALL: [Self; 6] =
        [Self::LoginFailed, Self::RefreshReplayed, Self::RateLimited, Self::Denied, Self::MfaPassed, Self::DayClean];

    pub fn name(self) -> &'static str {
        match self {
            Self::LoginFailed => "login.failed",
            Self::RefreshReplayed => "refresh.replayed",
            Self::RateLimited => "rate.limited",
            Self::Denied => "access.denied",
            Self::MfaPassed => "mfa.passed",
            Self::DayClean => "day.clean",
        }
    }

    /// Points, unless configured.
    fn weight(self) -> i32 {
        match self {
            Self::LoginFailed => -2,
            Self::RefreshReplayed => -20,
            Self::RateLimited | Self::Denied => -1,
            Self::MfaPassed => 5,
            Self::DayClean => 1,
        }
    }

    /// Seconds in which it counts once, however often it happens: no flood sinks a score, no repetition raises it.
    pub fn spacing(self) -> i64 {
        match self {
            Self::RefreshReplayed => 0,
            Self::RateLimited => 60,
            Self::LoginFailed | Self::Denied => 600,
            Self::MfaPassed | Self::DayClean => 86_400,
        }
    }

    /// The share of the baseline under which it does not bring a score. Anyone can fail a login under another's name,
    /// and a clumsy client is no thief.
    fn floor(self) -> f64 {
        match self {
            Self::LoginFailed => 0.6,
            Self::RateLimited | Self::Denied => 0.4,
            _ => 0.0,
        }
    }
}

/// How scores move, as configured.
#[derive(Debug, Clone)]
pub struct Rules {
    baseline: u8,
    half_life_days: u32,
    weights: [i32; Event::ALL.len()],
}

impl Rules {
    /// `weights` are `event=points`, over the usual ones.
    pub fn new(baseline: u8, half_life_days: u32, weights: &[String]) -> Result<Self, Fault> {
        let mut rules = Self { baseline: baseline.min(100), half_life_days, ..Self::default() };
        for word in weights {
            let known = || Event::ALL.map(Event::name).join(", ");
            let wrong = || Fault::new("trust.weight").at("trust.weights").with("weight", word).with("known", known());
            let (name, points) = word.split_once('=').ok_or_else(wrong)?;
            let points: i32 = points.trim().parse().map_err(|_| wrong())?;
            let at = Event::ALL.iter().position(|event| event.name() == name.trim()).ok_or_else(wrong)?;
            let weight = rules.weights.get_mut(at).filter(|_| (-100..=100).contains(&points)).ok_or_else(wrong)?;
            *weight = points;
        }
        Ok(rules)
    }

    pub fn baseline(&self) -> u8 {
        self.baseline
    }

    pub fn weight(&self, event: Event) -> i32 {
        let at = Event::ALL.iter().position(|known| *known == event).unwrap_or_default();
        self.weights.get(at).copied().unwrap_or_default()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { baseline: 50, half_life_days: 14, weights: Event::ALL.map(Event::weight) }
    }
}

/// A score as it was when something last moved it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    score: f64,
    at: Timestamp,
}

impl Score {
    pub fn new(level: u8, at: Timestamp) -> Self {
        Self { score: f64::from(level.min(100)), at }
    }

    /// The level now: half of the distance to the baseline is made good in a half-life.
    pub fn level(self, rules: &Rules, now: Timestamp) -> u8 {
        // Within 0 and 100: nothing is lost.
        self.value(rules, now).round() as u8
    }

    pub fn moved(self, event: Event, rules: &Rules, now: Timestamp) -> Self {
        let (value, weight) = (self.value(rules, now), f64::from(rules.weight(event)));
        let floor = f64::from(rules.baseline) * event.floor();
        let score = if weight < 0.0 { (value + weight).max(floor.min(value)) } else { value + weight };
        Self { score: score.clamp(0.0, MOST), at: now }
    }

    fn value(self, rules: &Rules, now: Timestamp) -> f64 {
        let baseline = f64::from(rules.baseline);
        let days = now.0.saturating_sub(self.at.0).max(0) as f64 / DAY_MILLIS;
        let left = (-days / f64::from(rules.half_life_days.max(1))).exp2();
        (baseline + (self.score - baseline) * left).clamp(0.0, MOST)
    }
}

/// A limit for a level: a quarter at 0, all of it at 50, twice at 100.
pub fn scale(limit: u32, level: u8) -> u32 {
    let level = u32::from(level.min(100));
    let percent = if level <= NEUTRAL { 25 + level * 3 / 2 } else { 100 + (level - NEUTRAL) * 2 };
    let scaled = u64::from(limit) * u64::from(percent) / 100;
    u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    fn after(score: Score, events: &[Event]) -> u8 {
        let rules = Rules::default();
        events.iter().fold(score, |score, event| score.moved(*event, &rules, START)).level(&rules, START)
    }

    #[test]
    fn events_move_the_score_within_its_bounds() {
        let start = Score::new(50, START);
        assert_eq!(after(start, &[]), 50);
        assert_eq!(after(start, &[Event::LoginFailed]), 48);
        assert_eq!(after(start, &[Event::MfaPassed, Event::DayClean]), 56);
        assert_eq!(after(start, &[Event::RefreshReplayed; 2]), 10);
        assert_eq!(after(start, &[Event::RefreshReplayed; 9]), 0);
        assert_eq!(after(start, &[Event::MfaPassed; 99]), 100);
    }

    #[test]
    fn what_others_can_do_under_ones_name_has_a_floor() {
        let start = Score::new(50, START);
        assert_eq!(after(start, &[Event::LoginFailed; 99]), 30);
        assert_eq!(after(start, &[Event::Denied; 99]), 20);
        assert_eq!(after(Score::new(5, START), &[Event::LoginFailed]), 5, "a floor raises nobody");
    }

    #[test]
    fn time_brings_every_score_back() {
        let rules = Rules::new(50, 10, &[]).unwrap();
        let level = |score: u8, days: i64| Score::new(score, START).level(&rules, START.plus_seconds(days * 86_400));
        assert_eq!([level(10, 0), level(10, 10), level(10, 20), level(10, 300)], [10, 30, 40, 50]);
        assert_eq!([level(90, 10), level(90, -5)], [70, 90]);
    }

    #[test]
    fn weights_are_configured_by_name() {
        let rules = Rules::new(40, 7, &["login.failed=-7".to_owned(), " mfa.passed = 0".to_owned()]).unwrap();
        assert_eq!((rules.weight(Event::LoginFailed), rules.weight(Event::MfaPassed)), (-7, 0));
        assert_eq!((rules.weight(Event::DayClean), rules.baseline()), (1, 40));
        for wrong in ["login.failed", "login.failed=x", "nothing=1", "day.clean=101", "="] {
            let fault = Rules::new(50, 7, &[wrong.to_owned()]).unwrap_err();
            assert_eq!((fault.key, fault.path.as_str()), ("trust.weight", "trust.weights"), "{wrong}");
        }
    }

    #[test]
    fn limits_follow_trust() {
        let scaled = |level| scale(100, level);
        assert_eq!([scaled(0), scaled(50), scaled(75), scaled(100), scaled(255)], [25, 100, 150, 200, 200]);
        assert_eq!((scale(1, 0), scale(u32::MAX, 100)), (1, u32::MAX));
    }
}
