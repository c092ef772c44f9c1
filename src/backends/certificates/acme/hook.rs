//! Proofs as TXT records (RFC 8555, 8.4), written by a program of the operator's: for zones that only their provider's own
//! tools can change.

use crate::{
    base::fault::Fault,
    ports::{
        Error, Result,
        certificates::{Proof, Proofs},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::process::Command;

/// For the program to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of what it says, in bytes.
const MOST_WORDS: usize = 500;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
        #[allow(
            clippy::disallowed_methods,
            reason = "the operator names it for this, and nothing of ours is handed on"
        )]
        let mut command = Command::new(&self.program);
        // Our own environment may hold secrets.
        command.args([word, &name, &value]).env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let failed = |cause: String| {
            let fault = Fault::new("certificates.hook_failed").with("program", self.program.display());
            Error::OutOfReach(fault.with("name", &name).with("cause", cause))
        };
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.map_err(|_| failed(format!("no end in {} s", PATIENCE.as_secs())))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = output.stderr.get(output.stderr.len().saturating_sub(MOST_WORDS)..).unwrap_or_default();
        Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(words).trim())))
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
