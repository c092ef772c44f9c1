//! Password hashes brought along from elsewhere: which are taken, how they are verified, and their end at the next
//! login.

use super::{IDENTITIES, Identities, Identity};
use crate::{
    base::fault::Fault,
    domain::update::Update,
    ports::documents::{Batch, Change, Expect, Operation},
    services::{Result, access::Caller},
};
use argon2::{Params, password_hash::phc::PasswordHash};
use bson::rawdoc;
use zeroize::Zeroizing;

/// How our own begin (`password.rs`).
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
const BCRYPT: [&str; 3] = ["$2a$", "$2b$", "$2y$"];
/// A hash is verified at its own cost: what is dearer than this would let few logins starve the server.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 8;
const MOST_COST: u32 = 14;
const LONGEST: usize = 512;

/// Whether a hash can be kept and verified: argon2 (PHC) or bcrypt, within bounds.
pub(super) fn check(text: &str) -> std::result::Result<(), Fault> {
    let fault = || Fault::new("identities.hash").at("passwordHash");
    let dear = || {
        let fault = Fault::new("identities.hash_cost").at("passwordHash");
        fault.with("memory", MOST_MEMORY_KIB / 1024).with("passes", MOST_PASSES).with("cost", MOST_COST)
    };
    if is_bcrypt(text) {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| fault())?;
        return if (4..=MOST_COST).contains(&parts.get_cost()) { Ok(()) } else { Err(dear()) };
    }
    let argon2 = ["$argon2id$", "$argon2i$", "$argon2d$"].iter().any(|name| text.starts_with(name));
    if !argon2 || text.len() > LONGEST {
        return Err(fault());
    }
    let parsed = PasswordHash::new(text).map_err(|_| fault())?;
    let params = Params::try_from(&parsed).map_err(|_| fault())?;
    let versions = [None, Some(0x10), Some(0x13)];
    if parsed.salt.is_none() || parsed.hash.is_none() || !versions.contains(&parsed.version) {
        return Err(fault());
    }
    let bounds = [(params.m_cost(), MOST_MEMORY_KIB), (params.t_cost(), MOST_PASSES), (params.p_cost(), MOST_LANES)];
    if bounds.iter().any(|(given, most)| given > most) { Err(dear()) } else { Ok(()) }
}

pub(super) fn is_bcrypt(text: &str) -> bool {
    BCRYPT.iter().any(|name| text.starts_with(name))
}

/// As those who made it did: what is beyond 72 bytes does not count.
pub(super) fn verify_bcrypt(password: &str, text: &str) -> bool {
    bcrypt::verify(password, text).unwrap_or_default()
}

impl Identities {
    /// Replaces a hash that is not of our making by one that is, now that the password is at hand. The login goes on
    /// whatever comes of it.
    pub(super) async fn hash_anew(&self, identity: &Identity, revision: Option<i64>, password: Zeroizing<String>) {
        if identity.password.as_deref().is_none_or(|kept| kept.starts_with(OURS)) {
            return;
        }
        if let Err(error) = self.replace_hash(identity, revision, password).await {
            tracing::warn!(identity = identity.id, %error, "an imported password hash stays as it is");
        }
    }

    async fn replace_hash(&self, identity: &Identity, rev: Option<i64>, password: Zeroizing<String>) -> Result<()> {
        let hash = self.passwords.hash_accepted(password).await?;
        let update = Update::parse(&rawdoc! { "$set": { "password": hash } });
        let change = Change::Update(update.map_err(crate::services::Error::Invalid)?);
        // Only over the very state whose password was proven.
        let expect = rev.map_or(Expect::Present, Expect::Revision);
        let operation = Operation { collection: IDENTITIES.to_owned(), id: identity.id.clone(), expect, change };
        let (time, origin) = (self.clock.now(), Caller::system().origin());
        self.documents.commit(Batch { time, origin, operations: vec![operation], check: None, receipt: None }).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `bcrypt("correct horse")`, cost 4, as PHP and others write it.
    fn bcrypt_of(cost: u32) -> String {
        bcrypt::hash_with_salt("correct horse", cost, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoY)
    }

    #[test]
    fn known_hashes_within_bounds_are_taken() {
        let salt = "c2FsdHNhbHRzYWx0";
        let hash = "wY2dKnPUPJpbJjAFxxzsX0YeLCbLqLBCYCvhhcy0bWk";
        for good in [
            format!("$argon2id$v=19$m=65536,t=3,p=4${salt}${hash}"),
            format!("$argon2i$v=19$m=262144,t=2,p=1${salt}${hash}"),
            format!("$argon2d$m=4096,t=3,p=1${salt}${hash}"),
            bcrypt_of(4),
        ] {
            assert_eq!(check(&good), Ok(()), "{good}");
        }
        let dear = [
            format!("$argon2id$v=19$m=262145,t=2,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=65536,t=11,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=65536,t=2,p=9${salt}${hash}"),
            bcrypt_of(4).replacen("$04$", "$15$", 1),
        ];
        for dear in dear {
            assert_eq!(check(&dear).map_err(|fault| fault.key), Err("identities.hash_cost"), "{dear}");
        }
        let bad = [
            "correct horse".to_owned(),
            "$2b$04$short".to_owned(),
            "$5$rounds=5000$salt$hash".to_owned(),
            format!("$argon2id$v=19$m=65536,t=2,p=1${salt}"),
            format!("$argon2id$v=99$m=65536,t=2,p=1${salt}${hash}"),
            "$argon2id$v=19$m=x,t=2,p=1$$".to_owned(),
            String::new(),
        ];
        for bad in bad {
            assert_eq!(check(&bad).map_err(|fault| fault.key), Err("identities.hash"), "{bad}");
        }
    }

    #[test]
    fn bcrypt_verifies_the_right_password() {
        let kept = bcrypt_of(4);
        assert!(kept.starts_with("$2y$04$") && is_bcrypt(&kept));
        assert!(verify_bcrypt("correct horse", &kept));
        assert!(!verify_bcrypt("correct horsf", &kept));
        assert!(!verify_bcrypt("correct horse", "$2y$04$broken"));
    }
}
