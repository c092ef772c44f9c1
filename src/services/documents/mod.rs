//! Documents: read, written, queried, imported and exported, always through a caller's rights and the
//! collection's schema.

mod batch;
mod cursor;
mod export;
mod import;
mod listing;
mod read;
mod rules;
mod search;
mod told;
mod write;

pub use batch::{Item, MOST_OPERATIONS};
pub use export::Lines;
pub use import::{Import, LineFault, Progress};
pub(super) use listing::Listing;
pub(super) use read::{all, every, first};
pub use search::{Found, Search, page_size};
pub(super) use write::failed_operation;
pub use write::{Attempt, Match, RECEIPT_SECONDS, Written};

use super::{Result, access::Access, audit::Audit, sealing::Seals};
use crate::{
    base::{clock::SharedClock, metrics::runtime::Looks},
    domain::limits,
    ports::documents as port,
};
use rules::{Rules, RulesCache};
use std::sync::Arc;

/// Rows of a page: when nothing is said, and at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub document_bytes: usize,
    pub page: usize,
    pub page_most: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { document_bytes: limits::DOCUMENT, page: 100, page_most: 1000 }
    }
}

#[derive(Clone)]
pub struct Documents {
    store: Arc<dyn port::Documents>,
    clock: SharedClock,
    limits: Limits,
    access: Arc<Access>,
    seals: Arc<Seals>,
    rules: Arc<RulesCache>,
    audit: Arc<Audit>,
}

impl Documents {
    pub fn new(
        store: Arc<dyn port::Documents>,
        clock: SharedClock,
        limits: Limits,
        access: Arc<Access>,
        audit: Arc<Audit>,
        seals: Arc<Seals>,
    ) -> Self {
        Self { store, clock, limits, access, seals, rules: Arc::default(), audit }
    }

    /// How the compiled rules that are remembered serve.
    pub fn looks(&self) -> Arc<Looks> {
        self.rules.looks.clone()
    }

    async fn rules(&self, collection: &str) -> Result<Arc<Rules>> {
        self.rules.of(&*self.store, collection, self.limits.document_bytes).await
    }
}
