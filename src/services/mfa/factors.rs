//! The second factors of one identity, as kept: one document, so that each change of any is judged against all of them.

use super::{
    passkeys::Passkey,
    totp::{self, base32},
};
use crate::base::{clock::Timestamp, random};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Recovery codes made at a time, and their bytes.
const CODES: usize = 10;
const CODE: usize = 10;

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Factors {
    /// The identity's.
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(default)]
    pub totp: Option<Totp>,
    /// Hashes of the recovery codes not used yet.
    #[serde(default)]
    pub recovery: Vec<String>,
    #[serde(default)]
    pub passkeys: Vec<Passkey>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Totp {
    /// In hexadecimal. Leaves this floor once, at enrolment.
    secret: Zeroizing<String>,
    /// The last step used: neither it nor an earlier one is taken again.
    step: i64,
    pub since: Timestamp,
}

impl std::fmt::Debug for Totp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Totp").field("step", &self.step).finish_non_exhaustive()
    }
}

/// What someone answers when a second factor is asked for.
pub enum Answer {
    Code(Zeroizing<String>),
    Recovery(Zeroizing<String>),
}

impl Factors {
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Whether there is a second factor; recovery codes alone are none.
    pub fn is_empty(&self) -> bool {
        self.totp.is_none() && self.passkeys.is_empty()
    }

    /// What may answer for the second factor, as API clients name it.
    pub fn methods(&self) -> Vec<&'static str> {
        let all = [
            ("totp", self.totp.is_some()),
            ("recovery", !self.recovery.is_empty()),
            ("passkey", !self.passkeys.is_empty()),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }

    /// Uses a code up. `false`: wrong, or used before.
    pub fn spend(&mut self, answer: &Answer, now: Timestamp) -> bool {
        match answer {
            Answer::Code(code) => self.totp.as_mut().is_some_and(|totp| totp.spend(code, now)),
            Answer::Recovery(code) => {
                let hash = hash(&self.id, code);
                let place = self.recovery.iter().position(|kept| *kept == hash);
                place.map(|place| self.recovery.swap_remove(place)).is_some()
            }
        }
    }

    pub fn enrol_totp(&mut self, secret: &[u8], step: i64, since: Timestamp) {
        self.totp = Some(Totp { secret: Zeroizing::new(hex::encode(secret)), step, since });
    }

    /// New recovery codes in place of the old.
    pub fn renew_recovery(&mut self) -> Vec<String> {
        let codes: Vec<_> = (0..CODES).map(|_| grouped(&base32(&random::array::<CODE>()))).collect();
        self.recovery = codes.iter().map(|code| hash(&self.id, code)).collect();
        codes
    }

    /// Recovery codes for who has just got a first factor.
    pub fn first_recovery(&mut self) -> Vec<String> {
        if self.recovery.is_empty() { self.renew_recovery() } else { Vec::new() }
    }

    /// Recovery codes recover nothing where there is no factor.
    pub fn tidy(&mut self) {
        if self.is_empty() {
            self.recovery.clear();
        }
    }
}

impl Totp {
    fn spend(&mut self, code: &str, now: Timestamp) -> bool {
        let Ok(secret) = hex::decode(self.secret.as_str()).map(Zeroizing::new) else { return false };
        let step = totp::step(&secret, code, now, self.step);
        self.step = step.unwrap_or(self.step);
        step.is_some()
    }
}

/// 80 random bits need no slow hash.
fn hash(id: &str, code: &str) -> String {
    let letters = code.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| match c.to_ascii_uppercase() {
        // Not among the letters of a code: misread.
        '0' => 'O',
        '1' => 'I',
        letter => letter,
    });
    let letters: Zeroizing<String> = Zeroizing::new(letters.collect());
    hex::encode(Sha256::new().chain_update(id).chain_update([0]).chain_update(letters.as_bytes()).finalize())
}

/// `abcd-efgh-ijkl-mnop`.
fn grouped(text: &str) -> String {
    let mut grouped = String::with_capacity(text.len() * 5 / 4);
    for (place, letter) in text.chars().enumerate() {
        if place % 4 == 0 && place > 0 {
            grouped.push('-');
        }
        grouped.push(letter.to_ascii_lowercase());
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_works_once_however_it_is_typed() {
        let mut factors = Factors::of("ana");
        let codes = factors.renew_recovery();
        assert_eq!((codes.len(), codes[0].len()), (10, 19));
        assert!(!format!("{factors:?}").contains(&codes[0]), "kept as it is");
        let typed = |code: &str| Answer::Recovery(Zeroizing::new(code.to_owned()));
        let sloppy = format!(" {} ", codes[0].to_uppercase().replace('-', " ").replace('O', "0").replace('I', "1"));
        assert!(factors.spend(&typed(&sloppy), Timestamp(0)));
        assert!(!factors.spend(&typed(&codes[0]), Timestamp(0)), "used twice");
        assert!(!factors.spend(&typed(""), Timestamp(0)));
        assert!(
            !Factors { recovery: factors.recovery.clone(), ..Factors::of("eve") }
                .spend(&typed(&codes[1]), Timestamp(0))
        );
        factors.renew_recovery();
        assert!(!factors.spend(&typed(&codes[1]), Timestamp(0)), "an old code outlived its renewal");
    }

    #[test]
    fn the_secret_is_not_shown() {
        let mut factors = Factors::of("ana");
        factors.enrol_totp(b"secret-secret", 5, Timestamp(0));
        assert!(!format!("{factors:?}").contains(&hex::encode(b"secret-secret")));
    }
}
