//! What can be known of the living instance beside a restore, without changing it.

use super::blocking;
use crate::{
    base::config::Config,
    server::{keys, open, problem::Problem},
    services::{
        backups::restore::Anchor,
        instance::Stamp,
        keyring::{Keyring, Purpose},
    },
};

#[derive(Debug, Clone)]
pub struct Live {
    pub stamp: Stamp,
    /// The newest backup it tells of.
    pub anchor: Option<Anchor>,
}

/// Of an instance nobody serves.
pub async fn live(config: &Config) -> Result<Live, Problem> {
    let stamp = Stamp::read(&config.instance.data_dir, None)?;
    let root = keys::open(config)?;
    let keyring = Keyring::open(&config.instance.data_dir, &stamp, &root).await?;
    let config = config.clone();
    blocking(move || {
        let store = open::look(&config, &stamp, &keyring, Purpose::Data)?;
        let anchor = Anchor::newest(&stamp.id, &store)?;
        Ok(Live { stamp, anchor })
    })
    .await
}
