//! How long the journal remembers: so many days, and never less than what backups have taken.

use super::{Result, backups::Backups};
use crate::{base::clock::SharedClock, ports::documents::Documents};
use std::sync::Arc;

const DAY: i64 = 86_400;
/// A change may bear a time a little before the backup that just missed it.
const MARGIN_SECONDS: i64 = 3600;

pub struct Journal {
    pub documents: Arc<dyn Documents>,
    /// Present when backups are configured: what they have not taken stays.
    pub backups: Option<Arc<Backups>>,
    pub days: u32,
    pub clock: SharedClock,
}

impl Journal {
    /// Lets go of some of what is too old; answers how many records went. To be called again until none do.
    pub async fn trim(&self) -> Result<u64> {
        let mut older_than = self.clock.now().plus_seconds(-i64::from(self.days) * DAY);
        if let Some(backups) = &self.backups {
            let Some(taken) = backups.newest().await? else { return Ok(0) };
            older_than = older_than.min(taken.plus_seconds(-MARGIN_SECONDS));
        }
        let last = self.documents.statistics().await?.sequence;
        Ok(self.documents.trim(older_than, last).await?)
    }
}
