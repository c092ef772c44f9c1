//! Pure types and pure decisions: no I/O, no clock, no randomness of their own.

pub mod collection;
pub mod cursor;
pub mod decimal;
pub mod document;
pub mod expand;
pub mod filter;
pub mod index;
pub mod json;
pub mod key;
pub mod limits;
pub mod path;
pub mod plan;
pub mod policy;
pub mod projection;
pub mod schema;
pub mod sealing;
pub mod sort;
pub mod stamp;
pub mod update;
pub mod value;
