//! Login by the password a directory knows, for people who have none here. It vouches for who they are, never for what
//! they may do: roles stay here.

use super::{
    Error, Result,
    access::Caller,
    identities::{Identities, Identity, Vouched},
};
use crate::{
    domain::contact,
    ports::directory::{self, Entry},
};
use std::sync::Arc;

/// There is one directory: a link to it outlives its address.
const ISSUER: &str = "ldap";
const LONGEST_NAME: usize = 64;
const LONGEST_PASSWORD: usize = 1024;

/// What the operator decides.
#[derive(Clone)]
pub struct Vouching {
    pub directory: Arc<dyn directory::Directory>,
    /// Whoever the directory knows gets an account.
    pub create_accounts: bool,
}

impl Vouching {
    /// The person the directory proves, if they may come in here. `handle` is what they wrote, in its one spelling.
    pub(super) async fn prove(
        &self,
        identities: &Identities,
        caller: &Caller,
        handle: &str,
        password: &str,
    ) -> Result<Identity> {
        let name = name(handle).filter(|_| !password.is_empty() && password.len() <= LONGEST_PASSWORD);
        let proven = self.directory.prove(name.ok_or(Error::Unauthorized)?, password).await?;
        let entry = proven.ok_or(Error::Unauthorized)?;
        let email = email(&entry, handle);
        let (issuer, subject, email) = (ISSUER, entry.id.as_str(), email.as_deref());
        let vouched = Vouched { issuer, subject, email, create_accounts: self.create_accounts, beside_password: false };
        identities.vouched(caller, &vouched).await
    }
}

/// What the directory is asked for: an address, a number, or a plain name. In one spelling, for a directory takes
/// several for the same and each would be another account to guess at.
fn name(handle: &str) -> Option<&str> {
    let (kind, name) = handle.split_once(':').unwrap_or(("", handle));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let known = matches!(kind, "email" | "phone");
    (known || (!name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(plain))).then_some(name)
}

/// The address that was written if it is theirs, else the only one they have.
fn email(entry: &Entry, handle: &str) -> Option<String> {
    let mut all: Vec<String> = entry.emails.iter().filter_map(|email| contact::email(email).ok()).collect();
    all.sort();
    all.dedup();
    let written = all.iter().position(|email| handle.strip_prefix("email:") == Some(email));
    match (written, all.len()) {
        (Some(written), _) => Some(all.swap_remove(written)),
        (None, 1) => all.pop(),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests;
