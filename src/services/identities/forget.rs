//! Leaving of someone nothing but the id and a name that says nothing.

use super::{IDENTITIES, Identities, Identity, LINKS, Status};
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
    },
};
use bson::{DateTime, RawDocument, rawdoc};

impl Identities {
    /// In one commit: the person, what proves them and what is addressed to them. Memberships end and stay in the
    /// history. Nobody gets in under this identity any more.
    pub(in crate::services) async fn forget(&self, caller: &Caller, id: &str, pseudonym: &str) -> Result<()> {
        let _deciding = self.memberships.deciding.lock().await;
        let known = self.require(id).await?;
        let from = self.clock.now();
        let identity = Identity {
            email: Some(format!("{pseudonym}@erased.invalid")),
            status: Status::Disabled,
            handles: vec![format!("id:{id}")],
            tokens_from: from,
            ..Identity::blank(id.to_owned(), known.kind)
        };
        let document = bson::serialize_to_raw_document_buf(&identity).map_err(|error| Error::Internal(error.into()))?;
        let mut operations = vec![operation(IDENTITIES, id, Change::Put(document))];
        let email = known.email.as_deref();
        for (collection, filter) in [
            (FACTORS, rawdoc! { "_id": id }),
            (RECOVERIES, rawdoc! { "_id": id }),
            (KEYS, rawdoc! { "identity": id }),
            (LINKS, rawdoc! { "identity": id }),
            (INVITATIONS, rawdoc! { "person": id }),
        ] {
            operations.extend(self.each(collection, &filter, || Ok(Change::Delete)).await?);
        }
        if let Some(email) = email {
            // Made for the person by name as well: deleted above.
            let addressed = rawdoc! { "email": email, "person": { "$ne": id } };
            operations.extend(self.each(INVITATIONS, &addressed, || Ok(Change::Delete)).await?);
            operations.extend(self.each(OUTBOX, &rawdoc! { "email": email }, || Ok(Change::Delete)).await?);
        }
        let ended = rawdoc! {
            "$set": { "status": "ended", "ended": DateTime::from_millis(from.0), "endedBy": caller.actor() },
        };
        let end = || Update::parse(&ended).map(Change::Update).map_err(Error::Invalid);
        operations.extend(self.each(MEMBERSHIPS, &rawdoc! { "person": id, "status": "active" }, end).await?);
        let batch = Batch { time: from, origin: caller.origin(), operations, check: None, receipt: None };
        self.documents.commit(batch).await?;
        self.memberships.forget([id]);
        // Keys are remembered for an era.
        self.sessions.begin_era();
        self.sessions.end_all(caller, id, from, None).await
    }

    async fn each(
        &self,
        collection: &str,
        filter: &RawDocument,
        change: impl Fn() -> Result<Change> + Send,
    ) -> Result<Vec<Operation>> {
        let filter = Filter::parse(filter).map_err(Error::Invalid)?;
        let mut operations = Vec::new();
        for document in all(&*self.documents, collection, filter).await? {
            let id = document.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?;
            operations.push(operation(collection, id, change()?));
        }
        Ok(operations)
    }
}

/// Of what is there: what went meanwhile fails the commit, and the erasure is gone on with.
fn operation(collection: &str, id: &str, change: Change) -> Operation {
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Operation { collection, id, expect: Expect::Present, change }
}
