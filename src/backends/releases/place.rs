//! Where a repository lies: files beneath a folder, or beneath an https URL. Blocking: call it from a blocking thread.

use crate::{
    base::{fault::Fault, files},
    ports::{Error, Result},
};
use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use ureq::{
    Agent,
    http::{Request, Uri},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// For a connection to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// Without a byte.
const STALL: Duration = Duration::from_secs(30);

pub trait Place: Send + Sync {
    /// For people.
    fn name(&self) -> String;
    /// A file's bytes from a place on; `None`: no such file.
    fn open(&self, path: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>>;
}

pub struct Folder(PathBuf);

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Place for Folder {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn open(&self, path: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
        if !self.0.is_dir() {
            return Err(Error::OutOfReach(Fault::new("updates.no_folder").at(self.name())));
        }
        let path = self.0.join(path);
        let out_of_reach = |error: io::Error| {
            let fault = Fault::new("updates.out_of_reach").with("place", path.display()).with("why", error);
            Error::OutOfReach(fault)
        };
        // Whoever made the folder may have laid anything in it: a pipe would be waited for without end.
        let plain = files::UNLINKED | rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut file = match OpenOptions::new().read(true).custom_flags(plain).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(out_of_reach(error)),
        };
        if !file.metadata().map_err(out_of_reach)?.is_file() {
            return Err(out_of_reach(io::Error::other("not a file")));
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(out_of_reach)?;
        Ok(Some(Box::new(file)))
    }
}

pub struct Server {
    base: String,
    agent: Agent,
}

impl Server {
    /// The URL without a `/` at its end; `roots` are the authorities trusted, in DER.
    pub fn new(url: &str, roots: &[Vec<u8>]) -> Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let secure = base.parse::<Uri>().is_ok_and(|uri| {
            let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            uri.scheme_str() == Some("https") && host && uri.query().is_none()
        });
        if !secure {
            return Err(Error::Rejected(Fault::new("updates.not_https").with("url", url)));
        }
        let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect::<Vec<_>>();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots)));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let agent = Agent::config_builder()
            .tls_config(tls.unversioned_rustls_crypto_provider(provider).build())
            .https_only(true)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .build()
            .new_agent();
        Ok(Self { base, agent })
    }

    fn out_of_reach(&self, why: impl std::fmt::Display) -> Error {
        Error::OutOfReach(Fault::new("updates.out_of_reach").with("place", self.name()).with("why", why))
    }
}

impl Place for Server {
    fn name(&self) -> String {
        self.base.clone()
    }

    fn open(&self, path: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
        let mut request = Request::builder().uri(format!("{}/{path}", self.base)).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let request = request.body(()).map_err(|error| self.out_of_reach(error))?;
        let response = self.agent.run(request).map_err(|error| self.out_of_reach(error))?;
        let status = response.status().as_u16();
        let mut body = response.into_body().into_reader();
        match status {
            206 if from > 0 => Ok(Some(Box::new(body))),
            200 => {
                // A server that knows no ranges sends all of it again.
                let skipped = io::copy(&mut (&mut body).take(from), &mut io::sink());
                skipped.map_err(|error| self.out_of_reach(error))?;
                Ok(Some(Box::new(body)))
            }
            // Buckets say 403 of what is not there.
            403 | 404 | 410 | 416 => Ok(None),
            300..400 => Err(Error::Rejected(Fault::new("updates.redirected").with("place", self.name()))),
            _ => Err(self.out_of_reach(format!("HTTP {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_spoken() {
        for url in ["https://updates.example.cd", "https://updates.example.cd:8443/debrouille/"] {
            assert!(Server::new(url, &[]).is_ok(), "{url}");
        }
        for url in
            ["http://updates.example.cd", "http://127.0.0.1", "https://me@host/", "https://", "https://a/?b", "ftp"]
        {
            assert!(matches!(Server::new(url, &[]), Err(Error::Rejected(_))), "{url}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("metadata")).unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", folder.path().join("metadata/root.json")).unwrap();
        let pipe = folder.path().join("metadata/timestamp.json");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let place = Folder::new(folder.path().to_owned());
        for path in ["metadata", "metadata/root.json", "metadata/timestamp.json"] {
            assert!(matches!(place.open(path, 0), Err(Error::OutOfReach(_))), "{path}");
        }
        assert!(place.open("metadata/1.root.json", 0).unwrap().is_none());
        let gone = Folder::new(folder.path().join("gone"));
        assert!(matches!(gone.open("metadata", 0), Err(Error::OutOfReach(fault)) if fault.key == "updates.no_folder"));
    }
}
