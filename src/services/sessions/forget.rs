//! Keeping nothing of an identity's sessions: neither device nor network.

use super::{AT_ONCE, REFRESHES, SESSIONS, Session, Sessions, remove};
use crate::{
    domain::filter::Filter,
    services::{Error, Result, access::Caller, documents::all},
};
use bson::{RawArrayBuf, rawdoc};

impl Sessions {
    /// Ends them all, then deletes them with their refresh tokens.
    pub(in crate::services) async fn forget(&self, caller: &Caller, identity: &str) -> Result<()> {
        self.end_all(caller, identity, None).await?;
        let sessions: Vec<Session> = self.select(SESSIONS, &rawdoc! { "identity": identity }).await?;
        let sessions: Vec<_> = sessions.into_iter().map(|session| session.id).collect();
        self.let_go(caller, &sessions).await
    }

    pub(super) async fn let_go(&self, caller: &Caller, sessions: &[String]) -> Result<()> {
        for some in sessions.chunks(AT_ONCE) {
            let ids: RawArrayBuf = some.iter().map(String::as_str).collect();
            let tokens = rawdoc! { "session": { "$in": ids.clone() } };
            for (collection, filter) in [(REFRESHES, tokens), (SESSIONS, rawdoc! { "_id": { "$in": ids } })] {
                let filter = Filter::parse(&filter).map_err(Error::Invalid)?;
                let found = all(&*self.documents, collection, filter).await?;
                for documents in found.chunks(AT_ONCE) {
                    let gone = documents.iter().map(|document| remove(collection, document)).collect::<Result<_>>()?;
                    self.commit(caller, self.clock.now(), gone).await?;
                }
            }
        }
        Ok(())
    }
}
