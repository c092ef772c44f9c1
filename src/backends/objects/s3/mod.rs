//! Objects in a bucket of any server that speaks S3. A name is created only where there is none; every byte sent is under
//! a digest that the server checks; what was broken off is taken up again, or swept.

mod answers;
mod download;
mod exchange;
mod signature;
mod upload;

pub use exchange::Patience;

use super::pace::Pace;
use crate::{
    base::clock::{SharedClock, Timestamp},
    ports::{
        Result,
        objects::{Object, Objects, Upload, named},
    },
};
use answers::Unfinished;
use download::Download;
use exchange::{Answer, Call, Server};
use rustls::pki_types::CertificateDer;
use std::{
    collections::HashSet,
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

const VERSION: &str = "x-amz-version-id";

#[derive(Clone)]
pub struct Credential {
    pub key: String,
    pub secret: Zeroizing<String>,
}

/// How long nobody can delete what is written, by the bucket's Object Lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Not even the owner of the bucket; else whoever holds a right of its own may.
    pub compliance: bool,
    pub days: u32,
}

impl Lock {
    const MODE: &str = "x-amz-object-lock-mode";
    const UNTIL: &str = "x-amz-object-lock-retain-until-date";

    fn headers(self, now: Timestamp) -> [(&'static str, String); 2] {
        let mode = if self.compliance { "COMPLIANCE" } else { "GOVERNANCE" };
        let until = now.plus_seconds(i64::from(self.days) * 86_400);
        [(Self::MODE, mode.to_owned()), (Self::UNTIL, until.rfc3339())]
    }
}

#[derive(Clone)]
pub struct Settings {
    /// `https://HOST`, with a port or a path where the server wants one.
    pub endpoint: String,
    pub region: String,
    /// The bucket in the path, not in the host's name.
    pub path_style: bool,
    pub bucket: String,
    /// Empty, or ending with a slash.
    pub prefix: String,
    pub credential: Credential,
    /// Whose certificates are believed.
    pub roots: Vec<CertificateDer<'static>>,
    pub lock: Option<Lock>,
    pub pace: Option<Arc<Pace>>,
    pub patience: Patience,
    /// Age in seconds at which an upload nobody here is at counts as left behind.
    pub abandoned: i64,
}

pub struct S3(Arc<Bucket>);

struct Bucket {
    server: Server,
    /// Of another place in the same bucket: what is deleted here is gone, old versions too.
    erases: bool,
    /// Uploads this process is at.
    living: Arc<Mutex<HashSet<String>>>,
    told: std::sync::Once,
}

impl S3 {
    pub fn new(settings: Settings, clock: SharedClock) -> Result<Self> {
        let server = Server::new(settings, clock)?;
        Ok(Self(Arc::new(Bucket { server, erases: false, living: Arc::default(), told: std::sync::Once::new() })))
    }

    /// Uploads beneath the prefix that were begun and neither completed nor aborted.
    pub fn unfinished(&self) -> Result<usize> {
        Ok(self.0.unfinished()?.len())
    }
}

impl Objects for S3 {
    fn place(&self) -> String {
        self.0.server.place()
    }

    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        let Server { settings, clock, .. } = &self.0.server;
        let prefix = format!("{}{name}/", settings.prefix);
        let server = self.0.server.elsewhere(Settings { prefix, lock: None, ..settings.clone() }, clock.clone());
        let living = self.0.living.clone();
        Arc::new(Self(Arc::new(Bucket { server, erases: true, living, told: std::sync::Once::new() })))
    }

    fn put_new(&self, name: &str) -> Result<Box<dyn Upload>> {
        named(name)?;
        upload::begin(&self.0, name)
    }

    fn get(&self, name: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
        named(name)?;
        Ok(match Download::open(&self.0, name, from)? {
            Some(download) => Some(Box::new(download)),
            // At its end, or beyond.
            None if from > 0 && self.0.head(name)?.is_some() => Some(Box::new(io::empty())),
            None => None,
        })
    }

    fn list(&self) -> Result<Vec<Object>> {
        let prefix = &self.0.server.settings.prefix;
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("delimiter", "/"), ("encoding-type", "url"), ("prefix", prefix)];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let call = Call { query: &query, right: "s3:ListBucket", ..Bucket::call("GET", None) };
            let page = answers::objects(&self.0.server.ask(&call)?.text)
                .ok_or_else(|| self.0.server.senseless("ListObjectsV2"))?;
            let ours = page.found.into_iter().filter_map(|(key, bytes)| {
                let name = key.strip_prefix(prefix.as_str())?.to_owned();
                named(&name).is_ok().then_some(Object { name, bytes })
            });
            objects.extend(ours);
            match page.next {
                Some(next) => token = Some(next),
                None => break,
            }
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        named(name)?;
        let Some(answer) = self.0.head(name)? else { return Ok(None) };
        let bytes = answer.header("content-length").and_then(|length| length.parse().ok());
        bytes.map(Some).ok_or_else(|| self.0.server.senseless("HeadObject"))
    }

    fn delete(&self, name: &str) -> Result<bool> {
        named(name)?;
        let Some(answer) = self.0.head(name)? else { return Ok(false) };
        self.0.remove(name, answer.header(VERSION))?;
        Ok(true)
    }
}

impl Bucket {
    fn call<'a>(method: &'static str, key: Option<&'a str>) -> Call<'a> {
        Call { method, key, query: &[], headers: &[], body: &[], right: "", answers: &[], streams: false }
    }

    /// What is known of an object; `None`: there is none.
    fn head(&self, name: &str) -> Result<Option<Answer>> {
        let call = Call { right: "s3:GetObject", answers: &[404], ..Self::call("HEAD", Some(name)) };
        Ok(Some(self.server.ask(&call)?).filter(Answer::done))
    }

    /// Where nothing is to be left of it, the version itself; else it is hidden where the bucket keeps versions.
    fn remove(&self, name: &str, version: Option<&str>) -> Result<()> {
        let version = version.filter(|_| self.erases);
        let query: Vec<_> = version.map(|version| ("versionId", version)).into_iter().collect();
        let right = if version.is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
        self.server.ask(&Call { query: &query, right, answers: &[404], ..Self::call("DELETE", Some(name)) })?;
        Ok(())
    }

    fn unfinished(&self) -> Result<Vec<Unfinished>> {
        let query = [("uploads", ""), ("prefix", self.server.settings.prefix.as_str())];
        let call = Call { query: &query, right: "s3:ListBucketMultipartUploads", ..Self::call("GET", None) };
        let found = answers::unfinished(&self.server.ask(&call)?.text)
            .ok_or_else(|| self.server.senseless("ListMultipartUploads"))?;
        let prefix = &self.server.settings.prefix;
        let ours = |one: &Unfinished| one.key.strip_prefix(prefix.as_str()).is_some_and(|name| named(name).is_ok());
        Ok(found.into_iter().filter(ours).collect())
    }

    /// Aborts what processes that died left behind: invisible, and paid for.
    fn sweep(&self) -> Result<()> {
        let Settings { prefix, abandoned, .. } = &self.server.settings;
        let before = self.server.clock.now().plus_seconds(-abandoned).rfc3339();
        for Unfinished { key, id, begun } in self.unfinished()? {
            let Some(name) = key.strip_prefix(prefix.as_str()).filter(|_| begun < before) else { continue };
            if !self.living().contains(&id) {
                self.abort(name, &id)?;
                tracing::info!(name, begun, "an upload left behind is swept");
            }
        }
        Ok(())
    }

    fn abort(&self, name: &str, id: &str) -> Result<()> {
        let (query, right) = ([("uploadId", id)], "s3:AbortMultipartUpload");
        self.server.ask(&Call { query: &query, right, answers: &[404], ..Self::call("DELETE", Some(name)) })?;
        Ok(())
    }

    fn living(&self) -> MutexGuard<'_, HashSet<String>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
