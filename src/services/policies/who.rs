//! Who: everyone who may do something to a document, now or as far back as the journal reaches, and by which policies.

use super::{
    POLICIES, Policies,
    explain::{Stored, missing},
    kept, read,
};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::{
        document::malformed,
        filter::Filter,
        policy::{Clause, Facts, Mask, PolicySet, hidden},
        sort::Sort,
    },
    ports::documents::{COLLECTIONS, Page, Query},
    services::{
        Error, Result,
        access::{Action, Caller, Grant, Proven, Resource},
        audit::Event,
        documents::{Found, all, page_size},
        identities::{self, IDENTITIES, Identity, Kind, Status},
        memberships::Memberships,
        past::Past,
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

/// `{collection, id, action?, at?, limit?, cursor?}`.
#[derive(Debug, Clone)]
pub struct Whom {
    collection: String,
    id: String,
    action: Action,
    /// A moment of the past; absent: now.
    at: Option<Timestamp>,
    limit: usize,
    /// The last identity looked at.
    cursor: Option<String>,
}

impl Whom {
    pub fn read(document: &RawDocument) -> Result<Self> {
        let (mut collection, mut id, mut cursor) = (None, None, None);
        let (mut action, mut limit, mut at) = (Action::View, PAGE, None);
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
                ("at", RawBsonRef::String(given)) => {
                    let fault = || Fault::new("base.unreadable_time").at("at").with("value", given);
                    let read = bson::DateTime::parse_rfc3339_str(given).map_err(|_| Error::Invalid(fault()))?;
                    at = Some(Timestamp(read.timestamp_millis()));
                }
                ("collection" | "id" | "cursor" | "limit" | "action" | "at", _) => {
                    return Err(invalid("policies.type"));
                }
                _ => return Err(invalid("policies.unknown_field")),
            }
        }
        let (Some(collection), Some(id)) = (collection, id) else {
            return Err(Error::Invalid(Fault::new("access.who_document").at("id")));
        };
        if limit > PAGE_MOST {
            return Err(Error::Invalid(Fault::new("search.limit").at("limit").with("limit", PAGE_MOST)));
        }
        Ok(Self { collection, id, action, at, limit, cursor })
    }
}

/// The moment asked about: the document, the policies, and how far the caller sees now.
struct Sight {
    document: RawDocumentBuf,
    visible: Option<RawDocumentBuf>,
    policies: Arc<PolicySet>,
    past: Option<Past>,
    /// The people the caller may know by name.
    people: Option<Grant>,
}

impl Policies {
    /// A page of those who may: active, with their instance roles and every membership. A key, or acting for one
    /// organization, may narrow it; nothing widens it but root on the machine.
    pub async fn who_may(&self, caller: &Caller, asked: &Whom, memberships: &Memberships) -> Result<Found> {
        self.access.decide(caller, Action::View, Resource::Module("access"))?;
        let event = Event::new("access.who").document(&asked.collection, &asked.id).with("of", asked.action.name());
        let event = asked.at.into_iter().fold(event, |event, at| event.with("at", at.rfc3339()));
        self.audit.record_reading(caller, event).await?;
        // The journal is long: one at a time reads it.
        let _turn = match asked.at {
            Some(_) => Some(self.looking_back.lock().await),
            None => None,
        };
        let mut sight = self.sight(caller, asked).await?;
        let (mut documents, mut cursor) = (Vec::new(), asked.cursor.clone());
        let mut examined = 0;
        loop {
            let batch = self.identities(cursor.as_deref()).await?;
            if let Some(past) = &mut sight.past {
                past.catch_up(&*self.documents).await?;
            }
            // A page may end before it is full.
            let last = batch.next.is_none();
            for document in batch.documents {
                let identity = identities::read(&document)?;
                cursor = Some(identity.id.clone());
                examined += 1;
                let clauses = match self.proven(&identity, &document, &mut sight, memberships).await? {
                    Some(proven) => self.clauses(&proven, asked, &sight),
                    None => Vec::new(),
                };
                if !clauses.is_empty() {
                    documents.push(self.told(&identity, &document, &clauses, asked, &sight));
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

    async fn sight(&self, caller: &Caller, asked: &Whom) -> Result<Sight> {
        let (collection, id) = (asked.collection.as_str(), asked.id.as_str());
        let people = self.access.decide(caller, Action::View, identities::MODULE).ok();
        let Some(at) = asked.at else {
            let Stored { judged: document, visible, .. } = self.look(caller, collection, id).await?;
            return Ok(Sight { document, visible, policies: self.access.policies(), past: None, people });
        };
        if collection.starts_with("system.") {
            return Err(Error::Forbidden);
        }
        if at > self.clock.now() {
            return Err(Error::Invalid(Fault::new("access.who_future").at("at")));
        }
        let found = self.documents.get(collection, id).await?;
        let definition = self.documents.get(COLLECTIONS, collection).await?;
        let policies = all(&*self.documents, POLICIES, Filter::all()).await?;
        // After what it is laid over, or a change between would be missed.
        let past = Past::of(&*self.documents, at, (collection, id)).await?;
        let (found, definition) = (past.then(collection, id, found), past.then(COLLECTIONS, collection, definition));
        let found = found.ok_or_else(|| missing(id))?;
        let Stored { judged: document, visible, .. } = self.opened(caller, (collection, id), found, definition).await?;
        let policies = past.all_then(POLICIES, policies).into_iter().map(|then| read(&kept(then)?));
        let policies = Arc::new(PolicySet::new(policies.collect::<Result<Vec<_>>>()?));
        Ok(Sight { document, visible, policies, past: Some(past), people })
    }

    /// With which roles and memberships; `None`: they could give no proof.
    async fn proven(
        &self,
        identity: &Identity,
        kept: &RawDocumentBuf,
        sight: &mut Sight,
        memberships: &Memberships,
    ) -> Result<Option<Proven>> {
        let then = match &sight.past {
            Some(past) => past.then(IDENTITIES, &identity.id, Some(kept.clone())),
            None => Some(kept.clone()),
        };
        let Some(then) = then.map(|then| identities::read(&then)).transpose()? else { return Ok(None) };
        if then.status != Status::Active {
            return Ok(None);
        }
        let held = match &mut sight.past {
            Some(past) => memberships.memberships_at(&then.id, past).await?,
            None => memberships.memberships_of(&then.id).await?,
        };
        Ok(Some(Proven { memberships: held, ..Proven::session(then.id, String::new(), then.roles) }))
    }

    /// What the engine would allow of the document at a request of theirs. Trust of the past is not known: there, what
    /// would have been allowed to the most trusted.
    fn clauses(&self, proven: &Proven, asked: &Whom, sight: &Sight) -> Vec<Clause> {
        let facts = self.access.facts(proven);
        let facts = asked.at.map_or(facts, |now| Facts { trust: 100, now, ..facts });
        let mut clauses = sight.policies.decide(&facts, asked.action, Resource::Collection(&asked.collection));
        clauses.retain(|clause| clause.scope.matches(&sight.document));
        clauses
    }

    /// `{identity, kind, name?, trust?, policies: [{policy, fields?, minTrust?}], masked?}`.
    fn told(
        &self,
        identity: &Identity,
        kept: &RawDocument,
        clauses: &[Clause],
        asked: &Whom,
        sight: &Sight,
    ) -> RawDocumentBuf {
        let action = asked.action;
        let mut told = rawdoc! { "identity": identity.id.as_str(), "kind": identity.kind.name() };
        if sight.people.as_ref().is_some_and(|people| people.scope.matches(kept)) {
            told.append(cstr!("name"), identity.label());
        }
        if asked.at.is_none() {
            told.append(cstr!("trust"), i32::from(self.access.trust(&identity.id)));
        }
        let mut policies = RawArrayBuf::new();
        for clause in clauses {
            let mut policy = rawdoc! { "policy": clause.policy.version() };
            if let Ok(Some(fields)) = clause.policy.body().get("fields") {
                policy.append(cstr!("fields"), fields);
            }
            if asked.at.is_some() && clause.policy.min_trust > 0 {
                policy.append(cstr!("minTrust"), i32::from(clause.policy.min_trust));
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

    /// The next of all identities that act themselves, in the order of their ids.
    async fn identities(&self, after: Option<&str>) -> Result<Page> {
        let mut filter = rawdoc! { "kind": { "$ne": Kind::Organization.name() } };
        if let Some(after) = after {
            filter.append(cstr!("_id"), rawdoc! { "$gt": after });
        }
        let filter = Arc::new(Filter::parse(&filter).map_err(Error::Invalid)?);
        let (collection, sort) = (IDENTITIES.to_owned(), Sort::parse_text("_id").map_err(Error::Invalid)?);
        Ok(self.documents.find(Query { collection, filter, sort, limit: AT_ONCE, after: None }).await?)
    }
}
