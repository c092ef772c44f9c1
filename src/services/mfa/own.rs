//! The caller's own factors: looked at, set up and taken away. Each change is proven anew and ends the other sessions.

use super::{Answer, FACTORS, Method, Mfa, Passkey, Secret, TRIES, is_required, totp};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::documents::{Change, Expect, Operation},
    services::{
        Error, Result,
        access::Caller,
        identities::{self, Identity},
        sessions::own,
    },
};
use bson::rawdoc;
use zeroize::Zeroizing;

/// How old a login may be to stand for a proof of who has no password, in seconds.
const FRESH: i64 = 600;

/// Proof given again with a change: a password or a code.
pub struct Again {
    pub password: Option<Zeroizing<String>>,
    pub answer: Option<Answer>,
}

/// What second factors someone has.
pub struct Status {
    /// There must be one.
    pub required: bool,
    pub totp: Option<Timestamp>,
    /// Recovery codes not used yet.
    pub recovery: usize,
    pub passkeys: Vec<Passkey>,
}

/// A secret not confirmed yet, of the identity it waits under.
pub struct Enrolment {
    /// The identity's `tokens_from` when it was begun.
    since: Timestamp,
    secret: Zeroizing<Vec<u8>>,
    wrong: u32,
}

impl Mfa {
    pub async fn status(&self, caller: &Caller) -> Result<Status> {
        let identity = self.identities.require(own(caller)?.0).await?;
        let (factors, _) = self.load(&identity.id).await?;
        Ok(Status {
            required: is_required(self.environment, &identity),
            totp: factors.totp.map(|totp| totp.since),
            recovery: factors.recovery.len(),
            passkeys: factors.passkeys,
        })
    }

    /// A secret for an authenticator app, in place of the present one once a code of it is confirmed.
    pub async fn totp_start(&self, caller: &Caller, again: Again) -> Result<Secret> {
        let identity = self.prove_again(caller, again).await?;
        let secret = totp::secret();
        let shown = self.shown(&secret, &identity);
        let since = identity.tokens_from;
        self.enrolments.put(identity.id, Enrolment { since, secret, wrong: 0 }, self.clock.now());
        Ok(shown)
    }

    /// Answers recovery codes, told this once, to who had none.
    pub async fn totp_confirm(&self, caller: &Caller, code: &str) -> Result<Vec<String>> {
        let (id, _) = own(caller)?;
        let now = self.clock.now();
        let none = || Error::Conflict(Fault::new("mfa.not_started"));
        let (expires, mut enrolment) = self.enrolments.take(id, now).ok_or_else(none)?;
        let Some(step) = totp::step(&enrolment.secret, code, now, 0) else {
            enrolment.wrong += 1;
            if enrolment.wrong < TRIES {
                self.enrolments.put_until(id.to_owned(), enrolment, expires, now);
            }
            return Err(Error::Invalid(Fault::new("mfa.code").at("code")));
        };
        let changed = self.change(caller, (id, enrolment.since), |factors| {
            factors.enrol_totp(&enrolment.secret, step, now);
            Ok(factors.first_recovery())
        });
        let (codes, _) = changed.await?;
        self.changed(caller, Some(Method::Otp)).await?;
        Ok(codes)
    }

    pub async fn totp_remove(&self, caller: &Caller, again: Again) -> Result<()> {
        let identity = self.prove_again(caller, again).await?;
        self.change(caller, (&identity.id, identity.tokens_from), |factors| {
            factors.totp.take().ok_or_else(|| Error::NotFound(Fault::new("mfa.no_totp")))?;
            self.check_last(factors, &identity)
        })
        .await?;
        self.changed(caller, None).await
    }

    /// New recovery codes, told this once, in place of the old.
    pub async fn recovery_renew(&self, caller: &Caller, again: Again) -> Result<Vec<String>> {
        let identity = self.prove_again(caller, again).await?;
        let changed = self.change(caller, (&identity.id, identity.tokens_from), |factors| match factors.is_empty() {
            true => Err(Error::Conflict(Fault::new("mfa.none"))),
            false => Ok(factors.renew_recovery()),
        });
        let (codes, _) = changed.await?;
        self.changed(caller, None).await?;
        Ok(codes)
    }

    pub async fn passkey_remove(&self, caller: &Caller, again: Again, passkey: &str) -> Result<()> {
        let identity = self.prove_again(caller, again).await?;
        self.change(caller, (&identity.id, identity.tokens_from), |factors| {
            let place = factors.passkeys.iter().position(|kept| kept.id == passkey);
            let unknown = || Error::NotFound(Fault::new("mfa.no_passkey").with("id", passkey));
            factors.passkeys.remove(place.ok_or_else(unknown)?);
            self.check_last(factors, &identity)
        })
        .await?;
        self.changed(caller, None).await
    }

    /// Takes every second factor from someone who lost theirs; every session and API key ends.
    pub async fn reset(&self, caller: &Caller, who: &str) -> Result<Identity> {
        let identity = self.identities.managed(caller, who).await?;
        identities::not_oneself(caller, &identity)?;
        let (factors, expect) = self.load(&identity.id).await?;
        let mut operations = Vec::new();
        if expect != Expect::Absent {
            let (collection, id) = (FACTORS.to_owned(), factors.id);
            operations.push(Operation { collection, id, expect: Expect::Present, change: Change::Delete });
        }
        self.identities.change_and_end_keys(caller, (&identity.id, None), rawdoc! {}, operations).await
    }

    /// The caller, once they have proven themselves again in this very request.
    pub(in crate::services) async fn prove_again(&self, caller: &Caller, again: Again) -> Result<Identity> {
        let (id, _) = own(caller)?;
        if let Some(answer) = again.answer {
            return match self.spend(caller, id, &answer).await? {
                true => self.identities.require(id).await,
                false => Err(Error::Unauthorized),
            };
        }
        let session = self.sessions.current(caller).await?;
        let fresh = session.proven.plus_seconds(FRESH) > self.clock.now();
        let (factors, _) = self.load(id).await?;
        // A password alone must not undo what was set up for the day it is known to somebody else.
        let strong = fresh && session.methods.contains(&Method::Mfa);
        if !factors.is_empty() && !strong {
            return Err(Error::Invalid(Fault::new("mfa.prove_again_code").at("code")));
        }
        if let Some(password) = again.password {
            return self.identities.prove_again(caller, id, password).await;
        }
        let identity = self.identities.require(id).await?;
        match fresh && !identity.has_password() {
            true => Ok(identity),
            false => Err(Error::Invalid(Fault::new("mfa.prove_again").at("password"))),
        }
    }

    /// The other sessions end; this one goes on, stronger by what was proven within it.
    pub(super) async fn changed(&self, caller: &Caller, proven: Option<Method>) -> Result<()> {
        let (id, session) = own(caller)?;
        if let Some(method) = proven {
            self.sessions.strengthen(caller, &[method, Method::Mfa]).await?;
        }
        self.sessions.end_all(caller, id, Some(session)).await
    }

    fn check_last(&self, factors: &super::Factors, identity: &Identity) -> Result<()> {
        match factors.is_empty() && is_required(self.environment, identity) {
            true => Err(Error::Conflict(Fault::new("mfa.last"))),
            false => Ok(()),
        }
    }
}
