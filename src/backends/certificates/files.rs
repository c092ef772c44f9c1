//! A certificate and its key in two PEM files that something else renews: certbot, a ministry's own authority, a person.

use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::certificate::Certificate,
    ports::{
        Error, Result,
        certificates::{Kept, Leaf},
    },
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const MOST_BYTES: u64 = 1 << 20;

pub struct Files {
    /// The chain, the server's own first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Kept for Files {
    fn read(&self, now: Timestamp) -> Result<Leaf> {
        let chain = self.chain()?;
        let key = self.key()?;
        let leaf = leaf(&chain, key.secret_der())
            .map_err(|cause| rejected("certificates.file_unreadable", &self.certificate).with("cause", cause));
        let leaf = leaf.map_err(Error::Rejected)?;
        // The two are written one after the other: a pair that does not fit may do so a moment later.
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| {
            let key = self.key.display();
            Error::Rejected(rejected("certificates.misfit", &self.certificate).with("key", key).with("cause", error))
        })?;
        let out_of_time =
            |key, time: Timestamp| Err(Error::Rejected(rejected(key, &self.certificate).with("time", time.rfc3339())));
        if now >= leaf.not_after {
            return out_of_time("certificates.file_ended", leaf.not_after);
        }
        if now < leaf.not_before {
            return out_of_time("certificates.file_early", leaf.not_before);
        }
        Ok(leaf)
    }

    fn place(&self) -> String {
        self.certificate.display().to_string()
    }
}

impl Files {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        let (_, text) = small(&self.certificate).map_err(|error| unreadable(&self.certificate, &error))?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unreadable(&self.certificate, &error))?;
        match chain.is_empty() {
            true => Err(unreadable(&self.certificate, &"no certificate in it")),
            false => Ok(chain),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        let (mode, text) = small(&self.key).map_err(|error| unreadable(&self.key, &error))?;
        if mode & 0o007 != 0 {
            let mode = format!("{:o}", mode & 0o777);
            return Err(Error::Rejected(rejected("certificates.key_open", &self.key).with("mode", mode)));
        }
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| unreadable(&self.key, &error))
    }
}

/// A file's mode and content, if it is a file, and of a size that these have.
fn small(path: &Path) -> io::Result<(u32, Zeroizing<Vec<u8>>)> {
    let facts = fs::metadata(path)?;
    if !facts.is_file() || facts.len() > MOST_BYTES {
        return Err(io::Error::other("not a small file"));
    }
    let mut content = Zeroizing::new(Vec::new());
    fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut content)?;
    Ok((facts.permissions().mode(), content))
}

fn rejected(key: &'static str, file: &Path) -> Fault {
    Fault::new(key).with("file", file.display())
}

fn unreadable(file: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Rejected(rejected("certificates.file_unreadable", file).with("cause", cause))
}

/// A chain and the key of its first, with the time it is for.
pub(super) fn leaf(chain: &[CertificateDer<'_>], key: &[u8]) -> std::result::Result<Leaf, String> {
    let Certificate { not_before, not_after, .. } = Certificate::read(chain.first().ok_or("no certificate")?)?;
    let chain = chain.iter().map(|der| der.to_vec()).collect();
    Ok(Leaf { chain, key: Zeroizing::new(key.to_vec()), not_before, not_after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::certificates::internal::Internal,
        ports::certificates::{Authority, Certificates},
    };
    use base64::{Engine, engine::general_purpose::STANDARD};

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    async fn issued(days: u32) -> Leaf {
        let names = ["api.example.cd".to_owned()];
        Internal::open(Authority::create(&names, NOW).unwrap(), days).unwrap().issue(&names, NOW).await.unwrap()
    }

    fn write(files: &Files, leaf: &Leaf, mode: u32) {
        fs::write(&files.certificate, pem("CERTIFICATE", &leaf.chain[0])).unwrap();
        fs::write(&files.key, pem("PRIVATE KEY", &leaf.key)).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_pair_is_taken_only_whole_closed_and_in_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("chain.pem"), key: folder.path().join("key.pem") };
        let refused = |at: Timestamp| match files.read(at) {
            Err(Error::Rejected(fault)) => fault.key,
            _ => panic!("read"),
        };
        assert_eq!(refused(NOW), "certificates.file_unreadable");
        let (first, second) = (issued(90).await, issued(30).await);
        write(&files, &first, 0o640);
        let read = files.read(NOW).unwrap();
        assert_eq!((read.chain, read.not_after), (first.chain.clone(), first.not_after));
        write(&files, &first, 0o644);
        assert_eq!(refused(NOW), "certificates.key_open");
        write(&files, &first, 0o600);
        assert_eq!(refused(first.not_after), "certificates.file_ended");
        assert_eq!(refused(first.not_before.plus_seconds(-1)), "certificates.file_early");
        // Half of the next pair.
        fs::write(&files.certificate, pem("CERTIFICATE", &second.chain[0])).unwrap();
        assert_eq!(refused(NOW), "certificates.misfit");
        fs::write(&files.certificate, "nothing").unwrap();
        assert_eq!(refused(NOW), "certificates.file_unreadable");
        write(&files, &second, 0o600);
        fs::write(&files.key, "nothing").unwrap();
        assert_eq!(refused(NOW), "certificates.file_unreadable");
    }
}
