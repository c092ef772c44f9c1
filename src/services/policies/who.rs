//! Who: everyone who may do something to a document as things stand, and by which policies.

use super::Policies;
use crate::{
    base::fault::Fault,
    domain::{
        document::malformed,
        filter::Filter,
        policy::{Clause, Mask, PolicySet, hidden},
        sort::Sort,
    },
    ports::documents::Query,
    services::{
        Error, Result,
        access::{Action, Caller, Grant, Proven, Resource},
        audit::Event,
        documents::{Found, page_size},
        identities::{self, IDENTITIES, Identity},
        memberships::Memberships,
    },
};
use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};
use std::sync::Arc;

/// People of an answer: when nothing is said, and at most.
const PAGE: usize = 100;
const PAGE_MOST: usize = 1000;
/// Identities looked at for one answer, so many at once.
const MOST_EXAMINED: usize = 2000;
const AT_ONCE: usize = 200;
/// Fields told to be out of someone's reach.
const MOST_FIELDS: usize = 100;

/// What may be done to a document that is there.
const ACTIONS: [Action; 3] = [Action::View, Action::Update, Action::Delete];

/// `{collection, id, action?, limit?, cursor?}`.
#[derive(Debug, Clone)]
pub struct Whom {
    collection: String,
    id: String,
    action: Action,
    limit: usize,
    /// The last identity looked at.
    cursor: Option<String>,
}

impl Whom {
    pub fn read(document: &RawDocument) -> Result<Self> {
        let (mut collection, mut id, mut cursor) = (None, None, None);
        let (mut action, mut limit) = (Action::View, PAGE);
        for entry in document {
            let (name, value) = entry.map_err(malformed).map_err(Error::Invalid)?;
            let invalid = |key| Error::Invalid(Fault::new(key).at(name.as_str()));
            match (name.as_str(), value) {
                (_, RawBsonRef::Null) => {}
                ("collection", RawBsonRef::String(given)) => collection = Some(given.to_owned()),
                ("id", RawBsonRef::String(given)) => id = Some(given.to_owned()),
                ("cursor", RawBsonRef::String(given)) => cursor = Some(given.to_owned()),
                ("limit", RawBsonRef::Int32(given)) => limit = page_size(given.into()).map_err(Error::Invalid)?,
                ("action", RawBsonRef::String(given)) => {
                    let known = Action::from_name(given).filter(|known| ACTIONS.contains(known));
                    action = known.ok_or_else(|| invalid("access.who_action"))?;
                }
                ("collection" | "id" | "cursor" | "limit" | "action", _) => return Err(invalid("policies.type")),
                _ => return Err(invalid("policies.unknown_field")),
            }
        }
        let (Some(collection), Some(id)) = (collection, id) else {
            return Err(Error::Invalid(Fault::new("access.who_document").at("id")));
        };
        if limit > PAGE_MOST {
            return Err(Error::Invalid(Fault::new("search.limit").at("limit").with("limit", PAGE_MOST)));
        }
        Ok(Self { collection, id, action, limit, cursor })
    }
}

/// The document, and how far the caller sees it.
struct Sight {
    document: RawDocumentBuf,
    visible: Option<RawDocumentBuf>,
    /// The people the caller may know by name.
    people: Option<Grant>,
}

impl Policies {
    /// A page of those who may: active, with their instance roles and every membership. A key, or acting for one
    /// organization, may narrow it; nothing widens it but root on the machine.
    pub async fn who_may(&self, caller: &Caller, asked: &Whom, memberships: &Memberships) -> Result<Found> {
        self.access.decide(caller, Action::View, Resource::Module("access"))?;
        let stored = self.look(caller, &asked.collection, &asked.id).await?;
        let people = self.access.decide(caller, Action::View, identities::MODULE).ok();
        let sight = Sight { document: stored.judged, visible: stored.visible, people };
        let event = Event::new("access.who").document(&asked.collection, &asked.id).with("of", asked.action.name());
        self.audit.record_reading(caller, event).await?;
        let policies = self.access.policies();
        let (mut documents, mut cursor) = (Vec::new(), asked.cursor.clone());
        let mut examined = 0;
        loop {
            let batch = self.active(cursor.as_deref()).await?;
            let last = batch.len() < AT_ONCE;
            for document in batch {
                let identity = identities::read(&document)?;
                cursor = Some(identity.id.clone());
                examined += 1;
                let held = memberships.memberships_of(&identity.id).await?;
                let proven = Proven::session(identity.id.clone(), String::new(), identity.roles.clone());
                let proven = Proven { memberships: held, ..proven };
                let clauses = self.clauses(&policies, &proven, asked, &sight.document);
                if !clauses.is_empty() {
                    documents.push(self.told(&identity, &document, &clauses, asked.action, &sight));
                }
                if documents.len() == asked.limit {
                    let (limit, total, explain) = (asked.limit, None, Default::default());
                    return Ok(Found { documents, limit, next: cursor, total, explain });
                }
            }
            if last || examined >= MOST_EXAMINED {
                let next = cursor.filter(|_| !last);
                return Ok(Found { documents, limit: asked.limit, next, total: None, explain: Default::default() });
            }
        }
    }

    /// What the engine would allow of the document at a request of theirs.
    fn clauses(&self, policies: &PolicySet, proven: &Proven, asked: &Whom, document: &RawDocument) -> Vec<Clause> {
        let resource = Resource::Collection(&asked.collection);
        let mut clauses = policies.decide(&self.access.facts(proven), asked.action, resource);
        clauses.retain(|clause| clause.scope.matches(document));
        clauses
    }

    /// `{identity, kind, name?, trust, policies: [{policy, fields?}], masked?}`.
    fn told(
        &self,
        identity: &Identity,
        kept: &RawDocument,
        clauses: &[Clause],
        action: Action,
        sight: &Sight,
    ) -> RawDocumentBuf {
        let mut told = rawdoc! { "identity": identity.id.as_str(), "kind": identity.kind.name() };
        if sight.people.as_ref().is_some_and(|people| people.scope.matches(kept)) {
            told.append(cstr!("name"), identity.label());
        }
        told.append(cstr!("trust"), i32::from(self.access.trust(&identity.id)));
        let mut policies = RawArrayBuf::new();
        for clause in clauses {
            let mut policy = rawdoc! { "policy": clause.policy.version() };
            if let Ok(Some(fields)) = clause.policy.body().get("fields") {
                policy.append(cstr!("fields"), fields);
            }
            policies.push(policy);
        }
        told.append(cstr!("policies"), policies);
        // Of the document the caller learns no more than it sees of it.
        if let (Some(visible), false) = (&sight.visible, action == Action::Delete) {
            let mask = if action == Action::View { Clause::read } else { Clause::write };
            let masks: Vec<&Mask> = clauses.iter().map(mask).collect();
            let mut masked = RawArrayBuf::new();
            hidden(visible, &masks).into_iter().take(MOST_FIELDS).for_each(|field| masked.push(field));
            told.append(cstr!("masked"), masked);
        }
        told
    }

    /// The next who can give proof, in the order of their ids.
    async fn active(&self, after: Option<&str>) -> Result<Vec<RawDocumentBuf>> {
        let mut filter = rawdoc! { "status": "active", "kind": { "$ne": "ORGANIZATION" } };
        if let Some(after) = after {
            filter.append(cstr!("_id"), rawdoc! { "$gt": after });
        }
        let filter = Arc::new(Filter::parse(&filter).map_err(Error::Invalid)?);
        let (collection, sort) = (IDENTITIES.to_owned(), Sort::parse_text("_id").map_err(Error::Invalid)?);
        Ok(self.documents.find(Query { collection, filter, sort, limit: AT_ONCE, after: None }).await?.documents)
    }
}
