//! Identities proven by an outside authority: found by its name for them, linked the first time by an address.

use super::{IDENTITIES, Identities, Identity, Kind, Status, read};
use crate::{
    domain::contact,
    ports::{
        self,
        documents::{Batch, Change, Conflict, Expect, Operation},
    },
    services::{Error, Result, access::Caller},
};
use bson::rawdoc;
use sha2::{Digest, Sha256};

/// Which identity an authority's subject is.
pub const LINKS: &str = "system.links";

/// What an authority says of a person.
pub(in crate::services) struct Vouched<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
    /// Theirs, as the authority has made sure.
    pub email: Option<&'a str>,
    /// Who has no account gets one.
    pub create_accounts: bool,
    /// Holds for who has a password here as well.
    pub beside_password: bool,
}

impl Identities {
    /// Who that is here: by the subject once linked, the first time by an address. `Unauthorized`: nobody who may come
    /// in so.
    pub(in crate::services) async fn vouched(&self, caller: &Caller, vouched: &Vouched<'_>) -> Result<Identity> {
        let sound = |identity: &Identity| {
            let active = identity.kind == Kind::Person && identity.status == Status::Active;
            active && (vouched.beside_password || !identity.has_password())
        };
        let link = hex::encode(Sha256::digest(format!("{}\n{}", vouched.issuer, vouched.subject)));
        if let Some(linked) = self.documents.get(LINKS, &link).await? {
            let id = linked.get_str("identity").map_err(|error| Error::Internal(Box::new(error)))?;
            let identity = read(&self.documents.get(IDENTITIES, id).await?.ok_or(Error::Unauthorized)?)?;
            return if sound(&identity) { Ok(identity) } else { Err(Error::Unauthorized) };
        }
        let email = contact::email(vouched.email.ok_or(Error::Unauthorized)?).map_err(|_| Error::Unauthorized)?;
        let identity = match self.known(&email).await? {
            Some(identity) => identity,
            None if vouched.create_accounts => self.add_vouched(caller, &email).await?,
            None => return Err(Error::Unauthorized),
        };
        // An address that whoever registered it never proved is not theirs: they would share the account.
        if !sound(&identity) || !identity.email_verified {
            return Err(Error::Unauthorized);
        }
        let document = rawdoc! { "identity": &*identity.id, "issuer": vouched.issuer, "subject": vouched.subject };
        let operation =
            Operation { collection: LINKS.to_owned(), id: link, expect: Expect::Absent, change: Change::Put(document) };
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations: vec![operation], check: None, receipt: None };
        match self.documents.commit(batch).await {
            Ok(_) => Ok(identity),
            // Two logins at once: whom the first one linked.
            Err(ports::Error::Conflict(Conflict::Exists { id, .. })) => {
                let linked = self.documents.get(LINKS, &id).await?.ok_or(Error::Unauthorized)?;
                match linked.get_str("identity").is_ok_and(|linked| linked == identity.id) {
                    true => Ok(identity),
                    false => Err(Error::Unauthorized),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}
