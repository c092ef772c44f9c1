//! TLS 1.3, and 1.2 with authenticated ciphers only; X25519MLKEM768 first; certificates are chosen by the name asked for and
//! swapped live.

use crate::{
    backends::certificates::acme::handshake,
    base::clock::Stopwatch,
    domain::certificate::Certificate,
    ports::certificates::Leaf,
    services::certificates::{Challenges, Show, Staple},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// What a public authority speaks that looks for a proof (RFC 8737, 6.2): a handshake, and nothing after it.
pub const PROOF: &[u8] = b"acme-tls/1";

/// The certificates shown to whoever shakes hands next.
#[derive(Debug, Default)]
pub struct Shown {
    /// Of our own authority. None yet: handshakes fail.
    own: RwLock<Option<Arc<CertifiedKey>>>,
    /// Of others, with what it is for.
    public: RwLock<Option<Public>>,
    pub challenges: Arc<Challenges>,
}

#[derive(Debug)]
struct Public {
    certificate: Certificate,
    key: Arc<CertifiedKey>,
    /// The same with its authority's word, and for how long from when on that is shown.
    stapled: Option<(Arc<CertifiedKey>, Stopwatch, Duration)>,
}

impl Public {
    fn key(&self) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, since, left)) if since.elapsed() < *left => stapled.clone(),
            _ => self.key.clone(),
        }
    }
}

impl Show for Shown {
    /// Connections already open keep the one they saw.
    fn show(&self, leaf: &Leaf) -> Result<(), Trouble> {
        let certified = certified(leaf)?;
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(())
    }

    fn show_public(&self, leaf: Option<&Leaf>) -> Result<(), Trouble> {
        let public = match leaf {
            Some(leaf) => {
                let (certificate, key) = (Certificate::read(first(leaf))?, certified(leaf)?);
                Some(Public { certificate, key, stapled: None })
            }
            None => None,
        };
        *self.public.write().unwrap_or_else(PoisonError::into_inner) = public;
        Ok(())
    }

    fn staple(&self, fingerprint: &str, staple: Option<Staple>) {
        let mut public = self.public.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(public) = public.as_mut().filter(|public| public.certificate.fingerprint == fingerprint) {
            let own = public.key.cert.first();
            let fits = staple.filter(|staple| own.is_some_and(|own| **own == *staple.leaf));
            public.stapled = fits.map(|Staple { response, left, .. }| {
                let stapled = CertifiedKey { ocsp: Some(response), ..(*public.key).clone() };
                (Arc::new(stapled), Stopwatch::start(), left)
            });
        }
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

fn first(leaf: &Leaf) -> &[u8] {
    leaf.chain.first().map(Vec::as_slice).unwrap_or_default()
}

/// Refuses a key that does not fit its certificate.
fn certified(leaf: &Leaf) -> Result<Arc<CertifiedKey>, Trouble> {
    let chain = leaf.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(leaf.key.to_vec())?;
    Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map(Arc::new)?)
}

impl Shown {
    /// Others' certificate is for its names. Who names none came by an address.
    fn chosen(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let public = self.public.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |certificate: &Certificate| match name {
            Some(name) => certificate.covers(name),
            None => certificate.has_address(),
        };
        match &*public {
            Some(public) if fits(&public.certificate) => Some(public.key()),
            _ => self.own.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn proof(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let (name, digest) = self.challenges.digest(name)?;
        let (certificate, key) = handshake::proof(name, &digest)?;
        let (chain, key) = (vec![CertificateDer::from(certificate)], PrivateKeyDer::try_from(key).ok()?);
        // Not judged as others are: the extension that it is about is critical, and unknown to all but its authority.
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).ok()?;
        Some(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let speaks = |word: &[u8]| hello.alpn().is_some_and(|mut all| all.all(|one| one == word));
        match hello.server_name() {
            Some(name) if speaks(PROOF) => self.proof(name),
            name => self.chosen(name),
        }
    }
}

pub fn config(
    shown: Arc<Shown>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    // rustls has no other ciphers than authenticated ones, and puts the post-quantum hybrid first.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let config = match clients {
        Some(clients) => config.with_client_cert_verifier(clients),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(shown);
    // Both sides have good ciphers only; then ours decides, which has the strongest first.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), PROOF.to_vec()];
    // Resumption by tickets sealed with rotating keys: no state held for strangers.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_post_quantum_exchange_comes_first_and_ciphers_are_authenticated() {
        let provider = aws_lc_rs::default_provider();
        assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
        for suite in provider.cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(name.contains("GCM") || name.contains("CHACHA20_POLY1305"), "{name}");
        }
    }
}
