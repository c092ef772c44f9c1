//! An object being read: a link that breaks is taken up again where it broke.

use super::{Bucket, Call};
use crate::{backends::objects::pace::PacedReader, ports::Result};
use std::{
    io::{self, Read},
    sync::Arc,
};

pub struct Download {
    bucket: Arc<Bucket>,
    name: String,
    at: u64,
    /// Bytes that are still to come.
    left: u64,
    /// So that one read is of one object.
    etag: String,
    body: Box<dyn Read + Send>,
    /// How often it broke off since `from`.
    breaks: usize,
    from: u64,
}

/// So much has come that a link which breaks off deserves all its attempts again.
const WORTHWHILE: u64 = 64 * 1024;

impl Download {
    /// `None`: no such object, or nothing of it from there on.
    pub fn open(bucket: &Arc<Bucket>, name: &str, from: u64) -> Result<Option<Self>> {
        Self::from(bucket.clone(), name.to_owned(), from, None)
    }

    fn from(bucket: Arc<Bucket>, name: String, from: u64, etag: Option<&str>) -> Result<Option<Self>> {
        let range = format!("bytes={from}-");
        let mut headers = Vec::new();
        if from > 0 {
            headers.push(("range", range.as_str()));
        }
        headers.extend(etag.map(|etag| ("if-match", etag)));
        let call = Call {
            headers: &headers,
            right: "s3:GetObject",
            streams: true,
            answers: &[404, 416],
            ..Bucket::call("GET", Some(&name))
        };
        let answer = bucket.server.ask(&call)?;
        if !answer.done() {
            return Ok(None);
        }
        let (length, etag) = (answer.header("content-length"), answer.header("etag"));
        // A server that knows no ranges would send it all again.
        let ranged = (answer.status == 206) == (from > 0);
        let (Some(left), Some(etag), true) = (length.and_then(|length| length.parse().ok()), etag, ranged) else {
            return Err(bucket.server.senseless("GetObject"));
        };
        let etag = etag.to_owned();
        let body = Box::new(PacedReader::new(answer.into_reader(), bucket.server.settings.pace.clone()));
        Ok(Some(Self { bucket, name, at: from, left, etag, body, breaks: 0, from }))
    }

    fn again(&mut self) -> Result<()> {
        let (breaks, from) = match self.at - self.from {
            WORTHWHILE.. => (1, self.at),
            _ => (self.breaks + 1, self.from),
        };
        if breaks > self.bucket.server.settings.patience.attempts {
            return Err(self.bucket.server.out_of_reach("it breaks off again and again"));
        }
        let again = Self::from(self.bucket.clone(), self.name.clone(), self.at, Some(&self.etag))?;
        let again = again.ok_or_else(|| self.bucket.server.out_of_reach("the object is gone"))?;
        *self = Self { breaks, from, ..again };
        Ok(())
    }
}

impl Read for Download {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || into.is_empty() {
            return Ok(0);
        }
        loop {
            if let Ok(count @ 1..) = self.body.read(into) {
                let bytes = count as u64;
                (self.at, self.left) = (self.at + bytes, self.left.saturating_sub(bytes));
                return Ok(count);
            }
            self.again().map_err(io::Error::other)?;
        }
    }
}
