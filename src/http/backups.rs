//! The routes by which operators make, list, check and plan backups.

use super::{body::Sent, conditions, envelope::Answer, error::tell, proof::By, spec::Tag};
use crate::{
    base::{
        clock::Timestamp,
        fault::Fault,
        messages::{Language, render},
        zone::Zone,
    },
    services::{
        Error, Result,
        backups::{self, At, Created, Kind, Listed, Outlook, Pruned, Retained, State, Verified},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Query};
use serde::{Deserialize, Serialize};

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `full` or `segment`
    kind: Option<String>,
    /// The name of a target; every one when absent
    target: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Checked {
    /// An id or a name; the newest when absent
    backup: Option<String>,
    /// The name of a target; the first that has it when absent
    target: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Old {
    /// The name of a target; every one when absent
    target: Option<String>,
    /// Only tell what would go
    dry_run: Option<bool>,
}

/// The first that was made, and what became of every target.
#[derive(Serialize, Object)]
struct Made {
    id: String,
    kind: String,
    /// Where it is at the target
    place: String,
    documents: u64,
    bytes: u64,
    targets: Vec<MadeAt>,
}

#[derive(Serialize, Object)]
struct MadeAt {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Whether the copy was read back and checked; else its server vouches for its bytes
    #[serde(skip_serializing_if = "Option::is_none")]
    reread: Option<bool>,
    /// Why there is none
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Serialize, Object)]
struct Found {
    target: String,
    /// Empty where the target itself cannot be listed
    name: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// RFC 3339
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// What is wrong with its header
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Serialize, Object)]
struct Keys {
    /// Public keys: their owners alone can open a backup
    recipients: Vec<String>,
    /// This instance's, every version
    signers: Vec<String>,
}

#[derive(Serialize, Object)]
struct Sound {
    id: String,
    documents: u64,
    records: u64,
    /// Whether it was also decrypted, which the server cannot do
    opened: bool,
}

/// What runs, how long it is kept, how each target stands.
#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Plan {
    /// Of full backups: cron
    schedule: String,
    timezone: String,
    segment_seconds: u64,
    keep: Keep,
    targets: Vec<Planned>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Keep {
    last: u32,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
    /// Any moment of so many days can be restored
    within_days: u32,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Planned {
    target: String,
    place: String,
    /// `ok`, `failing`, `damaged`, `none` (nothing was sent yet)
    status: String,
    /// When the last full backup and the last segment were begun
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    /// Since the last of the two
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<i64>,
    /// When the next full backup is due, in the time zone of the schedule
    next: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failing>,
    damaged: Vec<Damaged>,
    kept: Vec<Stays>,
    /// In the order they would go
    dropped: Vec<String>,
    /// Why the target cannot be listed
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Serialize, Object)]
struct Failing {
    rule: String,
    text: String,
    since: String,
    /// In a row
    times: u32,
}

/// Found by reading it again, or without a header that can be read.
#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Damaged {
    name: String,
    /// The newest full backup that does not need it
    #[serde(skip_serializing_if = "Option::is_none")]
    good: Option<String>,
    /// Until when that and what follows it can be restored
    #[serde(skip_serializing_if = "Option::is_none")]
    good_until: Option<String>,
}

#[derive(Serialize, Object)]
struct Stays {
    name: String,
    id: String,
    kind: String,
    created: String,
    bytes: u64,
    /// `last`, `daily`, `weekly`, `monthly`, `yearly`, `window`
    reasons: Vec<String>,
}

#[derive(Serialize, Object)]
struct Gone {
    target: String,
    dropped: Vec<String>,
    /// Those the target would not let go of
    refused: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/admin/backups", tag = "Tag::Administration")]
impl Routes {
    /// Make a backup of this moment, while writes go on, at one target or at each
    #[oai(path = "/", method = "post", operation_id = "createBackup")]
    async fn create(&self, by: By, sent: Sent<Wanted>, request: &Request) -> Result<Answer<Made, 201>> {
        conditions::no_attempt(request)?;
        let Wanted { kind, target } = sent.read()?;
        let kind = match kind.as_deref() {
            None => Kind::Full,
            Some(word) if word == Kind::Full.name() => Kind::Full,
            Some(word) if word == Kind::Segment.name() => Kind::Segment,
            Some(kind) => return Err(Error::Invalid(Fault::new("backups.kind").at("kind").with("kind", kind))),
        };
        let all = by.exchange.state.backups.create(&by.caller, target.as_deref(), kind).await?;
        let targets = all.iter().map(|at| MadeAt::of(at, by.exchange.language)).collect();
        let (name, header, manifest) =
            first(all).map(|Created { name, header, manifest, .. }| (name, header, manifest))?;
        let (id, kind, documents) = (header.id(), header.kind.name().to_owned(), manifest.documents);
        let made = Made { id, kind, place: name, documents, bytes: manifest.body_bytes, targets };
        Answer::value(&by.exchange, &made)
    }

    /// List the backups at a target, or at each, oldest first
    #[oai(path = "/", method = "get", operation_id = "listBackups")]
    async fn list(
        &self,
        by: By,
        /// The name of a target
        target: Query<Option<String>>,
    ) -> Result<Answer<Vec<Found>>> {
        let (all, language) =
            (by.exchange.state.backups.list(&by.caller, target.0.as_deref()).await?, by.exchange.language);
        let mut found = Vec::new();
        let several = all.len() > 1;
        for (target, listed) in all {
            match listed {
                Ok(listed) => found.extend(listed.into_iter().map(|listed| Found::of(&target, listed, language))),
                Err(error) if several => found.push(Found::unlisted(&target, words(&error, language))),
                Err(error) => return Err(error),
            }
        }
        Answer::value(&by.exchange, &found)
    }

    /// Whom backups are sealed to, and who signs them
    #[oai(path = "/keys", method = "get", operation_id = "listBackupKeys")]
    async fn keys(&self, by: By) -> Result<Answer<Keys>> {
        let (recipients, signers) = by.exchange.state.backups.keys(&by.caller)?;
        let recipients = recipients.iter().map(ToString::to_string).collect();
        Answer::value(&by.exchange, &Keys { recipients, signers: signers.iter().map(ToString::to_string).collect() })
    }

    /// Check every byte of a backup against its signature
    #[oai(path = "/verify", method = "post", operation_id = "verifyBackup")]
    async fn verify(&self, by: By, sent: Sent<Checked>) -> Result<Answer<Sound>> {
        let Checked { backup, target } = sent.read()?;
        let found = by.exchange.state.backups.verify(&by.caller, backup, target.as_deref()).await?;
        let Verified { header, manifest } = found;
        let (documents, records) = (manifest.documents, manifest.records);
        Answer::value(&by.exchange, &Sound { id: header.id(), documents, records, opened: false })
    }

    /// What runs next at each target, what is kept there and why, what goes
    #[oai(path = "/plan", method = "get", operation_id = "planBackups")]
    async fn plan(
        &self,
        by: By,
        /// The name of a target
        target: Query<Option<String>>,
    ) -> Result<Answer<Plan>> {
        let state = &by.exchange.state;
        let backups::Plan { settings, targets } = state.backups.plan(&by.caller, target.0.as_deref()).await?;
        let (now, language) = (state.clock.now(), by.exchange.language);
        let zone = settings.schedule.zone();
        let backups::Rules { last, daily, weekly, monthly, yearly, within_days } = settings.rules;
        let plan = Plan {
            schedule: settings.schedule.text().to_owned(),
            timezone: zone.name().unwrap_or_default().to_owned(),
            segment_seconds: settings.every.as_secs(),
            keep: Keep { last, daily, weekly, monthly, yearly, within_days },
            targets: targets.into_iter().map(|outlook| Planned::of(outlook, now, (zone, language))).collect(),
        };
        Answer::value(&by.exchange, &plan)
    }

    /// Drop the backups the plan drops
    #[oai(path = "/prune", method = "post", operation_id = "pruneBackups")]
    async fn prune(&self, by: By, sent: Sent<Old>) -> Result<Answer<Vec<Gone>>> {
        let Old { target, dry_run } = sent.read()?;
        let backups = &by.exchange.state.backups;
        let all = backups.prune(&by.caller, target.as_deref(), dry_run.unwrap_or_default()).await?;
        let gone: Vec<_> = all.iter().map(|at| Gone::of(at, by.exchange.language)).collect();
        first(all)?;
        Answer::value(&by.exchange, &gone)
    }
}

/// The first that went well, else why the first did not.
fn first<T>(all: Vec<At<T>>) -> Result<T> {
    let mut why = None;
    for (_, one) in all {
        match one {
            Ok(one) => return Ok(one),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.unwrap_or_else(|| Error::NotFound(Fault::new("backups.no_target"))))
}

fn words(error: &Error, language: Language) -> String {
    render(language, &tell(error).fault)
}

impl MadeAt {
    fn of((target, made): &At<Created>, language: Language) -> Self {
        let target = target.clone();
        match made {
            Ok(Created { name, header, reread, .. }) => {
                Self { target, id: Some(header.id()), place: Some(name.clone()), reread: Some(*reread), fault: None }
            }
            Err(error) => Self { target, id: None, place: None, reread: None, fault: Some(words(error, language)) },
        }
    }
}

impl Gone {
    fn of((target, pruned): &At<Pruned>, language: Language) -> Self {
        let target = target.clone();
        match pruned {
            Ok(Pruned { dropped, refused }) => {
                let dropped = dropped.clone();
                let refused = refused.iter().map(|(name, why)| format!("{name}: {}", render(language, why))).collect();
                Self { target, dropped, refused, fault: None }
            }
            Err(error) => {
                let fault = Some(words(error, language));
                Self { target, dropped: Vec::new(), refused: Vec::new(), fault }
            }
        }
    }
}

impl Planned {
    fn of(outlook: Outlook, now: Timestamp, (zone, language): (&Zone, Language)) -> Self {
        let Outlook { name, place, state, next, retained } = outlook;
        let State { full, segment, failure, damaged, .. } = state;
        let last = segment.as_ref().or(full.as_ref()).map(|last| last.created);
        let time = |sent: &Option<backups::Sent>| sent.as_ref().map(|sent| sent.created.rfc3339());
        let status = match (&failure, damaged.is_empty(), last) {
            (_, false, _) => "damaged",
            (Some(_), ..) => "failing",
            (None, _, None) => "none",
            (None, _, Some(_)) => "ok",
        };
        let (retained, fault) = match retained {
            Ok(retained) => (retained, None),
            Err(error) => (Retained::default(), Some(words(&error, language))),
        };
        let known = damaged.into_iter().map(|damaged| {
            let until = damaged.good_until.map(Timestamp::rfc3339);
            Damaged { name: damaged.name, good: damaged.good, good_until: until }
        });
        let mut damaged: Vec<_> = known.collect();
        for name in retained.damaged {
            if damaged.iter().all(|known| known.name != name) {
                damaged.push(Damaged { name, good: None, good_until: None });
            }
        }
        Self {
            target: name,
            place,
            status: status.to_owned(),
            full: time(&full),
            segment: time(&segment),
            age_seconds: last.map(|last| now.seconds().saturating_sub(last.seconds()).max(0)),
            next: zone.text(next),
            failure: failure.map(|backups::Failure { rule, text, since, times, .. }| Failing {
                rule,
                text,
                since: since.rfc3339(),
                times,
            }),
            damaged,
            kept: retained.kept.into_iter().map(Stays::of).collect(),
            dropped: retained.dropped,
            fault,
        }
    }
}

impl Stays {
    fn of(backups::Kept { link, reasons }: backups::Kept) -> Self {
        Self {
            name: link.name,
            id: link.header.id(),
            kind: link.header.kind.name().to_owned(),
            created: link.header.created.rfc3339(),
            bytes: link.bytes,
            reasons: reasons.into_iter().map(|reason| reason.name().to_owned()).collect(),
        }
    }
}

impl Found {
    fn of(target: &str, listed: Listed, language: Language) -> Self {
        let Listed { name, bytes, header } = listed;
        let target = target.to_owned();
        let found = Self { target, name, bytes, id: None, kind: None, created: None, fault: None };
        match header {
            Ok((header, _)) => Self {
                id: Some(header.id()),
                kind: Some(header.kind.name().to_owned()),
                created: Some(header.created.rfc3339()),
                ..found
            },
            Err(fault) => Self { fault: Some(render(language, &fault)), ..found },
        }
    }

    fn unlisted(target: &str, fault: String) -> Self {
        let (target, name) = (target.to_owned(), String::new());
        Self { target, name, bytes: 0, id: None, kind: None, created: None, fault: Some(fault) }
    }
}
