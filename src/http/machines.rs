//! The routes of machines: registered by an administrator, proven by a signed assertion or a client certificate.

use super::{auth::Person, body::Sent, conditions, envelope::Answer, exchange::Public, peer, proof::By, spec::Tag};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        access::{Role, Subject},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct NewMachine {
    /// Lower case letters, digits and dashes
    name: String,
    /// `admin`, `operator`, `auditor`
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Assertion {
    /// A JWT signed by a key of the machine (EdDSA, `kid`), good for one use. Absent: the connection's client
    /// certificate is the proof, and the token is bound to it
    assertion: Option<String>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Token {
    access_token: String,
    /// Seconds the access token lives; it is not refreshed
    expires_in: i64,
    /// The machine's id
    identity: String,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl Routes {
    /// Trade a machine's signed assertion, or its client certificate, for a short access token
    #[oai(path = "/auth/machine", method = "post", operation_id = "proveMachine")]
    async fn prove(&self, public: Public, sent: Sent<Assertion>, request: &Request) -> Result<Answer<Token>> {
        let (exchange, Assertion { assertion }) = (public.0, sent.read()?);
        let caller = exchange.caller(Subject::Anonymous);
        let attempt = exchange.attempt("machine").await?;
        let machines = &exchange.state.machines;
        let granted = match assertion {
            Some(assertion) => machines.prove(&caller, &assertion).await,
            None => machines.prove_by_certificate(&caller, peer::certificate(request)).await,
        };
        let granted = attempt.of(granted)?;
        let (access_token, expires_in, identity) = (granted.access, granted.expires_in, granted.identity);
        Answer::value(&exchange, &Token { access_token, expires_in, identity })
    }

    /// Add a machine; its keys are added to it afterwards
    #[oai(path = "/admin/machines", method = "post", operation_id = "addMachine", tag = "Tag::Administration")]
    async fn add(&self, by: By, sent: Sent<NewMachine>, request: &Request) -> Result<Answer<Person, 201>> {
        conditions::no_attempt(request)?;
        let NewMachine { name, roles } = sent.read()?;
        let unknown = |name: &str| Error::Invalid(Fault::new("identities.role").at("roles").with("role", name));
        let roles = roles.iter().map(|name| Role::from_name(name).ok_or_else(|| unknown(name)));
        let roles = roles.collect::<Result<Vec<_>>>()?;
        let machine = by.exchange.state.identities.add_machine(&by.caller, &name, roles).await?;
        Answer::value(&by.exchange, &Person::from(&machine))
    }
}
