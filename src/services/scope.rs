//! A write held to its caller's scope, on the state before and the one after, inside the store's transaction.

use super::Error;
use crate::{
    base::fault::Fault,
    domain::filter::Filter,
    ports::{self, documents::Check},
};
use bson::RawDocument;
use std::sync::Arc;

const HIDDEN: &str = "documents.missing";
const OUTSIDE: &str = "documents.outside";

/// The scope of each operation of a batch; `None`: the appliance's own part of it.
pub(super) struct Scopes(pub Vec<Option<Arc<Filter>>>);

impl Scopes {
    fn hold(&self, operation: usize, state: &RawDocument, fault: &'static str) -> std::result::Result<(), Fault> {
        let Some(scope) = self.0.get(operation) else { return Err(Fault::new(OUTSIDE)) };
        match scope.as_ref().is_none_or(|scope| scope.matches(state)) {
            true => Ok(()),
            false => Err(Fault::new(fault).with("operation", operation)),
        }
    }
}

impl Check for Scopes {
    fn admit(&self, operation: usize, stored: &RawDocument) -> std::result::Result<(), Fault> {
        self.hold(operation, stored, HIDDEN)
    }

    fn judge(
        &self,
        operation: usize,
        before: Option<&RawDocument>,
        after: Option<&RawDocument>,
    ) -> std::result::Result<(), Fault> {
        before.map_or(Ok(()), |before| self.hold(operation, before, HIDDEN))?;
        after.map_or(Ok(()), |after| self.hold(operation, after, OUTSIDE))
    }
}

/// A store's refusal in the services' words; `missing`: what is told of something hidden or absent.
pub(super) fn refusal(error: ports::Error, missing: impl FnOnce() -> Error) -> Error {
    match error {
        ports::Error::Rejected(fault) if fault.key == HIDDEN => missing(),
        ports::Error::Conflict(ports::documents::Conflict::Missing { .. }) => missing(),
        ports::Error::Rejected(fault) if fault.key == OUTSIDE => Error::Forbidden,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawDocumentBuf, rawdoc};

    #[test]
    fn both_states_are_within_the_scope() {
        let scopes = Scopes(vec![Some(Arc::new(Filter::parse(&rawdoc! { "team": "a" }).unwrap())), None]);
        let (ours, theirs) = (rawdoc! { "team": "a" }, rawdoc! { "team": "b" });
        let judge = |operation, before: Option<&RawDocumentBuf>, after: Option<&RawDocumentBuf>| {
            let judged = scopes.judge(operation, before.map(|state| &**state), after.map(|state| &**state));
            judged.map_err(|fault| fault.key)
        };
        assert_eq!(judge(0, None, Some(&ours)), Ok(()));
        assert_eq!(judge(0, Some(&ours), Some(&theirs)), Err(OUTSIDE));
        assert_eq!(judge(0, Some(&theirs), Some(&ours)), Err(HIDDEN));
        assert_eq!(judge(0, Some(&theirs), None), Err(HIDDEN));
        assert_eq!(judge(1, Some(&theirs), Some(&theirs)), Ok(()));
        assert_eq!(judge(2, None, Some(&ours)), Err(OUTSIDE), "an operation nobody judged");
        // Before a precondition or a change could fail and tell of it.
        assert_eq!(scopes.admit(0, &theirs).map_err(|fault| fault.key), Err(HIDDEN));
        assert_eq!(scopes.admit(0, &ours), Ok(()));
    }
}
