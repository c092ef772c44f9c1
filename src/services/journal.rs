//! How long the journal remembers: so many days within so many bytes, but what backups have not taken and the last
//! day in any case.

use super::{Result, audit::Audit, backups::Backups, documents::RECEIPT_SECONDS};
use crate::{
    base::clock::SharedClock,
    ports::documents::{Documents, Retention},
};
use std::sync::Arc;

const DAY: i64 = 86_400;
/// A change may bear a time a little before the backup that just missed it.
const MARGIN_SECONDS: i64 = 3600;

pub struct Journal {
    pub documents: Arc<dyn Documents>,
    /// Present when backups are configured: what they have not taken stays.
    pub backups: Option<Arc<Backups>>,
    /// What it has not sealed stays.
    pub audit: Arc<Audit>,
    pub days: u32,
    pub most_bytes: u64,
    pub clock: SharedClock,
}

impl Journal {
    /// Lets go of what is too old or too much; answers how many records went.
    pub async fn trim(&self) -> Result<u64> {
        let now = self.clock.now();
        let older_than = now.plus_seconds(-i64::from(self.days) * DAY);
        // A retry within a day is answered from the journal.
        let mut keep_from = now.plus_seconds(-RECEIPT_SECONDS).min(self.audit.sealed_until());
        if let Some(backups) = &self.backups {
            let Some(taken) = backups.newest().await? else { return Ok(0) };
            keep_from = keep_from.min(taken);
        }
        let keep_from = keep_from.plus_seconds(-MARGIN_SECONDS);
        Ok(self.documents.trim(Retention { older_than, most_bytes: self.most_bytes, keep_from }).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::{
            clock::{Clock, FixedClock},
            environment::Environment,
        },
        ports::documents::{Batch, COLLECTIONS, Change, Expect, Operation, Origin},
        services::{audit::Settings, instance::Stamp, keyring::Keyring},
    };
    use bson::rawdoc;
    use std::sync::atomic::Ordering;
    use zeroize::Zeroizing;

    #[tokio::test]
    async fn size_and_age_let_go_but_never_of_the_last_day() {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
        let documents: Arc<dyn Documents> = Arc::new(store.unwrap());
        for day in 0..4 {
            let operations = vec![Operation {
                collection: COLLECTIONS.to_owned(),
                id: format!("c{day}"),
                expect: Expect::Any,
                change: Change::Put(rawdoc! {}),
            }];
            let batch = Batch { time: clock.now(), origin: Origin::default(), operations, check: None, receipt: None };
            documents.commit(batch).await.unwrap();
            clock.0.fetch_add(DAY * 1000, Ordering::Relaxed);
        }
        let keyring = Arc::new(Keyring::generate((Zeroizing::default(), Vec::new()), clock.now()));
        let stamp = Stamp::new(Environment::Development, clock.now());
        let audit = Audit::new(
            documents.clone(),
            clock.clone(),
            stamp,
            keyring,
            Settings::default(),
            crate::services::access::bare(documents.clone(), clock.clone()),
        );
        let audit = Arc::new(audit);
        // Changes of four, three, two days ago and of yesterday, to the millisecond.
        let journal = |days, most_bytes| Journal {
            documents: documents.clone(),
            backups: None,
            audit: audit.clone(),
            days,
            most_bytes,
            clock: clock.clone(),
        };
        assert_eq!(journal(4, u64::MAX).trim().await.unwrap(), 0);
        assert_eq!(journal(3, u64::MAX).trim().await.unwrap(), 1);
        assert_eq!(journal(90, 0).trim().await.unwrap(), 2);
        assert_eq!(documents.statistics().await.unwrap().journal_records, 1);
    }
}
