//! A policy's `where`: a filter with `$identity.id`, `$identity.organizations` and `$now` in it, bound to a caller.

use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::{filter::Filter, limits, path::elements},
};
use bson::{RawArray, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf};
use std::sync::Arc;

/// Conditions of a `where`, at most: each is asked of every document looked at.
pub const MAX_CONDITIONS: usize = 100;

const IDENTITY: &str = "$identity.id";
const ORGANIZATIONS: &str = "$identity.organizations";
const NOW: &str = "$now";

#[derive(Debug, Clone)]
pub struct Scope {
    template: RawDocumentBuf,
    /// Made once, where the filter is the same for everyone.
    fixed: Option<Arc<Filter>>,
}

/// What the variables stand for.
#[derive(Debug, Clone, Copy)]
pub struct Bindings<'a> {
    pub identity: &'a str,
    pub organizations: &'a [&'a str],
    pub now: Timestamp,
}

/// To look at what is asked, whoever asks.
const SAMPLE: Bindings<'_> = Bindings { identity: "x", organizations: &["x"], now: Timestamp(0) };

impl Scope {
    pub fn everything() -> Self {
        Self { template: RawDocumentBuf::new(), fixed: Some(Arc::new(Filter::all())) }
    }

    /// Reads a `where`. A variable it does not know, or in a place where it could not hold, is refused.
    pub fn parse(template: &RawDocument) -> Result<Self, Fault> {
        limits::nesting(template)?;
        let mut variables = 0;
        check(template, &mut variables)?;
        let filter = Filter::parse(&document(template, &SAMPLE))?;
        if filter.size() > MAX_CONDITIONS {
            return Err(Fault::new("policies.where_size").with("limit", MAX_CONDITIONS));
        }
        if filter.near().is_some() {
            return Err(Fault::new("policies.where_near"));
        }
        Ok(Self { template: template.to_owned(), fixed: (variables == 0).then(|| Arc::new(filter)) })
    }

    pub fn is_everything(&self) -> bool {
        self.template.is_empty()
    }

    pub fn template(&self) -> &RawDocument {
        &self.template
    }

    /// The filter as it is for somebody.
    pub fn sample(&self) -> Result<Arc<Filter>, Fault> {
        self.bind(&SAMPLE)
    }

    /// The filter for one caller.
    pub fn bind(&self, bindings: &Bindings<'_>) -> Result<Arc<Filter>, Fault> {
        match &self.fixed {
            Some(filter) => Ok(filter.clone()),
            None => Filter::parse(&document(&self.template, bindings)).map(Arc::new),
        }
    }
}

/// Variables are values, never names; the organizations are a list, and stand where a list does.
fn check(template: &RawDocument, variables: &mut usize) -> Result<(), Fault> {
    template.iter().map_while(Result::ok).try_for_each(|(name, value)| check_value(name.as_str(), value, variables))
}

fn check_value(name: &str, value: RawBsonRef<'_>, variables: &mut usize) -> Result<(), Fault> {
    match value {
        RawBsonRef::Document(inner) => check(inner, variables),
        RawBsonRef::Array(inner) => elements(inner).try_for_each(|element| check_value(name, element, variables)),
        RawBsonRef::String(text) if text.starts_with('$') => {
            *variables += 1;
            match text {
                IDENTITY | NOW => Ok(()),
                ORGANIZATIONS if ["$in", "$nin"].contains(&name) => Ok(()),
                ORGANIZATIONS => Err(Fault::new("policies.where_list").at(name).with("variable", text)),
                _ => Err(Fault::new("policies.where_variable").at(name).with("variable", text)),
            }
        }
        _ => Ok(()),
    }
}

fn document(template: &RawDocument, bindings: &Bindings<'_>) -> RawDocumentBuf {
    let mut bound = RawDocumentBuf::new();
    for (name, value) in template.iter().map_while(Result::ok) {
        match value {
            RawBsonRef::Document(inner) => bound.append(name, document(inner, bindings)),
            RawBsonRef::Array(inner) => bound.append(name, array(inner, bindings)),
            RawBsonRef::String(IDENTITY) => bound.append(name, bindings.identity),
            RawBsonRef::String(ORGANIZATIONS) => bound.append(name, organizations(bindings)),
            RawBsonRef::String(NOW) => bound.append(name, bson::DateTime::from_millis(bindings.now.0)),
            other => bound.append(name, other),
        }
    }
    bound
}

fn array(template: &RawArray, bindings: &Bindings<'_>) -> RawArrayBuf {
    let mut bound = RawArrayBuf::new();
    for value in elements(template) {
        match value {
            RawBsonRef::Document(inner) => bound.push(document(inner, bindings)),
            RawBsonRef::Array(inner) => bound.push(array(inner, bindings)),
            RawBsonRef::String(IDENTITY) => bound.push(bindings.identity),
            RawBsonRef::String(NOW) => bound.push(bson::DateTime::from_millis(bindings.now.0)),
            // Its organizations among others: each is one of the list.
            RawBsonRef::String(ORGANIZATIONS) => bindings.organizations.iter().for_each(|one| bound.push(*one)),
            other => bound.push(other),
        }
    }
    bound
}

fn organizations(bindings: &Bindings<'_>) -> RawArrayBuf {
    let mut list = RawArrayBuf::new();
    bindings.organizations.iter().for_each(|organization| list.push(*organization));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn variables_become_the_callers() {
        let scope = Scope::parse(&rawdoc! {
            "$or": [
                { "_owner": "$identity.id" },
                { "_organization": { "$in": "$identity.organizations" } },
                { "shared": { "$in": ["$identity.id", "all", "$identity.organizations"] } },
                { "until": { "$gt": "$now" } },
            ],
        })
        .expect("a scope");
        let bindings = Bindings { identity: "me", organizations: &["o1", "o2"], now: Timestamp(1000) };
        let filter = scope.bind(&bindings).expect("a filter");
        let at = bson::DateTime::from_millis;
        for seen in [
            rawdoc! { "_owner": "me" },
            rawdoc! { "_organization": "o2" },
            rawdoc! { "shared": ["x", "o1"] },
            rawdoc! { "shared": "me" },
            rawdoc! { "until": at(1001) },
        ] {
            assert!(filter.matches(&seen), "{seen:?}");
        }
        for hidden in [
            rawdoc! { "_owner": "$identity.id" },
            rawdoc! { "_organization": "o3" },
            rawdoc! {},
            rawdoc! { "shared": "you" },
            rawdoc! { "until": at(1000) },
        ] {
            assert!(!filter.matches(&hidden), "{hidden:?}");
        }
        let nobody = Bindings { organizations: &[], ..bindings };
        assert!(!scope.bind(&nobody).expect("a filter").matches(&rawdoc! { "_organization": "o2" }));
    }

    #[test]
    fn refuses_what_could_not_hold() {
        let fault = |template: RawDocumentBuf| Scope::parse(&template).map_err(|fault| fault.key).err();
        assert_eq!(fault(rawdoc! { "a": "$identity.email" }), Some("policies.where_variable"));
        assert_eq!(fault(rawdoc! { "a": { "$in": ["$token"] } }), Some("policies.where_variable"));
        assert_eq!(fault(rawdoc! { "a": "$identity.organizations" }), Some("policies.where_list"));
        assert_eq!(fault(rawdoc! { "a": { "$foo": 1 } }), Some("query.unknown_operator"));
        let near = rawdoc! { "a": { "$near": { "$geometry": { "type": "Point", "coordinates": [0, 0] } } } };
        assert_eq!(fault(near), Some("policies.where_near"));
        let mut many = RawArrayBuf::new();
        (0..=MAX_CONDITIONS).for_each(|_| many.push(rawdoc! { "f": 1 }));
        assert_eq!(fault(rawdoc! { "$and": many }), Some("policies.where_size"));
        assert_eq!(fault(rawdoc! {}), None);
    }
}
