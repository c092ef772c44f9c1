//! The route by which an address is proven.

use super::{body::Sent, conditions, envelope::Answer, exchange::Public, spec::Tag};
use crate::services::{Result, access::Subject};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "AddressProof")]
struct Proof {
    /// From the link's fragment
    token: String,
    /// As it was given with the address
    password: String,
}

#[derive(Serialize, Object)]
struct Verified {
    verified: bool,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Authentication")]
impl Routes {
    /// Prove an address by the token sent to it: a registration becomes an account, a new address one's own
    #[oai(path = "/verify", method = "post", operation_id = "verifyAddress")]
    async fn confirm(&self, public: Public, sent: Sent<Proof>, request: &Request) -> Result<Answer<Verified>> {
        conditions::no_attempt(request)?;
        let (exchange, Proof { token, password }) = (public.0, sent.read()?);
        let caller = exchange.caller(Subject::Anonymous);
        let (token, password) = (Zeroizing::new(token), Zeroizing::new(password));
        let attempt = exchange.attempt("verification").await?;
        attempt.of(exchange.state.verifications.confirm(&caller, &token, password).await)?;
        Answer::value(&exchange, &Verified { verified: true })
    }
}
