//! The ways by which notices leave.

pub mod letters;
pub mod push;
pub mod sms;
pub mod webhook;

use crate::ports::{
    Error, Result,
    web::{Request, Web},
};

/// Any answer but a success is a failure that may pass. Failures name the server alone: the rest of the address is what
/// opens it.
async fn post(web: &dyn Web, request: Request) -> Result<()> {
    let place = request.url.split('?').next().unwrap_or_default().to_owned();
    let server = place.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    match web.fetch(request).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(Error::Unavailable(format!("{server}: status {}", answer.status))),
        Err(Error::Unavailable(cause)) => Err(Error::Unavailable(cause.replace(&place, &server))),
        Err(other) => Err(other),
    }
}
