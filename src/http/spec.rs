//! The API's own description: every operation, as OpenAPI.

use super::{
    alerts, audit, auth, backups, certificates, collections, documents, drills, identities, invitations, keys, lines,
    logs, machines, memberships, meta, mfa, migrations, oidc, organizations, passkeys, policies, recovery, secrets,
    status, subjects, trust, updates, verification,
};
use poem::http::Method;
use poem_openapi::{OpenApi, OpenApiService, Tags};

/// A group holds sixteen at most.
type Proofs = (
    meta::Routes,
    auth::Routes,
    mfa::Routes,
    passkeys::Routes,
    keys::Routes,
    machines::Routes,
    recovery::Routes,
    verification::Routes,
    oidc::Routes,
);
type Content = (collections::Routes, documents::Routes, lines::Routes);
type People = (
    identities::Routes,
    identities::People,
    identities::Own,
    identities::Registering,
    identities::Importing,
    organizations::Routes,
    memberships::Routes,
    invitations::Routes,
);
type Keeping = (
    policies::Routes,
    trust::Routes,
    audit::Routes,
    backups::Routes,
    drills::Routes,
    subjects::Routes,
    secrets::Routes,
    migrations::Routes,
    certificates::Routes,
    alerts::Routes,
    status::Routes,
    logs::Routes,
    updates::Routes,
);
type Apis = (Proofs, Content, People, Keeping);
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
    /// People and organizations, who belongs where, invitations
    Identity,
    /// For operators
    Administration,
    /// Who did what: entries, checkpoints, proofs
    Audit,
}

pub fn service() -> Service {
    let proofs = (
        meta::Routes,
        auth::Routes,
        mfa::Routes,
        passkeys::Routes,
        keys::Routes,
        machines::Routes,
        recovery::Routes,
        verification::Routes,
        oidc::Routes,
    );
    let content = (collections::Routes, documents::Routes, lines::Routes);
    let people = (
        identities::Routes,
        identities::People,
        identities::Own,
        identities::Registering,
        identities::Importing,
        organizations::Routes,
        memberships::Routes,
        invitations::Routes,
    );
    let keeping = (
        policies::Routes,
        trust::Routes,
        audit::Routes,
        backups::Routes,
        drills::Routes,
        subjects::Routes,
        secrets::Routes,
        migrations::Routes,
        certificates::Routes,
        alerts::Routes,
        status::Routes,
        logs::Routes,
        updates::Routes,
    );
    let apis = (proofs, content, people, keeping);
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
