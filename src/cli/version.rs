//! `version`: which release this is.

use super::{context::Context, failure::Failure};
use serde_json::json;

pub fn run(context: &Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let document = json!({ "name": "debrouille-appliance", "version": version, "target": std::env::consts::ARCH });
    context.answer(&document, || format!("debrouille-appliance {version}"))
}
