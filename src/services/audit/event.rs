//! What a service has to tell the audit log beside the changes of documents, which tell themselves.

use super::entry::{Entry, Outcome};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Details of an event, at most, and bytes of each text; of what is no text.
const MOST_DETAILS: usize = 32;
const LONGEST: usize = 512;
const LARGEST: usize = 16 << 10;
/// Bytes of grounds an entry keeps.
const MOST_GROUNDS: usize = 1024;
/// Documents an entry names: with what else it is found by, they are within what an index takes of one document.
pub const MOST_DOCUMENTS: usize = 500;

/// Something that happened: `Event::new("auth.login").failed("wrong password").with("device", name)`.
#[derive(Debug, Clone)]
pub struct Event {
    pub(super) action: &'static str,
    pub(super) outcome: Outcome,
    pub(super) subject: Option<String>,
    pub(super) object: Option<Object>,
    pub(super) why: String,
    address: Option<String>,
    /// Ids of the documents of its object, a collection, that it showed.
    pub(super) documents: Option<Vec<String>>,
    details: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Name(String),
    Document { collection: String, id: String },
}

impl Event {
    /// `noun.verb`; allowed unless it says otherwise.
    pub fn new(action: &'static str) -> Self {
        let (subject, object, address, why) = (None, None, None, String::new());
        let (documents, details) = (None, Map::new());
        Self { action, outcome: Outcome::Allowed, subject, object, why, address, documents, details }
    }

    /// A right was missing: which.
    pub fn denied(self, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Denied, why: short(why.into()), ..self }
    }

    /// It was tried and came to nothing: why.
    pub fn failed(self, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, why: short(why.into()), ..self }
    }

    /// What allowed it: the policies.
    pub fn grounds(self, why: &str) -> Self {
        Self { why: grounds(why), ..self }
    }

    /// The identity it is about; the entry bears its pseudonym.
    pub fn about(self, identity: impl Into<String>) -> Self {
        Self { subject: Some(identity.into()), ..self }
    }

    /// What it touches, by a name that is nobody's.
    pub fn object(self, name: impl Into<String>) -> Self {
        Self { object: Some(Object::Name(short(name.into()))), ..self }
    }

    /// The document it touches.
    pub fn document(self, collection: impl Into<String>, id: impl Into<String>) -> Self {
        Self { object: Some(Object::Document { collection: collection.into(), id: id.into() }), ..self }
    }

    /// The documents of a collection that it showed, [`MOST_DOCUMENTS`] at most.
    pub fn documents(self, collection: impl Into<String>, ids: Vec<String>) -> Self {
        Self { documents: Some(ids), ..self.object(collection) }
    }

    /// Where it came from: the network alone, for a whole address is personal.
    pub fn from_address(self, address: IpAddr) -> Self {
        Self { address: Some(network(address)), ..self }
    }

    /// A detail. Never a person's data: entries cannot be erased.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if self.details.len() < MOST_DETAILS {
            let value = match value.into() {
                Value::String(text) => short(text).into(),
                whole if whole.to_string().len() <= LARGEST => whole,
                large => short(large.to_string()).into(),
            };
            self.details.insert(name.to_owned(), value);
        }
        self
    }

    /// The entry, but for what depends on who and where.
    pub(super) fn entry(self) -> Entry {
        let details = (!self.details.is_empty()).then_some(self.details);
        Entry { address: self.address, details, why: self.why, ..Entry::new(self.action.to_owned(), self.outcome) }
    }
}

fn short(text: String) -> String {
    match text.len() > LONGEST {
        true => text.split_at(text.floor_char_boundary(LONGEST)).0.to_owned() + "…",
        false => text,
    }
}

/// Policies as an entry keeps them: whole names as far as they fit, then how many more there are.
pub fn grounds(policies: &str) -> String {
    if policies.len() <= MOST_GROUNDS {
        return policies.to_owned();
    }
    let (mut kept, mut more) = (String::new(), 0);
    for policy in policies.split(',') {
        match more == 0 && kept.len() + policy.len() < MOST_GROUNDS {
            true if kept.is_empty() => kept.push_str(policy),
            true => kept.extend([",", policy]),
            false => more += 1,
        }
    }
    format!("{kept},+{more}")
}

/// `192.0.2.0/24`, `2001:db8:1::/48`.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_cut_to_its_network() {
        for (address, cut) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
            ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ] {
            assert_eq!(network(address.parse().unwrap()), cut);
        }
    }

    #[test]
    fn an_event_stays_small() {
        let event = (0..100).fold(Event::new("a.b"), |event, n| event.with(&n.to_string(), "x".repeat(10_000)));
        let event = event.object("é".repeat(10_000)).failed("y".repeat(10_000));
        // What entries are looked up by is within what an index takes.
        assert!(matches!(&event.object, Some(Object::Name(name)) if name.len() < 600 && name.ends_with("é…")));
        assert!(event.entry().text().unwrap().len() < 20_000);
        let large = Event::new("a.b").with("large", vec!["x"; 100_000]).entry().text().unwrap();
        assert!(large.len() < 1000, "{}", large.len());
    }

    #[test]
    fn grounds_are_kept_whole_or_counted() {
        let policies = |count: usize| (0..count).map(|n| format!("policy-{n}@1")).collect::<Vec<_>>().join(",");
        assert_eq!(grounds(&policies(3)), "policy-0@1,policy-1@1,policy-2@1");
        let many = grounds(&policies(1000));
        let (kept, more) = many.rsplit_once(",+").unwrap();
        assert!(many.len() < MOST_GROUNDS + 10 && policies(1000).starts_with(&format!("{kept},")), "{many}");
        assert_eq!(kept.split(',').count() + more.parse::<usize>().unwrap(), 1000);
    }
}
