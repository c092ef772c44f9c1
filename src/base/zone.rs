//! Time zones: which day and hour a moment is in a place. The tables are built in, for servers that have none.

use super::clock::Timestamp;
use jiff::{Zoned, civil::Date, tz::TimeZone};

#[derive(Debug, Clone, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The machine's own; UTC where it tells none.
    pub fn system() -> Self {
        Self(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// By its name in the IANA database: `Africa/Kinshasa`.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// `Africa/Kinshasa`; `None`: the machine's rule bears no name.
    pub fn name(&self) -> Option<&str> {
        self.0.iana_name()
    }

    pub fn at(&self, time: Timestamp) -> Zoned {
        let time = jiff::Timestamp::from_millisecond(time.0);
        let far = |_| jiff::Timestamp::MAX;
        time.unwrap_or_else(far).to_zoned(self.0.clone())
    }

    pub fn day(&self, time: Timestamp) -> Date {
        self.at(time).date()
    }

    /// `2026-11-22T02:00:00+01:00`.
    pub fn text(&self, time: Timestamp) -> String {
        self.at(time).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_another_day_elsewhere() {
        // 2026-11-21T23:30:00Z
        let time = Timestamp(1_795_303_800_000);
        let kinshasa = Zone::named("Africa/Kinshasa").unwrap();
        assert_eq!((Zone::utc().day(time).day(), kinshasa.day(time).day()), (21, 22));
        assert_eq!(kinshasa.text(time), "2026-11-22T00:30:00+01:00");
        assert_eq!(kinshasa.name(), Some("Africa/Kinshasa"));
        assert!(Zone::named("Afrique/Kinshasa").is_none());
        for far in [i64::MIN, i64::MAX] {
            Zone::utc().text(Timestamp(far));
        }
    }
}
