//! Proofs as TXT records (RFC 8555, 8.4), written by a program of the operator's: for zones that only their provider's own
//! tools can change.

use crate::{
    base::{fault::Fault, process},
    ports::{
        Error, Result,
        certificates::{Proof, Proofs},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{path::PathBuf, time::Duration};

/// For the program to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `PROGRAM add|remove _acme-challenge.NAME VALUE`.
pub struct Hook {
    pub program: PathBuf,
    /// For the zone's servers to have what it wrote.
    pub wait: Duration,
}

/// Where a proof is looked for, and what is to be found there.
pub(super) fn record(proof: &Proof) -> (String, String) {
    (format!("_acme-challenge.{}", proof.name), URL_SAFE_NO_PAD.encode(proof.digest))
}

pub(super) async fn settled(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

#[async_trait::async_trait]
impl Proofs for Hook {
    async fn show(&self, proofs: &[Proof]) -> Result<()> {
        for proof in proofs {
            self.run("add", proof).await?;
        }
        settled(self.wait).await;
        Ok(())
    }

    async fn withdraw(&self, proofs: &[Proof]) -> Result<()> {
        let mut outcome = Ok(());
        for proof in proofs {
            outcome = outcome.and(self.run("remove", proof).await);
        }
        outcome
    }
}

impl Hook {
    async fn run(&self, word: &str, proof: &Proof) -> Result<()> {
        let (name, value) = record(proof);
        process::run(&self.program, &[word, &name, &value], "", PATIENCE).await.map_err(|cause| {
            let fault = Fault::new("certificates.hook_failed").with("program", self.program.display());
            Error::OutOfReach(fault.with("name", &name).with("cause", cause))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn hook(folder: &std::path::Path, script: &str) -> Hook {
        let program = folder.join("hook");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Hook { program, wait: Duration::ZERO }
    }

    fn proof(name: &str) -> Proof {
        Proof { name: name.to_owned(), token: "t".to_owned(), authorization: "t.a".to_owned(), digest: [9; 32] }
    }

    #[tokio::test]
    async fn is_told_what_to_write_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let hook = hook(folder.path(), &format!("{{ echo \"$@\"; env | sort; }} >> {}", told.display()));
        hook.show(&[proof("example.cd")]).await.unwrap();
        hook.withdraw(&[proof("example.cd")]).await.unwrap();
        let value = URL_SAFE_NO_PAD.encode([9; 32]);
        let told = fs::read_to_string(told).unwrap();
        for word in ["add", "remove"] {
            assert!(told.contains(&format!("{word} _acme-challenge.example.cd {value}\n")), "{told}");
        }
        assert!(!told.contains("CARGO") && !told.contains("HOME="), "{told}");
    }

    #[tokio::test]
    async fn what_it_says_as_it_fails_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let failing = hook(folder.path(), "echo no such zone >&2; exit 3");
        let Err(Error::OutOfReach(fault)) = failing.show(&[proof("example.cd")]).await else { panic!("it succeeded") };
        assert!(fault.to_string().contains("no such zone") && fault.to_string().contains('3'), "{fault}");
        let absent = Hook { program: folder.path().join("absent"), wait: Duration::ZERO };
        assert!(matches!(absent.withdraw(&[proof("a"), proof("b")]).await, Err(Error::OutOfReach(_))));
    }
}
