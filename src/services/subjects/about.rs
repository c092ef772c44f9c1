//! What the appliance itself keeps of someone beside their documents, and what is told of it: never a secret, and of
//! other people nothing.

use super::Subject;
use crate::{
    domain::path::{elements, field},
    services::{
        identities::LINKS,
        invitations::INVITATIONS,
        keys::KEYS,
        memberships::MEMBERSHIPS,
        mfa::FACTORS,
        recovery::{OUTBOX, RECOVERIES},
        sessions::SESSIONS,
        verification::VERIFICATIONS,
    },
};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf, cstr, rawdoc};

/// One of its collections.
pub struct Part {
    /// How its lines are called.
    pub kind: &'static str,
    pub collection: &'static str,
    /// The fields that may name the person.
    names: &'static [&'static str],
    told: &'static [&'static str],
}

pub static PARTS: [Part; 9] = [
    Part {
        kind: "session",
        collection: SESSIONS,
        names: &["identity"],
        told: &["_id", "device", "network", "methods", "opened", "used", "proven", "expires", "ended"],
    },
    Part { kind: "factor", collection: FACTORS, names: &["_id"], told: &[] },
    Part {
        kind: "key",
        collection: KEYS,
        names: &["identity"],
        told: &["_id", "name", "public", "restriction", "created", "createdBy", "expires", "lastUsed", "revoked"],
    },
    Part { kind: "link", collection: LINKS, names: &["identity"], told: &["issuer", "subject", "_createdAt"] },
    Part {
        kind: "membership",
        collection: MEMBERSHIPS,
        names: &["person", "organization"],
        told: &["_id", "person", "organization", "role", "status", "since", "by", "ended", "endedBy"],
    },
    Part {
        kind: "invitation",
        collection: INVITATIONS,
        names: &["person", "email", "by", "acceptedBy", "organization"],
        told: &[
            "_id",
            "organization",
            "role",
            "email",
            "person",
            "status",
            "expires",
            "by",
            "acceptedBy",
            "_createdAt",
        ],
    },
    Part { kind: "recovery", collection: RECOVERIES, names: &["_id"], told: &["made", "expires"] },
    Part { kind: "recovery", collection: OUTBOX, names: &["email"], told: &["email", "asked", "attempts"] },
    Part {
        kind: "verification",
        collection: VERIFICATIONS,
        names: &["identity", "email"],
        told: &["email", "asked", "expires", "attempts"],
    },
];

/// Fields that name people: told where they name this one.
const PEOPLE: [&str; 7] = ["identity", "person", "email", "by", "endedBy", "acceptedBy", "createdBy"];
/// Numbers that are times.
const TIMES: [&str; 11] =
    ["opened", "used", "proven", "expires", "created", "lastUsed", "since", "made", "asked", "at", "last"];

impl Part {
    /// What is told of one of its documents.
    pub fn tell(&self, document: &RawDocument, subject: &Subject) -> Vec<RawDocumentBuf> {
        if !self.names.iter().any(|name| names(document, name, subject)) {
            return Vec::new();
        }
        match self.collection {
            FACTORS => factors(document),
            KEYS => {
                let kind = if field(document, "public").is_some() { "machine" } else { "api" };
                let mut key = rawdoc! { "kind": kind };
                append(&mut key, document, subject, self.told);
                vec![key]
            }
            _ => vec![told(document, subject, self.told)],
        }
    }
}

/// The fields of a document that are told.
pub fn told(document: &RawDocument, subject: &Subject, fields: &[&str]) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    append(&mut out, document, subject, fields);
    out
}

fn append(out: &mut RawDocumentBuf, document: &RawDocument, subject: &Subject, fields: &[&str]) {
    for (name, value) in document.iter().map_while(Result::ok) {
        let other = PEOPLE.contains(&name.as_str()) && !names(document, name.as_str(), subject);
        // Nothing named: all of it, within what was named.
        if other || !(fields.is_empty() || fields.contains(&name.as_str())) {
            continue;
        }
        match value {
            RawBsonRef::Int64(time) if TIMES.contains(&name.as_str()) => out.append(name, DateTime::from_millis(time)),
            RawBsonRef::Document(inner) => out.append(name, told(inner, subject, &[])),
            other => out.append(name, other),
        }
    }
}

fn names(document: &RawDocument, name: &str, subject: &Subject) -> bool {
    let email = subject.identity.as_ref().and_then(|identity| identity.email.as_deref());
    let own = if name == "email" { email } else { Some(subject.id.as_str()) };
    own.is_some() && field(document, name).and_then(RawBsonRef::as_str) == own
}

/// The second factors, one by one: what they are called, since when, when last.
fn factors(document: &RawDocument) -> Vec<RawDocumentBuf> {
    let time = |from: &RawDocument, name: &str| match field(from, name) {
        Some(RawBsonRef::Int64(time)) => Some(DateTime::from_millis(time)),
        _ => None,
    };
    let mut all = Vec::new();
    if let Some(RawBsonRef::Document(totp)) = field(document, "totp") {
        let mut factor = rawdoc! { "kind": "totp" };
        time(totp, "since").into_iter().for_each(|since| factor.append(cstr!("created"), since));
        all.push(factor);
    }
    let list = |name: &str| field(document, name).and_then(RawBsonRef::as_array).into_iter().flat_map(elements);
    for passkey in list("passkeys").filter_map(RawBsonRef::as_document) {
        let name = field(passkey, "name").and_then(RawBsonRef::as_str).unwrap_or_default();
        let mut factor = rawdoc! { "kind": "passkey", "name": name };
        time(passkey, "created").into_iter().for_each(|created| factor.append(cstr!("created"), created));
        time(passkey, "used").into_iter().for_each(|used| factor.append(cstr!("lastUsed"), used));
        all.push(factor);
    }
    let left = list("recovery").count();
    if left > 0 {
        all.push(rawdoc! { "kind": "recovery", "left": i64::try_from(left).unwrap_or(i64::MAX) });
    }
    all
}
