//! Documents that bear a person's own id, a profile or what a person may do: they stand under the person's pseudonym,
//! or the log would say whose it is.

use super::{
    Audit,
    entry::{DOCUMENTS, Entry},
    pseudonyms::is_drawn,
};
use crate::services::{Result, identities::IDENTITIES};
use serde_json::Value;
use std::collections::HashMap;

/// Which ids are an identity's, as looked up for one commit.
pub type Known = HashMap<String, bool>;

impl Audit {
    pub(super) async fn conceal(&self, entry: &mut Entry, known: &mut Known) -> Result<()> {
        if let Some((collection, id)) = entry.object.as_deref().and_then(|object| object.split_once('/'))
            && self.is_somebody(id, known).await?
        {
            entry.object = Some(format!("{collection}/{}", self.pseudonyms.of(id)));
        }
        let named = entry.details.as_mut().and_then(|details| details.get_mut(DOCUMENTS));
        for id in named.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(text) = id.as_str()
                && self.is_somebody(text, known).await?
            {
                *id = self.pseudonyms.of(text).into();
            }
        }
        Ok(())
    }

    async fn is_somebody(&self, id: &str, known: &mut Known) -> Result<bool> {
        if !is_drawn(id) {
            return Ok(false);
        }
        if let Some(known) = known.get(id) {
            return Ok(*known);
        }
        let found = self.documents.get(IDENTITIES, id).await?.is_some();
        known.insert(id.to_owned(), found);
        Ok(found)
    }
}
