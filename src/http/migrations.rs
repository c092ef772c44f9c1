//! The routes of migrations: what was applied here, and copies on which the next release rehearses. It asks them of this
//! one, so what they answer stays.

use super::{conditions, envelope::Answer, proof::By, spec::Tag};
use crate::services::{
    Result,
    migrations::{Copied, Held},
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Serialize;

pub struct Routes;

#[derive(Serialize, Object)]
struct Applied {
    number: u32,
    name: String,
    /// Of its declaration
    digest: String,
    /// The release that applied it
    release: String,
    /// `applied`; `up` or `down` while it is under way
    stage: String,
    /// RFC 3339
    at: String,
    /// Documents it changed
    documents: u64,
}

/// A copy of everything stored, sealed with the same keys
#[derive(Serialize, Object)]
struct DataCopy {
    id: String,
    folder: String,
    sequence: u64,
    documents: u64,
}

#[derive(Serialize, Object)]
struct GoneCopy {
    id: String,
}

#[OpenApi(prefix_path = "/api/v1/admin/migrations", tag = "Tag::Administration")]
impl Routes {
    /// The migrations this data has been through
    #[oai(path = "/", method = "get", operation_id = "listMigrations")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Applied>>> {
        let state = &by.exchange.state;
        let applied: Vec<_> = state.snapshots.applied(&by.caller).await?.into_iter().map(Applied::of).collect();
        Answer::value(&by.exchange, &applied)
    }

    /// Copy everything stored into a folder beside it, while writes go on
    #[oai(path = "/copies", method = "post", operation_id = "copyData")]
    async fn copy(&self, by: By, request: &Request) -> Result<Answer<DataCopy, 201>> {
        conditions::no_attempt(request)?;
        let Copied { id, folder, sequence, documents } = by.exchange.state.snapshots.create(&by.caller).await?;
        let folder = folder.display().to_string();
        Answer::value(&by.exchange, &DataCopy { id, folder, sequence: sequence.0, documents })
    }

    /// Remove such a copy
    #[oai(path = "/copies/:id", method = "delete", operation_id = "removeDataCopy")]
    async fn remove(&self, by: By, id: Path<String>) -> Result<Answer<GoneCopy>> {
        by.exchange.state.snapshots.remove(&by.caller, &id).await?;
        Answer::value(&by.exchange, &GoneCopy { id: id.0 })
    }
}

impl Applied {
    fn of(held: Held) -> Self {
        let Held { number, name, digest, release, stage, at, documents, .. } = held;
        Self { number, name, digest, release, stage: stage.name().to_owned(), at, documents }
    }
}
