//! `version`: which release this is.

use super::{context::Context, failure::Failure};
use crate::base::release;
use serde_json::json;

pub fn run(context: &Context) -> Result<(), Failure> {
    let version = release::version();
    let document = json!({ "name": "debrouille-appliance", "version": version, "target": std::env::consts::ARCH });
    context.answer(&document, || format!("debrouille-appliance {version}"))
}
