//! The routes of API keys and machines' keys: the caller's own, and anybody's for administrators.

use super::{body::Sent, conditions, envelope::Answer, mfa::Proof, proof::By, spec::Tag};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        access::{Action, Restriction},
        keys::{Key, Wanted},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Scopes {
    /// `VIEW`, `CREATE`, `UPDATE`, `DELETE`, `MANAGE`
    actions: Vec<String>,
    /// Absent: every collection
    #[serde(skip_serializing_if = "Option::is_none")]
    collections: Option<Vec<String>>,
    /// Parts of the appliance beside collections
    #[serde(default)]
    modules: Vec<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct NewKey {
    /// For people to tell keys apart
    name: String,
    /// 90 when absent, 365 at most
    expires_in_days: Option<i64>,
    /// Absent: an API key reads collections
    scopes: Option<Scopes>,
    /// The caller's own, or a code: a key outlives every session
    password: Option<String>,
    code: Option<String>,
    recovery_code: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct NewKeyOf {
    name: String,
    /// 90 when absent, 365 at most
    expires_in_days: Option<i64>,
    /// Absent: an API key reads collections, a machine's key does what its machine may
    scopes: Option<Scopes>,
    /// A machine's Ed25519 public key: PEM, or 32 bytes in base64. Absent: an API key is made
    public_key: Option<String>,
    /// The caller's own, or a code: a key outlives every session
    password: Option<String>,
    code: Option<String>,
    recovery_code: Option<String>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Held {
    #[serde(rename = "_id")]
    #[oai(rename = "_id")]
    id: String,
    /// Who it proves
    identity: String,
    name: String,
    /// `API_KEY` or `ED25519`
    kind: String,
    scopes: Option<Scopes>,
    /// Unix seconds
    created_at: i64,
    created_by: String,
    expires_at: i64,
    /// Give or take an hour
    last_used_at: Option<i64>,
    /// `active`, `expired` or `revoked`
    status: String,
    /// The key itself: shown this once, kept nowhere
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// What a machine's assertions name as `aud`
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl Routes {
    /// Make an API key of the caller's own; only a session may
    #[oai(path = "/auth/keys", method = "post", operation_id = "createKey")]
    async fn create_own(&self, by: By, sent: Sent<NewKey>, request: &Request) -> Result<Answer<Held, 201>> {
        conditions::no_attempt(request)?;
        let NewKey { name, expires_in_days, scopes, password, code, recovery_code } = sent.read()?;
        let restriction = scopes.map(Scopes::read).transpose()?;
        let again = Proof { password, code, recovery_code }.again()?;
        let wanted = Wanted { name, days: expires_in_days, restriction, public: None };
        let (key, words) = by.exchange.state.keys.create_own(&by.caller, wanted, again).await?;
        Answer::value(&by.exchange, &Held::made(&by, key, words))
    }

    /// The caller's own keys
    #[oai(path = "/auth/keys", method = "get", operation_id = "listKeys")]
    async fn list_own(&self, by: By) -> Result<Answer<Vec<Held>>> {
        let keys = by.exchange.state.keys.list_own(&by.caller).await?;
        Answer::value(&by.exchange, &Held::all(&by, keys))
    }

    /// End one of the caller's own keys
    #[oai(path = "/auth/keys/:id", method = "delete", operation_id = "revokeKey")]
    async fn revoke_own(&self, by: By, id: Path<String>) -> Result<Answer<Held>> {
        let key = by.exchange.state.keys.revoke_own(&by.caller, &id).await?;
        Answer::value(&by.exchange, &Held::of(&by, key))
    }

    /// Make an API key for somebody, or take a machine's public key; `who` is an id, an email or a machine's name
    #[oai(
        path = "/admin/identities/:who/keys",
        method = "post",
        operation_id = "createKeyOf",
        tag = "Tag::Administration"
    )]
    async fn create(
        &self,
        by: By,
        who: Path<String>,
        sent: Sent<NewKeyOf>,
        request: &Request,
    ) -> Result<Answer<Held, 201>> {
        conditions::no_attempt(request)?;
        let NewKeyOf { name, expires_in_days, scopes, public_key, password, code, recovery_code } = sent.read()?;
        let restriction = scopes.map(Scopes::read).transpose()?;
        let again = Proof { password, code, recovery_code }.again()?;
        let wanted = Wanted { name, days: expires_in_days, restriction, public: public_key };
        let (key, words) = by.exchange.state.keys.create(&by.caller, &who, wanted, again).await?;
        Answer::value(&by.exchange, &Held::made(&by, key, words))
    }

    /// Somebody's keys
    #[oai(
        path = "/admin/identities/:who/keys",
        method = "get",
        operation_id = "listKeysOf",
        tag = "Tag::Administration"
    )]
    async fn list_of(&self, by: By, who: Path<String>) -> Result<Answer<Vec<Held>>> {
        let keys = by.exchange.state.keys.list(&by.caller, Some(&who)).await?;
        Answer::value(&by.exchange, &Held::all(&by, keys))
    }

    /// Everybody's keys
    #[oai(path = "/admin/keys", method = "get", operation_id = "listAllKeys", tag = "Tag::Administration")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Held>>> {
        let keys = by.exchange.state.keys.list(&by.caller, None).await?;
        Answer::value(&by.exchange, &Held::all(&by, keys))
    }

    /// End anybody's key
    #[oai(path = "/admin/keys/:id", method = "delete", operation_id = "revokeAnyKey", tag = "Tag::Administration")]
    async fn revoke(&self, by: By, id: Path<String>) -> Result<Answer<Held>> {
        let key = by.exchange.state.keys.revoke(&by.caller, &id).await?;
        Answer::value(&by.exchange, &Held::of(&by, key))
    }
}

impl Scopes {
    fn read(self) -> Result<Restriction> {
        let unknown =
            |name: &String| Error::Invalid(Fault::new("keys.action").at("scopes.actions").with("action", name));
        let actions = self.actions.iter().map(|name| Action::from_name(name).ok_or_else(|| unknown(name)));
        let (collections, modules) = (self.collections, self.modules);
        Ok(Restriction { actions: actions.collect::<Result<_>>()?, collections, modules })
    }
}

impl From<Restriction> for Scopes {
    fn from(restriction: Restriction) -> Self {
        let Restriction { actions, collections, modules } = restriction;
        Self { actions: actions.iter().map(|action| action.name().to_owned()).collect(), collections, modules }
    }
}

impl Held {
    fn of(by: &By, key: Key) -> Self {
        let status = match key.revoked {
            true => "revoked",
            false if key.is_over(by.exchange.state.clock.now()) => "expired",
            false => "active",
        };
        Self {
            kind: if key.public.is_some() { "ED25519" } else { "API_KEY" }.to_owned(),
            audience: key.public.is_some().then(|| by.exchange.state.machines.audience().to_owned()),
            id: key.id,
            identity: key.identity,
            name: key.name,
            scopes: key.restriction.map(Scopes::from),
            created_at: key.created.seconds(),
            created_by: key.created_by,
            expires_at: key.expires.seconds(),
            last_used_at: key.last_used.map(|at| at.seconds()),
            status: status.to_owned(),
            token: None,
        }
    }

    fn made(by: &By, key: Key, words: Option<Zeroizing<String>>) -> Self {
        Self { token: words.map(|words| words.to_string()), ..Self::of(by, key) }
    }

    fn all(by: &By, keys: Vec<Key>) -> Vec<Self> {
        keys.into_iter().map(|key| Self::of(by, key)).collect()
    }
}
