//! `version`: which release this is, and which formats it writes.

use super::{context::Context, failure::Failure, serve::failure};
use crate::{base::release, server};
use serde_json::json;

pub fn run(context: &Context) -> Result<(), Failure> {
    let version = release::version();
    let formats = server::formats().map_err(failure)?;
    let document = json!({
        "name": "debrouille-appliance", "version": version, "target": std::env::consts::ARCH,
        "formats": {
            "instance": formats.instance, "documents": formats.documents, "backup": formats.backup,
            "migrations": formats.migrations,
        },
    });
    context.answer(&document, || format!("debrouille-appliance {version}"))
}
