//! The embedded engine: redb over one sealed file.

pub mod sealed;
