//! The routes of passkeys: made by who calls, and a way in by themselves.

use super::{
    auth::{Tokens, device},
    body::Sent,
    envelope::{Answer, Free},
    exchange::Public,
    mfa::Proof,
    proof::By,
    spec::Tag,
};
use crate::services::{Result, access::Subject, mfa};
use poem::Request;
use poem_openapi::{Object, OpenApi, types::Any};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub struct Routes;

/// What the browser's `PublicKeyCredential.toJSON()` gives, byte strings in base64url.
#[derive(poem_openapi::NewType)]
#[oai(from_parameter = false, from_multipart = false, to_header = false)]
pub(super) struct Credential(Free);

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "PasskeyRegistered")]
struct Registered {
    ceremony: String,
    credential: Credential,
    /// What its owner calls it
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "PasskeyLogin")]
struct Asserted {
    ceremony: String,
    credential: Credential,
    /// What the client calls itself
    device: Option<String>,
}

/// For `navigator.credentials`: byte strings in base64url, as `PublicKeyCredential.parse…OptionsFromJSON` takes them.
#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "PasskeyOffered", rename_all = "camelCase")]
struct Offered {
    /// Good for one answer, five minutes long
    ceremony: String,
    #[serde(serialize_with = "free")]
    public_key: Free,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub(super) struct Passkey {
    #[serde(rename = "_id")]
    #[oai(rename = "_id")]
    id: String,
    name: String,
    /// Unix seconds
    created_at: i64,
    /// Unix seconds
    last_used_at: Option<i64>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "PasskeyMade", rename_all = "camelCase")]
struct Made {
    passkey: Passkey,
    /// Each good for one use, told this once; empty when there were some already
    recovery_codes: Vec<String>,
}

#[OpenApi(prefix_path = "/api/v1/auth/passkey", tag = "Tag::Authentication")]
impl Routes {
    /// Begin to make a passkey
    #[oai(path = "/register/start", method = "post", operation_id = "startPasskey")]
    async fn register_start(&self, by: By, sent: Sent<Proof>) -> Result<Answer<Offered>> {
        let again = sent.read::<Proof>()?.again()?;
        let offered = by.exchange.state.mfa.passkey_start(&by.caller, again).await?;
        Answer::value(&by.exchange, &Offered::from(offered))
    }

    /// Keep the passkey made; the caller's other sessions end
    #[oai(path = "/register/finish", method = "post", operation_id = "finishPasskey")]
    async fn register_finish(&self, by: By, sent: Sent<Registered>) -> Result<Answer<Made>> {
        let Registered { ceremony, credential, name } = sent.read()?;
        let mfa = &by.exchange.state.mfa;
        let (passkey, recovery_codes) = mfa.passkey_finish(&by.caller, &ceremony, &credential.value(), &name).await?;
        Answer::value(&by.exchange, &Made { passkey: Passkey::from(passkey), recovery_codes })
    }

    /// Begin a login by passkey; the same for everybody
    #[oai(path = "/login/start", method = "post", operation_id = "startPasskeyLogin")]
    async fn login_start(&self, public: Public) -> Result<Answer<Offered>> {
        Answer::value(&public.0, &Offered::from(public.0.state.mfa.passkey_login_start()?))
    }

    /// Open a session by passkey
    #[oai(path = "/login/finish", method = "post", operation_id = "finishPasskeyLogin")]
    async fn login_finish(&self, public: Public, sent: Sent<Asserted>, request: &Request) -> Result<Answer<Tokens>> {
        let Asserted { ceremony, credential, device: named } = sent.read()?;
        let caller = public.0.caller(Subject::Anonymous);
        let device = device(named.as_deref(), request);
        let mfa = &public.0.state.mfa;
        let granted = mfa.passkey_login_finish(&caller, &ceremony, &credential.value(), device).await?;
        Answer::value(&public.0, &Tokens::from(granted))
    }
}

impl Credential {
    pub(super) fn value(self) -> Value {
        Value::Object(self.0.into_iter().map(|(name, Any(value))| (name, value)).collect())
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        Ok(Self(fields.into_iter().map(|(name, value)| (name, Any(value))).collect()))
    }
}

fn free<S: Serializer>(free: &Free, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(free.iter().map(|(name, Any(value))| (name, value)))
}

impl From<mfa::Offered> for Offered {
    fn from(offered: mfa::Offered) -> Self {
        let fields = match offered.options {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self {
            ceremony: offered.ceremony,
            public_key: fields.into_iter().map(|(name, value)| (name, Any(value))).collect(),
        }
    }
}

impl From<mfa::Passkey> for Passkey {
    fn from(passkey: mfa::Passkey) -> Self {
        let (created_at, last_used_at) = (passkey.created.seconds(), passkey.used.map(|used| used.seconds()));
        Self { id: passkey.id, name: passkey.name, created_at, last_used_at }
    }
}
