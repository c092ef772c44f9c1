//! Leaving of someone nothing but the id and a name that says nothing.

use super::{IDENTITIES, Identities, Identity, Kind, LINKS, Status};
use crate::{
    domain::{filter::Filter, update::Update},
    ports::documents::{Batch, Change, Expect, Operation},
    services::{
        Error, Result,
        access::Caller,
        documents::all,
        invitations::INVITATIONS,
        keys::KEYS,
        memberships::MEMBERSHIPS,
        mfa::FACTORS,
        recovery::{OUTBOX, RECOVERIES},
        sessions::SESSIONS,
        trust::TRUST,
        verification::VERIFICATIONS,
    },
};
use bson::{DateTime, RawDocument, RawDocumentBuf, rawdoc};
use std::{collections::BTreeMap, sync::Arc};

/// Documents changed in one commit.
const AT_ONCE: usize = 500;

impl Identities {
    /// Nobody gets in under this identity any more; then what proves the person and what is addressed to them goes, and
    /// at last the person. Memberships end and stay in the history. Cut short, it is gone on with from the start: what
    /// the rest is found by goes last.
    pub(in crate::services) async fn forget(&self, caller: &Caller, id: &str, pseudonym: &str) -> Result<()> {
        let _deciding = self.memberships.deciding.lock().await;
        let disabled = rawdoc! { "status": Status::Disabled.name() };
        let known = self.change_with(caller, (id, None), disabled, Vec::new(), None).await?;
        let ended = rawdoc! {
            "$set": { "status": "ended", "ended": DateTime::from_millis(self.clock.now().0), "endedBy": caller.actor() },
        };
        let end = || Update::parse(&ended).map(Change::Update).map_err(Error::Invalid);
        let ended = self.each(caller, MEMBERSHIPS, &active(id), end).await;
        match known.kind {
            Kind::Organization => self.memberships.forget_all(),
            Kind::Person | Kind::Machine => self.memberships.forget([id]),
        }
        ended?;
        self.sessions.forget(caller, id).await?;
        self.trust.forget(caller, id).await?;
        // After the sessions: a request of theirs that was under way writes no more.
        for (collection, filter) in removed(&known) {
            self.each(caller, collection, &filter, || Ok(Change::Delete)).await?;
        }
        let identity = Identity {
            email: Some(format!("{pseudonym}@erased.invalid")),
            status: Status::Disabled,
            handles: vec![format!("id:{id}")],
            tokens_from: known.tokens_from,
            ..Identity::blank(id.to_owned(), known.kind)
        };
        let document = bson::serialize_to_raw_document_buf(&identity).map_err(|error| Error::Internal(error.into()))?;
        self.commit(caller, vec![operation(IDENTITIES, id, Change::Put(document))]).await?;
        // Keys are remembered for an era.
        self.sessions.begin_era();
        Ok(())
    }

    /// How much there is to forget of someone, by the names of its collections.
    pub(in crate::services) async fn traces(&self, identity: &Identity) -> Result<BTreeMap<String, u64>> {
        let mut all = removed(identity);
        let own = [
            (SESSIONS, rawdoc! { "identity": &*identity.id }),
            (TRUST, rawdoc! { "_id": &*identity.id }),
            (MEMBERSHIPS, active(&identity.id)),
        ];
        all.extend(own);
        let mut counts = BTreeMap::new();
        for (collection, filter) in all {
            let filter = Filter::parse(&filter).map_err(Error::Invalid)?;
            let name = collection.trim_start_matches("system.").to_owned();
            counts.insert(name, self.documents.count(collection, Arc::new(filter)).await?.0);
        }
        counts.retain(|_, count| *count > 0);
        Ok(counts)
    }

    /// Changes what a filter finds, as much of it as there is.
    async fn each(
        &self,
        caller: &Caller,
        collection: &str,
        filter: &RawDocument,
        change: impl Fn() -> Result<Change> + Send,
    ) -> Result<()> {
        let filter = Filter::parse(filter).map_err(Error::Invalid)?;
        for documents in all(&*self.documents, collection, filter).await?.chunks(AT_ONCE) {
            let mut operations = Vec::new();
            for document in documents {
                let id = document.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?;
                operations.push(operation(collection, id, change()?));
            }
            self.commit(caller, operations).await?;
        }
        Ok(())
    }

    async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> Result<()> {
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }
}

/// What goes with the identity itself.
fn removed(identity: &Identity) -> Vec<(&'static str, RawDocumentBuf)> {
    let id = identity.id.as_str();
    let mut invited = vec![rawdoc! { "person": id }, rawdoc! { "acceptedBy": id }, rawdoc! { "organization": id }];
    let mut all = vec![
        (FACTORS, rawdoc! { "_id": id }),
        (RECOVERIES, rawdoc! { "_id": id }),
        (VERIFICATIONS, verifications(identity)),
        (KEYS, rawdoc! { "identity": id }),
        (LINKS, rawdoc! { "identity": id }),
    ];
    if let Some(email) = identity.email.as_deref() {
        invited.push(rawdoc! { "email": email });
        all.push((OUTBOX, rawdoc! { "email": email }));
    }
    let invited: bson::RawArrayBuf = invited.into_iter().collect();
    all.push((INVITATIONS, rawdoc! { "$or": invited }));
    all
}

/// Addresses that wait to be proven: another of theirs, or theirs for an account of its own.
fn verifications(identity: &Identity) -> RawDocumentBuf {
    match identity.email.as_deref() {
        Some(email) => rawdoc! { "$or": [{ "identity": &*identity.id }, { "email": email }] },
        None => rawdoc! { "identity": &*identity.id },
    }
}

/// The memberships that go on, of a person or of an organization.
fn active(id: &str) -> RawDocumentBuf {
    rawdoc! { "status": "active", "$or": [{ "person": id }, { "organization": id }] }
}

/// Of what is there: what went meanwhile fails the commit, and the erasure is gone on with.
fn operation(collection: &str, id: &str, change: Change) -> Operation {
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Operation { collection, id, expect: Expect::Present, change }
}
