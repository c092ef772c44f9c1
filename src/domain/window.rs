//! A part of each day in which something may run: `22:00-06:00`, in UTC or with the place's distance from it
//! (`22:00-06:00+01:00`).

use crate::base::clock::Timestamp;
use std::str::FromStr;

const DAY: i64 = 24 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minutes of the day, UTC; over midnight where the first is later.
    from: i64,
    to: i64,
}

impl Window {
    pub fn open_at(self, time: Timestamp) -> bool {
        let minute = time.seconds().div_euclid(60).rem_euclid(DAY);
        match self.from <= self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl FromStr for Window {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (from, rest) = text.split_once('-').ok_or(())?;
        let (to, sign, offset) = match rest.split_once(['+', '-']) {
            Some((to, offset)) => (to, if rest.contains('+') { 1 } else { -1 }, minutes(offset)?),
            None => (rest, 1, 0),
        };
        let utc = |text: &str| minutes(text).map(|minutes| (minutes - sign * offset).rem_euclid(DAY));
        let window = Self { from: utc(from)?, to: utc(to)? };
        if window.from == window.to { Err(()) } else { Ok(window) }
    }
}

/// `HH:MM`.
fn minutes(text: &str) -> Result<i64, ()> {
    let (hours, minutes) = text.split_once(':').ok_or(())?;
    let number = |text: &str, below: i64| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| plain && *number < below).ok_or(())
    };
    Ok(number(hours, 24)? * 60 + number(minutes, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(window: &str, hours: i64, minutes: i64) -> bool {
        let day = Timestamp(1_795_651_200_000);
        window.parse::<Window>().unwrap().open_at(day.plus_seconds(hours * 3600 + minutes * 60))
    }

    #[test]
    fn a_night_goes_over_midnight_and_a_place_has_its_own() {
        for (hours, minutes, expected) in [(21, 59, false), (22, 0, true), (0, 0, true), (5, 59, true), (6, 0, false)] {
            assert_eq!(open("22:00-06:00", hours, minutes), expected, "{hours}:{minutes}");
        }
        assert!(open("12:00-13:30", 13, 29) && !open("12:00-13:30", 13, 30) && !open("12:00-13:30", 0, 0));
        // Kinshasa is an hour ahead of UTC.
        assert!(open("22:00-06:00+01:00", 21, 0) && !open("22:00-06:00+01:00", 5, 0));
        assert!(open("00:30-01:00+01:00", 23, 40) && open("22:00-23:00-03:30", 2, 0));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "22:00",
            "22-06",
            "22:00-24:00",
            "22:60-06:00",
            "1:00-02:00",
            "22:00-22:00",
            "22:00-06:00+1",
            "+1:00-02:00",
        ] {
            assert_eq!(text.parse::<Window>(), Err(()), "{text}");
        }
    }
}
