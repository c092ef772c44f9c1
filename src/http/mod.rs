//! Poem routes, one file per resource; the gates, the envelope and the errors.
pub mod activity;
pub mod ops;
pub mod peer;
pub mod redirect;
pub mod serve;
