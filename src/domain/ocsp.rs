//! What an authority says of a certificate of its own (RFC 6960): the question, and whether an answer is to be believed.

use crate::base::clock::Timestamp;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::crypto::aws_lc_rs::default_provider;
use std::fmt::Display;
use x509_parser::{
    asn1_rs::{Any, FromDer, oid},
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP,
    parse_x509_certificate,
    time::ASN1Time,
};

/// id-sha1 (RFC 3279), by which certificates are named here, as all responders know it: what is believed hangs on the
/// signature alone.
const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// status_request, among the features that a certificate wants (RFC 7633).
const STATUS_REQUEST: &[u8] = &[0x02, 0x01, 0x05];
/// Seconds that an authority's clock may be ahead of this machine's.
const AHEAD: i64 = 300;
/// An answer may bring so many certificates.
const MOST_CERTIFICATES: usize = 8;

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const BITS: u8 = 0x03;
const ENUMERATED: u8 = 0x0a;
const INTEGER: u8 = 0x02;
const TIME: u8 = 0x18;
/// `[0]`, `[1]`, `[2]`: with something in it, or not.
const WITHIN: [u8; 3] = [0xa0, 0xa1, 0xa2];
const PLAIN: [u8; 3] = [0x80, 0x81, 0x82];

/// What is to be asked of whom about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    leaf: Vec<u8>,
    issuer: Vec<u8>,
    /// Over plain HTTP, as the rules for authorities have it: the answer is signed.
    pub url: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub standing: Standing,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Since when.
    Revoked(Timestamp),
    /// The responder has not heard of it.
    Unknown,
}

impl Answer {
    pub fn is_for(&self, now: Timestamp) -> bool {
        self.this_update <= now.plus_seconds(AHEAD) && now <= self.next_update
    }
}

/// Whether clients that know how refuse this certificate without an answer.
pub fn required(leaf: &[u8]) -> bool {
    let feature = oid!(1.3.6.1.5.5.7.1.24);
    let wants = |value: &[u8]| value.windows(STATUS_REQUEST.len()).any(|window| window == STATUS_REQUEST);
    parsed(leaf).is_ok_and(|leaf| leaf.extensions().iter().any(|one| one.oid == feature && wants(one.value)))
}

impl Question {
    /// Of a chain, as DER. `None`: its authority names nobody to ask, or is not in the chain.
    pub fn of(chain: &[Vec<u8>]) -> Option<Self> {
        let [leaf, issuer, ..] = chain else { return None };
        let (_, parsed) = parse_x509_certificate(leaf).ok()?;
        let url = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => access.iter().find_map(|one| match one.access_location {
                GeneralName::URI(url) if one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP => {
                    url.starts_with("http://").then(|| url.to_owned())
                }
                _ => None,
            }),
            _ => None,
        })?;
        Some(Self { url, leaf: leaf.clone(), issuer: issuer.clone() })
    }

    /// The request (4.1.1): about this one, without a nonce, so that what many ask is answered from a cache.
    pub fn request(&self) -> Result<Vec<u8>, String> {
        let [name, key, serial] = self.id()?;
        let (hash, name, key) = (der(SEQUENCE, &[SHA1, &[0x05, 0x00]])?, der(OCTETS, &[&name])?, der(OCTETS, &[&key])?);
        let id = der(SEQUENCE, &[&hash, &name, &key, &der(INTEGER, &[&serial])?])?;
        // A Request in a list in a TBSRequest in an OCSPRequest.
        (0..4).try_fold(id, |inner, _| der(SEQUENCE, &[&inner]))
    }

    /// The issuer's name and key, hashed, and the serial number.
    fn id(&self) -> Result<[Vec<u8>; 3], String> {
        let (leaf, issuer) = (parsed(&self.leaf)?, parsed(&self.issuer)?);
        Ok([sha1(leaf.issuer().as_raw()), key_hash(&issuer), leaf.raw_serial().to_vec()])
    }

    /// What an answer says, if whoever signed it may speak of this certificate, and it is one for now.
    pub fn read(&self, answer: &[u8], now: Timestamp) -> Result<Answer, String> {
        let basic = basic(answer)?;
        let signed = Signed::read(basic)?;
        let mut data = Reader(content(signed.body, SEQUENCE)?);
        data.maybe(WITHIN[0])?;
        let responder = data.one()?;
        self.signer(&signed, responder, now)?;
        data.take(TIME)?;
        let mut answers = Reader(data.take(SEQUENCE)?);
        let id = self.id()?;
        while !answers.0.is_empty() {
            let mut single = Reader(answers.take(SEQUENCE)?);
            if matches(single.take(SEQUENCE)?, &id)? {
                return standing(single, now);
            }
        }
        Err("it is about another certificate".to_owned())
    }

    /// Only the issuer, or whom it told to (4.2.2.2), is believed.
    fn signer(&self, signed: &Signed<'_>, responder: Value<'_>, now: Timestamp) -> Result<(), String> {
        let issuer = parsed(&self.issuer)?;
        if is(responder, &issuer)? {
            return signed.verify(issuer.public_key().raw);
        }
        let mut brought = Reader(signed.certificates);
        for _ in 0..MOST_CERTIFICATES {
            if brought.0.is_empty() {
                break;
            }
            let der = brought.one()?.raw;
            let delegate = parsed(der)?;
            if !is(responder, &delegate)? {
                continue;
            }
            told(&delegate, &issuer, now)?;
            Signed::read(der)?.verify(issuer.public_key().raw)?;
            return signed.verify(delegate.public_key().raw);
        }
        Err("it is signed by neither the certificate's issuer nor one that it told to".to_owned())
    }
}

/// Whether a certificate says that its issuer lets it answer.
fn told(delegate: &X509Certificate<'_>, issuer: &X509Certificate<'_>, now: Timestamp) -> Result<(), String> {
    let purposes = delegate.extended_key_usage().map_err(words)?;
    let usage = delegate.key_usage().map_err(words)?;
    let validity = delegate.validity();
    if delegate.issuer().as_raw() != issuer.subject().as_raw() {
        return Err("its signer is another authority's".to_owned());
    }
    if !purposes.is_some_and(|purposes| purposes.value.ocsp_signing)
        || usage.is_some_and(|usage| !usage.value.digital_signature())
    {
        return Err("its signer's certificate is not for answers".to_owned());
    }
    match time(validity.not_before) <= now && now <= time(validity.not_after) {
        true => Ok(()),
        false => Err("its signer's certificate is out of its time".to_owned()),
    }
}

/// Past an identifier: a `SingleResponse`'s status and times.
fn standing(mut single: Reader<'_>, now: Timestamp) -> Result<Answer, String> {
    let status = single.one()?;
    let standing = match status.tag {
        tag if tag == PLAIN[0] => Standing::Good,
        tag if tag == WITHIN[1] => Standing::Revoked(moment(Reader(status.content).one()?)?),
        tag if tag == PLAIN[2] => Standing::Unknown,
        tag => return Err(format!("a status that is none: {tag:#x}")),
    };
    let this_update = moment(single.one()?)?;
    let next_update = single.maybe(WITHIN[0])?.ok_or("it does not say until when it is good")?;
    let next_update = moment(Reader(next_update).one()?)?;
    let from_to =
        || format!("it is for {} to {}, and now is {}", this_update.rfc3339(), next_update.rfc3339(), now.rfc3339());
    let answer = Answer { standing, this_update, next_update };
    match answer.is_for(now) {
        true => Ok(answer),
        false => Err(from_to()),
    }
}

/// Whether a `CertID` is the one that was asked about.
fn matches(id: &[u8], [name, key, serial]: &[Vec<u8>; 3]) -> Result<bool, String> {
    let mut id = Reader(id);
    let hash = Reader(id.take(SEQUENCE)?).one()?.raw;
    Ok(hash == SHA1 && id.take(OCTETS)? == name && id.take(OCTETS)? == key && id.take(INTEGER)? == serial)
}

/// Whether a `ResponderID` names this certificate.
fn is(responder: Value<'_>, certificate: &X509Certificate<'_>) -> Result<bool, String> {
    match responder.tag {
        tag if tag == WITHIN[1] => Ok(responder.content == certificate.subject().as_raw()),
        tag if tag == WITHIN[2] => Ok(content(responder.content, OCTETS)? == key_hash(certificate)),
        tag => Err(format!("a responder that is none: {tag:#x}")),
    }
}

/// The `BasicOCSPResponse` in an `OCSPResponse`.
fn basic(answer: &[u8]) -> Result<&[u8], String> {
    let mut answer = Reader(content(answer, SEQUENCE)?);
    match answer.take(ENUMERATED)? {
        [0] => {}
        [1] => return Err("the responder finds the question malformed".to_owned()),
        [2] => return Err("the responder has an error of its own".to_owned()),
        [3] => return Err("the responder is busy".to_owned()),
        [6] => return Err("the responder does not answer for this certificate".to_owned()),
        status => return Err(format!("the responder answers with status {}", hex::encode(status))),
    }
    let mut bytes = Reader(content(answer.take(WITHIN[0])?, SEQUENCE)?);
    match bytes.take(0x06)? {
        BASIC => bytes.take(OCTETS),
        kind => Err(format!("an answer of another kind: {}", hex::encode(kind))),
    }
}

/// What certificates and answers have in common: a body, by which algorithm it is signed, the signature.
struct Signed<'a> {
    body: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(der: &'a [u8]) -> Result<Self, String> {
        let mut parts = Reader(content(der, SEQUENCE)?);
        let body = parts.one()?.raw;
        let algorithm = parts.take(SEQUENCE)?;
        let signature = bits(parts.take(BITS)?)?;
        let certificates = parts.maybe(WITHIN[0])?.map(|all| content(all, SEQUENCE)).transpose()?;
        Ok(Self { body, algorithm, signature, certificates: certificates.unwrap_or_default() })
    }

    /// By the algorithms that TLS here takes: SHA-1 is not among them.
    fn verify(&self, key: &[u8]) -> Result<(), String> {
        let mut key = Reader(content(key, SEQUENCE)?);
        let (kind, key) = (key.take(SEQUENCE)?, bits(key.take(BITS)?)?);
        let all = default_provider().signature_verification_algorithms.all;
        let mut fit = all.iter().filter(|one| {
            one.signature_alg_id().as_ref() == self.algorithm && one.public_key_alg_id().as_ref() == kind
        });
        match fit.any(|one| one.verify_signature(key, self.body, self.signature).is_ok()) {
            true => Ok(()),
            false => Err("its signature is wrong, or of a kind that is not taken".to_owned()),
        }
    }
}

/// The values of a sequence, one after the other.
struct Reader<'a>(&'a [u8]);

#[derive(Clone, Copy)]
struct Value<'a> {
    tag: u8,
    raw: &'a [u8],
    content: &'a [u8],
}

impl<'a> Reader<'a> {
    fn one(&mut self) -> Result<Value<'a>, String> {
        let (rest, any) = Any::from_der(self.0).map_err(words)?;
        let (raw, _) = self.0.split_at(self.0.len() - rest.len());
        self.0 = rest;
        Ok(Value { tag: raw.first().copied().unwrap_or_default(), raw, content: any.data })
    }

    fn take(&mut self, tag: u8) -> Result<&'a [u8], String> {
        match self.one()? {
            value if value.tag == tag => Ok(value.content),
            value => Err(format!("{:#x} where {tag:#x} belongs", value.tag)),
        }
    }

    /// What need not be there.
    fn maybe(&mut self, tag: u8) -> Result<Option<&'a [u8]>, String> {
        match self.0.first() {
            Some(first) if *first == tag => self.take(tag).map(Some),
            _ => Ok(None),
        }
    }
}

/// Of one value, with nothing after it.
fn content(der: &[u8], tag: u8) -> Result<&[u8], String> {
    let mut reader = Reader(der);
    let content = reader.take(tag)?;
    match reader.0.is_empty() {
        true => Ok(content),
        false => Err("more than belongs there".to_owned()),
    }
}

/// Whole bytes only.
fn bits(content: &[u8]) -> Result<&[u8], String> {
    match content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err("bits that are no bytes".to_owned()),
    }
}

fn moment(value: Value<'_>) -> Result<Timestamp, String> {
    let (_, read) = ASN1Time::from_der(value.raw).map_err(words)?;
    Ok(time(read))
}

fn time(time: ASN1Time) -> Timestamp {
    Timestamp(time.timestamp().saturating_mul(1000))
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    parse_x509_certificate(der).map(|(_, parsed)| parsed).map_err(words)
}

fn key_hash(certificate: &X509Certificate<'_>) -> Vec<u8> {
    sha1(&certificate.public_key().subject_public_key.data)
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// One value of these parts, which are short.
fn der(tag: u8, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
    let content = parts.concat();
    let short = u8::try_from(content.len()).ok().filter(|length| *length < 0x80);
    let length = short.ok_or("its serial number is longer than serial numbers are")?;
    Ok([&[tag, length], &*content].concat())
}

fn words(error: impl Display) -> String {
    error.to_string()
}

pub mod bench;
#[cfg(test)]
mod tests;
