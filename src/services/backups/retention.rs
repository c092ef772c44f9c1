//! Which backups of a target are kept and which are dropped: a pure decision over what lies there.
//!
//! Backups are in the order of the journal, not of the clock: lineage, then the last change inside. A full one is kept
//! for its generation: the last few, the last of each day, week, month, year. Beside them everything is kept from the
//! last full one before the window on: within it any moment can be restored. The newest full one is never before that,
//! so the newest chain is always whole.

use super::{Listed, chain::Link, create, file::Kind};
use crate::{
    base::{clock::Timestamp, fault::Fault, zone::Zone},
    ports::documents::Sequence,
};
use std::collections::{HashMap, HashSet};

const DAY: i64 = 86_400;
const MOST: u32 = 10_000;

/// How many of each generation are kept, and for how many days any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Rules {
    pub last: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    pub within_days: u32,
}

/// Why a backup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Last,
    Daily,
    Weekly,
    Monthly,
    Yearly,
    /// Some moment of the window cannot be restored without it.
    Window,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Window => "window",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub link: Link,
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retained {
    /// In the order of the journal.
    pub kept: Vec<Kept>,
    /// In the order they are to be deleted: cut short anywhere, no chain has a hole and no kept point lacks a part.
    pub dropped: Vec<String>,
    /// Those that cannot be read; nothing else counts on them.
    pub damaged: Vec<String>,
}

impl Rules {
    /// From `last=7`, `daily=14`, `weekly=8`, `monthly=12`, `yearly=3`, `within_days=7`; what is not named is 0.
    pub fn read(words: &[String]) -> Result<Self, Fault> {
        let mut rules = Self::default();
        for word in words {
            let wrong = || Fault::new("backups.keep").at(word);
            let (name, number) = word.rsplit_once('=').ok_or_else(wrong)?;
            let rule = match name.trim() {
                "last" => &mut rules.last,
                "daily" => &mut rules.daily,
                "weekly" => &mut rules.weekly,
                "monthly" => &mut rules.monthly,
                "yearly" => &mut rules.yearly,
                "within_days" => &mut rules.within_days,
                _ => return Err(wrong()),
            };
            *rule = number.trim().parse().ok().filter(|number| *number <= MOST).ok_or_else(wrong)?;
        }
        Ok(rules)
    }
}

/// Where a backup stands in the instance's history.
type Place = (u32, Sequence);

fn place(link: &Link) -> Place {
    (link.header.lineage, link.header.upto)
}

/// What is kept of an instance's backups at a target. `rotten`: names of those found damaged although their header can
/// be read. Backups of other instances are left out, and so is whatever else lies there.
pub fn retain(
    listed: &[Listed],
    instance: &str,
    rotten: &HashSet<String>,
    rules: &Rules,
    zone: &Zone,
    now: Timestamp,
) -> Retained {
    let (mut links, mut damaged) = (Vec::new(), Vec::new());
    for Listed { name, bytes, header } in listed {
        match header {
            Ok((header, _)) if header.instance != instance => {}
            Ok((header, _)) if !rotten.contains(name) => {
                links.push(Link { name: name.clone(), bytes: *bytes, header: header.clone() });
            }
            // Whose those with an unreadable header are, nobody knows: they are shown, never deleted.
            Ok(_) | Err(_) => damaged.push(name.clone()),
        }
    }
    links.sort_by(|a, b| (place(a), a.header.created, &a.name).cmp(&(place(b), b.header.created, &b.name)));
    let mut reasons = generations(&links, rules, zone);
    let base = base(&links, now.plus_seconds(-i64::from(rules.within_days) * DAY), now);
    let from = base.map(|at| place(&links[at]));
    let (mut kept, mut fulls, mut segments) = (Vec::new(), Vec::new(), Vec::new());
    for (at, link) in links.into_iter().enumerate() {
        let full = link.header.kind == Kind::Full;
        let mut reasons = reasons.remove(&at).unwrap_or_default();
        let needed = match full {
            true => base.is_none_or(|base| at >= base),
            false => from.is_none_or(|from| place(&link) > from),
        };
        if needed {
            reasons.push(Reason::Window);
        }
        match (reasons.is_empty(), full) {
            (false, _) => kept.push(Kept { link, reasons }),
            (true, true) => fulls.push(link.name),
            (true, false) => segments.push(link.name),
        }
    }
    // What is older than all that is kept serves nobody, whatever is wrong with it.
    let oldest = kept.iter().map(|kept| kept.link.header.created).min();
    let known: HashSet<_> = listed.iter().filter(|listed| listed.header.is_ok()).map(|listed| &listed.name).collect();
    let outlived = |name: &String| known.contains(name) && oldest.is_some_and(|oldest| *name < create::time(oldest));
    let (gone, damaged) = damaged.into_iter().partition(|name| outlived(name));
    // From a chain's end towards its full one, so that what is left of it holds together.
    segments.reverse();
    segments.extend(fulls);
    segments.extend::<Vec<_>>(gone);
    Retained { kept, dropped: segments, damaged }
}

/// The full backup from which on everything stays: the last before the first of the window; else the first.
/// `None`: there is no full one, and nothing may go.
fn base(links: &[Link], begin: Timestamp, now: Timestamp) -> Option<usize> {
    // A clock that was ahead dated some later than now: they are as old as what followed.
    let (mut times, mut after) = (Vec::with_capacity(links.len()), now);
    for link in links.iter().rev() {
        if link.header.created <= now {
            after = link.header.created;
        }
        times.push(after);
    }
    times.reverse();
    // Counted back from the newest: while nothing is backed up, nothing grows old.
    let rest = times.last().map_or(0, |newest| now.0.saturating_sub(newest.0).max(0));
    let begin = Timestamp(begin.0.saturating_sub(rest));
    let full = |at: &usize| links.get(*at).is_some_and(|link| link.header.kind == Kind::Full);
    // What stands before the first full one leads nowhere, whatever its date.
    let earliest = (0..links.len()).find(full)?;
    let within = |at: &usize| times.get(*at).is_some_and(|time| *time > begin);
    let first = (earliest..links.len()).find(within).unwrap_or(links.len());
    (earliest..first).rev().find(full).or(Some(earliest))
}

/// For each generation the newest full one of each of its last periods.
fn generations(links: &[Link], rules: &Rules, zone: &Zone) -> HashMap<usize, Vec<Reason>> {
    let all = [
        (Reason::Last, rules.last),
        (Reason::Daily, rules.daily),
        (Reason::Weekly, rules.weekly),
        (Reason::Monthly, rules.monthly),
        (Reason::Yearly, rules.yearly),
    ];
    let mut reasons: HashMap<usize, Vec<Reason>> = HashMap::new();
    let fulls = || links.iter().enumerate().rev().filter(|(_, link)| link.header.kind == Kind::Full);
    for (reason, most) in all {
        let mut periods = HashSet::new();
        for (at, link) in fulls() {
            if periods.len() >= most as usize {
                break;
            }
            if periods.insert(period(reason, at, link, zone)) {
                reasons.entry(at).or_default().push(reason);
            }
        }
    }
    reasons
}

fn period(reason: Reason, at: usize, link: &Link, zone: &Zone) -> (i64, i64) {
    let day = zone.day(link.header.created);
    let (year, week) = (i64::from(day.year()), day.iso_week_date());
    match reason {
        Reason::Daily => (year, i64::from(day.day_of_year())),
        Reason::Weekly => (i64::from(week.year()), i64::from(week.week())),
        Reason::Monthly => (year, i64::from(day.month())),
        Reason::Yearly => (year, 0),
        Reason::Last | Reason::Window => (i64::try_from(at).unwrap_or(i64::MAX), 0),
    }
}

#[cfg(test)]
mod tests;
