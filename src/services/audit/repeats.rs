//! The same thing over and over within a minute is told twice at most: when it begins, and how often it went on.

use super::event::{Event, Object};
use crate::{base::clock::Timestamp, services::access::Caller};
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
    pub fn due(&mut self, now: Timestamp, all: bool) -> Vec<(Caller, Event)> {
        let mut due = Vec::new();
        self.0.retain(|_, seen| {
            let over = all || seen.since.plus_seconds(SECONDS) <= now;
            if over && seen.times > 0 {
                due.push((seen.caller.clone(), seen.event.clone().with("repeated", seen.times)));
            }
            !over
        });
        due
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
        let text = due.into_iter().next().unwrap().1.entry().text().unwrap();
        assert!(text.contains("\"repeated\":999"), "{text}");
        assert!(repeats.is_new(&caller, &event(), Timestamp(60_001)), "another minute");
    }

    #[test]
    fn ever_new_things_are_told_so_many_times_at_most() {
        let (mut repeats, caller) = (Repeats::default(), Caller::system());
        let told = (0..10_000).filter(|n| {
            let event = Event::new("auth.login").failed("x").object(n.to_string());
            repeats.is_new(&caller, &event, Timestamp(0))
        });
        assert_eq!(told.count(), MOST + 1);
        assert_eq!(repeats.due(Timestamp(0), true).len(), 1, "the others, as one");
    }
}
