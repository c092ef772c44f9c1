//! What a restore says of itself: the point, the files, what is in them and what is not.

use crate::{
    base::{fault::Fault, messages::text},
    cli::{context::Context, failure::Failure, output},
    server::restore::{CONFIGURATION, Restored},
    services::backups::restore::{Anchor, Plan},
};
use serde_json::{Value, json};
use std::path::Path;

/// Loading takes about so many tenths of what reading alone takes: 2.2 to 2.7 times, of half a million documents and of
/// five million.
const LOADING: u64 = 25;

fn document(into: &Path, restored: &Restored) -> Value {
    let Restored { stamp, plan, tally, unvouched, subjects, configuration, .. } = restored;
    let point = plan.point;
    json!({
        "backup": plan.last().header.id(),
        "name": plan.last().name,
        "instance": stamp.id,
        "lineage": stamp.lineage,
        "documents": tally.documents(),
        "collections": tally.collections,
        "records": tally.records,
        "point": {
            "lineage": point.lineage,
            "sequence": point.sequence.0,
            "time": point.time.rfc3339(),
            "transaction": point.transaction.map(|transaction| transaction.0),
        },
        "files": plan.files().map(|link| json!({ "name": link.name, "bytes": link.bytes })).collect::<Vec<_>>(),
        "bytes": plan.bytes(),
        "changes": plan.changes(),
        "beyond": plan.beyond.map(|beyond| json!({
            "lineage": beyond.lineage,
            "sequence": beyond.sequence.0,
            "until": beyond.time.rfc3339(),
        })),
        "older": plan.older.is_some(),
        "signer": plan.signer(),
        "signerVouched": !unvouched,
        "subjects": subjects.as_ref().map(|subjects| &subjects.name),
        "subjectKeys": subjects.as_ref().map(|subjects| subjects.keys),
        "configuration": configuration,
        "into": into,
    })
}

/// What was asked, as far as words need it.
pub struct Said<'s> {
    pub into: &'s Path,
    /// The newest backup a living instance tells of.
    pub anchor: Option<Anchor>,
    /// To something older than the newest known.
    pub consented: bool,
    pub dry: bool,
}

fn notes(context: &Context, document: &mut Value, said: &Said<'_>, restored: &Restored) {
    let Restored { stamp, plan, subjects, unvouched, configuration, .. } = restored;
    let mut notes: Vec<Fault> = plan.notes.clone();
    if let Some(beyond) = plan.beyond {
        let lost = Fault::new("cli.restore.beyond").with("sequence", beyond.sequence.0).with("lineage", beyond.lineage);
        notes.push(lost.with("until", beyond.time.rfc3339()));
    }
    let signed = if *unvouched { "cli.restore.unvouched" } else { "cli.restore.signed" };
    notes.push(Fault::new(signed).with("signer", plan.signer()));
    match subjects {
        Some(subjects) => {
            notes.extend(subjects.notes.clone());
            notes.push(Fault::new("cli.restore.subjects").with("name", &subjects.name).with("keys", subjects.keys));
        }
        None => notes.push(Fault::new("cli.restore.no_subjects")),
    }
    if said.anchor.is_none() {
        notes.push(Fault::new("cli.restore.no_anchor"));
    }
    // A copy of some collections does without.
    if stamp.copy.is_none() {
        let key = match (*configuration, said.dry) {
            (true, false) => "cli.restore.configuration",
            (true, true) => "cli.restore.configuration_would",
            (false, _) => "cli.restore.no_configuration",
        };
        notes.push(Fault::new(key).at(said.into.join(CONFIGURATION).display().to_string()));
    }
    notes.iter().for_each(|note| context.say(note));
    document["notes"] = notes.iter().map(|note| context.words(note)).collect();
}

/// The point and what it is made of.
fn point(plan: &Plan) -> Fault {
    Fault::new("cli.restore.point")
        .with("sequence", plan.point.sequence.0)
        .with("time", plan.point.time.rfc3339())
        .with("transaction", plan.point.transaction.map_or_else(|| "–".to_owned(), |first| first.0.to_string()))
        .with("lineage", plan.point.lineage)
        .with("files", 1 + plan.segments.len())
        .with("size", output::bytes(plan.bytes()))
        .with("changes", plan.changes())
}

pub fn dry_run(context: &Context, said: &Said<'_>, restored: &Restored) -> Result<(), Failure> {
    let plan = &restored.plan;
    let mut document = document(said.into, restored);
    notes(context, &mut document, said, restored);
    if let Some(older) = &plan.older {
        context.say(older);
    }
    let times = restored.times;
    let seconds = (times.proving + LOADING * times.loading / 10).div_ceil(1000);
    let rate = plan.bytes() * 1000 / times.proving.max(1);
    document["restored"] = false.into();
    document["anchor"] = said.anchor.as_ref().map_or(Value::Null, |anchor| {
        json!({
            "backup": anchor.backup,
            "sequence": anchor.sequence.0,
        })
    });
    document["expectedSeconds"] = seconds.into();
    document["bytesPerSecond"] = rate.into();
    context.answer(&document, || {
        let header =
            ["cli.restore.collection", "cli.restore.documents"].map(|key| text(context.language, key).to_owned());
        let rows: Vec<_> =
            restored.tally.collections.iter().map(|(name, count)| [name.clone(), count.to_string()]).collect();
        let refused = plan.older.is_some() && !said.consented;
        let would = Fault::new(if refused { "cli.restore.would_not" } else { "cli.restore.would" })
            .at(said.into.display().to_string())
            .with("documents", restored.tally.documents())
            .with("lineage", restored.stamp.lineage)
            .with("seconds", seconds)
            .with("rate", output::bytes(rate));
        format!("{}\n{}{}", context.words(&point(plan)), output::table(header, &rows), context.words(&would))
    })
}

/// `before`: with --swap, where the old directory is.
pub fn done(
    context: &Context,
    said: &Said<'_>,
    restored: &Restored,
    before: Option<Option<&Path>>,
) -> Result<(), Failure> {
    let mut document = document(said.into, restored);
    notes(context, &mut document, said, restored);
    context.say(&point(&restored.plan));
    let shown = said.into.display().to_string();
    document["restored"] = true.into();
    let key = match (before, &restored.stamp.copy) {
        (Some(_), _) => "cli.restore.swapped",
        (None, Some(_)) => "cli.restore.partial",
        (None, None) => "cli.restore.done",
    };
    let before = before.flatten().map(|before| before.display().to_string());
    if let Some(before) = &before {
        document["before"] = before.as_str().into();
    }
    let done = Fault::new(key)
        .at(shown)
        .with("documents", restored.tally.documents())
        .with("lineage", restored.stamp.lineage)
        .with("before", before.unwrap_or_else(|| "–".to_owned()));
    context.done(&document, &done)
}

/// An earlier run had done all but the end of a swap.
pub fn settled(context: &Context, into: &Path, before: Option<&Path>) -> Result<(), Failure> {
    let before = before.map(|before| before.display().to_string());
    let document = json!({ "restored": true, "into": into, "before": before });
    let done = Fault::new("cli.restore.settled").at(into.display().to_string());
    context.done(&document, &done.with("before", before.unwrap_or_else(|| "–".to_owned())))
}
