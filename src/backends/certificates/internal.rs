//! The internal authority: a P-256 root made with the instance, which signs short-lived leaves (RFC 5280).
//!
//! The root is name-constrained: whoever trusts it trusts it for this appliance's names and for private addresses,
//! not for the rest of the internet, even if its key were stolen. A leaf is tried as a client would before it is
//! handed out, so a name outside the constraints is refused here and never served.

use crate::{
    base::{clock::Timestamp, fault::Fault, random},
    ports::{
        Error, Result,
        certificates::{Authorities, Authority, Certificates, Leaf},
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use zeroize::Zeroizing;

const ROOT_DAYS: i64 = 20 * 365;
/// Clients whose clock is late still accept a fresh certificate.
const BACKDATE_SECONDS: i64 = 3600;
const DAY: i64 = 86_400;

/// Addresses that never leave a machine or a site: an authority may always certify them.
const PRIVATE: &[(&str, u8)] = &[
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("::1", 128),
    ("fc00::", 7),
    ("fe80::", 10),
];

/// Makes roots for these names.
pub struct Maker(pub Vec<String>);

impl Authorities for Maker {
    fn create(&self, now: Timestamp) -> Result<Authority> {
        Authority::create(&self.0, now)
    }
}

impl Authority {
    /// A new root allowed to certify `names`, what lies beneath them, `localhost` and private addresses.
    pub fn create(names: &[String], now: Timestamp) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(backend)?;
        let mut root = parameters(now.plus_seconds(-BACKDATE_SECONDS), now.plus_seconds(ROOT_DAYS * DAY))?;
        root.distinguished_name.push(DnType::OrganizationName, "Débrouille Appliance");
        let id: String = hex::encode(random::array::<4>());
        root.distinguished_name.push(DnType::CommonName, format!("Débrouille Appliance CA {id}"));
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        root.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted(names), excluded_subtrees: Vec::new() });
        let certificate = root.self_signed(&key).map_err(backend)?;
        Ok(Self { certificate: certificate.der().to_vec(), key: Zeroizing::new(key.serialize_der()) })
    }
}

fn permitted(names: &[String]) -> Vec<GeneralSubtree> {
    let mut subtrees = vec![GeneralSubtree::DnsName("localhost".to_owned())];
    for name in names {
        subtrees.push(match name.parse::<IpAddr>() {
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            Err(_) => GeneralSubtree::DnsName(name.trim_start_matches("*.").to_owned()),
        });
    }
    for (network, bits) in PRIVATE {
        let network: IpAddr = network.parse().expect("a constant above");
        subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network, *bits)));
    }
    subtrees
}

fn parameters(not_before: Timestamp, not_after: Timestamp) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.not_before = date(not_before)?;
    parameters.not_after = date(not_after)?;
    // RFC 5280 wants a positive serial of at most 20 bytes.
    let mut serial = random::array::<16>();
    serial[0] = serial[0] & 0x7f | 0x40;
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(parameters)
}

fn date(time: Timestamp) -> Result<time::OffsetDateTime> {
    time::OffsetDateTime::from_unix_timestamp(time.seconds()).map_err(|error| Error::Backend(Box::new(error)))
}

fn backend(error: rcgen::Error) -> Error {
    Error::Backend(Box::new(error))
}

/// Signs leaves with an [`Authority`].
pub struct Internal {
    authority: Authority,
    /// Life of a leaf.
    days: u32,
    /// When the root ends; no leaf outlives it.
    expires: Timestamp,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Internal {
    /// `days` is the life of a leaf. `Corrupt` when the certificate or the key cannot be read, or do not belong together.
    pub fn open(authority: Authority, days: u32) -> Result<Self> {
        let corrupt = |what: &str| Error::Corrupt(format!("internal authority: {what}"));
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(authority.certificate.clone()))
            .map_err(|error| corrupt(&format!("unreadable certificate: {error}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| corrupt(&error.to_string()))?;
        let (_, root) = x509_parser::parse_x509_certificate(&authority.certificate)
            .map_err(|error| corrupt(&format!("unreadable certificate: {error}")))?;
        let expires = Timestamp(root.validity().not_after.timestamp().saturating_mul(1000));
        let internal = Self { authority, days, expires, verifier };
        internal.issuer().map_err(|error| corrupt(&error.to_string()))?;
        Ok(internal)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let der = PrivatePkcs8KeyDer::from(self.authority.key.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(backend)?;
        Issuer::from_ca_cert_der(&CertificateDer::from(self.authority.certificate.as_slice()), key).map_err(backend)
    }

    fn sign(&self, names: &[String], now: Timestamp) -> Result<Leaf> {
        let Some(first) = names.first() else {
            return Err(Error::Rejected(Fault::new("certificates.no_names")));
        };
        if now >= self.expires {
            return Err(Error::Rejected(Fault::new("certificates.expired").with("end", self.expires.rfc3339())));
        }
        let not_before = now.plus_seconds(-BACKDATE_SECONDS);
        let not_after = now.plus_seconds(i64::from(self.days) * DAY).min(self.expires);
        let mut leaf = parameters(not_before, not_after)?;
        for name in names {
            let unreadable = |_| Error::Rejected(Fault::new("certificates.unreadable_name").with("name", name));
            let one = CertificateParams::new(vec![name.clone()]).map_err(unreadable)?;
            leaf.subject_alt_names.extend(one.subject_alt_names);
        }
        // X.520 bounds a common name to 64 characters; clients only read the alternative names anyway.
        leaf.distinguished_name.push(DnType::CommonName, first.chars().take(64).collect::<String>());
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(backend)?;
        let signed = leaf.signed_by(&key, &self.issuer()?).map_err(backend)?;
        for name in names {
            self.try_as_client(signed.der(), name, now)?;
        }
        Ok(Leaf { chain: vec![signed.der().to_vec()], key: Zeroizing::new(key.serialize_der()), not_before, not_after })
    }

    /// Refuses what a client that trusts the root alone would refuse.
    fn try_as_client(&self, leaf: &CertificateDer<'_>, name: &str, now: Timestamp) -> Result<()> {
        let asked = name.strip_prefix("*.").map_or_else(|| name.to_owned(), |parent| format!("a.{parent}"));
        let unreadable = |_| Error::Rejected(Fault::new("certificates.unreadable_name").with("name", name));
        let asked = ServerName::try_from(asked).map_err(unreadable)?;
        let seconds = u64::try_from(now.seconds()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.verifier.verify_server_cert(leaf, &[], &asked, &[], time).map(drop).map_err(|error| {
            Error::Rejected(Fault::new("certificates.outside").with("name", name).with("cause", error))
        })
    }
}

#[async_trait::async_trait]
impl Certificates for Internal {
    async fn issue(&self, names: &[String], now: Timestamp) -> Result<Leaf> {
        self.sign(names, now)
    }

    fn issuer(&self, _: Timestamp) -> Result<String> {
        let (_, root) = x509_parser::parse_x509_certificate(&self.authority.certificate)
            .map_err(|error| Error::Corrupt(format!("internal authority: unreadable certificate: {error}")))?;
        Ok(root.subject().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn internal(of: &[&str]) -> Internal {
        Internal::open(Authority::create(&names(of), NOW).unwrap(), 90).unwrap()
    }

    #[test]
    fn certifies_names_wildcards_and_addresses() {
        let internal = internal(&["api.example.cd", "*.wild.example.cd", "203.0.113.9"]);
        let all =
            names(&["api.example.cd", "v2.api.example.cd", "*.wild.example.cd", "203.0.113.9", "127.0.0.1", "::1"]);
        let leaf = internal.sign(&all, NOW).unwrap();
        assert_eq!((leaf.not_after.0 - NOW.0) / 1000, 90 * DAY);
        for name in ["api.example.cd", "localhost"] {
            internal.sign(&names(&[name]), NOW).unwrap();
        }
    }

    #[test]
    fn refuses_what_the_root_is_not_for() {
        let internal = internal(&["api.example.cd"]);
        for foreign in ["www.example.org", "example.cd", "8.8.8.8"] {
            let Err(Error::Rejected(fault)) = internal.sign(&names(&[foreign]), NOW) else { panic!("{foreign}") };
            assert_eq!(fault.key, "certificates.outside", "{foreign}");
        }
    }

    #[test]
    fn refuses_unreadable_names() {
        let internal = internal(&["api.example.cd"]);
        for bad in ["", "é.example.cd", "a b", "a\0b"] {
            let Err(Error::Rejected(fault)) = internal.sign(&names(&[bad]), NOW) else { panic!("{bad:?}") };
            assert_eq!(fault.key, "certificates.unreadable_name", "{bad:?}");
        }
        assert!(matches!(internal.sign(&[], NOW), Err(Error::Rejected(_))));
    }

    #[test]
    fn a_root_out_of_its_time_certifies_nothing() {
        let internal = internal(&["api.example.cd"]);
        let end = NOW.plus_seconds(ROOT_DAYS * DAY);
        let last = internal.sign(&names(&["api.example.cd"]), end.plus_seconds(-DAY)).unwrap();
        assert_eq!(last.not_after, end);
        let late = end.plus_seconds(1);
        assert!(matches!(internal.sign(&names(&["api.example.cd"]), late), Err(Error::Rejected(_))));
    }

    #[test]
    fn a_damaged_authority_does_not_open() {
        let good = Authority::create(&names(&["api.example.cd"]), NOW).unwrap();
        let mut cut = good.clone();
        cut.certificate.truncate(100);
        assert!(matches!(Internal::open(cut, 90), Err(Error::Corrupt(_))));
        let mut key = good;
        key.key = Zeroizing::new(vec![7; 40]);
        assert!(matches!(Internal::open(key, 90), Err(Error::Corrupt(_))));
    }

    #[test]
    fn a_foreign_key_never_makes_a_leaf_clients_accept() {
        let mut mixed = Authority::create(&names(&["api.example.cd"]), NOW).unwrap();
        mixed.key = Authority::create(&names(&["api.example.cd"]), NOW).unwrap().key;
        let internal = Internal::open(mixed, 90).unwrap();
        assert!(matches!(internal.sign(&names(&["api.example.cd"]), NOW), Err(Error::Rejected(_))));
    }
}
