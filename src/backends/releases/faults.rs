//! What tough refuses, in words for people: which rule was broken, by which part of the metadata.

use crate::{base::fault::Fault, ports::Error};
use std::error::Error as _;
use tough::{
    TransportErrorKind,
    error::Error as Refused,
    schema::{Error as Detail, RoleType},
};

/// `place`: for people; `now`: what the machine's clock says, for people too.
pub fn told(refused: Refused, place: &str, now: &str) -> Error {
    let fault = |key| Fault::new(key).with("place", place);
    Error::Rejected(match refused {
        Refused::Transport { source, .. } => return transport(&source, place),
        Refused::VerifyMetadata { role, source: Detail::SignatureThreshold { threshold, valid, .. }, .. } => {
            fault("updates.unsigned").with("role", role).with("valid", valid).with("threshold", threshold)
        }
        Refused::VerifyTrustedMetadata { source, .. } => fault("updates.root_unfit").with("why", source),
        Refused::ParseTrustedMetadata { source, .. } => fault("updates.root_unfit").with("why", source),
        Refused::OlderMetadata { role, .. } => fault("updates.older").with("role", role),
        Refused::OlderSnapshotInTimestamp { .. } => fault("updates.older").with("role", RoleType::Snapshot),
        Refused::SnapshotRoleRollback { .. } | Refused::SnapshotRoleMissing { .. } => {
            fault("updates.older").with("role", RoleType::Targets)
        }
        Refused::ExpiredMetadata { role, .. } => fault("updates.expired").with("role", role).with("now", now),
        Refused::SystemTimeSteppedBackward { sys_time, latest_known_time, .. } => {
            fault("updates.clock_back").with("now", second(&sys_time)).with("seen", second(&latest_known_time))
        }
        Refused::VersionMismatch { role, .. } => fault("updates.mixed").with("file", format!("{role}.json")),
        Refused::DatastoreCreate { source, .. }
        | Refused::DatastoreOpen { source, .. }
        | Refused::DatastoreRemove { source, .. } => return source.into(),
        other => fault("updates.malformed").with("why", other),
    })
}

fn transport(error: &tough::TransportError, place: &str) -> Error {
    let file = error.url().rsplit('/').next().unwrap_or_default();
    let fault = |key| Fault::new(key).with("place", place).with("file", file);
    Error::Rejected(match error.source().and_then(|cause| cause.downcast_ref::<Refused>()) {
        Some(Refused::MaxSizeExceeded { max_size, .. }) => fault("updates.too_long").with("bytes", max_size),
        Some(Refused::HashMismatch { .. }) => fault("updates.mixed"),
        _ if error.kind() == TransportErrorKind::FileNotFound => match file {
            "timestamp.json" => return Error::OutOfReach(fault("updates.no_repository")),
            _ => fault("updates.missing"),
        },
        _ => fault("updates.malformed").with("why", error),
    })
}

fn second(time: &impl ToString) -> String {
    let text = time.to_string();
    format!("{}Z", text.split(['.', 'Z']).next().unwrap_or_default())
}
