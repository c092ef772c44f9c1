//! When something that recurs is due: cron expressions in a time zone, of five fields, or of six with seconds first.
//!
//! A fixed hour that a clock change skips comes right after the gap; one it repeats comes once.

use crate::base::{clock::Timestamp, fault::Fault, zone::Zone};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    text: String,
    zone: Zone,
}

impl Schedule {
    pub fn parse(text: &str, zone: Zone) -> Result<Self, Fault> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let wrong = |why: &dyn std::fmt::Display| Fault::new("schedule.unreadable").at(text).with("why", why);
        let cron = parser.parse(text).map_err(|error| wrong(&error))?;
        let schedule = Self { cron, text: text.to_owned(), zone };
        // `0 0 30 2 *`: the thirtieth of February.
        match schedule.next(Timestamp(0)) {
            Some(_) => Ok(schedule),
            None => Err(Fault::new("schedule.never").at(text)),
        }
    }

    /// The first time after this moment.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.zone.at(after), false).ok()?;
        Some(Timestamp(next.timestamp().as_millisecond())).filter(|next| *next > after)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }
}

/// What was planned, seen again now. A clock that jumped back must not put a run off for as long as it jumped: it is
/// due no later than whoever plans now would have it. However many runs were missed, one is due.
pub fn planned(known: Option<Timestamp>, next: Timestamp) -> Timestamp {
    known.map_or(next, |known| known.min(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str, zone: &str, after: &str) -> String {
        let after: jiff::Timestamp = after.parse().unwrap();
        let schedule = Schedule::parse(text, Zone::named(zone).unwrap()).unwrap();
        schedule.zone.text(schedule.next(Timestamp(after.as_millisecond())).unwrap())
    }

    #[test]
    fn five_fields_and_six_in_the_hours_of_a_place() {
        let kinshasa = "Africa/Kinshasa";
        assert_eq!(next("0 2 * * *", kinshasa, "2026-11-22T00:59:59Z"), "2026-11-22T02:00:00+01:00");
        assert_eq!(next("0 2 * * *", kinshasa, "2026-11-22T01:00:00Z"), "2026-11-23T02:00:00+01:00");
        assert_eq!(next("15 30 2 * * *", "UTC", "2026-11-22T00:00:00Z"), "2026-11-22T02:30:15+00:00");
        // Days of the week as cron counts them: 1 is Monday, 0 and 7 are Sunday.
        for (day, date) in [("1", 23), ("MON", 23), ("0", 22), ("7", 22), ("6", 28)] {
            let expected = format!("2026-11-{date}T02:00:00+00:00");
            assert_eq!(next(&format!("0 2 * * {day}"), "UTC", "2026-11-22T00:00:00Z"), expected, "{day}");
        }
    }

    #[test]
    fn clock_changes_neither_skip_a_night_nor_repeat_it() {
        let paris = "Europe/Paris";
        // 2027-03-28: from 02:00 to 03:00. 2026-10-25: from 03:00 back to 02:00.
        assert_eq!(next("30 2 * * *", paris, "2027-03-28T00:00:00Z"), "2027-03-28T03:00:00+02:00");
        assert_eq!(next("30 2 * * *", paris, "2027-03-28T01:00:00Z"), "2027-03-29T02:30:00+02:00");
        assert_eq!(next("30 2 * * *", paris, "2026-10-24T23:00:00Z"), "2026-10-25T02:30:00+02:00");
        assert_eq!(next("30 2 * * *", paris, "2026-10-25T00:30:00Z"), "2026-10-26T02:30:00+01:00");
    }

    #[test]
    fn what_says_no_time_is_refused() {
        for (text, key) in [
            ("", "schedule.unreadable"),
            ("daily", "schedule.unreadable"),
            ("60 2 * * *", "schedule.unreadable"),
            ("0 2 * *", "schedule.unreadable"),
            ("0 0 2 * * * 2027", "schedule.unreadable"),
            ("0 0 30 2 *", "schedule.never"),
        ] {
            assert_eq!(Schedule::parse(text, Zone::utc()).map_err(|fault| fault.key).err(), Some(key), "{text}");
        }
    }

    #[test]
    fn a_jump_of_the_clock_puts_nothing_off_and_makes_one_run_due() {
        let (hour, now) = (3_600_000, 1_795_000_000_000);
        assert_eq!(planned(None, Timestamp(now)), Timestamp(now));
        assert_eq!(planned(Some(Timestamp(now - hour)), Timestamp(now)), Timestamp(now - hour), "missed: still due");
        assert_eq!(planned(Some(Timestamp(now + 900 * hour)), Timestamp(now)), Timestamp(now), "jumped back");
    }
}
