//! What a record of the journal tells the audit log: an event that was put there, a document that changed, or nothing.

use super::{
    CHECKPOINTS, ENTRIES, PENDING, TILES,
    entry::{Entry, Outcome},
    event::grounds,
    pseudonyms::Pseudonyms,
    unsound,
};
use crate::{
    ports::documents::{Action, RECEIPTS, Record},
    services::{
        Result,
        backups::BACKUPS,
        certificates::ORDERS,
        identities::IDENTITIES,
        machines::ASSERTIONS,
        migrations::MIGRATIONS,
        recovery::{OUTBOX, RECOVERIES},
        sessions::{REFRESHES, SESSIONS},
        subjects::CERTIFICATES,
        trust::TRUST,
        verification::VERIFICATIONS,
    },
};

/// Collections whose changes tell nothing of their own: what matters of them comes as an event.
const SILENT: [&str; 15] = [
    SESSIONS,
    REFRESHES,
    RECEIPTS,
    ENTRIES,
    TILES,
    CHECKPOINTS,
    TRUST,
    BACKUPS,
    ASSERTIONS,
    OUTBOX,
    RECOVERIES,
    CERTIFICATES,
    VERIFICATIONS,
    ORDERS,
    MIGRATIONS,
];

/// `None`: nothing.
pub fn entry(record: &Record, pseudonyms: &Pseudonyms) -> Result<Option<Entry>> {
    if SILENT.contains(&record.collection.as_str()) {
        return Ok(None);
    }
    let entry = if record.collection == PENDING {
        match (record.action, &record.after) {
            (Action::Create, Some(event)) => Some(event),
            _ => None,
        }
        .map(|event| {
            let text = event.get_str("entry").map_err(unsound)?;
            Entry::parse(text).ok_or_else(|| unsound("an event is unreadable"))
        })
        .transpose()?
    } else {
        Some(change(record, pseudonyms))
    };
    Ok(entry.map(|entry| Entry { time: record.time.rfc3339(), ..entry }))
}

fn change(record: &Record, pseudonyms: &Pseudonyms) -> Entry {
    let Record { collection, id, origin, .. } = record;
    let verb = match record.action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    };
    let noun = collection.strip_prefix("system.").unwrap_or("documents");
    let image =
        |image: &Option<bson::RawDocumentBuf>| image.as_ref().map(|image| pseudonyms.image(collection, id, image));
    Entry {
        who: pseudonyms.actor(&origin.actor),
        subject: (collection == IDENTITIES).then(|| pseudonyms.actor(id)),
        object: Some(pseudonyms.document(collection, id)),
        revision: Some(record.revision),
        why: grounds(&origin.grounds),
        before: image(&record.before),
        after: image(&record.after),
        request: origin.request.clone(),
        trace: origin.trace.clone(),
        ..Entry::new(format!("{noun}.{verb}"), Outcome::Allowed)
    }
}
