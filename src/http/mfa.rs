//! The routes of the second factor: given at login, and kept by who calls. None of their answers is kept for a retry.

use super::{
    auth::{Ended, Tokens},
    body::Sent,
    envelope::Answer,
    exchange::Public,
    passkeys::{Credential, Passkey},
    proof::By,
    spec::Tag,
};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        access::Subject,
        mfa::{self, Again, Second},
    },
};
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

/// One of `code`, `recoveryCode` and `passkey`.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct SecondFactor {
    /// As the login gave it
    challenge: String,
    /// Of the authenticator app
    code: Option<String>,
    recovery_code: Option<String>,
    passkey: Option<Assertion>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "PasskeyAssertion")]
struct Assertion {
    /// As `/auth/passkey/login/start` gave it
    ceremony: String,
    credential: Credential,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "Enrolment")]
struct Enrolling {
    challenge: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "EnrolmentCode")]
struct Enrolled {
    challenge: String,
    code: String,
}

/// Proof given again: one of these. Who has no password gives none within ten minutes of a login.
#[derive(Deserialize, Object, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename = "ProofAgain", rename_all = "camelCase")]
pub(super) struct Proof {
    pub password: Option<String>,
    pub code: Option<String>,
    pub recovery_code: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "TotpCode")]
struct Code {
    code: String,
}

/// To be put into an authenticator app now: never shown again.
#[derive(Serialize, Object)]
#[oai(rename = "TotpSecret")]
struct Secret {
    /// Base32
    secret: String,
    /// `otpauth://…`, to be shown as a QR code
    uri: String,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "RecoveryCodes", rename_all = "camelCase")]
pub(super) struct Codes {
    /// Each good for one use, told this once; empty when there were some already
    pub recovery_codes: Vec<String>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "FirstTokens", rename_all = "camelCase")]
struct First {
    #[serde(flatten)]
    #[oai(flatten)]
    tokens: Tokens,
    /// Each good for one use, told this once
    recovery_codes: Vec<String>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename = "SecondFactors", rename_all = "camelCase")]
struct Status {
    /// The caller must have a second factor
    required: bool,
    /// Unix seconds since which an authenticator app is set up
    totp_since: Option<i64>,
    /// Not used yet
    recovery_codes: usize,
    passkeys: Vec<Passkey>,
}

#[OpenApi(prefix_path = "/api/v1/auth/mfa", tag = "Tag::Authentication")]
impl Routes {
    /// Give the second factor a login asked for
    #[oai(path = "/verify", method = "post", operation_id = "verifySecondFactor")]
    async fn verify(&self, public: Public, sent: Sent<SecondFactor>) -> Result<Answer<Tokens>> {
        let SecondFactor { challenge, code, recovery_code, passkey } = sent.read()?;
        let second = match (answer(code, recovery_code)?, passkey) {
            (Some(answer), None) => Second::Answer(answer),
            (None, Some(Assertion { ceremony, credential })) => {
                Second::Passkey { ceremony, credential: credential.value() }
            }
            _ => return Err(Error::Invalid(Fault::new("mfa.one_answer").at("code"))),
        };
        let caller = public.0.caller(Subject::Anonymous);
        let granted = public.0.state.mfa.verify(&caller, &challenge, second).await?;
        Answer::value(&public.0, &Tokens::from(granted))
    }

    /// Begin the second factor a login says must be set up
    #[oai(path = "/enrol/start", method = "post", operation_id = "startEnrolment")]
    async fn enrol_start(&self, public: Public, sent: Sent<Enrolling>) -> Result<Answer<Secret>> {
        let Enrolling { challenge } = sent.read()?;
        Answer::value(&public.0, &Secret::from(public.0.state.mfa.enrol_start(&challenge)?))
    }

    /// Confirm it, which opens the session
    #[oai(path = "/enrol/confirm", method = "post", operation_id = "confirmEnrolment")]
    async fn enrol_confirm(&self, public: Public, sent: Sent<Enrolled>) -> Result<Answer<First>> {
        let Enrolled { challenge, code } = sent.read()?;
        let caller = public.0.caller(Subject::Anonymous);
        let (granted, recovery_codes) = public.0.state.mfa.enrol_confirm(&caller, &challenge, &code).await?;
        Answer::value(&public.0, &First { tokens: Tokens::from(granted), recovery_codes })
    }

    /// The caller's second factors
    #[oai(path = "/", method = "get", operation_id = "secondFactors")]
    async fn status(&self, by: By) -> Result<Answer<Status>> {
        let status = by.exchange.state.mfa.status(&by.caller).await?;
        let status = Status {
            required: status.required,
            totp_since: status.totp.map(|since| since.seconds()),
            recovery_codes: status.recovery,
            passkeys: status.passkeys.into_iter().map(Passkey::from).collect(),
        };
        Answer::value(&by.exchange, &status)
    }

    /// Begin to set up an authenticator app
    #[oai(path = "/totp/start", method = "post", operation_id = "startTotp")]
    async fn totp_start(&self, by: By, sent: Sent<Proof>) -> Result<Answer<Secret>> {
        let secret = by.exchange.state.mfa.totp_start(&by.caller, sent.read::<Proof>()?.again()?).await?;
        Answer::value(&by.exchange, &Secret::from(secret))
    }

    /// Confirm the app by a code of it; the caller's other sessions end
    #[oai(path = "/totp/confirm", method = "post", operation_id = "confirmTotp")]
    async fn totp_confirm(&self, by: By, sent: Sent<Code>) -> Result<Answer<Codes>> {
        let Code { code } = sent.read()?;
        let recovery_codes = by.exchange.state.mfa.totp_confirm(&by.caller, &code).await?;
        Answer::value(&by.exchange, &Codes { recovery_codes })
    }

    /// Take the authenticator app away; the caller's other sessions end
    #[oai(path = "/totp", method = "delete", operation_id = "removeTotp")]
    async fn totp_remove(&self, by: By, sent: Sent<Proof>) -> Result<Answer<Ended>> {
        by.exchange.state.mfa.totp_remove(&by.caller, sent.read::<Proof>()?.again()?).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }

    /// New recovery codes in place of the old; the caller's other sessions end
    #[oai(path = "/recovery", method = "post", operation_id = "renewRecoveryCodes")]
    async fn recovery(&self, by: By, sent: Sent<Proof>) -> Result<Answer<Codes>> {
        let recovery_codes = by.exchange.state.mfa.recovery_renew(&by.caller, sent.read::<Proof>()?.again()?).await?;
        Answer::value(&by.exchange, &Codes { recovery_codes })
    }

    /// Take a passkey away; the caller's other sessions end
    #[oai(path = "/passkeys/:id", method = "delete", operation_id = "removePasskey")]
    async fn passkey_remove(&self, by: By, id: Path<String>, sent: Sent<Proof>) -> Result<Answer<Ended>> {
        by.exchange.state.mfa.passkey_remove(&by.caller, sent.read::<Proof>()?.again()?, &id).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }
}

impl Proof {
    pub(super) fn again(self) -> Result<Again> {
        Ok(Again { password: self.password.map(Zeroizing::new), answer: answer(self.code, self.recovery_code)? })
    }
}

/// The code given, of either sort but not of both.
pub(super) fn answer(code: Option<String>, recovery: Option<String>) -> Result<Option<mfa::Answer>> {
    match (code, recovery) {
        (Some(code), None) => Ok(Some(mfa::Answer::Code(Zeroizing::new(code)))),
        (None, Some(code)) => Ok(Some(mfa::Answer::Recovery(Zeroizing::new(code)))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Error::Invalid(Fault::new("mfa.one_answer").at("code"))),
    }
}

impl From<mfa::Secret> for Secret {
    fn from(secret: mfa::Secret) -> Self {
        Self { secret: secret.secret.to_string(), uri: secret.uri.to_string() }
    }
}
