//! Pure types and pure decisions: no I/O, no clock, no randomness of their own.

pub mod address;
pub mod bucket;
pub mod checkpoint;
pub mod collection;
pub mod contact;
pub mod cursor;
pub mod decimal;
pub mod document;
pub mod expand;
pub mod filter;
pub mod index;
pub mod json;
pub mod key;
pub mod limits;
pub mod membership;
pub mod merkle;
pub mod path;
pub mod plan;
pub mod policy;
pub mod projection;
pub mod schema;
pub mod sort;
pub mod stamp;
pub mod trust;
pub mod update;
pub mod value;
