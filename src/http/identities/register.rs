//! The route by which people add themselves, where the operator lets them.

use crate::{
    domain::contact,
    http::{body::Sent, conditions, envelope::Answer, exchange::Public, spec::Tag},
    services::{Result, access::Subject, identities::New},
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "Registration")]
struct Registered {
    /// This or a telephone number
    email: Option<String>,
    phone: Option<String>,
    password: String,
    name: Option<String>,
    /// A language tag: `fr`, `en-GB`
    locale: Option<String>,
}

#[derive(Serialize, Object)]
struct Welcomed {
    accepted: bool,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Authentication")]
impl Routes {
    /// Make an account of one's own
    ///
    /// Closed unless the operator opens it. Where mail can be sent, the account begins to be once the letter's link is
    /// opened (`POST /auth/verify`). The answer is the same whether or not the account was there.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        public: Public,
        sent: Sent<Registered>,
        request: &Request,
    ) -> Result<Answer<Welcomed, 202>> {
        let exchange = public.0;
        exchange.state.identities.registers()?;
        conditions::no_attempt(request)?;
        let Registered { email, phone, password, name, locale } = sent.read()?;
        let password = Some(Zeroizing::new(password));
        let caller = exchange.caller(Subject::Anonymous);
        let account = email.as_deref().map(|email| contact::email(email).unwrap_or_else(|_| email.to_owned()));
        let account = account.or_else(|| phone.clone()).unwrap_or_default();
        // Never a success: each letter asked for counts, whoever it is for.
        let _asked = exchange.state.throttle.attempt("registration", &account, exchange.address).await?;
        exchange
            .state
            .verifications
            .register(&caller, New { email, phone, name, locale, password, roles: Vec::new() })
            .await?;
        Answer::value(&exchange, &Welcomed { accepted: true })
    }
}
