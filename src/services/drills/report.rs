//! What a drill came to: plain JSON, signed by the key that came back with the backups. Whoever knows the instance's
//! signer checks it without this program, as `docs/disaster-recovery.md` says.

use crate::{
    base::{
        fault::Fault,
        messages::{Language, render},
    },
    services::{Error, Result, backups::Signer, keyring::Key, signature::Signature},
};
use serde_json::Value;
use std::collections::BTreeMap;

const SIGNED: &str = "debrouille-appliance restore drill v1\n";
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    /// Could not be done; why is told.
    Skipped,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    pub format: u32,
    pub id: String,
    pub instance: String,
    pub environment: String,
    /// Of the program that made it.
    pub release: String,
    /// RFC 3339.
    pub started: String,
    pub ended: String,
    /// Where the backups were taken from.
    pub place: String,
    pub outcome: Outcome,
    /// Up to where it came back; `None`: it did not.
    pub point: Option<Point>,
    pub files: Vec<File>,
    pub documents: u64,
    pub collections: BTreeMap<String, u64>,
    pub checks: Vec<Check>,
    /// Milliseconds from the first byte read until it could have served; `None`: it could not.
    pub rto: Option<Rto>,
    pub rpo: Option<Rpo>,
    /// Whether the operator's key file, or the operator, named the signer of the backups.
    pub signer_vouched: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Point {
    pub lineage: u32,
    pub sequence: u64,
    pub time: String,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    pub name: String,
    pub bytes: u64,
    /// The hash of its manifest.
    pub manifest: String,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// `files`, `counts`, `documents`, `subjects`, `audit`, `live`.
    pub name: String,
    pub outcome: Outcome,
    /// How many of what it looks at.
    pub examined: u64,
    /// What was found, or why it was skipped, in both languages.
    pub words: Vec<Words>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    pub fr: String,
    pub en: String,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rto {
    pub millis: u64,
    pub proving: u64,
    pub loading: u64,
    pub opening: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rpo {
    pub seconds: u64,
    /// Changes the living instance had acknowledged and that did not come back; `None`: nobody could be asked.
    pub changes: Option<u64>,
    /// `live`: against its newest change; `clock`: against the hour the drill began.
    pub against: String,
}

impl Words {
    pub fn of(fault: &Fault) -> Self {
        Self { fr: render(Language::French, fault), en: render(Language::English, fault) }
    }

    pub fn text(&self, language: Language) -> &str {
        match language {
            Language::French => &self.fr,
            Language::English => &self.en,
        }
    }
}

impl Check {
    /// Passed where nothing was found.
    pub fn of(name: &str, examined: u64, wrong: &[Fault]) -> Self {
        let outcome = if wrong.is_empty() { Outcome::Passed } else { Outcome::Failed };
        Self { name: name.to_owned(), outcome, examined, words: wrong.iter().map(Words::of).collect() }
    }

    pub fn skipped(name: &str, why: &Fault) -> Self {
        Self { name: name.to_owned(), outcome: Outcome::Skipped, examined: 0, words: vec![Words::of(why)] }
    }
}

/// As it is written and kept. Without a signature nothing came back that could have signed it: a failure.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    report: Value,
    signature: Option<Signature>,
}

impl Signed {
    pub fn new(report: &Report, key: Option<&Key>) -> Result<Self> {
        let report = serde_json::to_value(report).map_err(|error| Error::Internal(Box::new(error)))?;
        let signature = key.map(|key| Signature::new(SIGNED, &report, key));
        Ok(Self { report, signature })
    }

    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|_| Error::Damaged(Fault::new("drills.unsound")))
    }

    pub fn read(value: Value) -> Result<Self> {
        serde_json::from_value(value).map_err(|_| Error::Damaged(Fault::new("drills.unsound")))
    }

    pub fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Internal(Box::new(error)))?;
        Ok(text + "\n")
    }

    /// What it says, where one of these signed it. That a drill failed is believed without a signature.
    pub fn verify(&self, signers: &[Signer]) -> Result<Report> {
        let unsound = || Error::Damaged(Fault::new("drills.unsound"));
        let report: Report = serde_json::from_value(self.report.clone()).map_err(|_| unsound())?;
        let Some(signature) = &self.signature else {
            return if report.outcome == Outcome::Failed { Ok(report) } else { Err(unsound()) };
        };
        if !signature.holds(SIGNED, &self.report) {
            return Err(unsound());
        }
        let signer = Signer::from_hex(&signature.key).filter(|signer| signers.contains(signer));
        let shown = || Signer::from_hex(&signature.key).map_or_else(String::new, |signer| signer.to_string());
        signer.ok_or_else(|| Error::Damaged(Fault::new("drills.signer").with("signer", shown())))?;
        Ok(report)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        base::clock::Timestamp,
        services::{
            backups::signers,
            keyring::{Keyring, Purpose},
        },
    };
    use zeroize::Zeroizing;

    pub fn report(id: &str, outcome: Outcome) -> Report {
        Report {
            format: FORMAT,
            id: id.to_owned(),
            instance: "i".to_owned(),
            environment: "staging".to_owned(),
            release: "0.1.0".to_owned(),
            started: "2026-11-22T10:15:00Z".to_owned(),
            ended: "2026-11-22T10:16:00Z".to_owned(),
            place: "/backups".to_owned(),
            outcome,
            point: Some(Point { lineage: 1, sequence: 9, time: "2026-11-22T10:00:00Z".to_owned() }),
            files: vec![File { name: "f<1>.backup".to_owned(), bytes: 3, manifest: "00".to_owned() }],
            documents: 7,
            collections: BTreeMap::from([("places".to_owned(), 7)]),
            checks: vec![Check::skipped("live", &Fault::new("drills.no_live"))],
            rto: Some(Rto { millis: 61_500, proving: 1_000, loading: 60_000, opening: 500 }),
            rpo: Some(Rpo { seconds: 300, changes: Some(4), against: "live".to_owned() }),
            signer_vouched: true,
        }
    }

    #[test]
    fn a_report_is_believed_from_a_known_signer_and_as_it_was_written() {
        let keyring = Keyring::generate((Zeroizing::new(vec![1]), vec![1]), Timestamp(1));
        let own = signers(&keyring);
        let signed =
            Signed::new(&report("a", Outcome::Passed), Some(&keyring.current(Purpose::BackupSigning))).unwrap();
        let text = signed.text().unwrap();
        assert_eq!(Signed::parse(&text).unwrap().verify(&own).unwrap(), report("a", Outcome::Passed));
        let fault = |text: &str, signers: &[Signer]| match Signed::parse(text).and_then(|signed| signed.verify(signers))
        {
            Err(Error::Damaged(fault)) => fault.key,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(&text, &[]), "drills.signer");
        assert_eq!(fault(&text.replace("\"passed\"", "\"failed\""), &own), "drills.unsound");
        assert_eq!(fault("{}", &own), "drills.unsound");
        let other = Keyring::generate((Zeroizing::new(vec![1]), vec![1]), Timestamp(1));
        assert_eq!(fault(&text, &signers(&other)), "drills.signer");
        // Unsigned, only a failure is one.
        let unsigned = |outcome| Signed::new(&report("a", outcome), None).unwrap();
        assert!(unsigned(Outcome::Failed).verify(&own).is_ok() && unsigned(Outcome::Passed).verify(&own).is_err());
    }
}
