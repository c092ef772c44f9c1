//! An object being written: in parts where it is long, and nowhere to be seen until it is whole.

use super::{Answer, Bucket, Call, Settings, VERSION, answers, download::Download, signature::sha256};
use crate::{
    base::{fault::Fault, random},
    ports::{
        Error, Result,
        objects::{FORBIDDEN, Upload},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    sync::Arc,
};

const MIB: usize = 1 << 20;
const MOST_PARTS: usize = 10_000;
/// On the object: whose it is, where an answer was lost on the way.
const MARK: &str = "x-amz-meta-upload";
const SUM: &str = "x-amz-checksum-sha256";
/// Some want it told apart, where there is a lock.
const SUMMED: (&str, &str) = ("x-amz-sdk-checksum-algorithm", "SHA256");

/// So long is a part: 8 MiB for the first thousand, 24 more for each thousand further, 1.1 TiB in all. One part is held
/// in memory, to be sent again.
pub fn part_bytes(part: usize) -> usize {
    (8 + 24 * (part / 1000)) * MIB
}

struct Part {
    etag: String,
    /// SHA-256 of its bytes.
    sum: [u8; 32],
}

pub struct Parts {
    bucket: Arc<Bucket>,
    name: String,
    mark: String,
    /// What is to be the next part.
    bytes: Vec<u8>,
    /// Of the upload in parts, once there is one.
    id: Option<String>,
    parts: Vec<Part>,
    /// The server confirmed the digest of every byte so far.
    confirmed: bool,
    stage: Stage,
    /// Where the bucket keeps several of one name.
    version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    /// The server was asked to show it and may have.
    Asked,
    Shown,
    Kept,
    Failed,
}

pub fn begin(bucket: &Arc<Bucket>, name: &str) -> Result<Box<dyn Upload>> {
    // Earlier than at the end, where the credential may look.
    match bucket.head(name) {
        Ok(Some(_)) => return Err(exists(bucket, name)),
        Ok(None) => {}
        Err(error) if forbidden(&error) => {}
        Err(error) => return Err(error),
    }
    let mark = hex::encode(random::array::<16>());
    Ok(Box::new(Parts {
        bucket: bucket.clone(),
        name: name.to_owned(),
        mark,
        bytes: Vec::new(),
        id: None,
        parts: Vec::new(),
        confirmed: true,
        stage: Stage::Writing,
        version: None,
    }))
}

fn forbidden(error: &Error) -> bool {
    matches!(error, Error::Rejected(fault) if fault.key == FORBIDDEN)
}

fn exists(bucket: &Bucket, name: &str) -> Error {
    Error::Rejected(Fault::new("objects.exists").at(format!("{}/{name}", bucket.server.place())))
}

impl Parts {
    /// What the object is created with.
    fn birth(&self) -> Vec<(&'static str, String)> {
        let Settings { lock, .. } = &self.bucket.server.settings;
        let mut headers = vec![(MARK, self.mark.clone())];
        headers.extend(lock.iter().flat_map(|lock| lock.headers(self.bucket.server.clock.now())));
        headers
    }

    /// Sends what has gathered as the next part.
    fn send(&mut self) -> Result<()> {
        if self.parts.len() >= MOST_PARTS {
            return Err(Error::Full(self.bucket.server.place()));
        }
        let id = match &self.id {
            Some(id) => id.clone(),
            None => self.start()?,
        };
        let (sum, number) = (sha256(&self.bytes), (self.parts.len() + 1).to_string());
        let text = STANDARD.encode(sum);
        let call = Call {
            query: &[("partNumber", &number), ("uploadId", &id)],
            headers: &[(SUM, &text), SUMMED],
            body: &self.bytes,
            right: "s3:PutObject",
            ..Bucket::call("PUT", Some(&self.name))
        };
        let answer = self.bucket.server.insist(&call)?;
        self.confirm(&answer, &text)?;
        let etag = answer.header("etag").ok_or_else(|| self.bucket.server.senseless("UploadPart"))?.to_owned();
        self.parts.push(Part { etag, sum });
        self.bytes.clear();
        Ok(())
    }

    fn start(&mut self) -> Result<String> {
        match self.bucket.sweep() {
            Err(error) if forbidden(&error) => self.bucket.told.call_once(|| {
                let place = self.bucket.server.place();
                tracing::warn!(place, "uploads left behind cannot be swept: give the bucket a lifecycle rule for them");
            }),
            Err(error) => tracing::warn!(%error, "uploads left behind were not swept"),
            Ok(()) => {}
        }
        let mut headers = self.birth();
        headers.push(("x-amz-checksum-algorithm", "SHA256".to_owned()));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (query, right) = ([("uploads", "")], "s3:PutObject");
        let call = Call { query: &query, headers: &headers, right, ..Bucket::call("POST", Some(&self.name)) };
        let id = answers::single(&self.bucket.server.insist(&call)?.text, "InitiateMultipartUploadResult", "UploadId");
        let id = id.ok_or_else(|| self.bucket.server.senseless("CreateMultipartUpload"))?;
        self.bucket.living().insert(id.clone());
        self.id = Some(id.clone());
        Ok(id)
    }

    /// The digest the server found must be ours; one that says none leaves it to be read back.
    fn confirm(&mut self, answer: &Answer, sum: &str) -> Result<()> {
        match answer.header(SUM) {
            Some(theirs) if theirs != sum => Err(Error::Corrupt(format!(
                "{} keeps other bytes of {} than were sent",
                self.bucket.server.place(),
                self.name
            ))),
            Some(_) => Ok(()),
            None => {
                self.confirmed = false;
                Ok(())
            }
        }
    }

    /// Has the server show it under its name, where nothing bears that name.
    fn show(&mut self) -> Result<()> {
        if self.id.is_some() && !self.bytes.is_empty() {
            self.send()?;
        }
        self.stage = Stage::Asked;
        match self.finish() {
            Ok(answer) if answer.done() => return Ok(()),
            // Not there to be completed, or there already: by an attempt whose answer was lost?
            Ok(answer) if answer.again && self.is_ours(answer.status == 412)? => {}
            Ok(answer) if answer.status == 412 => {
                self.stage = Stage::Failed;
                return Err(exists(&self.bucket, &self.name));
            }
            Ok(_) => return Err(self.bucket.server.out_of_reach("the upload is gone")),
            Err(Error::OutOfReach(_)) if self.is_ours(false).unwrap_or(false) => {}
            Err(error) => return Err(error),
        }
        self.stage = Stage::Shown;
        // Of one sent at once the digest was in the answer that was lost.
        self.confirmed &= self.id.is_some();
        Ok(())
    }

    /// Only where nothing bears the name. Some servers know no condition: for them it was looked at the beginning, and
    /// where not even that is allowed, names like ours are given once.
    fn finish(&mut self) -> Result<Answer> {
        let mut once = |condition: &[(&'static str, &str)]| match self.id.clone() {
            Some(id) => self.complete(&id, condition),
            None => self.put(condition),
        };
        match once(&[("if-none-match", "*")]) {
            Ok(answer) if answer.status == 501 => once(&[]),
            answer => answer,
        }
    }

    /// A short one, at once.
    fn put(&mut self, condition: &[(&'static str, &str)]) -> Result<Answer> {
        let sum = STANDARD.encode(sha256(&self.bytes));
        let mut headers = self.birth();
        headers.push((SUM, sum.clone()));
        let mut headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(SUMMED);
        headers.extend(condition);
        let call = Call {
            headers: &headers,
            body: &self.bytes,
            right: "s3:PutObject",
            answers: &[412, 501],
            ..Bucket::call("PUT", Some(&self.name))
        };
        let answer = self.bucket.server.insist(&call)?;
        if answer.done() {
            self.shown(&answer);
            self.confirm(&answer, &sum)?;
        }
        Ok(answer)
    }

    fn shown(&mut self, answer: &Answer) {
        self.stage = Stage::Shown;
        self.version = answer.header(VERSION).map(str::to_owned);
    }

    fn complete(&mut self, id: &str, condition: &[(&'static str, &str)]) -> Result<Answer> {
        let mut body = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
        for (number, Part { etag, sum }) in (1..).zip(&self.parts) {
            let (etag, sum) = (etag.replace('&', "&amp;").replace('<', "&lt;"), STANDARD.encode(sum));
            let _ = write!(
                body,
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumSHA256>{sum}</ChecksumSHA256></Part>"
            );
        }
        body.push_str("</CompleteMultipartUpload>");
        let call = Call {
            query: &[("uploadId", id)],
            headers: condition,
            body: body.as_bytes(),
            right: "s3:PutObject",
            answers: &[404, 412, 501],
            ..Bucket::call("POST", Some(&self.name))
        };
        let answer = self.bucket.server.insist(&call)?;
        if answer.done() {
            // It may say 200 before it knows, and an error after.
            if answers::single(&answer.text, "CompleteMultipartUploadResult", "ETag").is_none() {
                let refused = answers::refused(&answer.text).unwrap_or_default();
                return Err(self.bucket.server.out_of_reach(format!("{} {}", refused.code, refused.message)));
            }
            self.shown(&answer);
        }
        Ok(answer)
    }

    /// Whether what bears the name is this upload's. Where the credential may not look, `unseen` it is: nobody else
    /// gives names like ours.
    fn is_ours(&mut self, unseen: bool) -> Result<bool> {
        match self.bucket.head(&self.name) {
            Ok(found) => {
                let ours = found.filter(|found| found.header(MARK) == Some(&self.mark));
                self.version = ours.as_ref().and_then(|ours| ours.header(VERSION)).map(str::to_owned);
                Ok(ours.is_some())
            }
            Err(error) if forbidden(&error) => Ok(unseen),
            Err(error) => Err(error),
        }
    }

    /// Only what was confirmed or read back keeps its name.
    fn unconfirmed(&self) -> Error {
        Error::Rejected(Fault::new("objects.unconfirmed").with("place", self.bucket.server.place()))
    }

    fn ready(&mut self) -> Result<()> {
        match self.stage {
            Stage::Writing => self.show(),
            Stage::Shown => Ok(()),
            _ => Err(self.bucket.server.out_of_reach("the upload has failed")),
        }
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stage != Stage::Writing {
            return Err(io::Error::other("this upload has ended"));
        }
        let most = part_bytes(self.parts.len());
        if self.bytes.len() >= most
            && let Err(error) = self.send()
        {
            self.stage = Stage::Failed;
            return Err(io::Error::other(error));
        }
        let count = bytes.len().min(part_bytes(self.parts.len()) - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for Parts {
    fn reread(&mut self) -> Result<Option<Box<dyn Read + Send>>> {
        self.ready()?;
        match Download::open(&self.bucket, &self.name, 0) {
            Ok(Some(download)) => {
                self.confirmed = true;
                Ok(Some(Box::new(download)))
            }
            Ok(None) => Err(self.bucket.server.out_of_reach("the object is gone")),
            Err(error) if forbidden(&error) && self.confirmed => Ok(None),
            Err(error) if forbidden(&error) => Err(self.unconfirmed()),
            Err(error) => Err(error),
        }
    }

    fn publish(mut self: Box<Self>) -> Result<()> {
        self.ready()?;
        if !self.confirmed {
            return Err(self.unconfirmed());
        }
        self.stage = Stage::Kept;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let shown = match self.stage {
            Stage::Kept => false,
            Stage::Shown => true,
            Stage::Asked => self.is_ours(false).unwrap_or(false),
            Stage::Writing | Stage::Failed => false,
        };
        let gone = match &self.id {
            _ if shown => self.bucket.remove(&self.name, self.version.as_deref()),
            Some(id) if self.stage != Stage::Kept => self.bucket.abort(&self.name, id),
            _ => Ok(()),
        };
        if let Err(error) = gone {
            let (name, place) = (&self.name, self.bucket.server.place());
            tracing::error!(name, place, %error, "an upload that failed could not be taken back; trust nothing of this name");
        }
        if let Some(id) = &self.id {
            self.bucket.living().remove(id);
        }
    }
}
