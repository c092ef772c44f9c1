//! What is critical, and its end, to telephones, by a program of the operator's that knows their gateway.

use crate::{
    base::{fault::Fault, process},
    ports::{
        Error, Result,
        notices::{Channel, Notice},
    },
};
use std::{path::PathBuf, time::Duration};

/// For the program to end, for each number.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `PROGRAM NUMBER` with the message on its standard input.
pub struct Sms {
    pub program: PathBuf,
    pub numbers: Vec<String>,
}

#[async_trait::async_trait]
impl Channel for Sms {
    fn name(&self) -> &'static str {
        "sms"
    }

    fn carries(&self, critical: bool) -> bool {
        critical
    }

    async fn send(&self, notice: &Notice) -> Result<()> {
        let mut failures = Vec::new();
        for number in &self.numbers {
            if let Err(cause) = process::run(&self.program, &[number], &notice.short, PATIENCE).await {
                let number = ending(number);
                tracing::warn!(number, cause, "a message was not sent");
                failures.push((number, cause));
            }
        }
        match failures.first() {
            // Where one got it, somebody knows; nobody gets the same again for another's sake.
            Some((number, cause)) if failures.len() == self.numbers.len() => {
                let fault = Fault::new("alerts.sms_failed").with("program", self.program.display());
                Err(Error::OutOfReach(fault.with("number", number).with("cause", cause)))
            }
            _ => Ok(()),
        }
    }
}

/// Its last digits: whose it is, is nobody's business.
fn ending(number: &str) -> String {
    let from = number.char_indices().rev().nth(2).map_or(0, |(at, _)| at);
    format!("…{}", number.get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[tokio::test]
    async fn a_program_gets_number_and_words_of_what_is_critical() {
        let folder = tempfile::tempdir().unwrap();
        let (program, told) = (folder.path().join("gateway"), folder.path().join("told"));
        let script = format!(
            "#!/bin/sh\n[ $1 = 112 ] && {{ echo no credit >&2; exit 4; }}\necho \"$1 $(cat)\" >> {}\n",
            told.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let notice = Notice {
            id: "1".to_owned(),
            time: Timestamp(1),
            urgent: false,
            subject: String::new(),
            text: String::new(),
            short: "disque plein".to_owned(),
            data: serde_json::Value::Null,
        };
        let to = |numbers: &[&str]| Sms {
            program: program.clone(),
            numbers: numbers.iter().map(|number| (*number).to_owned()).collect(),
        };
        assert!(to(&[]).carries(true) && !to(&[]).carries(false));
        to(&["+243", "112"]).send(&notice).await.unwrap();
        assert_eq!(fs::read_to_string(&told).unwrap(), "+243 disque plein\n");
        let error = to(&["112"]).send(&notice).await.unwrap_err().to_string();
        assert!(error.contains("no credit"), "{error}");
        assert_eq!((ending("+243998877"), ending("1")), ("…877".to_owned(), "…1".to_owned()));
    }
}
