//! Letters as files, for development: nothing leaves the machine.

use super::compose;
use crate::{
    base::{clock::SharedClock, files, random},
    ports::{
        Result,
        mail::{Letter, Mailer},
    },
};
use lettre::message::Mailbox;
use std::path::PathBuf;

pub struct Folder {
    folder: PathBuf,
    from: Mailbox,
    clock: SharedClock,
}

impl Folder {
    pub fn new(folder: PathBuf, from: Mailbox, clock: SharedClock) -> Self {
        Self { folder, from, clock }
    }
}

#[async_trait::async_trait]
impl Mailer for Folder {
    async fn send(&self, letter: &Letter) -> Result<()> {
        let bytes = compose(&self.from, letter, &self.clock)?.formatted();
        files::private_folder(&self.folder)?;
        let path = self.folder.join(format!("{}.eml", random::id(self.clock.now())));
        files::create(&path, &bytes, 0o600)?;
        tracing::info!(path = %path.display(), "a letter was written, not sent");
        Ok(())
    }
}
