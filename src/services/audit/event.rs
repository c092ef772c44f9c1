//! What a service has to tell the audit log beside the changes of documents, which tell themselves.

use super::entry::{Entry, Outcome};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Details of an event, at most, and letters of each.
const MOST_DETAILS: usize = 32;
const LONGEST: usize = 512;

/// Something that happened: `Event::new("auth.login").failed("wrong password").with("device", name)`.
#[derive(Debug, Clone)]
pub struct Event {
    pub(super) action: &'static str,
    pub(super) outcome: Outcome,
    pub(super) subject: Option<String>,
    pub(super) object: Option<Object>,
    pub(super) why: String,
    address: Option<String>,
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
        let (subject, object, address) = (None, None, None);
        Self { action, outcome: Outcome::Allowed, subject, object, why: String::new(), address, details: Map::new() }
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
    pub fn grounds(self, why: impl Into<String>) -> Self {
        Self { why: short(why.into()), ..self }
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

    /// Where it came from: the network alone, for a whole address is personal.
    pub fn from_address(self, address: IpAddr) -> Self {
        Self { address: Some(network(address)), ..self }
    }

    /// A detail. Never a person's data: entries cannot be erased.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if self.details.len() < MOST_DETAILS {
            let value = match value.into() {
                Value::String(text) => short(text).into(),
                other => other,
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
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some(_) => text.chars().take(LONGEST).chain(['…']).collect(),
    }
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
        let text = event.failed("y".repeat(10_000)).entry().text().unwrap();
        assert!(text.len() < 20_000, "{}", text.len());
    }
}
