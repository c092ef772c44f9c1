//! Who certifies the HTTPS listener: our own authority, files that others renew, public authorities.

pub mod acme;
pub mod files;
pub mod internal;
