//! Secrets of the configuration, from the vault's KV engine, version 2.

use super::session::{Call, Vault};
use crate::{
    base::config::{Place, Secret},
    ports::{Error, Result},
};
use serde::Deserialize;
use std::collections::HashMap;

impl Vault {
    /// The secret at a place.
    pub async fn secret(&self, place: &Place) -> Result<Secret> {
        #[derive(Deserialize)]
        struct Told {
            data: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            data: HashMap<String, Field>,
        }
        /// Numbers and the like are no secrets.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Field {
            Words(Secret),
            Other(serde::de::IgnoredAny),
        }
        let path = format!("{}/data/{}", place.mount, place.path);
        let absent = |key| {
            let fault = self.fault(key, &path).with("field", &place.field);
            let command = format!("bao kv put -mount={} {} {}=-", place.mount, place.path, place.field);
            Error::Rejected(fault.with("command", command))
        };
        let answer = self.ask(Call { path: &path, body: None }).await?;
        if answer.status == 404 {
            return Err(absent("vault.no_secret"));
        }
        let Told { data: Version { data: mut fields } } = self.read(&path, &answer)?;
        match fields.remove(&place.field) {
            Some(Field::Words(secret)) => Ok(secret),
            Some(Field::Other(_)) | None => Err(absent("vault.no_field")),
        }
    }
}
