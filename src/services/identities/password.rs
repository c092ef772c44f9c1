//! Passwords: argon2id (RFC 9106), its work bounded to the cores, so that logins cannot starve the server.

use super::foreign;
use crate::{
    base::{fault::Fault, random},
    services::{Error, Result},
};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Shortest allowed, in characters: of a person, of an administrator. Longest: a bound on work, not on taste.
const SHORTEST: usize = 12;
const SHORTEST_ADMIN: usize = 16;
const LONGEST: usize = 1024;
/// How many may wait for a core before the next is asked to come back.
const QUEUE: usize = 64;

/// What hashing a wrong password costs is what an unknown account costs: nobody learns which exists.
static DECOY: LazyLock<String> =
    LazyLock::new(|| hash(b"a password nobody has").expect("fixed input, fixed parameters"));

pub struct Passwords {
    cores: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Passwords {
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { cores: Arc::new(Semaphore::new(cores)), queue: Arc::new(Semaphore::new(cores + QUEUE)) }
    }

    /// Checks the rules and answers the PHC string to keep.
    pub async fn hash(&self, password: Zeroizing<String>, administrator: bool) -> Result<String> {
        let shortest = if administrator { SHORTEST_ADMIN } else { SHORTEST };
        let length = password.chars().count();
        if length < shortest || password.len() > LONGEST {
            let fault = Fault::new("identities.password_length").at("password");
            return Err(Error::Invalid(fault.with("shortest", shortest).with("longest", LONGEST)));
        }
        self.run(move || hash(password.as_bytes())).await?.map_err(|error| Error::Internal(error.to_string().into()))
    }

    /// Whether the password is the one kept. `None`: no such account; takes as long.
    pub async fn verify(&self, password: Zeroizing<String>, kept: Option<String>) -> Result<bool> {
        if password.len() > LONGEST {
            return Ok(false);
        }
        self.run(move || {
            let (text, known) = match &kept {
                Some(text) => (text.as_str(), true),
                None => (DECOY.as_str(), false),
            };
            if foreign::is_bcrypt(text) {
                return Ok(foreign::verify_bcrypt(&password, text) && known);
            }
            let parsed = PasswordHash::new(text).map_err(|error| Error::Internal(error.to_string().into()))?;
            Ok(engine().verify_password(password.as_bytes(), &parsed).is_ok() && known)
        })
        .await?
    }

    /// The PHC string to keep of a password that was accepted before: it is held to no rule.
    pub(super) async fn hash_accepted(&self, password: Zeroizing<String>) -> Result<String> {
        self.run(move || hash(password.as_bytes())).await?.map_err(|error| Error::Internal(error.to_string().into()))
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _place = self.queue.clone().try_acquire_owned().map_err(|_| Error::RateLimit { retry_after: 5 })?;
        let core = self.cores.clone().acquire_owned().await.map_err(|error| Error::Internal(Box::new(error)))?;
        tokio::task::spawn_blocking(move || {
            let _core = core;
            work()
        })
        .await
        .map_err(|error| Error::Internal(Box::new(error)))
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

/// OWASP's floor for argon2id: 19 MiB, two passes, one lane.
fn engine() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &[u8]) -> std::result::Result<String, argon2::password_hash::Error> {
    Ok(engine().hash_password_with_salt(password, &random::array::<16>())?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn keeps_only_what_verifies_the_right_password() {
        let passwords = Passwords::new();
        let kept = passwords.hash(secret("correct horse battery"), true).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(passwords.verify(secret("correct horse battery"), Some(kept.clone())).await.unwrap());
        assert!(!passwords.verify(secret("correct horse batterz"), Some(kept)).await.unwrap());
        assert!(!passwords.verify(secret("a password nobody has"), None).await.unwrap(), "the decoy let someone in");
    }

    #[tokio::test]
    async fn refuses_short_and_endless_ones() {
        let passwords = Passwords::new();
        assert!(matches!(passwords.hash(secret("fifteen chars.."), true).await, Err(Error::Invalid(_))));
        assert!(passwords.hash(secret("fifteen chars.."), false).await.is_ok());
        assert!(matches!(passwords.hash(secret("eleven char"), false).await, Err(Error::Invalid(_))));
        assert!(matches!(passwords.hash(secret(&"x".repeat(1025)), false).await, Err(Error::Invalid(_))));
        assert!(!passwords.verify(secret(&"x".repeat(1025)), None).await.unwrap());
    }
}
