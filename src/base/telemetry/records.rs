//! Events as a collector takes them: each with its parts apart.

use super::{
    super::clock::Timestamp,
    fields::{Fields, Value},
};
use tracing::{Level, Metadata};

#[derive(Debug, Clone)]
pub struct Record {
    pub time: Timestamp,
    pub level: Level,
    pub target: &'static str,
    pub message: String,
    /// Of the scope it happened in, where there was one.
    pub trace: Option<String>,
    pub span: Option<String>,
    pub fields: Vec<(&'static str, Said)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Text(String),
    Whole(i64),
    Real(f64),
    Truth(bool),
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Said {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or_else(|_| Self::Text(number.to_string()), Self::Whole)
    }
}

/// What a record says elsewhere.
const APART: [&str; 3] = ["message", "trace", "span"];

impl Record {
    /// About as much memory as it takes.
    pub fn bytes(&self) -> usize {
        let said = |said: &Said| if let Said::Text(text) = said { text.len() } else { 0 };
        let fields: usize = self.fields.iter().map(|(_, value)| said(value) + 48).sum();
        fields + self.message.len() + 200
    }

    pub(super) fn new(time: Timestamp, metadata: &Metadata<'static>, fields: &Fields) -> Self {
        let text = |name| match fields.get(name) {
            Some(Value::Text(text) | Value::Plain(text)) => Some(text.to_owned()),
            None => None,
        };
        let others = fields.iter().filter(|(name, _)| !APART.contains(name));
        Self {
            time,
            level: *metadata.level(),
            target: metadata.target(),
            message: text("message").unwrap_or_default(),
            trace: text("trace"),
            span: text("span"),
            fields: others.map(|(name, value)| (name, said(value))).collect(),
        }
    }
}

fn said(value: Value<'_>) -> Said {
    let plain = match value {
        Value::Text(text) => return Said::Text(text.to_owned()),
        Value::Plain(plain) => plain,
    };
    let truth = || plain.parse().map(Said::Truth);
    let real = || plain.parse().map(Said::Real);
    let whole = plain.parse().map(Said::Whole).ok();
    whole.or_else(|| truth().ok()).or_else(|| real().ok()).unwrap_or_else(|| Said::Text(plain.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_stays_one() {
        assert_eq!(said(Value::Text("1")), Said::Text("1".to_owned()));
        assert_eq!(said(Value::Plain("-1")), Said::Whole(-1));
        assert_eq!(said(Value::Plain("true")), Said::Truth(true));
        assert_eq!(said(Value::Plain("0.5")), Said::Real(0.5));
        assert_eq!(said(Value::Plain("18446744073709551615")), Said::Real(u64::MAX as f64));
    }
}
