//! `openapi`: the description of the API, without a server.

use super::{context::Context, failure::Failure, output};

pub fn run(_context: &Context) -> Result<(), Failure> {
    output::write(crate::http::openapi().as_bytes())
}
