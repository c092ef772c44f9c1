//! What can be known of the living instance beside a restore, without changing it.

use super::blocking;
use crate::{
    base::config::Config,
    server::{keys, open, problem::Problem},
    services::{backups::restore::Anchor, instance::Stamp, keyring::Purpose},
};

#[derive(Debug, Clone)]
pub struct Live {
    pub stamp: Stamp,
    /// The newest backup it tells of.
    pub anchor: Option<Anchor>,
}

/// Of an instance nobody serves. Where its store cannot be opened, its history's number is known all the same.
pub async fn live(config: &Config) -> Result<Live, Problem> {
    let stamp = Stamp::read(&config.instance.data_dir, None)?;
    let anchor = anchor(config, &stamp).await.unwrap_or_else(|problem| {
        tracing::warn!(fault = %problem.fault, "the present store tells nothing of its backups");
        None
    });
    Ok(Live { stamp, anchor })
}

async fn anchor(config: &Config, stamp: &Stamp) -> Result<Option<Anchor>, Problem> {
    let (keyring, _) = keys::keyring(config, stamp).await?;
    let (config, stamp) = (config.clone(), stamp.clone());
    blocking(move || {
        let store = open::look(&config, &stamp, &keyring, Purpose::Data)?;
        Ok(Anchor::newest(&stamp.id, &store)?)
    })
    .await
}
