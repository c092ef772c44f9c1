//! The routes of policies, and of the question why.

use super::{
    body::Sent,
    conditions,
    envelope::{Also, Answer, Free},
    proof::By,
    spec::Tag,
};
use crate::{
    base::messages::{Language, render},
    services::{
        Result,
        policies::{Asked, Explained, Kept, Whom},
    },
};
use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use poem::{Request, http::StatusCode};
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Serialize;

pub struct Routes;

/// Who may do what, to which documents and fields of them.
#[derive(Object)]
struct Policy {
    /// A collection, or `*` for every one; or else a module
    collection: Option<String>,
    module: Option<String>,
    /// `VIEW`, `CREATE`, `UPDATE`, `DELETE`, `MANAGE`: one, or a list
    action: Vec<String>,
    /// `identity` (everyone), `admin`, `operator`, `auditor`, or in an organization `OWNER`, `ADMIN`, `STAFF`, `MEMBER`
    roles: Vec<String>,
    /// A filter, with `$identity.id`, `$identity.organizations`, `$now`
    r#where: Option<Free>,
    /// `{read: [...], write: [...]}`: the fields opened, or with `-` the fields kept shut
    fields: Option<Free>,
    /// 0 to 100
    min_trust: Option<u8>,
    environments: Option<Vec<String>>,
    description: Option<String>,
}

/// A request to be judged.
#[derive(Object)]
struct Question {
    /// Who asks; the caller when absent
    identity: Option<String>,
    /// Someone supposed: `{id?, roles?, memberships?, trust?}`
    r#as: Option<Free>,
    action: String,
    collection: Option<String>,
    module: Option<String>,
    /// A stored document
    id: Option<String>,
    /// A document that need not exist
    document: Option<Free>,
    /// Of an update, the state it starts from
    before: Option<Free>,
    /// Policies supposed, with their `name`: in `test` alone
    policies: Option<Vec<Free>>,
    /// Names of policies supposed gone: in `test` alone
    without: Option<Vec<String>>,
}

/// A document, and what might be done to it.
#[derive(Object)]
struct Whose {
    collection: String,
    id: String,
    /// `VIEW` when absent, `UPDATE`, `DELETE`
    action: Option<String>,
    /// RFC 3339: who might then, as far back as the journal reaches; now when absent
    at: Option<String>,
    /// People of the page: 100 when absent, 1,000 at most
    limit: Option<u32>,
    /// `meta.page.next` of the page before
    cursor: Option<String>,
}

#[derive(Serialize, Object)]
struct Removed {
    name: String,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Access")]
impl Routes {
    /// List the policies
    #[oai(path = "/policies", method = "get", operation_id = "listPolicies")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Free>>> {
        let all = by.exchange.state.policies.list(&by.caller).await?;
        Answer::list(&by.exchange, &all.into_iter().map(|kept| kept.document).collect::<Vec<_>>())
    }

    /// Read a policy
    #[oai(path = "/policies/:name", method = "get", operation_id = "getPolicy")]
    async fn get(&self, by: By, name: Path<String>) -> Result<Answer<Free>> {
        let kept = by.exchange.state.policies.get(&by.caller, &name).await?;
        answer(&by, &kept)
    }

    /// Make or replace a policy: in force once answered
    #[oai(path = "/policies/:name", method = "put", operation_id = "putPolicy")]
    async fn put(&self, by: By, name: Path<String>, sent: Sent<Policy>, request: &Request) -> Result<Also<Free, 201>> {
        let expect = conditions::expected_or_new(request.headers())?;
        let (kept, made) = by.exchange.state.policies.put(&by.caller, &name, sent.data()?, &expect).await?;
        let answer = answer(&by, &kept)?;
        Ok(Also(if made { answer.status(StatusCode::CREATED) } else { answer }))
    }

    /// Remove a policy: what it alone allowed is no longer allowed once answered
    #[oai(path = "/policies/:name", method = "delete", operation_id = "deletePolicy")]
    async fn delete(&self, by: By, name: Path<String>, request: &Request) -> Result<Answer<Removed>> {
        let revision = conditions::expected_one(request.headers())?;
        by.exchange.state.policies.delete(&by.caller, &name, revision).await?;
        Answer::value(&by.exchange, &Removed { name: name.0 })
    }

    /// What would be decided under other policies, before they apply
    #[oai(path = "/policies/test", method = "post", operation_id = "testPolicies")]
    async fn test(&self, by: By, sent: Sent<Question>) -> Result<Answer<Free>> {
        let asked = Asked::read(sent.data()?)?;
        let state = &by.exchange.state;
        let explained = state.policies.test(&by.caller, &asked, state.identities.memberships()).await?;
        Answer::document(&by.exchange, &told(&explained, by.exchange.language))
    }

    /// What is decided of a request, and why
    #[oai(path = "/access/explain", method = "post", operation_id = "explainAccess")]
    async fn explain(&self, by: By, sent: Sent<Question>) -> Result<Answer<Free>> {
        let asked = Asked::read(sent.data()?)?;
        let state = &by.exchange.state;
        let explained = state.policies.explain(&by.caller, &asked, state.identities.memberships()).await?;
        Answer::document(&by.exchange, &told(&explained, by.exchange.language))
    }

    /// Who may see a document, or change it, and by which policies; now, or at a past time
    ///
    /// A page looks at 2,000 identities at most: it may hold fewer people than asked for and still have a next one.
    #[oai(path = "/access/who", method = "post", operation_id = "whoMayAccess")]
    async fn who(&self, by: By, sent: Sent<Whose>) -> Result<Answer<Vec<Free>>> {
        let whom = Whom::read(sent.data()?)?;
        let state = &by.exchange.state;
        let found = state.policies.who_may(&by.caller, &whom, state.identities.memberships()).await?;
        Answer::page(&by.exchange, &found)
    }
}

fn answer<const STATUS: u16>(by: &By, kept: &Kept) -> Result<Answer<Free, STATUS>> {
    Ok(Answer::document(&by.exchange, &kept.document)?.revision(kept.revision))
}

/// `{allowed, identity, trust, policies: [{policy, allows, reason?, rule?, where}], document?, barred?}`.
fn told(explained: &Explained, language: Language) -> RawDocumentBuf {
    let mut policies = RawArrayBuf::new();
    for said in &explained.said {
        let mut told = rawdoc! { "policy": said.policy.as_str(), "allows": said.allows };
        if let Some(fault) = &said.reason {
            told.append(cstr!("rule"), fault.key);
            told.append(cstr!("reason"), render(language, fault));
        }
        told.append(cstr!("where"), said.scope.clone());
        policies.push(told);
    }
    let mut told = rawdoc! {
        "allowed": explained.allowed,
        "identity": explained.identity.as_str(),
        "trust": i32::from(explained.trust),
        "policies": policies,
    };
    if let Some(shown) = &explained.shown {
        told.append(cstr!("document"), shown.clone());
    }
    if let Some(barred) = &explained.barred {
        told.append(cstr!("barred"), barred.as_str());
    }
    told
}
