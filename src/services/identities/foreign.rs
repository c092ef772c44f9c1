//! Password hashes brought along from elsewhere: which are taken, and how they are verified.

use crate::base::fault::Fault;
use argon2::{Params, password_hash::phc::PasswordHash};

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
pub(super) fn verify_bcrypt(password: &[u8], text: &str) -> bool {
    bcrypt::verify(password, text).unwrap_or_default()
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
        assert!(verify_bcrypt(b"correct horse", &kept));
        assert!(!verify_bcrypt(b"correct horsf", &kept));
        assert!(!verify_bcrypt(b"correct horse", "$2y$04$broken"));
    }
}
