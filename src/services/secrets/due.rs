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
            Purpose::Ca | Purpose::Tls | Purpose::Acme => 0,
        };
        (days > 0).then(|| key.created_at.plus_seconds(i64::from(days) * DAY))
    }
}

impl Secrets {
    /// Each key, and when the version in use was made.
    pub fn created(&self) -> Vec<(&'static str, Timestamp)> {
        self.held().map(|purpose| (purpose.name(), self.keyring.current(purpose).created_at)).collect()
    }

    /// Rotates what is due. One that fails leaves the others theirs; the first failure is answered.
    pub async fn rotate_due(&self) -> Result<()> {
        let now = self.clock.now();
        let mut outcome = Ok(());
        for purpose in self.held() {
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

#[cfg(test)]
mod tests {
    use super::{super::Vault, *};
    use crate::{
        backends::{certificates::internal::Maker, keys::local::LocalKeeper},
        base::environment::Environment,
        services::{
            audit::Search,
            bench::{Bench, Root},
            keyring::Keyring,
        },
    };
    use std::sync::Arc;

    #[tokio::test]
    async fn what_is_due_is_rotated_once_and_is_on_disk() {
        let bench = Bench::of(Environment::Staging).await;
        let folder = tempfile::tempdir().unwrap();
        let root = Root::create(&folder.path().join("root.key"));
        let (data, authority) = (folder.path().to_owned(), folder.path().join("ca.crt"));
        let keeper = Arc::new(LocalKeeper::of(Some(folder.path().join("root.key"))));
        let secrets = Secrets {
            keyring: Arc::new(bench.keyring.clone()),
            documents: bench.documents.clone(),
            subjects: bench.documents.clone(),
            sessions: bench.sessions.clone(),
            access: bench.access.clone(),
            audit: bench.audit.clone(),
            clock: bench.clock.clone(),
            periods: Periods { token: 90, signing: 0, storage: 365 },
            maker: Arc::new(Maker(Vec::new())),
            certificates: Default::default(),
            vault: Vault { data, stamp: bench.stamp.clone(), root: root.clone(), keeper, authority }.shared(),
        };
        let versions = || secrets.held().map(|purpose| secrets.keyring.current(purpose).version).collect::<Vec<_>>();
        // With the root key away nothing changes, and the log tells of nothing.
        bench.wait(90 * DAY);
        root.leave(0);
        assert!(secrets.rotate_due().await.is_err());
        bench.audit.seal().await.unwrap();
        let search = Search { action: Some("secrets.rotate".to_owned()), ..Search::default() };
        assert_eq!(bench.audit.list(&Caller::system(), &search).await.unwrap().entries.len(), 0);
        assert_eq!(versions(), [1; 7]);
        bench.wait(-90 * DAY);
        root.leave(usize::MAX);
        for (days, expected) in [(89, [1; 7]), (1, [1, 1, 2, 1, 1, 1, 1]), (275, [2, 2, 3, 1, 1, 2, 1])] {
            bench.wait(days * DAY);
            for _ in 0..2 {
                secrets.rotate_due().await.unwrap();
                assert_eq!(versions(), expected, "after {days} days more");
            }
        }
        // Made by a clock that was years ahead.
        bench.wait(-3000 * DAY);
        secrets.rotate_due().await.unwrap();
        assert_eq!(versions(), [3, 3, 4, 1, 1, 3, 1]);
        let kept = Keyring::open(folder.path(), &bench.stamp, &*root).await.unwrap();
        let kept: Vec<_> = secrets.held().map(|purpose| kept.current(purpose).version).collect();
        assert_eq!(kept, versions());
    }

    #[test]
    fn each_key_has_its_time_and_the_authority_none() {
        let periods = Periods { token: 90, signing: 0, storage: 365 };
        let keyring = Keyring::generate(Default::default(), Timestamp(1000));
        let days = |purpose| periods.due(&keyring.current(purpose)).map(|due| (due.0 - 1000) / DAY / 1000);
        assert_eq!(days(Purpose::TokenSigning), Some(90));
        assert_eq!(
            (days(Purpose::Data), days(Purpose::Subjects), days(Purpose::Media)),
            (Some(365), Some(365), Some(365))
        );
        assert_eq!((days(Purpose::AuditSigning), days(Purpose::BackupSigning), days(Purpose::Ca)), (None, None, None));
        assert_eq!(Periods::default().due(&keyring.current(Purpose::Data)), None);
    }
}
