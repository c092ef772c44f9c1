//! Operation logs: what they say, and more of one module for a while, which the audit log is told.

use super::{
    Error, Result,
    access::{Access, Action, Caller, Resource},
    audit::{Audit, Event},
};
use crate::base::{
    clock::SharedClock,
    fault::Fault,
    telemetry::{Levels, Raised},
};
use std::sync::Arc;

const MODULE: Resource<'static> = Resource::Module("logs");
/// Seconds a level may last.
const LONGEST: i64 = 24 * 3600;

pub struct Logs {
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
    pub clock: SharedClock,
    /// Absent: nothing is logged, as where a command opens the data alone.
    pub levels: Option<Arc<Levels>>,
}

impl Logs {
    /// As configured, and what is said otherwise for a while.
    pub fn levels(&self, caller: &Caller) -> Result<(String, Vec<Raised>)> {
        self.access.decide(caller, Action::View, MODULE)?;
        let levels = self.held()?;
        Ok((levels.configured().to_owned(), levels.raised()))
    }

    /// No trace of it, no level.
    pub async fn raise(&self, caller: &Caller, module: &str, level: &str, seconds: i64) -> Result<Raised> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        let levels = self.held()?;
        if !(1..=LONGEST).contains(&seconds) {
            return Err(Error::Invalid(Fault::new("telemetry.too_long").at("seconds").with("most", LONGEST)));
        }
        let module = levels.name(module, level).map_err(Error::Invalid)?;
        let event = Event::new("logs.level").object(&module).with("level", level).with("seconds", seconds);
        self.audit.record(caller, event).await?;
        let raised = levels.raise(&module, level, self.clock.now().plus_seconds(seconds)).map_err(Error::Invalid)?;
        tracing::info!(module = raised.module, level, seconds, "a module's level is another for a while");
        Ok(raised)
    }

    /// Lets go of what is over.
    pub fn settle(&self) {
        for over in self.levels.iter().flat_map(|levels| levels.settle(self.clock.now())) {
            tracing::info!(module = over.module, "a module's level is as configured again");
        }
    }

    fn held(&self) -> Result<&Levels> {
        self.levels.as_deref().ok_or_else(|| Error::Refused(Fault::new("telemetry.nobody_logs")))
    }
}
