//! The ways by which notices leave.

pub mod letters;
pub mod push;
pub mod sms;
pub mod webhook;

use crate::ports::{
    Error, Result,
    web::{Request, Web},
};

/// Any answer but a success is a failure that may pass.
async fn post(web: &dyn Web, request: Request) -> Result<()> {
    let place = request.url.split('?').next().unwrap_or_default().to_owned();
    let answer = web.fetch(request).await?;
    match answer.status {
        200..300 => Ok(()),
        status => Err(Error::Unavailable(format!("{place}: status {status}"))),
    }
}
