//! The route by which an operator brings in the accounts of another system.

use crate::{
    base::fault::Fault,
    domain::json::Splitter,
    http::{
        conditions,
        envelope::Answer,
        lines::{Raw, Report},
        proof::By,
        spec::Tag,
    },
    services::{Error, Result},
};
use futures_util::TryStreamExt;
use poem::Request;
use poem_openapi::{OpenApi, param::Query};

pub struct Routes;

#[OpenApi(prefix_path = "/api/v1/admin/identities", tag = "Tag::Administration")]
impl Routes {
    /// Import accounts, a line each
    ///
    /// `{email?, phone?, name?, locale?, emailVerified?, roles?, passwordHash?, memberships?}`; a hash is argon2's (PHC)
    /// or bcrypt's. Each chunk is on disk before the next is read; a line that is refused is reported, the rest goes on.
    #[oai(path = "/import", method = "post", operation_id = "importIdentities")]
    async fn import(
        &self,
        by: By,
        /// Lines whose person exists change their name, language and contacts, and add memberships
        upsert: Query<Option<bool>>,
        lines: Raw,
        request: &Request,
    ) -> Result<Answer<Report>> {
        conditions::no_attempt(request)?;
        let state = &by.exchange.state;
        let mut import = state.identities.import(&by.caller, upsert.0.unwrap_or_default())?;
        let (mut splitter, mut report) = (Splitter::new(state.limits.line), Report::default());
        let mut chunks = Box::pin(lines.0.into_bytes_stream());
        let mut ended = false;
        while !ended {
            let chunk = chunks.try_next().await.map_err(|error| {
                let fault = Fault::new("http.body_cut").with("reason", error.kind());
                Error::Unreadable(fault.with("line", import.progress().line))
            })?;
            let mut ready = Vec::new();
            match &chunk {
                Some(chunk) => splitter.feed(chunk, |line| ready.push(line)),
                None => ready.extend(std::mem::replace(&mut splitter, Splitter::new(0)).finish()),
            }
            ended = chunk.is_none();
            for line in ready {
                if import.take(line) {
                    // An import may outlast the right it began with.
                    import.write(&state.identities.renew(&by.caller).await?).await?;
                }
            }
            if ended {
                import.write(&state.identities.renew(&by.caller).await?).await?;
            }
            report.tell(import.progress(), import.faults(), ended, by.exchange.language);
        }
        Answer::value(&by.exchange, &report)
    }
}
