//! The routes of citizens' rights: what is held about someone told, handed over or destroyed.

use super::{
    body::Sent,
    conditions,
    envelope::Answer,
    lines::{Exported, download, ndjson},
    proof::By,
    spec::Tag,
};
use crate::services::{
    Result,
    subjects::{Erasing, Holding, Subject, Summary, Traces},
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Erasure {
    /// Documents about the person alone, and those it owns that are about nobody, are deleted whole
    #[serde(rename = "deleteOwned", default)]
    #[oai(rename = "deleteOwned")]
    delete_owned: bool,
}

/// Someone documents are about.
#[derive(Serialize, Object)]
struct KnownSubject {
    subject: String,
    /// When the subject is an identity of the instance
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    holdings: Vec<SubjectHolding>,
    /// What an erasure removes of the appliance's own collections, or, of memberships, ends
    traces: BTreeMap<String, u64>,
}

/// What a collection holds of someone.
#[derive(Serialize, Object)]
struct SubjectHolding {
    collection: String,
    /// Those that name it as their subject, alone or among others
    about: u64,
    /// Those it owns that do not name it so
    owned: u64,
    /// Fields kept sealed
    sealed: Vec<String>,
}

/// A certificate and its signature.
#[derive(Serialize, Object)]
struct Certificate {
    id: String,
    #[oai(skip)]
    certificate: Value,
    /// `{algorithm, key, value}`
    #[oai(skip)]
    signature: Value,
}

#[OpenApi(prefix_path = "/api/v1/admin", tag = "Tag::Administration")]
impl Routes {
    /// What is held about someone; `who` is an id or an email
    #[oai(path = "/subjects/:who", method = "get", operation_id = "describeSubject")]
    async fn describe(&self, by: By, who: Path<String>) -> Result<Answer<KnownSubject>> {
        let (subject, holdings, traces) = by.exchange.state.subjects.describe(&by.caller, &who).await?;
        Answer::value(&by.exchange, &KnownSubject::of(subject, holdings, traces))
    }

    /// Everything about someone as it stands at one moment, its last line a signature over the others
    #[oai(path = "/subjects/:who/export", method = "get", operation_id = "exportSubject")]
    async fn export(&self, by: By, who: Path<String>) -> Result<Exported> {
        let lines = by.exchange.state.subjects.export(&by.caller, &who).await?;
        Ok(Exported(ndjson(download(by, lines))))
    }

    /// Forget someone: deactivate, pseudonymise, destroy the key of the sealed fields; answers a certificate
    #[oai(path = "/subjects/:who/erase", method = "post", operation_id = "eraseSubject")]
    async fn erase(
        &self,
        by: By,
        who: Path<String>,
        sent: Sent<Erasure>,
        request: &Request,
    ) -> Result<Answer<Certificate, 201>> {
        conditions::no_attempt(request)?;
        let Erasure { delete_owned } = sent.read()?;
        let erased = by.exchange.state.subjects.erase(&by.caller, &who, Erasing { delete_owned }).await?;
        Answer::value(&by.exchange, &Certificate::from(erased))
    }

    /// List the certificates of erasures, oldest first
    #[oai(path = "/erasures", method = "get", operation_id = "listErasures")]
    async fn certificates(&self, by: By) -> Result<Answer<Vec<Certificate>>> {
        let all = by.exchange.state.subjects.certificates(&by.caller).await?;
        Answer::value(&by.exchange, &all.into_iter().map(Certificate::from).collect::<Vec<_>>())
    }

    /// The certificate of an erasure
    #[oai(path = "/erasures/:id", method = "get", operation_id = "readErasure")]
    async fn certificate(&self, by: By, id: Path<String>) -> Result<Answer<Certificate>> {
        let found = by.exchange.state.subjects.certificate(&by.caller, &id).await?;
        Answer::value(&by.exchange, &Certificate::from(found))
    }
}

impl KnownSubject {
    fn of(subject: Subject, holdings: Vec<Holding>, traces: Traces) -> Self {
        let held = |Holding { collection, about, owned, sealed }| SubjectHolding { collection, about, owned, sealed };
        let email = subject.identity.and_then(|identity| identity.email);
        Self { subject: subject.id, email, holdings: holdings.into_iter().map(held).collect(), traces }
    }
}

impl From<Summary> for Certificate {
    fn from(Summary { id, signed }: Summary) -> Self {
        let signature = serde_json::to_value(signed.signature).unwrap_or_default();
        Self { id, certificate: signed.certificate, signature }
    }
}
