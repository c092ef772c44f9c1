//! A restored directory held to what was put in, and to itself: every document, every index entry, the audit tree; and
//! opened as it would be to serve.

use super::blocking;
use crate::{
    backends::documents::embedded::Examined,
    base::{
        clock::{SharedClock, Stopwatch},
        config::Config,
        fault::Fault,
    },
    ports::documents::Snapshot,
    server::{
        keys, open,
        problem::{Kind, Problem},
    },
    services::{
        access::Caller,
        audit::{Verdict, Verifier},
        backups::restore::Tally,
        export::Export,
        instance::Stamp,
        keyring::Purpose,
    },
};

#[derive(Debug, Clone)]
pub struct Checked {
    pub documents: Examined,
    pub subjects: Examined,
    pub audit: Verdict,
    /// Collections that have not as many documents as came.
    pub miscounted: Vec<Fault>,
    /// How long it took until it could have served.
    pub opening_millis: u64,
}

impl Checked {
    pub fn sound(self) -> Result<Self, Problem> {
        let tree: Vec<Fault> = self.audit.wrong.iter().map(|wrong| wrong.fault()).collect();
        let wrong: Vec<Fault> = [&self.miscounted, &self.documents.wrong, &self.subjects.wrong, &tree]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        if wrong.is_empty() { Ok(self) } else { Err(Problem::all(Kind::Integrity, wrong)) }
    }
}

/// Opens it for good: what an upgrade adds is added, and the new epoch of the audit log is begun.
pub async fn check(
    config: &Config,
    clock: SharedClock,
    tally: &Tally,
    mut progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<Checked, Problem> {
    let stamp = Stamp::read(&config.instance.data_dir, None)?;
    let (keyring, _) = keys::keyring(config, &stamp).await?;
    let (own, expected) = (config.clone(), tally.clone());
    let examined = blocking(move || {
        let store = open::look(&own, &stamp, &keyring, Purpose::Data)?;
        let miscounted = counts(&store, &expected)?;
        let documents = store.examine(&mut progress)?;
        let subjects = open::look(&own, &stamp, &keyring, Purpose::Subjects)?.examine(&mut |_, _| {})?;
        Ok((documents, subjects, miscounted))
    });
    let (documents, subjects, miscounted) = examined.await?;
    let watch = Stopwatch::start();
    let opened = open::open(config, clock).await?;
    let opening_millis = watch.millis();
    let audit = tree(&opened).await;
    opened.documents.close().await?;
    opened.seals.close().await?;
    let audit = audit?;
    Ok(Checked { documents, subjects, audit, miscounted, opening_millis })
}

/// Each collection has as many documents as came.
fn counts(store: &dyn Snapshot, expected: &Tally) -> Result<Vec<Fault>, Problem> {
    let mut wrong = Vec::new();
    for name in store.collections()? {
        let (found, expected) = (store.count(&name)?, expected.collections.get(&name).copied().unwrap_or_default());
        if found != expected {
            let fault = Fault::new("documents.miscounted").with("collection", &name).with("found", found);
            wrong.push(fault.with("expected", expected));
        }
    }
    Ok(wrong)
}

/// The audit log's tree, from its first entry to the epoch this lineage begins.
async fn tree(opened: &open::Opened) -> Result<Verdict, Problem> {
    let caller = Caller::system();
    let mut lines = opened.audit.export(&caller).await?;
    let signers = opened.audit.signers();
    blocking(move || {
        let mut verifier = Verifier::new(signers, Vec::new());
        while let Some(chunk) = lines.pull(&caller) {
            chunk?.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| verifier.line(line));
        }
        Ok(verifier.finish())
    })
    .await
}
