//! Citizens' rights: everything that is held about one person handed over, or destroyed, with a signed certificate.

mod about;
mod certificate;
mod erase;
mod export;

pub use certificate::{Signed, verify};
pub use erase::{Erasing, Summary};
pub use export::Lines;

use super::{
    Error, Result,
    access::{self, Access, Action, Caller, Resource},
    audit::Audit,
    backups::Backups,
    documents::all,
    identities::{Identities, Identity},
    instance::Stamp,
    keyring::Keyring,
    sealing::Seals,
};
use crate::{
    base::{clock::SharedClock, fault::Fault},
    domain::{
        collection::{Definition, check_name},
        document::check_id,
        filter::{Filter, Test},
        path::Path,
        sealing::{OWNER, Sealing},
    },
    ports::documents::{COLLECTIONS, Documents},
};
use bson::RawBson;
use std::{collections::BTreeMap, sync::Arc};

/// What each erasure was certified with.
pub const CERTIFICATES: &str = "system.certificates";

pub struct Subjects {
    pub documents: Arc<dyn Documents>,
    pub clock: SharedClock,
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
    pub identities: Arc<Identities>,
    pub seals: Arc<Seals>,
    pub backups: Arc<Backups>,
    pub keyring: Arc<Keyring>,
    pub stamp: Stamp,
    pub periods: Periods,
    /// One at a time.
    pub erasing: tokio::sync::Mutex<()>,
}

/// How long, in days, copies outlive what they are copies of.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    /// Backups of subjects' keys.
    pub subjects: u32,
    pub journal: u32,
}

/// Someone documents are about: an identity of the instance, or only the id they bear.
#[derive(Debug, Clone)]
pub struct Subject {
    pub id: String,
    pub identity: Option<Identity>,
}

/// What a collection holds of someone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holding {
    pub collection: String,
    /// Documents that name it as their subject, alone or among others.
    pub about: u64,
    /// Documents it owns that do not name it so.
    pub owned: u64,
    /// The fields that are sealed.
    pub sealed: Vec<String>,
}

/// Documents by the name of the appliance's own collection that holds them.
pub type Traces = BTreeMap<String, u64>;

/// A collection and how its documents are sealed.
struct Room {
    name: String,
    sealing: Sealing,
}

impl Subjects {
    /// What is held about someone: documents, and what an erasure would remove or end of the appliance's own.
    pub async fn describe(&self, caller: &Caller, who: &str) -> Result<(Subject, Vec<Holding>, Traces)> {
        self.may(caller)?;
        let (subject, holdings) = self.survey(who).await?;
        let traces = self.traces(&subject).await?;
        Ok((subject, holdings, traces))
    }

    async fn traces(&self, subject: &Subject) -> Result<Traces> {
        match &subject.identity {
            Some(identity) => self.identities.traces(identity).await,
            None => Ok(Traces::new()),
        }
    }

    fn may(&self, caller: &Caller) -> Result<()> {
        may(&self.access, caller)
    }

    /// By id, address or number; or by the id that documents bear and a key or a document knows.
    async fn survey(&self, who: &str) -> Result<(Subject, Vec<Holding>)> {
        let identity = match self.identities.require(who).await {
            Ok(identity) => Some(identity),
            Err(Error::NotFound(_)) => None,
            Err(other) => return Err(other),
        };
        let id = identity.as_ref().map_or_else(|| who.to_owned(), |identity| identity.id.clone());
        let unknown = || Error::NotFound(Fault::new("subjects.unknown").with("who", who));
        check_id(&id).map_err(|_| unknown())?;
        let holdings = self.holdings(&id).await?;
        if identity.is_none() && holdings.is_empty() && !self.seals.knows(&id).await? {
            return Err(unknown());
        }
        Ok((Subject { id, identity }, holdings))
    }

    async fn holdings(&self, id: &str) -> Result<Vec<Holding>> {
        let mut holdings = Vec::new();
        for Room { name, sealing } in self.rooms().await? {
            let count = async |filter| Ok::<u64, Error>(self.documents.count(&name, Arc::new(filter)).await?.0);
            let about = count(named(sealing.subject(), id)).await?;
            let others = Filter::Nor(vec![named(sealing.subject(), id)]);
            let owned = count(Filter::And(vec![named(&owner()?, id), others])).await?;
            let sealed = sealing.fields().iter().map(ToString::to_string).collect();
            if about + owned > 0 {
                holdings.push(Holding { collection: name, about, owned, sealed });
            }
        }
        Ok(holdings)
    }

    /// Every collection of the instance's users.
    async fn rooms(&self) -> Result<Vec<Room>> {
        let mut rooms = Vec::new();
        for definition in all(&*self.documents, COLLECTIONS, Filter::all()).await? {
            let name = definition.get_str("_id").unwrap_or_default().to_owned();
            if check_name(&name).is_ok() {
                let read = Definition::read(&name, &definition).map_err(|fault| Error::Internal(Box::new(fault)))?;
                rooms.push(Room { name, sealing: Sealing::of(&read) });
            }
        }
        Ok(rooms)
    }
}

fn may(access: &Access, caller: &Caller) -> Result<()> {
    // What is held about someone lies in every collection: a right over some people does not reach there.
    let grant = access.decide(caller, Action::Manage, Resource::Module("identities"))?;
    let narrow = matches!(&caller.subject, access::Subject::Identity(proven)
        if proven.restriction.as_ref().is_some_and(|restriction| restriction.collections.is_some()));
    if grant.is_everything() && !narrow { Ok(()) } else { Err(Error::Forbidden) }
}

fn owner() -> Result<Path> {
    Path::parse(OWNER).map_err(|fault| Error::Internal(Box::new(fault)))
}

/// Documents that name someone as their subject, or as their owner.
fn concerning(sealing: &Sealing, id: &str) -> Result<Filter> {
    Ok(Filter::Or(vec![named(sealing.subject(), id), named(&owner()?, id)]))
}

/// Documents that name someone in a field, lists included.
fn named(field: &Path, id: &str) -> Filter {
    Filter::Field(field.clone(), Test::Eq(RawBson::String(id.to_owned())))
}
