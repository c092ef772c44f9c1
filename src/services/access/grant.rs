//! What was allowed: which documents, which of their fields, and by which policies.

use crate::{
    base::fault::Fault,
    domain::{
        filter::Filter,
        path::Path,
        policy::{Clause, Mask, changed, shown},
        sort::Sort,
    },
    services::{Error, Result},
};
use bson::RawDocument;
use std::{borrow::Cow, sync::Arc};

#[derive(Debug, Clone)]
pub struct Grant {
    /// The documents, whatever the fields: and-ed into every read, checked on both states of every write.
    pub scope: Arc<Filter>,
    /// What each policy allows. Empty for who needs none: the machine's own root, the appliance itself.
    clauses: Vec<Clause>,
}

impl Grant {
    pub fn everything() -> Self {
        Self { scope: Arc::new(Filter::all()), clauses: Vec::new() }
    }

    /// `None`: no policy allowed anything.
    pub fn new(clauses: Vec<Clause>) -> Option<Self> {
        let scope = any_of(clauses.iter())?;
        Some(Self { scope, clauses })
    }

    /// The policies behind it, with their versions.
    pub fn grounds(&self) -> impl Iterator<Item = String> {
        self.clauses.iter().map(|clause| clause.policy.version())
    }

    /// The policies that allow it, as a list.
    pub fn named(&self) -> String {
        listed(self.grounds())
    }

    /// Those of them that cover a document.
    pub fn grounds_of(&self, document: &RawDocument) -> String {
        let covering = self.clauses.iter().filter(|clause| clause.scope.matches(document));
        listed(covering.map(|clause| clause.policy.version()))
    }

    /// Every document, whole.
    pub fn is_everything(&self) -> bool {
        is_all(&self.scope) && !self.masks_reads()
    }

    fn masks_reads(&self) -> bool {
        self.clauses.iter().any(|clause| !clause.read().is_everything())
    }

    /// Whether some field of some document it covers is out of reach of writes.
    pub fn masks_writes(&self) -> bool {
        self.clauses.iter().any(|clause| !clause.write().is_everything())
    }

    /// What is asked, within what is allowed. A policy counts where it opens every field that the filter and the
    /// sort name: what is hidden cannot be felt for. None does: the field is told back.
    pub fn narrow(&self, asked: Filter, sort: &Sort) -> Result<Filter> {
        if self.clauses.is_empty() {
            return Ok(asked);
        }
        let mut barred = None;
        let mut opens = |mask: &Mask| {
            let named = asked.names(&|path| mask.opens(path));
            let sorted = || sort.0.iter().find(|(path, _)| !mask.opens(path)).map(|(path, _)| path.clone());
            let shut = named.err().or_else(sorted);
            let open = shut.is_none();
            barred = barred.take().or(shut);
            open
        };
        match any_of(self.clauses.iter().filter(|clause| opens(clause.read()))) {
            Some(scope) if is_all(&scope) => Ok(asked),
            Some(scope) => Ok(Filter::And(vec![(*scope).clone(), asked])),
            None => Err(Error::Barred(field("access.field_read", barred.as_ref()))),
        }
    }

    /// Whether a path may be read in every document it covers.
    pub fn reads(&self, path: &Path) -> bool {
        self.clauses.iter().all(|clause| clause.read().opens(path))
    }

    /// Whether a path may be written in every document it covers.
    pub fn writes(&self, path: &Path) -> bool {
        self.clauses.iter().all(|clause| clause.write().opens(path))
    }

    /// What is shown of a document; `None`: it is out of sight.
    pub fn show<'a>(&self, document: &'a RawDocument) -> Option<Cow<'a, RawDocument>> {
        if !self.masks_reads() {
            return self.scope.matches(document).then_some(Cow::Borrowed(document));
        }
        let masks: Vec<_> =
            self.clauses.iter().filter(|clause| clause.scope.matches(document)).map(Clause::read).collect();
        match masks.as_slice() {
            [] => None,
            masks if masks.iter().any(|mask| mask.is_everything()) => Some(Cow::Borrowed(document)),
            masks => Some(Cow::Owned(shown(document, masks))),
        }
    }

    /// What is shown of documents that a filter of [`Grant::narrow`] found.
    pub fn show_all(&self, documents: &mut [bson::RawDocumentBuf]) {
        if self.masks_reads() {
            for document in documents {
                let shown = self.show(document).map(Cow::into_owned).unwrap_or_default();
                *document = shown;
            }
        }
    }

    /// The first field by which two states of a document differ that may not be written, judged by the policies
    /// that cover both states. `before` is absent for a creation.
    pub fn bars_change(&self, before: Option<&RawDocument>, after: &RawDocument) -> Option<String> {
        if !self.masks_writes() {
            return None;
        }
        let masks = |state: &RawDocument| -> Vec<&Mask> {
            self.clauses.iter().filter(|clause| clause.scope.matches(state)).map(Clause::write).collect()
        };
        let of_after = changed(before, after, &masks(after));
        of_after.or_else(|| before.and_then(|before| changed(Some(before), after, &masks(before))))
    }
}

fn listed(policies: impl Iterator<Item = String>) -> String {
    policies.collect::<Vec<_>>().join(",")
}

fn any_of<'a>(clauses: impl Iterator<Item = &'a Clause>) -> Option<Arc<Filter>> {
    let scopes: Vec<_> = clauses.map(|clause| &clause.scope).collect();
    match scopes.as_slice() {
        [] => None,
        [one] => Some((*one).clone()),
        many => Some(match many.iter().find(|scope| is_all(scope)) {
            Some(all) => (**all).clone(),
            None => Arc::new(Filter::Or(many.iter().map(|scope| (***scope).clone()).collect())),
        }),
    }
}

fn is_all(filter: &Filter) -> bool {
    matches!(filter, Filter::And(parts) if parts.is_empty())
}

fn field(key: &'static str, path: Option<&Path>) -> Fault {
    let path = path.map(ToString::to_string).unwrap_or_default();
    Fault::new(key).at(path.clone()).with("field", path)
}

#[cfg(test)]
pub(in crate::services) mod tests {
    use super::*;
    use bson::{RawDocumentBuf, rawdoc};

    /// One policy for each `(where, fields)`.
    pub(in crate::services) fn grant(parts: &[(RawDocumentBuf, RawDocumentBuf)]) -> Grant {
        use crate::{
            base::{clock::Timestamp, environment::Environment},
            domain::policy::{Action, Facts, Policy, PolicySet, Resource},
        };
        let policies = parts.iter().enumerate().map(|(place, (scope, fields))| {
            let policy = rawdoc! {
                "collection": "c", "action": "VIEW", "roles": ["identity"],
                "where": scope.clone(), "fields": fields.clone(),
            };
            Policy::read(&format!("p{place}"), &policy).unwrap()
        });
        let (environment, now) = (Environment::Development, Timestamp(0));
        let (roles, memberships) = (&[], &[]);
        let facts = Facts { identity: "me", roles, memberships, restriction: None, trust: 50, environment, now };
        Grant::new(PolicySet::new(policies).decide(&facts, Action::View, Resource::Collection("c"))).unwrap()
    }

    fn filter(filter: RawDocumentBuf) -> Filter {
        Filter::parse(&filter).unwrap()
    }

    #[test]
    fn the_scope_narrows_whatever_is_asked() {
        let grant = grant(&[(rawdoc! { "team": "a" }, rawdoc! {})]);
        for asked in [rawdoc! {}, rawdoc! { "$or": [{ "team": "b" }, { "n": 1 }] }, rawdoc! { "team": "b" }] {
            let narrowed = grant.narrow(filter(asked.clone()), &Sort::default()).unwrap();
            assert!(!narrowed.matches(&rawdoc! { "team": "b", "n": 1 }), "{asked:?}");
        }
        let narrowed = grant.narrow(filter(rawdoc! { "n": 1 }), &Sort::default()).unwrap();
        assert!(narrowed.matches(&rawdoc! { "team": "a", "n": 1 }));
    }

    #[test]
    fn hidden_fields_cannot_be_felt_for() {
        // Team a is seen whole, team b without its salaries.
        let grant =
            grant(&[(rawdoc! { "team": "a" }, rawdoc! {}), (rawdoc! { "team": "b" }, rawdoc! { "read": ["-salary"] })]);
        let (a, b) = (rawdoc! { "team": "a", "salary": 9 }, rawdoc! { "team": "b", "salary": 9 });
        let plain = grant.narrow(filter(rawdoc! {}), &Sort::default()).unwrap();
        assert!(plain.matches(&a) && plain.matches(&b));
        for asked in [
            rawdoc! { "salary": 9 },
            rawdoc! { "salary": { "$not": { "$lt": 5 } } },
            rawdoc! { "$nor": [{ "salary": 8 }] },
            rawdoc! { "$or": [{ "team": "b" }, { "salary": { "$exists": true } }] },
        ] {
            let narrowed = grant.narrow(filter(asked.clone()), &Sort::default()).unwrap();
            assert!(narrowed.matches(&a) && !narrowed.matches(&b), "{asked:?}");
        }
        let sorted = grant.narrow(filter(rawdoc! {}), &Sort::parse_text("-salary").unwrap()).unwrap();
        assert!(sorted.matches(&a) && !sorted.matches(&b));
        assert_eq!(grant.show(&a).as_deref(), Some(&*a));
        assert_eq!(grant.show(&b).as_deref(), Some(&*rawdoc! { "team": "b" }));
        assert_eq!(grant.show(&rawdoc! { "team": "c" }), None);
    }

    #[test]
    fn a_field_no_policy_opens_is_told_back() {
        let grant = grant(&[(rawdoc! {}, rawdoc! { "read": ["name", "visits.at"] })]);
        let barred =
            |asked: RawDocumentBuf, sort: &str| match grant.narrow(filter(asked), &Sort::parse_text(sort).unwrap()) {
                Err(Error::Barred(fault)) => Some(fault.path),
                _ => None,
            };
        assert_eq!(barred(rawdoc! { "name": "x", "salary": 1 }, ""), Some("salary".to_owned()));
        assert_eq!(
            barred(rawdoc! { "visits": { "$elemMatch": { "at": 1, "why": 2 } } }, ""),
            Some("visits.why".to_owned())
        );
        assert_eq!(barred(rawdoc! { "visits": { "$elemMatch": {} } }, ""), Some("visits".to_owned()));
        assert_eq!(barred(rawdoc! { "visits": { "$size": 2 } }, ""), Some("visits".to_owned()));
        assert_eq!(barred(rawdoc! {}, "salary"), Some("salary".to_owned()));
        assert_eq!(barred(rawdoc! { "name": "x", "visits": { "$elemMatch": { "at": 1 } } }, "name"), None);
    }
}
