//! Directories that know people's passwords.

pub mod ldap;
