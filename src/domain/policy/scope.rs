//! A policy's `where`: a filter with `$identity.id`, `$identity.organizations` and `$now` in it, bound to a caller.

use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::{filter::Filter, limits, path::elements},
};
use bson::{RawArray, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// Conditions of a `where`, at most: each is asked of every document looked at.
pub const MAX_CONDITIONS: usize = 100;

/// Callers whose filter is remembered, of few organizations each; past that, all are forgotten and bound again.
const REMEMBERED: usize = 512;
const MOST_ORGANIZATIONS: usize = 16;

const IDENTITY: &str = "$identity.id";
const ORGANIZATIONS: &str = "$identity.organizations";
const NOW: &str = "$now";

#[derive(Debug, Clone)]
pub struct Scope {
    template: RawDocumentBuf,
    conditions: usize,
    bound: Bound,
}

#[derive(Debug, Clone)]
enum Bound {
    /// The same for everyone.
    Once(Arc<Filter>),
    /// By the caller, and their organizations where those are named: bound once for each, and the same ever after.
    Each { organizations: bool, known: Arc<RwLock<HashMap<Vec<String>, Arc<Filter>>>> },
    /// Time is in it.
    Always,
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
        let bound = Bound::Once(Arc::new(Filter::all()));
        Self { template: RawDocumentBuf::new(), conditions: 0, bound }
    }

    /// Reads a `where`. A variable it does not know, or in a place where it could not hold, is refused.
    pub fn parse(template: &RawDocument) -> Result<Self, Fault> {
        limits::nesting(template)?;
        let mut variables = Variables::default();
        check(template, &mut variables)?;
        let filter = Filter::parse(&document(template, &SAMPLE))?;
        let conditions = filter.size();
        if conditions > MAX_CONDITIONS {
            return Err(Fault::new("policies.where_size").with("limit", MAX_CONDITIONS));
        }
        if filter.near().is_some() {
            return Err(Fault::new("policies.where_near"));
        }
        let bound = match variables {
            Variables { time: true, .. } => Bound::Always,
            Variables { identity: false, organizations: false, .. } => Bound::Once(Arc::new(filter)),
            Variables { organizations, .. } => Bound::Each { organizations, known: Arc::default() },
        };
        Ok(Self { template: template.to_owned(), conditions, bound })
    }

    pub fn is_everything(&self) -> bool {
        self.template.is_empty()
    }

    pub fn template(&self) -> &RawDocument {
        &self.template
    }

    /// Asked of every document looked at.
    pub fn conditions(&self) -> usize {
        self.conditions
    }

    /// The filter as it is for somebody.
    pub fn sample(&self) -> Result<Arc<Filter>, Fault> {
        self.bind(&SAMPLE)
    }

    /// The filter for one caller.
    pub fn bind(&self, bindings: &Bindings<'_>) -> Result<Arc<Filter>, Fault> {
        let filter = || Filter::parse(&document(&self.template, bindings)).map(Arc::new);
        let known = match &self.bound {
            Bound::Once(filter) => return Ok(filter.clone()),
            Bound::Always => return filter(),
            Bound::Each { organizations: true, .. } if bindings.organizations.len() > MOST_ORGANIZATIONS => {
                return filter();
            }
            Bound::Each { organizations, known } => (*organizations, known),
        };
        let (named, known) = known;
        let organizations = if named { bindings.organizations } else { &[] };
        let caller: Vec<String> = [bindings.identity].iter().chain(organizations).map(|&id| id.into()).collect();
        if let Some(filter) = known.read().unwrap_or_else(PoisonError::into_inner).get(&caller) {
            return Ok(filter.clone());
        }
        let filter = filter()?;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(caller, filter.clone());
        Ok(filter)
    }
}

/// What of the caller's world a `where` names.
#[derive(Default)]
struct Variables {
    identity: bool,
    organizations: bool,
    time: bool,
}

/// Variables are values, never names; the organizations are a list, and stand where a list does.
fn check(template: &RawDocument, variables: &mut Variables) -> Result<(), Fault> {
    template.iter().map_while(Result::ok).try_for_each(|(name, value)| check_value(name.as_str(), value, variables))
}

fn check_value(name: &str, value: RawBsonRef<'_>, variables: &mut Variables) -> Result<(), Fault> {
    match value {
        RawBsonRef::Document(inner) => check(inner, variables),
        RawBsonRef::Array(inner) => elements(inner).try_for_each(|element| check_value(name, element, variables)),
        RawBsonRef::String(text) if text.starts_with('$') => {
            variables.time |= text == NOW;
            variables.identity |= text == IDENTITY;
            variables.organizations |= text == ORGANIZATIONS;
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
        let other = Bindings { identity: "you", now: Timestamp(5000), ..bindings };
        let filter = scope.bind(&other).expect("a filter");
        assert!(filter.matches(&rawdoc! { "_owner": "you" }) && !filter.matches(&rawdoc! { "_owner": "me" }));
        assert!(!filter.matches(&rawdoc! { "until": at(1001) }), "bound to a time that is past");
        let nobody = Bindings { organizations: &[], ..bindings };
        assert!(!scope.bind(&nobody).expect("a filter").matches(&rawdoc! { "_organization": "o2" }));
    }

    #[test]
    fn what_is_remembered_is_the_callers_own() {
        let scope =
            Scope::parse(&rawdoc! { "$or": [{ "o": "$identity.id" }, { "o": { "$in": "$identity.organizations" } }] });
        let scope = scope.expect("a scope");
        let bind = |identity: &str, organizations: &[&str]| {
            scope.bind(&Bindings { identity, organizations, now: Timestamp(0) }).expect("a filter")
        };
        for _ in 0..2 {
            for (identity, organizations) in [("a", &["b", "c"][..]), ("a", &["b"]), ("b", &[]), ("a", &[])] {
                let filter = bind(identity, organizations);
                for owner in ["a", "b", "c"] {
                    let own = owner == identity || organizations.contains(&owner);
                    assert_eq!(filter.matches(&rawdoc! { "o": owner }), own, "{identity} {organizations:?} {owner}");
                }
            }
        }
        assert!(Arc::ptr_eq(&bind("a", &["b"]), &bind("a", &["b"])));
        for n in 0..REMEMBERED + 10 {
            bind(&n.to_string(), &[]);
        }
        let Bound::Each { known, .. } = &scope.bound else { panic!("nothing is remembered") };
        assert!(known.read().unwrap_or_else(PoisonError::into_inner).len() <= REMEMBERED);
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
