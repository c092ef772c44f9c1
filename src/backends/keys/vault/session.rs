//! Requests to a vault under a token: by a token that was given, or by an AppRole, which can log in again.

use super::lease::Life;
use crate::{
    base::{clock::Stopwatch, config::Secret, fault::Fault},
    ports::{
        Error, Result,
        web::{Body, Request, Response, Web},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use zeroize::Zeroizing;

/// Before another attempt at the first request: a machine may start together with its vault.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// After which no other attempt begins.
const LONGEST: Duration = Duration::from_secs(10);
/// Whether a token is one.
pub const SELF: &str = "auth/token/lookup-self";

pub struct Settings {
    /// `https://HOST[:PORT]`, without a slash at its end.
    pub address: String,
    pub namespace: Option<String>,
    pub login: Login,
}

pub enum Login {
    Token(Secret),
    AppRole { role_id: String, secret_id: Secret },
}

/// One login, shared by all who ask.
pub struct Vault {
    pub settings: Settings,
    web: Arc<dyn Web>,
    /// It answered, or was waited for: nobody waits twice.
    waited: AtomicBool,
    /// Who logs in, so that two do not.
    entering: tokio::sync::Mutex<()>,
    pub(super) held: Mutex<Option<Held>>,
}

#[derive(Clone)]
pub struct Held {
    pub token: Secret,
    /// Unknown until it is asked for: of a token that was given.
    pub life: Option<Life>,
}

/// What a login or a renewal gives.
#[derive(Deserialize)]
pub struct Granted {
    pub client_token: Secret,
    pub lease_duration: u64,
    #[serde(default)]
    pub renewable: bool,
}

/// What was asked, for who reads the refusal.
#[derive(Clone, Copy)]
pub struct Call<'c> {
    /// Beneath `/v1/`.
    pub path: &'c str,
    /// A POST, where there is one.
    pub body: Option<&'c Value>,
}

impl Call<'_> {
    /// What the policy must allow.
    fn right(&self) -> &'static str {
        if self.body.is_some() { "update" } else { "read" }
    }
}

/// What was found, or that it is not there as asked (400, 404).
pub struct Answer {
    pub status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub fn done(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// As the vault says it.
    pub fn why(&self) -> String {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        let errors = serde_json::from_slice::<Errors>(&self.body).map(|said| said.errors).unwrap_or_default();
        let words = errors.iter().flat_map(|error| error.split_whitespace()).collect::<Vec<_>>().join(" ");
        if words.is_empty() { self.status.to_string() } else { words.chars().take(300).collect() }
    }
}

impl Vault {
    pub fn new(settings: Settings, web: Arc<dyn Web>) -> Self {
        let (waited, entering, held) = (AtomicBool::new(false), tokio::sync::Mutex::default(), Mutex::default());
        Self { settings, web, waited, entering, held }
    }

    pub fn address(&self) -> &str {
        &self.settings.address
    }

    pub fn fault(&self, key: &'static str, path: &str) -> Fault {
        Fault::new(key).with("address", self.address()).with("place", path)
    }

    /// Asks under the token; one that has ended is replaced where it can be.
    pub async fn ask(&self, call: Call<'_>) -> Result<Answer> {
        let token = self.token().await?;
        let answer = self.send(call, Some(&token)).await?;
        if answer.status == 403 && !self.knows(&token).await? {
            let token = self.enter(Some(&token)).await?;
            return self.judged(call, self.send(call, Some(&token)).await?);
        }
        self.judged(call, answer)
    }

    /// As above, for an answer that must be there.
    pub async fn want<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let answer = self.ask(call).await?;
        self.read(call.path, &answer)
    }

    pub fn read<T: DeserializeOwned>(&self, path: &str, answer: &Answer) -> Result<T> {
        match serde_json::from_slice(&answer.body) {
            Ok(read) if answer.done() => Ok(read),
            _ => Err(self.refused(path, answer)),
        }
    }

    pub fn refused(&self, path: &str, answer: &Answer) -> Error {
        Error::Rejected(self.fault("vault.refused", path).with("status", answer.status).with("why", answer.why()))
    }

    fn judged(&self, call: Call<'_>, answer: Answer) -> Result<Answer> {
        match answer.status {
            200..300 | 400 | 404 => Ok(answer),
            403 => {
                let fault = self.fault("vault.forbidden", call.path).with("right", call.right());
                Err(Error::Rejected(fault.with("why", answer.why())))
            }
            _ => Err(self.refused(call.path, &answer)),
        }
    }

    async fn token(&self) -> Result<Secret> {
        match self.held() {
            Some(held) => Ok(held.token),
            None => self.enter(None).await,
        }
    }

    pub fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// A token in the place of one that counts no more, or of none.
    pub async fn enter(&self, spent: Option<&Secret>) -> Result<Secret> {
        let _one = self.entering.lock().await;
        // Somebody else may have logged in meanwhile.
        if let Some(held) = self.held()
            && spent.is_none_or(|spent| spent.expose() != held.token.expose())
        {
            return Ok(held.token);
        }
        let (token, life) = match &self.settings.login {
            Login::Token(_) if spent.is_some() => return Err(Error::Rejected(self.fault("vault.token", SELF))),
            Login::Token(token) => (token.clone(), None),
            Login::AppRole { role_id, secret_id } => {
                let granted = self.log_in(role_id, secret_id).await?;
                let life = Life::of(&granted);
                (granted.client_token, Some(life))
            }
        };
        self.hold(Held { token: token.clone(), life });
        Ok(token)
    }

    async fn log_in(&self, role_id: &str, secret_id: &Secret) -> Result<Granted> {
        const PATH: &str = "auth/approle/login";
        #[derive(Deserialize)]
        struct Entered {
            auth: Granted,
        }
        let body = json!({ "role_id": role_id, "secret_id": secret_id.expose() });
        let answer = self.send(Call { path: PATH, body: Some(&body) }, None).await?;
        match answer.status {
            400 | 401 | 403 | 404 => Err(Error::Rejected(self.fault("vault.login", PATH).with("why", answer.why()))),
            _ => self.read::<Entered>(PATH, &answer).map(|entered| entered.auth),
        }
    }

    /// Whether a token still counts: a refusal may be of what was asked alone.
    async fn knows(&self, token: &Secret) -> Result<bool> {
        Ok(self.send(Call { path: SELF, body: None }, Some(token)).await?.done())
    }

    /// An answer, whatever it says; waited for once in the life of the process.
    async fn send(&self, call: Call<'_>, token: Option<&Secret>) -> Result<Answer> {
        let (watch, mut causes) = (Stopwatch::start(), Vec::new());
        let pauses = if self.waited.swap(true, Ordering::Relaxed) { &[][..] } else { &PAUSES };
        for pause in pauses.iter().map(Some).chain([None]) {
            let sealed = match self.once(call, token).await {
                Ok(answer) if answer.status < 500 && answer.status != 429 => return Ok(answer),
                Ok(answer) => {
                    causes.push(format!("{} {}", answer.status, answer.why()));
                    answer.status == 503
                }
                Err(Error::Unavailable(why)) => {
                    let place = format!("{}: ", self.url(call.path));
                    causes.push(why.strip_prefix(&place).unwrap_or(&why).to_owned());
                    false
                }
                Err(error) => return Err(error),
            };
            match pause.filter(|_| watch.elapsed() < LONGEST) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => {
                    let key = if sealed { "vault.sealed" } else { "vault.unreachable" };
                    return Err(Error::OutOfReach(self.fault(key, call.path).with("why", counted(&causes))));
                }
            }
        }
        Err(Error::OutOfReach(self.fault("vault.unreachable", call.path).with("why", counted(&causes))))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address())
    }

    async fn once(&self, call: Call<'_>, token: Option<&Secret>) -> Result<Answer> {
        // An agent in between may want it, so that no page of a browser can ask.
        let mut headers = vec![("x-vault-request", "true".to_owned())];
        headers.extend(token.map(|token| ("x-vault-token", token.expose().to_owned())));
        headers.extend(self.settings.namespace.iter().map(|namespace| ("x-vault-namespace", namespace.clone())));
        let body = call.body.map(|body| Body::Json(body.to_string()));
        let request = Request { url: self.url(call.path), body, authorization: None, headers };
        let Response { status, body } = self.web.fetch(request).await?;
        Ok(Answer { status, body: Zeroizing::new(body) })
    }
}

/// Each attempt's cause, those that follow one another alike as one.
fn counted(causes: &[String]) -> String {
    let told = causes.chunk_by(|one, next| one == next).map(|alike| match alike {
        [one] => one.clone(),
        alike => format!("{} × {}", alike.len(), alike.first().map_or("", String::as_str)),
    });
    told.collect::<Vec<_>>().join("; ")
}
