//! The authorities that certify the HTTPS listener: our own, and later public ones.

pub mod internal;
