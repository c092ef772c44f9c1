//! An authority that answers, for tests: it says what it is told to.
#![cfg(test)]

use super::{BASIC, BITS, ENUMERATED, INTEGER, OCTETS, PLAIN, Question, SEQUENCE, SHA1, Standing, TIME, WITHIN, sha1};
use crate::base::clock::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SigningKey,
};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

const MOMENT: &[FormatItem<'_>] = format_description!("[year][month][day][hour][minute][second]Z");

/// Who signs: a certificate with its key.
pub struct Signer {
    pub der: Vec<u8>,
    key: KeyPair,
    parameters: CertificateParams,
}

/// A certificate of an authority's, with its chain and its key.
pub struct Leaf {
    pub chain: Vec<Vec<u8>>,
    pub key: Vec<u8>,
}

impl Signer {
    pub fn root(name: &str) -> Self {
        let (key, mut parameters) = (KeyPair::generate().unwrap(), CertificateParams::default());
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { der: parameters.self_signed(&key).unwrap().der().to_vec(), key, parameters }
    }

    /// Told to answer, or to do something else.
    pub fn delegate(&self, name: &str, purpose: ExtendedKeyUsagePurpose, (from, to): (i32, i32)) -> Self {
        let (key, mut parameters) = (KeyPair::generate().unwrap(), CertificateParams::default());
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![purpose];
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let der = parameters.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        Self { der, key, parameters }
    }

    /// For a name, asked about at this address, if any.
    pub fn leaf(&self, name: &str, url: Option<&str>, required: bool) -> Leaf {
        let (key, mut parameters) =
            (KeyPair::generate().unwrap(), CertificateParams::new(vec![name.to_owned()]).unwrap());
        if let Some(url) = url {
            let method = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
            let access = der(SEQUENCE, &[&der(SEQUENCE, &[&method, &der(0x86, &[url.as_bytes()])])]);
            parameters.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
        }
        if required {
            let feature = der(SEQUENCE, &[&der(INTEGER, &[&[5]])]);
            parameters
                .custom_extensions
                .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], feature));
        }
        let signed = parameters.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        Leaf { chain: vec![signed, self.der.clone()], key: key.serialize_der() }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.parameters, &self.key)
    }

    /// Its answer, good from one time to another; `brought` are certificates that it encloses.
    pub fn answer(
        &self,
        question: &Question,
        standing: Standing,
        (from, to): (Timestamp, Option<Timestamp>),
        brought: &[&Self],
    ) -> Vec<u8> {
        let [name, key, serial] = question.id().unwrap();
        let hash = der(SEQUENCE, &[SHA1]);
        let id = der(SEQUENCE, &[&hash, &der(OCTETS, &[&name]), &der(OCTETS, &[&key]), &der(INTEGER, &[&serial])]);
        let status = match standing {
            Standing::Good => der(PLAIN[0], &[]),
            Standing::Revoked(since) => der(WITHIN[1], &[&moment(since)]),
            Standing::Unknown => der(PLAIN[2], &[]),
        };
        let until = to.map(|to| der(WITHIN[0], &[&moment(to)])).unwrap_or_default();
        let single = der(SEQUENCE, &[&id, &status, &moment(from), &until]);
        let key = super::parsed(&self.der).unwrap().public_key().subject_public_key.data.to_vec();
        let responder = der(WITHIN[2], &[&der(OCTETS, &[&sha1(&key)])]);
        let data = der(SEQUENCE, &[&responder, &moment(from), &der(SEQUENCE, &[&single])]);
        let signature = self.key.sign(&data).unwrap();
        let algorithm = der(SEQUENCE, &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
        let brought: Vec<u8> = brought.iter().flat_map(|one| one.der.clone()).collect();
        let brought = der(WITHIN[0], &[&der(SEQUENCE, &[&brought])]);
        let basic = der(SEQUENCE, &[&data, &algorithm, &der(BITS, &[&[0], &signature]), &brought]);
        let bytes = der(SEQUENCE, &[&der(0x06, &[BASIC]), &der(OCTETS, &[&basic])]);
        der(SEQUENCE, &[&der(ENUMERATED, &[&[0]]), &der(WITHIN[0], &[&bytes])])
    }
}

fn moment(time: Timestamp) -> Vec<u8> {
    let time = OffsetDateTime::from_unix_timestamp(time.seconds()).unwrap().format(MOMENT).unwrap();
    der(TIME, &[time.as_bytes()])
}

/// As above, of any length.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..128 => vec![tag, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    // The shortest there is.
    let head = if (128..256).contains(&content.len()) { vec![tag, 0x81, length[1]] } else { head };
    [head, content].concat()
}
