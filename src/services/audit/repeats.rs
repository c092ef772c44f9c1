//! The same thing over and over within a minute is told twice at most: when it begins, and how often it went on.

use super::event::{Event, Object};
use crate::{
    base::clock::Timestamp,
    services::access::{Caller, Subject},
};
use std::collections::HashMap;

const SECONDS: i64 = 60;
/// Things told apart; beyond, all others of an action count as one.
const MOST: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    actor: String,
    action: &'static str,
    outcome: &'static str,
    object: String,
    why: String,
}

/// What went on, to be told: it stays until [`Repeats::told`].
pub struct Due {
    key: Key,
    times: u64,
    pub caller: Caller,
    pub event: Event,
}

struct Seen {
    since: Timestamp,
    times: u64,
    caller: Caller,
    event: Event,
}

#[derive(Default)]
pub struct Repeats(HashMap<Key, Seen>);

impl Repeats {
    /// Whether to tell it now; if not, it is counted.
    pub fn is_new(&mut self, caller: &Caller, event: &Event, now: Timestamp) -> bool {
        let object = match &event.object {
            None => String::new(),
            Some(Object::Name(name)) => name.clone(),
            Some(Object::Document { collection, id }) => format!("{collection}/{id}"),
        };
        let subject = event.subject.clone().unwrap_or_default();
        let (action, outcome) = (event.action, event.outcome.name());
        let mut key =
            Key { actor: caller.actor(), action, outcome, object: object + "\0" + &subject, why: event.why.clone() };
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            // Of somebody known each is told: they would be counted as another's.
            if !matches!(caller.subject, Subject::Anonymous) {
                return true;
            }
            key = Key { actor: String::new(), object: String::new(), why: String::new(), ..key };
        }
        match self.0.get_mut(&key) {
            Some(seen) => {
                seen.times += 1;
                false
            }
            None => {
                let (caller, event) = (caller.clone(), event.clone());
                self.0.insert(key, Seen { since: now, times: 0, caller, event });
                true
            }
        }
    }

    /// It could not be told: the next is new again.
    pub fn forget(&mut self, caller: &Caller, event: &Event) {
        let actor = caller.actor();
        self.0.retain(|key, seen| seen.times > 0 || key.actor != actor || key.action != event.action);
    }

    /// What went on and has had its minute, each with how often; at the end of all, whatever is left.
    pub fn due(&mut self, now: Timestamp, all: bool) -> Vec<Due> {
        let over = |seen: &Seen| all || seen.since.plus_seconds(SECONDS) <= now;
        self.0.retain(|_, seen| seen.times > 0 || !over(seen));
        let due = self.0.iter().filter(|(_, seen)| over(seen)).map(|(key, seen)| Due {
            key: key.clone(),
            times: seen.times,
            caller: seen.caller.clone(),
            event: seen.event.clone().with("repeated", seen.times),
        });
        due.collect()
    }

    /// It is on disk; what came meanwhile is told the next time.
    pub fn told(&mut self, due: &Due) {
        if let Some(seen) = self.0.get_mut(&due.key) {
            seen.times = seen.times.saturating_sub(due.times);
            if seen.times == 0 {
                self.0.remove(&due.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_twice() {
        let (mut repeats, caller) = (Repeats::default(), Caller::system());
        let event = || Event::new("access.denied").denied("role").object("x");
        assert!(repeats.is_new(&caller, &event(), Timestamp(0)));
        for _ in 0..999 {
            assert!(!repeats.is_new(&caller, &event(), Timestamp(10)));
        }
        assert!(repeats.is_new(&caller, &event().object("y"), Timestamp(20)), "another thing");
        assert!(repeats.due(Timestamp(59_999), false).is_empty());
        let due = repeats.due(Timestamp(60_000), false);
        assert_eq!(due.len(), 1);
        let text = |due: &Due| due.event.clone().entry().text().unwrap();
        assert!(text(&due[0]).contains("\"repeated\":999"), "{}", text(&due[0]));
        // Until it is told it stays; what comes meanwhile counts for the next time.
        assert!(!repeats.is_new(&caller, &event(), Timestamp(60_001)));
        repeats.told(&due[0]);
        let due = repeats.due(Timestamp(60_002), false);
        assert!(text(&due[0]).contains("\"repeated\":1}"), "{}", text(&due[0]));
        repeats.told(&due[0]);
        assert!(repeats.is_new(&caller, &event(), Timestamp(60_003)), "another minute");
    }

    #[test]
    fn ever_new_things_are_told_so_many_times_at_most() {
        let mut repeats = Repeats::default();
        let caller = Caller { subject: Subject::Anonymous, ..Caller::system() };
        let told = (0..10_000).filter(|n| {
            let event = Event::new("auth.login").failed("x").object(n.to_string());
            repeats.is_new(&caller, &event, Timestamp(0))
        });
        assert_eq!(told.count(), MOST + 1);
        assert_eq!(repeats.due(Timestamp(0), true).len(), 1, "the others, as one");
        // Of somebody known each is told: nobody is counted as another.
        for n in 0..MOST {
            repeats.is_new(&caller, &Event::new("x").object(n.to_string()), Timestamp(0));
        }
        let known = Event::new("audit.read").object("entries");
        assert!((0..10).all(|_| repeats.is_new(&Caller::system(), &known, Timestamp(0))));
    }
}
