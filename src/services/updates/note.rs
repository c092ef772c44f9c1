//! What became of an update, noted in the instance's audit log by who made it.

use super::super::{
    Error, Result,
    access::{Access, Action, Caller, Resource},
    audit::{Audit, Event},
    drills::Words,
};
use crate::base::fault::Fault;
use std::sync::Arc;

pub struct Notes {
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
}

impl Notes {
    /// For who may manage the instance. One that failed is an incident: it is logged as a warning too.
    pub async fn note(&self, caller: &Caller, update: &super::Event) -> Result<()> {
        self.access.decide(caller, Action::Manage, Resource::Module("updates"))?;
        if update.seconds < 0 {
            return Err(Error::Invalid(Fault::new("updates.unsound").at("seconds")));
        }
        let event = Event::new("updates.note")
            .object(format!("updates/{}", update.to))
            .with("from", update.from.to_string())
            .with("to", update.to.to_string())
            .with("outcome", update.outcome.name())
            .with("seconds", update.seconds);
        let english = |words: &Option<Words>| words.as_ref().map(|words| words.en.clone());
        let (why, missing) = (english(&update.why), english(&update.missing));
        let told = [("why", &why), ("missing", &missing)].into_iter();
        let told = told.filter_map(|(name, words)| Some((name, words.as_deref()?)));
        let event = told.fold(event, |event, (name, words)| event.with(name, words));
        self.audit.record(caller, event).await?;
        let (from, to, outcome) = (update.from.to_string(), update.to.to_string(), update.outcome.name());
        match why {
            Some(why) => tracing::warn!(from, to, outcome, why, missing, "an update failed"),
            None => tracing::info!(from, to, outcome, "updated"),
        }
        Ok(())
    }
}
