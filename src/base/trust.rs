//! Which authorities are trusted where this program is the client: the system's, and those the operator adds.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{io, path::Path};

/// The certificates of the system, as far as there are any, and of the operator's file.
pub fn certificates(added: Option<&Path>) -> io::Result<Vec<CertificateDer<'static>>> {
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(path) = added {
        all.extend(read(path)?);
    }
    Ok(all)
}

pub fn roots(added: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // One the library cannot read is left out, as every client does.
    roots.add_parsable_certificates(certificates(added)?);
    Ok(roots)
}

/// Of the operator's file alone.
pub fn only(path: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in read(path)? {
        let unfit = |error| io::Error::other(format!("{}: {error}", path.display()));
        roots.add(certificate).map_err(unfit)?;
    }
    Ok(roots)
}

/// As above, as the file lists them.
pub fn listed(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    only(path).and_then(|_| read(path))
}

fn read(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let unreadable = |error| io::Error::other(format!("{}: {error}", path.display()));
    let text =
        std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    match all.is_empty() {
        true => Err(io::Error::other(format!("{}: no certificate in it", path.display()))),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(roots(Some(&path)).is_err() && only(&path).is_err(), "absent");
        std::fs::write(&path, "nothing").unwrap();
        assert!(roots(Some(&path)).is_err() && only(&path).is_err(), "empty");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
        assert!(only(&path).is_err(), "no certificate of an authority");
    }
}
