//! What is logged: as configured, and more of one module for a while.

use super::super::{clock::Timestamp, fault::Fault};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing_subscriber::EnvFilter;

/// Of modules at once: each line of a filter is looked at for every event.
const MOST: usize = 20;
/// Less than configured would hide faults.
const LEVELS: [&str; 2] = ["info", "debug"];
/// The floors of this house, which need no name before theirs.
const FLOORS: [&str; 9] = ["backends", "base", "cli", "domain", "http", "jobs", "ports", "server", "services"];

/// A module's level until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub module: String,
    pub level: String,
    pub until: Timestamp,
}

pub struct Levels {
    configured: String,
    raised: Mutex<Vec<Raised>>,
    apply: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

impl Levels {
    pub(super) fn new(configured: &str, apply: impl Fn(EnvFilter) + Send + Sync + 'static) -> Self {
        Self { configured: configured.to_owned(), raised: Mutex::default(), apply: Box::new(apply) }
    }

    pub fn configured(&self) -> &str {
        &self.configured
    }

    pub fn raised(&self) -> Vec<Raised> {
        self.held().clone()
    }

    /// The whole name of a module that may be logged at this level, if there is room for it.
    pub fn name(&self, module: &str, level: &str) -> Result<String, Fault> {
        let fault = |key| Fault::new(key).with("module", module).with("level", level);
        if !LEVELS.contains(&level) {
            return Err(fault("telemetry.no_level").with("levels", LEVELS.join(", ")));
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
        if module.is_empty() || module.len() > 100 || !module.bytes().all(named) {
            return Err(fault("telemetry.no_module"));
        }
        let floor = module.split("::").next().is_some_and(|first| FLOORS.contains(&first));
        let module = if floor { format!("debrouille_appliance::{module}") } else { module.to_owned() };
        if EnvFilter::builder().parse(format!("{module}={level}")).is_err() {
            return Err(fault("telemetry.no_module"));
        }
        let raised = self.held();
        if raised.len() >= MOST && raised.iter().all(|known| known.module != module) {
            return Err(Fault::new("telemetry.many_modules").with("most", MOST));
        }
        Ok(module)
    }

    /// Logs a module at another level until then, whatever was said of it before.
    pub fn raise(&self, module: &str, level: &str, until: Timestamp) -> Result<Raised, Fault> {
        let module = self.name(module, level)?;
        let mut raised = self.held();
        let known = raised.iter().position(|known| known.module == module);
        let new = Raised { module, level: level.to_owned(), until };
        match known.and_then(|at| raised.get_mut(at)) {
            Some(known) => *known = new.clone(),
            None => raised.push(new.clone()),
        }
        self.follow(&raised);
        Ok(new)
    }

    /// Lets go of what is over; answers which.
    pub fn settle(&self, now: Timestamp) -> Vec<Raised> {
        let mut raised = self.held();
        let over: Vec<_> = raised.extract_if(.., |raised| raised.until <= now).collect();
        if !over.is_empty() {
            self.follow(&raised);
        }
        over
    }

    fn follow(&self, raised: &[Raised]) {
        let more = raised.iter().map(|raised| format!(",{}={}", raised.module, raised.level));
        let filter = self.configured.clone() + &more.collect::<String>();
        // Each part was looked at before.
        if let Ok(filter) = EnvFilter::builder().parse(filter) {
            (self.apply)(filter);
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Raised>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_module_says_more_until_its_time() {
        let filter = Arc::<Mutex<String>>::default();
        let seen = filter.clone();
        let levels = Levels::new("info", move |filter| *seen.lock().unwrap() = filter.to_string());
        let shown = || {
            let mut parts: Vec<_> = filter.lock().unwrap().split(',').map(str::to_owned).collect();
            parts.sort();
            parts.join(",")
        };
        assert_eq!(levels.raise("http", "debug", Timestamp(10)).unwrap().module, "debrouille_appliance::http");
        levels.raise("access", "debug", Timestamp(20)).unwrap();
        assert_eq!(shown(), "access=debug,debrouille_appliance::http=debug,info");
        levels.raise("http", "info", Timestamp(15)).unwrap();
        assert_eq!(shown(), "access=debug,debrouille_appliance::http=info,info");
        assert!(levels.settle(Timestamp(14)).is_empty());
        assert_eq!(levels.settle(Timestamp(15)).len(), 1);
        assert_eq!((shown(), levels.raised().len()), ("access=debug,info".to_owned(), 1));
        for (module, level) in [
            ("http", "loud"),
            ("http", "off"),
            ("http", "trace"),
            ("", "info"),
            ("a b", "info"),
            ("a=debug,b", "info"),
            ("a[x]", "info"),
        ] {
            assert!(levels.raise(module, level, Timestamp(99)).is_err(), "{module}={level}");
        }
        for n in 0..MOST {
            let _ = levels.raise(&format!("m{n}"), "info", Timestamp(99));
        }
        assert_eq!(levels.raise("more", "info", Timestamp(99)).unwrap_err().key, "telemetry.many_modules");
    }
}
