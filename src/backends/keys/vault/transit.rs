//! The root key in the vault's transit engine: what it wraps is the engine's own text, `vault:v1:…`, bound to its context as
//! associated data. The key has versions; a successor is the next one, and the older ones open what they wrapped.

use super::session::{Answer, Call, Vault};
use crate::{
    backends::keys::local::LocalKeeper,
    base::{config::Secret, random},
    ports::{
        Error, Result,
        keys::{RootKeeper, RootKey},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};
use zeroize::Zeroizing;

/// How everything the engine sealed begins.
const SEALED: &str = "vault:v";
/// Ciphers that bind what they seal to its context.
const BINDING: [&str; 4] = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"];

pub struct Transit {
    pub vault: Arc<Vault>,
    pub mount: String,
    pub key: String,
}

#[derive(Deserialize)]
struct Told<T> {
    data: T,
}

impl Transit {
    fn path(&self, operation: &str) -> String {
        format!("{}/{operation}/{}", self.mount, self.key)
    }

    /// Whether there is such a key, and of a kind that will do: writing under one that is absent might make it.
    pub async fn check(&self) -> Result<()> {
        #[derive(Deserialize)]
        struct Kind {
            r#type: String,
            derived: bool,
        }
        let path = self.path("keys");
        let answer = self.vault.ask(Call { path: &path, body: None }).await?;
        if answer.status == 404 {
            return Err(self.absent(&path, &answer));
        }
        let Told { data: kind } = self.vault.read::<Told<Kind>>(&path, &answer)?;
        if kind.derived || !BINDING.contains(&kind.r#type.as_str()) {
            let fault = self.vault.fault("vault.key_kind", &path).with("kind", kind.r#type);
            return Err(Error::Rejected(fault.with("command", self.making())));
        }
        self.binds(&path).await
    }

    /// Older vaults pass over what they are to bind to, without a word.
    async fn binds(&self, path: &str) -> Result<()> {
        let wrapped = self.wrap(b"proof", &random::array::<32>()).await?;
        match self.unwrap(b"proof of another", &wrapped).await {
            Ok(_) => Err(Error::Rejected(self.vault.fault("vault.unbound", path))),
            Err(Error::Corrupt(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn making(&self) -> String {
        format!("bao write -f {}/keys/{} type=aes256-gcm96", self.mount, self.key)
    }

    /// No such key, or no such engine.
    fn absent(&self, path: &str, answer: &Answer) -> Error {
        let (key, command) = match answer.why().contains("no handler for route") {
            true => ("vault.no_engine", format!("bao secrets enable -path={} transit", self.mount)),
            false => ("vault.no_key", self.making()),
        };
        Error::Rejected(self.vault.fault(key, path).with("command", command))
    }

    async fn post(&self, path: &str, body: Value) -> Result<Answer> {
        let answer = self.vault.ask(Call { path, body: Some(&body) }).await?;
        let why = if answer.done() { String::new() } else { answer.why() };
        let told = |words: &[&str]| words.iter().any(|word| why.contains(word));
        if answer.status == 404 || told(&["encryption key not found"]) {
            return Err(self.absent(path, &answer));
        }
        // Before the words it shares with what is of another key.
        if told(&["version is too new"]) {
            return Err(Error::Rejected(self.vault.fault("vault.behind", &self.path("keys"))));
        }
        if told(&["message authentication failed", "invalid ciphertext"]) {
            return Err(self.corrupt());
        }
        if told(&["(too old)"]) {
            return Err(Error::Rejected(self.vault.fault("vault.too_old", &self.path("keys"))));
        }
        if answer.done() { Ok(answer) } else { Err(self.vault.refused(path, &answer)) }
    }

    fn corrupt(&self) -> Error {
        Error::Corrupt(format!("a wrapped key does not open with {}", self.source()))
    }
}

#[async_trait::async_trait]
impl RootKey for Transit {
    fn source(&self) -> String {
        format!("vault {} {}/{}", self.vault.address(), self.mount, self.key)
    }

    async fn wrap(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        #[derive(Deserialize)]
        struct Wrapped {
            ciphertext: String,
        }
        let body = json!({ "plaintext": STANDARD.encode(plain), "associated_data": STANDARD.encode(context) });
        let path = self.path("encrypt");
        let answer = self.post(&path, body).await?;
        let Told { data: Wrapped { ciphertext } } = self.vault.read(&path, &answer)?;
        Ok(ciphertext.into_bytes())
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        #[derive(Deserialize)]
        struct Opened {
            plaintext: Secret,
        }
        // Of another root key: nothing to ask the vault about.
        let sealed = std::str::from_utf8(wrapped).ok().filter(|text| text.starts_with(SEALED));
        let sealed = sealed.ok_or_else(|| self.corrupt())?;
        let body = json!({ "ciphertext": sealed, "associated_data": STANDARD.encode(context) });
        let path = self.path("decrypt");
        let answer = self.post(&path, body).await?;
        let Told { data: Opened { plaintext } } = self.vault.read(&path, &answer)?;
        STANDARD.decode(plaintext.expose()).map(Zeroizing::new).map_err(|_| self.corrupt())
    }
}

/// The vault keeps the key and its versions: at no moment of a change is there one that opens nothing.
pub struct TransitKeeper(pub Arc<Transit>);

#[async_trait::async_trait]
impl RootKeeper for TransitKeeper {
    async fn prove(&self, file: Option<&Path>) -> Result<()> {
        if file.is_some() { Ok(()) } else { self.0.check().await }
    }

    /// The next version, which wraps from now on. With a file, a key of its own, away from the vault.
    async fn prepare(&self, file: Option<&Path>) -> Result<Arc<dyn RootKey>> {
        if file.is_some() {
            return LocalKeeper::of(None).prepare(file).await;
        }
        self.0.post(&format!("{}/rotate", self.0.path("keys")), json!({})).await?;
        Ok(self.0.clone())
    }

    /// Nothing waits: older versions open what they wrapped.
    async fn settle(&self, _opened: &dyn RootKey) -> Result<Option<Arc<dyn RootKey>>> {
        Ok(None)
    }

    async fn replace(&self) -> Result<Arc<dyn RootKey>> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::keys::vault::{Login, Settings},
        ports::web::{Body, Request, Response, Web},
    };

    /// As a vault from before `associated_data`, which cannot be started any more: it opens whatever the context.
    struct Deaf;

    #[async_trait::async_trait]
    impl Web for Deaf {
        async fn fetch(&self, request: Request) -> Result<Response> {
            let asked = match request.body {
                Some(Body::Json(text)) => serde_json::from_str(&text).unwrap(),
                _ => Value::Null,
            };
            let word = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
            let data = match request.url.rsplit('/').nth(1) {
                Some("encrypt") => json!({ "ciphertext": format!("{SEALED}1:{}", word("plaintext")) }),
                Some("decrypt") => json!({ "plaintext": word("ciphertext").rsplit(':').next() }),
                _ => json!({ "type": "aes256-gcm96", "derived": false }),
            };
            Ok(Response { status: 200, body: json!({ "data": data }).to_string().into_bytes() })
        }
    }

    #[tokio::test]
    async fn a_vault_that_does_not_bind_is_refused() {
        let settings = Settings {
            address: "https://vault.example.cd".to_owned(),
            namespace: None,
            login: Login::Token(Secret::of("t")),
        };
        let vault = Arc::new(Vault::new(settings, Arc::new(Deaf)));
        let transit = Transit { vault, mount: "transit".to_owned(), key: "old".to_owned() };
        let told = transit.check().await.unwrap_err();
        assert!(matches!(&told, Error::Rejected(fault) if fault.key == "vault.unbound"), "{told}");
    }
}
