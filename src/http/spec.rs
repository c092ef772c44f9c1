//! The API's own description: every operation, as OpenAPI.

use super::{auth, backups, collections, documents, identities, lines, meta, policies, subjects};
use poem::http::Method;
use poem_openapi::{OpenApi, OpenApiService, Tags};

type Apis = (
    meta::Routes,
    auth::Routes,
    collections::Routes,
    documents::Routes,
    lines::Routes,
    identities::Routes,
    backups::Routes,
    policies::Routes,
    subjects::Routes,
);
pub type Service = OpenApiService<Apis, ()>;

#[derive(Tags)]
pub enum Tag {
    /// Which API this is
    Meta,
    /// Proof of who calls
    Authentication,
    /// Collections: schema, indexes, classes
    Collections,
    /// Documents: one by one, by query, by the batch, by the line
    Documents,
    /// Who may do what, and why
    Access,
    /// For operators
    Administration,
}

pub fn service() -> Service {
    let apis = (
        meta::Routes,
        auth::Routes,
        collections::Routes,
        documents::Routes,
        lines::Routes,
        identities::Routes,
        backups::Routes,
        policies::Routes,
        subjects::Routes,
    );
    OpenApiService::new(apis, "Débrouille Appliance", "v1").server("/")
}

/// The OpenAPI document, as JSON.
pub fn openapi() -> String {
    service().spec()
}

/// Every path with its methods.
pub fn operations() -> Vec<(String, Vec<Method>)> {
    let paths = Apis::meta().into_iter().flat_map(|api| api.paths);
    let mut operations: Vec<(String, Vec<Method>)> = Vec::new();
    for path in paths {
        let methods = path.operations.iter().map(|operation| operation.method.clone());
        match operations.iter_mut().find(|(known, _)| *known == path.path) {
            Some((_, known)) => known.extend(methods),
            None => operations.push((path.path, methods.collect())),
        }
    }
    operations
}
