//! What a write must satisfy beside its own preconditions: the caller's scope and the collection's schema, judged
//! by the store inside its transaction.

use crate::{
    base::{fault::Fault, metrics::runtime::Looks},
    domain::{collection::Definition, limits, schema::Schema, sealing::Sealing},
    ports::{
        self,
        documents::{COLLECTIONS, Check, Documents},
    },
    services::{Error, Result, access::Grant, audit::grounds, sealing::Sealer},
};
use bson::{RawDocument, RawDocumentBuf};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The keys by which a judgement says more than "invalid".
const HIDDEN: &str = "documents.missing";
const OUTSIDE: &str = "documents.outside";
const READ_ONLY: &str = "documents.read_only";
const FIELD: &str = "access.field_write";
/// The collection was altered between the draft of a write and its turn, or while it was read.
pub(super) const ALTERED: &str = "documents.definition_changed";
const ERASING: &str = "sealing.erasing";

/// What a collection demands of its documents.
pub(super) struct Rules {
    pub schema: Option<Schema>,
    pub sealing: Sealing,
    /// Readings are told to the audit log.
    pub audited: bool,
    /// The catalogue's document they are made of.
    definition: RawDocumentBuf,
    document_bytes: usize,
}

/// Compiled rules by collection, good as long as the definition's bytes are the same.
#[derive(Default)]
pub(super) struct RulesCache {
    known: RwLock<HashMap<String, (RawDocumentBuf, Arc<Rules>)>>,
    pub looks: Arc<Looks>,
}

impl RulesCache {
    pub async fn of(&self, store: &dyn Documents, collection: &str, document_bytes: usize) -> Result<Arc<Rules>> {
        let Some(definition) = store.get(COLLECTIONS, collection).await? else {
            return Err(Error::NotFound(Fault::new("collections.unknown").with("collection", collection)));
        };
        let cached = self.known.read().unwrap_or_else(PoisonError::into_inner).get(collection).cloned();
        match cached {
            Some((same, rules)) if same == definition => {
                self.looks.hit();
                Ok(rules)
            }
            _ => {
                self.looks.missed();
                let internal = |fault| Error::Internal(Box::new(fault));
                let read = Definition::read(collection, &definition).map_err(internal)?;
                let (sealing, audited) = (Sealing::of(&read), read.audits_reads());
                let schema = read.schema.map(|schema| Schema::compile(&schema)).transpose().map_err(internal)?;
                let rules =
                    Arc::new(Rules { schema, sealing, audited, definition: definition.clone(), document_bytes });
                let entry = (definition, rules.clone());
                self.known.write().unwrap_or_else(PoisonError::into_inner).insert(collection.to_owned(), entry);
                Ok(rules)
            }
        }
    }
}

/// One operation's judge. A grant that is absent is a right the caller has not.
#[derive(Clone)]
pub(super) struct Judged {
    pub id: String,
    /// What may be made.
    pub creates: Option<Arc<Grant>>,
    /// What may be changed or deleted, before and after.
    pub changes: Option<Arc<Grant>>,
    /// What may be seen: the rest is not there.
    pub views: Option<Arc<Grant>>,
    pub rules: Arc<Rules>,
}

pub(super) struct Judge {
    pub judged: Vec<Judged>,
    pub sealer: Arc<Sealer>,
}

impl Judge {
    fn of(&self, operation: usize) -> std::result::Result<&Judged, Fault> {
        self.judged.get(operation).ok_or_else(|| Fault::new(OUTSIDE).with("operation", operation))
    }

    /// How the operation's documents are sealed, where they are.
    fn sealing(&self, operation: usize) -> std::result::Result<Option<&Sealing>, Fault> {
        let sealing = &self.of(operation)?.rules.sealing;
        Ok((!sealing.is_nothing()).then_some(sealing))
    }

    /// The policies by which the operations are allowed, with their versions.
    pub fn grounds(&self) -> String {
        let grants = self.judged.iter().flat_map(|judged| [&judged.creates, &judged.changes]).flatten();
        let mut policies: Vec<String> = grants.flat_map(|grant| grant.grounds()).collect();
        policies.sort_unstable();
        policies.dedup();
        grounds(&policies.join(","))
    }
}

impl Check for Judge {
    fn drafted(&self, operation: usize, definition: &RawDocument) -> std::result::Result<(), Fault> {
        let Rules { sealing, definition: known, .. } = &*self.of(operation)?.rules;
        let placed = |fault: Fault| fault.with("operation", operation);
        let name = definition.get_str("_id").unwrap_or_default();
        let same = known.as_bytes() == definition.as_bytes()
            || *sealing == Sealing::of(&Definition::read(name, definition).map_err(placed)?);
        if same { Ok(()) } else { Err(placed(Fault::new(ALTERED).with("collection", name))) }
    }

    fn admit(&self, operation: usize, stored: &RawDocument) -> std::result::Result<(), Fault> {
        let opened = self.open(operation, stored)?;
        let before = opened.as_deref().unwrap_or(stored);
        self.of(operation)?.admit(before).map(drop).map_err(|fault| fault.with("operation", operation))
    }

    fn open(&self, operation: usize, stored: &RawDocument) -> std::result::Result<Option<RawDocumentBuf>, Fault> {
        let Some(sealing) = self.sealing(operation)? else { return Ok(None) };
        sealing.open(stored, &*self.sealer).map(Some).map_err(|fault| fault.with("operation", operation))
    }

    fn seal(
        &self,
        operation: usize,
        stored: Option<&RawDocument>,
        after: &RawDocument,
    ) -> std::result::Result<Option<RawDocumentBuf>, Fault> {
        let Some(sealing) = self.sealing(operation)? else { return Ok(None) };
        sealing.seal(after, stored, &*self.sealer).map(Some).map_err(|fault| fault.with("operation", operation))
    }

    fn judge(
        &self,
        operation: usize,
        before: Option<&RawDocument>,
        after: Option<&RawDocument>,
    ) -> std::result::Result<(), Fault> {
        self.of(operation)?.judge(before, after).map_err(|fault| fault.with("operation", operation))
    }

    fn conclude(&self) -> std::result::Result<(), Fault> {
        self.sealer.conclude()
    }
}

impl Judged {
    /// What covers a document that is there.
    fn admit(&self, before: &RawDocument) -> std::result::Result<&Arc<Grant>, Fault> {
        let refused = |key| Fault::new(key).with("id", &self.id);
        let grant = self.changes.as_ref().ok_or_else(|| refused(HIDDEN))?;
        if grant.scope.matches(before) {
            return Ok(grant);
        }
        let seen = self.views.as_ref().is_some_and(|views| views.scope.matches(before));
        Err(refused(if seen { READ_ONLY } else { HIDDEN }))
    }

    fn judge(&self, before: Option<&RawDocument>, after: Option<&RawDocument>) -> std::result::Result<(), Fault> {
        let refused = |key| Fault::new(key).with("id", &self.id);
        let grant = match before {
            Some(before) => self.admit(before)?,
            None => self.creates.as_ref().ok_or_else(|| refused(HIDDEN))?,
        };
        let Some(after) = after else { return Ok(()) };
        if !grant.scope.matches(after) {
            return Err(refused(OUTSIDE));
        }
        if let Some(path) = grant.bars_change(before, after) {
            return Err(Fault::new(FIELD).at(path.clone()).with("field", path));
        }
        limits::check(after, self.rules.document_bytes)?;
        match &self.rules.schema {
            Some(schema) => schema.check(after),
            None => Ok(()),
        }
    }
}

/// A store's refusal of a write, in the services' words.
pub(super) fn refusal(error: ports::Error) -> Error {
    match error {
        ports::Error::Rejected(fault) if fault.key == HIDDEN => Error::NotFound(fault),
        ports::Error::Rejected(fault) if [OUTSIDE, READ_ONLY, FIELD].contains(&fault.key) => Error::Barred(fault),
        ports::Error::Rejected(fault) if ["documents.too_large", "documents.batch_bytes"].contains(&fault.key) => {
            Error::TooLarge(fault)
        }
        ports::Error::Rejected(fault) if [ALTERED, ERASING].contains(&fault.key) => Error::Conflict(fault),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{access::grant, sealing::Seals};
    use bson::rawdoc;

    fn judged(creates: bool) -> Judged {
        let scope = Arc::new(grant(&[(rawdoc! { "team": "a" }, rawdoc! { "write": ["team", "n"] })]));
        let definition = RawDocumentBuf::new();
        let sealing = Sealing::of(&Definition::read("c", &definition).unwrap());
        let rules =
            Arc::new(Rules { schema: None, sealing, audited: false, definition, document_bytes: limits::DOCUMENT });
        Judged { id: "x".to_owned(), creates: creates.then(|| scope.clone()), changes: Some(scope), views: None, rules }
    }

    #[test]
    fn both_states_of_a_write_are_within_the_scope() {
        let (ours, theirs) = (rawdoc! { "team": "a" }, rawdoc! { "team": "b" });
        let judge = |before: Option<&RawDocumentBuf>, after: Option<&RawDocumentBuf>| {
            let judged = judged(true).judge(before.map(|document| &**document), after.map(|document| &**document));
            judged.map_err(|fault| fault.key)
        };
        assert_eq!(judge(None, Some(&ours)), Ok(()));
        assert_eq!(judge(None, Some(&theirs)), Err(OUTSIDE));
        assert_eq!(judge(Some(&ours), Some(&ours)), Ok(()));
        assert_eq!(judge(Some(&ours), Some(&theirs)), Err(OUTSIDE));
        // What the caller cannot see is not there, whatever is to become of it.
        assert_eq!(judge(Some(&theirs), Some(&ours)), Err(HIDDEN));
        assert_eq!(judge(Some(&theirs), None), Err(HIDDEN));
        assert_eq!(judge(Some(&ours), None), Ok(()));
    }

    #[test]
    fn a_write_touches_open_fields_alone() {
        let judge = |before: Option<RawDocumentBuf>, after: RawDocumentBuf| {
            judged(true).judge(before.as_deref(), Some(&after)).map_err(|fault| (fault.key, fault.path))
        };
        let barred = || Err((FIELD, "salary".to_owned()));
        assert_eq!(judge(None, rawdoc! { "team": "a", "n": 1 }), Ok(()));
        assert_eq!(judge(None, rawdoc! { "team": "a", "salary": 1 }), barred());
        let before = || Some(rawdoc! { "team": "a", "salary": 1 });
        assert_eq!(judge(before(), rawdoc! { "team": "a", "salary": 1, "n": 2 }), Ok(()));
        assert_eq!(judge(before(), rawdoc! { "team": "a", "salary": 2 }), barred());
        assert_eq!(judge(before(), rawdoc! { "team": "a" }), barred());
    }

    #[test]
    fn what_is_seen_and_not_changed_is_said_to_be_so() {
        let views = Arc::new(grant(&[(rawdoc! {}, rawdoc! {})]));
        let judged = Judged { views: Some(views), ..judged(true) };
        let theirs = rawdoc! { "team": "b" };
        assert_eq!(judged.judge(Some(&theirs), Some(&theirs)).map_err(|fault| fault.key), Err(READ_ONLY));
    }

    #[test]
    fn who_may_only_change_makes_nothing() {
        let ours = rawdoc! { "team": "a" };
        assert_eq!(judged(false).judge(None, Some(&ours)).map_err(|fault| fault.key), Err(HIDDEN));
        assert!(judged(false).judge(Some(&ours), Some(&ours)).is_ok());
    }

    #[tokio::test]
    async fn a_write_drafted_under_another_sealing_is_turned_away() {
        let definition = |document: RawDocumentBuf| {
            let mut named = rawdoc! { "_id": "c" };
            document.iter().flatten().for_each(|(name, value)| named.append(name, value));
            named
        };
        let sealed = definition(rawdoc! { "classes": { "a": "restricted" } });
        let sealing = Sealing::of(&Definition::read("c", &sealed).unwrap());
        let (audited, document_bytes) = (false, limits::DOCUMENT);
        let rules = Rules { schema: None, sealing, audited, definition: sealed.clone(), document_bytes };
        let judged = Judged { rules: Arc::new(rules), ..judged(true) };
        let backend = redb::backends::InMemoryBackend::new();
        let clock = Arc::new(crate::base::clock::SystemClock);
        let store =
            crate::backends::documents::embedded::Embedded::open_over(backend, Default::default(), clock.clone());
        let seals = Arc::new(Seals::open(Arc::new(store.unwrap()), clock).await.unwrap());
        let judge = Judge { judged: vec![judged], sealer: Arc::new(Sealer::new(seals)) };
        let drafted = |document: RawDocumentBuf| judge.drafted(0, &document).map_err(|fault| fault.key);
        assert_eq!(drafted(sealed), Ok(()));
        let schema = rawdoc! { "classes": { "a": "confidential", "b": "internal" }, "schema": {}, "indexes": ["b"] };
        assert_eq!(drafted(definition(schema)), Ok(()), "nothing of its sealing changed");
        for other in [
            rawdoc! {},
            rawdoc! { "classes": { "a": "restricted", "b": "restricted" } },
            rawdoc! { "classes": { "a": "restricted" }, "indexes": ["_hashes.a"] },
            rawdoc! { "classes": { "a": "restricted" }, "subject": "b" },
        ] {
            assert_eq!(drafted(definition(other)), Err(ALTERED));
        }
        assert!(matches!(refusal(ports::Error::Rejected(Fault::new(ALTERED))), Error::Conflict(_)));
    }

    #[test]
    fn refusals_say_no_more_than_they_should() {
        let refused = |key| refusal(ports::Error::Rejected(Fault::new(key)));
        assert!(matches!(refused(HIDDEN), Error::NotFound(_)));
        assert!(matches!(refused(OUTSIDE), Error::Barred(_)));
        assert!(matches!(refused(FIELD), Error::Barred(_)));
        assert!(matches!(refused("documents.too_large"), Error::TooLarge(_)));
        assert!(matches!(refused("documents.batch_bytes"), Error::TooLarge(_)));
        assert!(matches!(refused("schema.type"), Error::Invalid(_)));
    }
}
