//! What an X.509 certificate says of itself: by whom, for whom, for how long (RFC 5280).

use crate::base::clock::Timestamp;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, time::ASN1Time};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub issuer: String,
    /// Host names and IP addresses, as its alternative names list them.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256, in hex.
    pub fingerprint: String,
}

impl Certificate {
    /// Reads DER.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
        let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
        let time = |time: ASN1Time| Timestamp(time.timestamp().saturating_mul(1000));
        Ok(Self {
            issuer: parsed.issuer().to_string(),
            names,
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            fingerprint: hex::encode(Sha256::digest(der)),
        })
    }

    /// Whether a client that asked for this name accepts it (RFC 6125: `*` stands for one whole label, the first).
    pub fn covers(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Ok(address) = name.parse::<IpAddr>() {
            return self.names.iter().any(|own| own.parse() == Ok(address));
        }
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(of) => own.eq_ignore_ascii_case(name) || parent.is_some_and(|parent| parent.eq_ignore_ascii_case(of)),
            None => own.eq_ignore_ascii_case(name),
        })
    }

    /// Whether it names an address: who comes by one names none.
    pub fn has_address(&self) -> bool {
        self.names.iter().any(|name| name.parse::<IpAddr>().is_ok())
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
            let v6 = || <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)));
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let parameters = rcgen::CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let key = rcgen::KeyPair::generate().unwrap();
        Certificate::read(parameters.unwrap().self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn is_for_its_names_and_no_other() {
        let read = certificate(&["api.example.cd", "*.wild.example.cd", "192.0.2.7", "::1"]);
        assert_eq!(read.names, ["api.example.cd", "*.wild.example.cd", "192.0.2.7", "::1"]);
        for good in
            ["api.example.cd", "API.example.CD.", "a.wild.example.cd", "*.wild.example.cd", "192.0.2.7", "0:0::1"]
        {
            assert!(read.covers(good), "{good}");
        }
        for bad in ["x.api.example.cd", "example.cd", "wild.example.cd", "a.b.wild.example.cd", "192.0.2.8", ""] {
            assert!(!read.covers(bad), "{bad}");
        }
        assert!(read.has_address() && !certificate(&["api.example.cd"]).has_address());
    }

    #[test]
    fn what_is_none_is_refused() {
        assert!(Certificate::read(b"nothing").is_err());
        assert!(Certificate::read(&[]).is_err());
    }
}
