//! The next part of a restore is read while one is put in.

use crate::{
    ports::{
        self,
        documents::{Documents, Load, Snapshot},
    },
    services::backups::restore::with_images,
};
use std::sync::Arc;
use tokio::{runtime::Handle, task::JoinSet};

pub struct Ahead<'h> {
    documents: Arc<dyn Documents>,
    handle: &'h Handle,
    under_way: JoinSet<ports::Result<()>>,
    /// All documents, once they are in and their journal comes.
    stands: Option<Arc<dyn Snapshot>>,
}

impl<'h> Ahead<'h> {
    pub fn new(documents: Arc<dyn Documents>, handle: &'h Handle) -> Self {
        Self { documents, handle, under_way: JoinSet::new(), stands: None }
    }

    pub fn put(&mut self, part: Load) -> ports::Result<()> {
        if let Load::Records(records) = part {
            let stands = self.stands()?;
            return with_images(records, &*stands, &mut |records| self.begin(Load::Records(records)));
        }
        self.stands = None;
        self.begin(part)
    }

    fn begin(&mut self, part: Load) -> ports::Result<()> {
        self.settle()?;
        let documents = self.documents.clone();
        self.under_way.spawn_on(async move { documents.load(part).await }, self.handle);
        Ok(())
    }

    /// Until the last one is in.
    pub fn settle(&mut self) -> ports::Result<()> {
        match self.handle.block_on(self.under_way.join_next()) {
            None => Ok(()),
            Some(done) => done.map_err(|error| ports::Error::Backend(Box::new(error)))?,
        }
    }

    fn stands(&mut self) -> ports::Result<Arc<dyn Snapshot>> {
        if let Some(stands) = &self.stands {
            return Ok(stands.clone());
        }
        self.settle()?;
        let snapshot = self.handle.block_on(self.documents.snapshot())?;
        Ok(self.stands.insert(snapshot).clone())
    }
}
