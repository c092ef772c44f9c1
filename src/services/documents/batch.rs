//! Several operations, over any collections, all or nothing.

use super::{
    Attempt, Documents, Written,
    rules::refusal,
    write::{Draft, Target, failed_operation},
};
use crate::{
    base::fault::Fault,
    domain::document::{SystemFields, malformed},
    ports::documents::Expect,
    services::{
        Error, Result,
        access::{Action, Caller},
    },
};
use bson::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf};
use std::collections::HashMap;

/// Operations of a batch.
pub const MOST_OPERATIONS: usize = 1000;

/// One operation: `{action, collection, id?, document? | patch?, rev?}`.
#[derive(Debug, Clone)]
pub struct Item {
    collection: String,
    deed: Deed,
    id: Option<String>,
    content: RawDocumentBuf,
    revision: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Replace,
    Patch,
    Delete,
}

impl Item {
    pub fn read_all(array: &RawArray) -> Result<Vec<Self>> {
        let mut items = Vec::new();
        for (place, value) in array.into_iter().enumerate() {
            if items.len() == MOST_OPERATIONS {
                return Err(Error::TooLarge(Fault::new("batch.count").at("operations").with("limit", MOST_OPERATIONS)));
            }
            let value = value.map_err(malformed).map_err(Error::Invalid)?;
            let RawBsonRef::Document(document) = value else {
                return Err(Error::Invalid(under(Fault::new("batch.item"), place)));
            };
            items.push(Self::read(document).map_err(|fault| Error::Invalid(under(fault, place)))?);
        }
        Ok(items)
    }

    fn read(document: &RawDocument) -> std::result::Result<Self, Fault> {
        let (mut deed, mut collection, mut id, mut content, mut revision) = (None, None, None, None, None);
        for entry in document {
            let (name, value) = entry.map_err(malformed)?;
            match (name.as_str(), value) {
                ("action", RawBsonRef::String(name)) => deed = Deed::from_name(name),
                ("collection", RawBsonRef::String(name)) => collection = Some(name.to_owned()),
                ("id", RawBsonRef::String(given)) => id = Some(given.to_owned()),
                ("document" | "patch", RawBsonRef::Document(given)) => content = Some((name, given.to_owned())),
                ("rev", RawBsonRef::Int32(given)) => revision = Some(given.into()),
                ("rev", RawBsonRef::Int64(given)) => revision = Some(given),
                (other, _) => return Err(Fault::new("batch.field").at(other)),
            }
        }
        let deed = deed.ok_or_else(|| Fault::new("batch.action").at("action"))?;
        let collection = collection.ok_or_else(|| Fault::new("batch.missing").at("collection"))?;
        match (deed, &id, revision) {
            (Deed::Create, Some(_), _) => return Err(Fault::new("batch.field").at("id")),
            (Deed::Create, _, Some(_)) => return Err(Fault::new("batch.field").at("rev")),
            (Deed::Create, ..) | (_, Some(_), _) => {}
            (_, None, _) => return Err(Fault::new("batch.missing").at("id")),
        }
        let content = match (deed.content(), content) {
            (Some(wanted), Some((name, content))) if name.as_str() == wanted => content,
            (Some(wanted), _) => return Err(Fault::new("batch.missing").at(wanted)),
            (None, Some((name, _))) => return Err(Fault::new("batch.field").at(name.as_str())),
            (None, None) => RawDocumentBuf::new(),
        };
        Ok(Self { collection, deed, id, content, revision })
    }

    fn draft(&self, target: &Target<'_>) -> Result<Draft> {
        let id = self.id.as_deref().unwrap_or_default();
        let mut draft = match self.deed {
            Deed::Create => target.create(&self.content, SystemFields::Refuse)?,
            Deed::Replace => target.replace(Some(id), &self.content, SystemFields::Refuse)?,
            Deed::Patch => target.patch(id, &self.content)?,
            Deed::Delete => target.delete(id)?,
        };
        if let Some(revision) = self.revision {
            draft.operation.expect = Expect::Revision(revision);
        }
        Ok(draft)
    }
}

impl Deed {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "create" => Some(Self::Create),
            "replace" => Some(Self::Replace),
            "patch" => Some(Self::Patch),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }

    /// The field that carries what to write.
    fn content(self) -> Option<&'static str> {
        match self {
            Self::Create | Self::Replace => Some("document"),
            Self::Patch => Some("patch"),
            Self::Delete => None,
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Create => Action::Create,
            Self::Replace | Self::Patch => Action::Update,
            Self::Delete => Action::Delete,
        }
    }
}

impl Documents {
    pub async fn batch(&self, caller: &Caller, items: &[Item], attempt: Option<Attempt<'_>>) -> Result<Vec<Written>> {
        let mut targets: HashMap<&str, Target<'_>> = HashMap::new();
        let mut drafts = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let collection = item.collection.as_str();
            if !targets.contains_key(collection) {
                let target = self.target(caller, collection, item.deed.action()).await;
                targets.insert(collection, target.map_err(|error| placed(error, place))?);
            }
            if let Some(target) = targets.get(collection) {
                drafts.push(item.draft(target).map_err(|error| placed(error, place))?);
            }
        }
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let committed = self.commit(caller, drafts, attempt).await.map_err(|error| match failed_operation(&error) {
            Some(place) => placed(refusal(error), place),
            None => refusal(error),
        })?;
        // Ids and revisions alone are told: the documents are as they are stored.
        Ok(committed.outcomes.into_iter().map(|outcome| Written { document: None, ..outcome.into() }).collect())
    }
}

fn placed(error: Error, place: usize) -> Error {
    error.map_fault(|fault| under(fault, place))
}

fn under(fault: Fault, place: usize) -> Fault {
    let path = match fault.path.as_str() {
        "" => format!("operations.{place}"),
        path => format!("operations.{place}.{path}"),
    };
    fault.at(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawArrayBuf, rawdoc};

    fn fault(item: RawDocumentBuf) -> (&'static str, String) {
        let mut items = RawArrayBuf::new();
        items.push(rawdoc! { "action": "delete", "collection": "c", "id": "x", "rev": 2 });
        items.push(item);
        match Item::read_all(&items) {
            Err(Error::Invalid(fault)) => (fault.key, fault.path),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_with_an_item_is_placed() {
        let at = |path: &str| format!("operations.1.{path}");
        assert_eq!(fault(rawdoc! { "action": "erase" }), ("batch.action", at("action")));
        assert_eq!(fault(rawdoc! { "action": "delete", "id": "x" }), ("batch.missing", at("collection")));
        assert_eq!(fault(rawdoc! { "action": "delete", "collection": "c" }), ("batch.missing", at("id")));
        let patch = rawdoc! { "action": "patch", "collection": "c", "id": "x", "document": {} };
        assert_eq!(fault(patch), ("batch.missing", at("patch")));
        let create = rawdoc! { "action": "create", "collection": "c", "id": "x", "document": {} };
        assert_eq!(fault(create), ("batch.field", at("id")));
        let extra = rawdoc! { "action": "delete", "collection": "c", "id": "x", "document": {} };
        assert_eq!(fault(extra), ("batch.field", at("document")));
    }

    #[test]
    fn a_thousand_and_no_more() {
        let mut items = RawArrayBuf::new();
        (0..MOST_OPERATIONS).for_each(|_| items.push(rawdoc! { "action": "delete", "collection": "c", "id": "x" }));
        assert_eq!(Item::read_all(&items).unwrap().len(), MOST_OPERATIONS);
        items.push(rawdoc! { "action": "delete", "collection": "c", "id": "x" });
        assert!(matches!(Item::read_all(&items), Err(Error::TooLarge(_))));
    }
}
