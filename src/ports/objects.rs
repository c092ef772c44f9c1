//! Objects: named bytes, written once and whole, in a folder or a bucket. Blocking: call it from a blocking thread.

use super::{Error, Result};
use crate::base::fault::Fault;
use std::{
    io::{Read, Write},
    sync::Arc,
};

/// The fault of a credential that is good and may not do this.
pub const FORBIDDEN: &str = "objects.forbidden";

/// Names are 1–200 letters, digits, `-`, `_` and `.`, not starting with a dot.
pub trait Objects: Send + Sync {
    /// Where this is, for people: `/var/backups/appliance`, `s3://bucket/appliance`.
    fn place(&self) -> String;
    /// A place inside this one, of objects of its own; made when first used. Nothing in it is ever locked against
    /// deletion, and what is deleted there is gone.
    fn beneath(&self, name: &str) -> Arc<dyn Objects>;
    /// Starts an object. Nothing bears the name before [`Upload::reread`] or [`Upload::publish`]; if something already
    /// does then, that is `Rejected` and stays as it is. Dropped before [`Upload::publish`], nothing is left.
    fn put_new(&self, name: &str) -> Result<Box<dyn Upload>>;
    /// As [`Objects::put_new`], in the place of an object that is there: until published the old one stays, and there is
    /// no moment without one or the other.
    fn put_over(&self, name: &str) -> Result<Box<dyn Upload>> {
        Err(Error::Rejected(Fault::new("objects.write_once").at(format!("{}/{name}", self.place()))))
    }
    /// The object's bytes from a place on; `None`: no such object.
    fn get(&self, name: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>>;
    /// Every object, by name.
    fn list(&self) -> Result<Vec<Object>>;
    /// In bytes; `None`: no such object.
    fn size(&self, name: &str) -> Result<Option<u64>>;
    /// `false`: there was none.
    fn delete(&self, name: &str) -> Result<bool>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub name: String,
    pub bytes: u64,
}

pub trait Upload: Write + Send {
    /// What has been written, read back from where it now lies. `None`: the credential may write and not read; then
    /// the server has confirmed the digest of every byte it keeps.
    fn reread(&mut self) -> Result<Option<Box<dyn Read + Send>>>;
    /// Gives it its name, or leaves it the one it has. On return the bytes and the name are durable.
    fn publish(self: Box<Self>) -> Result<()>;
}

/// Refuses what is no name of an object.
pub fn named(name: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.bytes().all(known) {
        return Err(Error::Rejected(Fault::new("objects.name").at(name)));
    }
    Ok(())
}
