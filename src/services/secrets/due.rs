//! When keys are rotated by themselves.

use super::Secrets;
use crate::{
    base::clock::Timestamp,
    services::{
        Result,
        access::Caller,
        keyring::{Key, Purpose},
    },
};

const DAY: i64 = 86_400;

/// Days a key is in use; 0: until somebody rotates it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Periods {
    /// What signs tokens.
    pub token: u32,
    /// What signs backups and the audit log.
    pub signing: u32,
    /// What seals stores and files.
    pub storage: u32,
}

impl Periods {
    /// `None`: never by itself.
    pub fn due(&self, key: &Key) -> Option<Timestamp> {
        let days = match key.purpose {
            Purpose::TokenSigning => self.token,
            Purpose::AuditSigning | Purpose::BackupSigning => self.signing,
            Purpose::Data | Purpose::Media | Purpose::Subjects => self.storage,
            Purpose::Ca => 0,
        };
        (days > 0).then(|| key.created_at.plus_seconds(i64::from(days) * DAY))
    }
}

impl Secrets {
    /// Rotates what is due. One that fails leaves the others theirs; the first failure is answered.
    pub async fn rotate_due(&self) -> Result<()> {
        let now = self.clock.now();
        let mut outcome = Ok(());
        for purpose in Purpose::ALL {
            let key = self.keyring.current(purpose);
            // One from a clock that was ahead would be due when that time comes.
            if self.periods.due(&key).is_some_and(|due| due <= now || key.created_at > now) {
                let rotated = self.succeed(&Caller::system(), purpose, false).await;
                outcome = outcome.and(rotated.map(drop));
            }
        }
        outcome
    }
}
