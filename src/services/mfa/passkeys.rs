//! Passkeys (WebAuthn): discoverable, with the user verified, so that one is a proof by itself. A login never names the
//! account: it cannot tell which exist.

use super::{Method, Mfa, ROUNDS, busy, own::Again};
use crate::{
    base::{clock::Timestamp, fault::Fault, secret},
    services::{
        Error, Result,
        access::Caller,
        audit::Event,
        identities::{Identity, Status},
        sessions::{Granted, own},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use std::net::IpAddr;
use webauthn_rs::prelude::{
    self as webauthn, DiscoverableAuthentication, DiscoverableKey, PasskeyRegistration, Uuid, Webauthn, WebauthnBuilder,
};

/// Of one identity.
const MOST: usize = 20;
const LONGEST_NAME: usize = 64;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passkey {
    /// The credential's, in base64url.
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    pub used: Option<Timestamp>,
    /// The public key and its counter, as the library keeps them: JSON.
    credential: String,
}

/// Where passkeys are good: a host name of the instance, and the origins of the applications that use it.
pub struct Site {
    name: String,
    /// Absent where the instance has no name but addresses: passkeys want a name.
    webauthn: Option<Webauthn>,
}

/// What an authenticator is asked: `publicKey` of the browser's call, and the exchange it belongs to.
pub struct Offered {
    pub ceremony: String,
    pub options: Value,
}

pub struct Registration {
    identity: String,
    /// The identity's `tokens_from` when it was begun.
    since: Timestamp,
    state: PasskeyRegistration,
}

pub type Login = DiscoverableAuthentication;

impl Site {
    /// The first host name that is a name; pages of any of the names within it, and of `origins`, may ask.
    pub fn new(hostnames: &[String], port: u16, origins: &[String]) -> std::result::Result<Self, Fault> {
        let name = hostnames.iter().find(|name| name.parse::<IpAddr>().is_err() && !name.starts_with('*'));
        let Some(name) = name else {
            return Ok(Self { name: hostnames.first().cloned().unwrap_or_default(), webauthn: None });
        };
        let wrong = |origin: &str| Fault::new("mfa.origin").at("identity.origins").with("origin", origin);
        let own = [format!("https://{name}"), format!("https://{name}:{port}")];
        let mut urls = own.iter().chain(origins).map(|origin| webauthn::Url::parse(origin).map_err(|_| wrong(origin)));
        let first = urls.next().ok_or_else(|| wrong(name))??;
        let mut builder = WebauthnBuilder::new(name, &first).map_err(|_| wrong(name))?.rp_name(name);
        for url in urls {
            builder = builder.append_allowed_origin(&url?);
        }
        let webauthn = builder.build().map_err(|_| wrong(name))?;
        Ok(Self { name: name.clone(), webauthn: Some(webauthn) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn webauthn(&self) -> Result<&Webauthn> {
        self.webauthn.as_ref().ok_or_else(|| Error::Conflict(Fault::new("mfa.no_site")))
    }
}

impl Passkey {
    fn of(credential: &webauthn::Passkey, name: &str, created: Timestamp) -> Result<Self> {
        let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
        let id = URL_SAFE_NO_PAD.encode(credential.cred_id());
        Ok(Self { id, name, created, used: None, credential: text(credential)? })
    }

    fn credential(&self) -> Result<webauthn::Passkey> {
        serde_json::from_str(&self.credential).map_err(|error| Error::Internal(Box::new(error)))
    }
}

impl Mfa {
    /// What the caller's authenticator is asked for a new passkey.
    pub async fn passkey_start(&self, caller: &Caller, again: Again) -> Result<Offered> {
        let webauthn = self.site.webauthn()?;
        let identity = self.prove_again(caller, again).await?;
        let (factors, _) = self.load(&identity.id).await?;
        let known = factors.passkeys.iter().map(|kept| Ok(kept.credential()?.cred_id().clone()));
        let known = known.collect::<Result<Vec<_>>>()?;
        let handle = Uuid::try_parse(&identity.id).map_err(|error| Error::Internal(Box::new(error)))?;
        let begun = webauthn.start_passkey_registration(handle, identity.label(), identity.label(), Some(known));
        let (asked, state) = begun.map_err(|error| Error::Internal(Box::new(error)))?;
        let mut options = json(&asked.public_key)?;
        // Only one the authenticator finds by itself opens a session without naming the account.
        options["authenticatorSelection"]["residentKey"] = "required".into();
        options["authenticatorSelection"]["requireResidentKey"] = true.into();
        let ceremony = secret::make().to_string();
        let begun = Registration { since: identity.tokens_from, identity: identity.id, state };
        self.registrations.put(ceremony.clone(), begun, self.clock.now());
        Ok(Offered { ceremony, options })
    }

    /// Keeps the passkey made. Answers it, and recovery codes, told this once, to who had none.
    pub async fn passkey_finish(
        &self,
        caller: &Caller,
        ceremony: &str,
        credential: &Value,
        name: &str,
    ) -> Result<(Passkey, Vec<String>)> {
        let webauthn = self.site.webauthn()?;
        let (id, _) = own(caller)?;
        let now = self.clock.now();
        let taken = self.registrations.take(ceremony, now).filter(|(_, begun)| begun.identity == id);
        let (_, Registration { state, since, .. }) =
            taken.ok_or_else(|| Error::Conflict(Fault::new("mfa.not_started")))?;
        let refused = || Error::Invalid(Fault::new("mfa.passkey").at("credential"));
        let credential = serde_json::from_value(credential.clone()).map_err(|_| refused())?;
        let made = webauthn.finish_passkey_registration(&credential, &state).map_err(|error| {
            tracing::info!(%error, "a passkey was refused");
            refused()
        })?;
        let passkey = Passkey::of(&made, name, now)?;
        let changed = self.change(caller, (id, since), |factors| {
            if factors.passkeys.iter().any(|kept| kept.id == passkey.id) {
                return Err(refused());
            }
            if factors.passkeys.len() >= MOST {
                return Err(Error::Conflict(Fault::new("mfa.too_many").with("most", MOST)));
            }
            factors.passkeys.push(passkey.clone());
            Ok(factors.first_recovery())
        });
        let (codes, _) = changed.await?;
        self.changed(caller, Some(method(&made))).await?;
        Ok((passkey, codes))
    }

    /// What any authenticator is asked for a login. The same for everybody.
    pub fn passkey_login_start(&self) -> Result<Offered> {
        let begun = self.site.webauthn()?.start_discoverable_authentication();
        let (asked, state) = begun.map_err(|error| Error::Internal(Box::new(error)))?;
        let ceremony = secret::make().to_string();
        self.logins.put(ceremony.clone(), state, self.clock.now());
        Ok(Offered { ceremony, options: json(&asked.public_key)? })
    }

    /// Opens a session for whose passkey this is.
    pub async fn passkey_login_finish(
        &self,
        caller: &Caller,
        ceremony: &str,
        credential: &Value,
        device: &str,
    ) -> Result<Granted> {
        let (identity, method) = self.assert(caller, ceremony, credential).await?;
        self.sessions.open(caller, identity, device, &[method, Method::Mfa]).await
    }

    /// Whose passkey signed the ceremony's challenge. Whatever is wrong, the answer is the same.
    pub(super) async fn assert(
        &self,
        caller: &Caller,
        ceremony: &str,
        credential: &Value,
    ) -> Result<(Identity, Method)> {
        let judged = self.judge(caller, ceremony, credential).await;
        if let Err(Error::Unauthorized) = &judged {
            self.audit.refused(caller, Event::new("auth.factor").failed("a passkey that is not right")).await;
        }
        judged
    }

    async fn judge(&self, caller: &Caller, ceremony: &str, credential: &Value) -> Result<(Identity, Method)> {
        let webauthn = self.site.webauthn()?;
        let taken = self.logins.take(ceremony, self.clock.now());
        let credential = serde_json::from_value(credential.clone());
        let (Some((_, state)), Ok(credential)) = (taken, credential) else { return Err(Error::Unauthorized) };
        let refused = |error: webauthn::WebauthnError| {
            tracing::info!(%error, "a passkey was refused");
            Error::Unauthorized
        };
        let (handle, id) = webauthn.identify_discoverable_authentication(&credential).map_err(refused)?;
        let (handle, id) = (handle.to_string(), URL_SAFE_NO_PAD.encode(id));
        for _ in 0..ROUNDS {
            let (mut factors, expect) = self.load(&handle).await?;
            let kept = factors.passkeys.iter_mut().find(|kept| kept.id == id).ok_or(Error::Unauthorized)?;
            let mut known = kept.credential()?;
            let key = DiscoverableKey::from(&known);
            let proven = webauthn.finish_discoverable_authentication_v2(&credential, state.clone(), key);
            let proven = proven.map_err(refused)?;
            known.update_credential(&proven);
            (kept.credential, kept.used) = (text(&known)?, Some(self.clock.now()));
            match self.keep(caller, &factors, expect, Vec::new()).await {
                Err(Error::Precondition(_)) => continue,
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            let identity = self.identities.require(&handle).await.map_err(|_| Error::Unauthorized)?;
            return match identity.status {
                Status::Active => Ok((identity, method(&known))),
                Status::Disabled => Err(Error::Unauthorized),
            };
        }
        Err(busy())
    }
}

/// A credential that may be copied is proof of a key in software.
fn method(credential: &webauthn::Passkey) -> Method {
    let copied = serde_json::to_value(credential).is_ok_and(|value| value["cred"]["backup_eligible"] == true);
    if copied { Method::Swk } else { Method::Hwk }
}

fn json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::Internal(Box::new(error)))
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_name() {
        let site = |names: &[&str], origins: &[&str]| {
            let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            Site::new(&words(names), 8443, &words(origins))
        };
        assert_eq!(site(&["10.0.0.1", "a.example"], &[]).unwrap().name(), "a.example");
        assert!(site(&["10.0.0.1", "::1"], &[]).unwrap().webauthn().is_err());
        let other = site(&["localhost"], &["https://app.example.cd", "android:apk-key-hash:abc"]).unwrap();
        assert_eq!(other.webauthn().unwrap().get_allowed_origins().len(), 4);
        assert_eq!(site(&["localhost"], &["nowhere"]).err().map(|fault| fault.key), Some("mfa.origin"));
    }
}
