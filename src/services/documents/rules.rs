//! What a write must satisfy beside its own preconditions: the caller's scope and the collection's schema, judged
//! by the store inside its transaction.

use crate::{
    base::fault::Fault,
    domain::{collection::Definition, filter::Filter, limits, schema::Schema},
    ports::{
        self,
        documents::{COLLECTIONS, Check, Documents},
    },
    services::{Error, Result},
};
use bson::{RawDocument, RawDocumentBuf};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The keys by which a judgement says more than "invalid".
const HIDDEN: &str = "documents.missing";
const OUTSIDE: &str = "documents.outside";

/// What a collection demands of its documents.
pub(super) struct Rules {
    pub schema: Option<Schema>,
    document_bytes: usize,
}

/// Compiled rules by collection, good as long as the definition's bytes are the same.
#[derive(Default)]
pub(super) struct RulesCache(RwLock<HashMap<String, (RawDocumentBuf, Arc<Rules>)>>);

impl RulesCache {
    pub async fn of(&self, store: &dyn Documents, collection: &str, document_bytes: usize) -> Result<Arc<Rules>> {
        let Some(definition) = store.get(COLLECTIONS, collection).await? else {
            return Err(Error::NotFound(Fault::new("collections.unknown").with("collection", collection)));
        };
        let cached = self.0.read().unwrap_or_else(PoisonError::into_inner).get(collection).cloned();
        match cached {
            Some((same, rules)) if same == definition => Ok(rules),
            _ => {
                let internal = |fault| Error::Internal(Box::new(fault));
                let schema = Definition::read(collection, &definition).map_err(internal)?.schema;
                let schema = schema.map(|schema| Schema::compile(&schema)).transpose().map_err(internal)?;
                let rules = Arc::new(Rules { schema, document_bytes });
                let entry = (definition, rules.clone());
                self.0.write().unwrap_or_else(PoisonError::into_inner).insert(collection.to_owned(), entry);
                Ok(rules)
            }
        }
    }
}

/// One operation's judge. A scope that is absent is a right the caller has not.
#[derive(Clone)]
pub(super) struct Judged {
    pub id: String,
    /// What may be made.
    pub creates: Option<Arc<Filter>>,
    /// What may be changed or deleted, before and after.
    pub changes: Option<Arc<Filter>>,
    pub rules: Arc<Rules>,
}

pub(super) struct Judge(pub Vec<Judged>);

impl Check for Judge {
    fn judge(
        &self,
        operation: usize,
        before: Option<&RawDocument>,
        after: Option<&RawDocument>,
    ) -> std::result::Result<(), Fault> {
        let Some(judged) = self.0.get(operation) else {
            return Err(Fault::new(OUTSIDE).with("operation", operation));
        };
        judged.judge(before, after).map_err(|fault| fault.with("operation", operation))
    }
}

impl Judged {
    fn judge(&self, before: Option<&RawDocument>, after: Option<&RawDocument>) -> std::result::Result<(), Fault> {
        let scope = if before.is_some() { &self.changes } else { &self.creates };
        let hidden = || Fault::new(HIDDEN).with("id", &self.id);
        let scope = scope.as_ref().ok_or_else(hidden)?;
        if before.is_some_and(|before| !scope.matches(before)) {
            return Err(hidden());
        }
        let Some(after) = after else { return Ok(()) };
        limits::check(after, self.rules.document_bytes)?;
        if let Some(schema) = &self.rules.schema {
            schema.check(after)?;
        }
        if !scope.matches(after) {
            return Err(Fault::new(OUTSIDE).with("id", &self.id));
        }
        Ok(())
    }
}

/// A store's refusal of a write, in the services' words.
pub(super) fn refusal(error: ports::Error) -> Error {
    match error {
        ports::Error::Rejected(fault) if fault.key == HIDDEN => Error::NotFound(fault),
        ports::Error::Rejected(fault) if fault.key == OUTSIDE => Error::Forbidden,
        ports::Error::Rejected(fault) if ["documents.too_large", "documents.batch_bytes"].contains(&fault.key) => {
            Error::TooLarge(fault)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    fn judged(creates: bool) -> Judged {
        let scope = Arc::new(Filter::parse(&rawdoc! { "team": "a" }).unwrap());
        let rules = Arc::new(Rules { schema: None, document_bytes: limits::DOCUMENT });
        Judged { id: "x".to_owned(), creates: creates.then(|| scope.clone()), changes: Some(scope), rules }
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
    fn who_may_only_change_makes_nothing() {
        let ours = rawdoc! { "team": "a" };
        assert_eq!(judged(false).judge(None, Some(&ours)).map_err(|fault| fault.key), Err(HIDDEN));
        assert!(judged(false).judge(Some(&ours), Some(&ours)).is_ok());
    }

    #[test]
    fn refusals_say_no_more_than_they_should() {
        let refused = |key| refusal(ports::Error::Rejected(Fault::new(key)));
        assert!(matches!(refused(HIDDEN), Error::NotFound(_)));
        assert!(matches!(refused(OUTSIDE), Error::Forbidden));
        assert!(matches!(refused("documents.too_large"), Error::TooLarge(_)));
        assert!(matches!(refused("documents.batch_bytes"), Error::TooLarge(_)));
        assert!(matches!(refused("schema.type"), Error::Invalid(_)));
    }
}
