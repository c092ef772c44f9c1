//! Whether what a lost machine is rebuilt from lies apart from it: the root key, the backups and those who can open
//! them. Warnings: the instance serves meanwhile. `doctor` is sterner.

use super::{keys, targets};
use crate::{
    base::{
        clock::{SharedClock, SystemClock},
        config::Config,
        environment::Environment,
        fault::Fault,
    },
    services::{
        Error,
        backups::{Recipient, fewest},
        health::{Finding, Level},
    },
};
use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc};

/// In production it loses what was promised to be kept.
const GRAVE: &str = "preconditions.no_second_recipient";

/// Whether the instance serves in spite of it, and nobody may call it well.
pub fn is_grave(finding: &Finding) -> bool {
    finding.fault.as_ref().is_some_and(|fault| fault.key == GRAVE)
}

/// As `doctor` judges it.
pub fn sterner(finding: Finding) -> Finding {
    let level = if is_grave(&finding) { Level::Failure } else { finding.level };
    Finding { level, ..finding }
}

pub fn findings(config: &Config, environment: Environment) -> Vec<Finding> {
    vec![root_key(config, environment), recipients(config, environment), target(config, environment)]
}

fn root_key(config: &Config, environment: Environment) -> Finding {
    const CHECK: &str = "root_key";
    match keys::file(config) {
        Some(path) if environment != Environment::Development && path.starts_with(&config.instance.data_dir) => {
            Finding::warning(CHECK, Fault::new("preconditions.root_key_beside").at(path.display().to_string()))
        }
        _ => Finding::ok(CHECK),
    }
}

fn recipients(config: &Config, environment: Environment) -> Finding {
    const CHECK: &str = "recipients";
    let wanted = fewest(environment);
    let parsed = config.backup.recipients.iter().map(|text| text.parse::<Recipient>());
    if let Some(Err(Error::Invalid(fault))) = parsed.clone().find(Result::is_err) {
        return Finding::failure(CHECK, fault);
    }
    let found = parsed.count();
    if found < wanted {
        let key = if environment == Environment::Production { GRAVE } else { "preconditions.few_recipients" };
        return Finding::warning(CHECK, Fault::new(key).with("found", found).with("wanted", wanted));
    }
    Finding::ok(CHECK)
}

/// One lost disk must not take every backup along.
fn target(config: &Config, environment: Environment) -> Finding {
    const CHECK: &str = "backup_target";
    let clock: SharedClock = Arc::new(SystemClock);
    let all = match targets::all(config, &clock) {
        Ok(all) => all,
        Err(problem) => return Finding::failure(CHECK, problem.fault),
    };
    let named = targets::folders(config);
    if let Some(absent) = named.iter().find(|folder| !folder.is_dir()) {
        return Finding::warning(CHECK, Fault::new("objects.no_folder").at(absent.display().to_string()));
    }
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let data = device(&config.instance.data_dir);
    let apart = named.len() < all.len() && !config.backup.targets.is_empty();
    let apart = apart || named.iter().any(|folder| device(folder) != data);
    if !apart && environment != Environment::Development {
        return Finding::warning(CHECK, Fault::new("preconditions.same_disk").at(all[0].objects.place()));
    }
    Finding::ok(CHECK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::backups::Identity;

    fn warnings(words: &[(&'static str, &str)], environment: Environment) -> Vec<String> {
        let config = Config::of(words).unwrap();
        let findings = findings(&config, environment);
        findings
            .iter()
            .filter(|finding| finding.level == Level::Warning)
            .map(|finding| finding.check.to_string())
            .collect()
    }

    #[test]
    fn what_lies_beside_the_data_is_told_outside_development() {
        let folder = tempfile::tempdir().unwrap();
        let data = ("instance.data_dir", folder.path().to_str().unwrap());
        assert_eq!(warnings(&[data], Environment::Development), ["recipients"]);
        assert_eq!(warnings(&[data], Environment::Staging), ["root_key", "recipients", "backup_target"]);
        let recipient = Identity::generate(Vec::new()).recipient().to_string();
        let kept = [
            data,
            ("instance.root_key_file", "/elsewhere"),
            ("backup.targets", "/proc"),
            ("backup.recipients", &recipient),
        ];
        assert_eq!(warnings(&kept, Environment::Staging), Vec::<String>::new());
        assert_eq!(warnings(&kept, Environment::Production), ["recipients"], "two in production");
        let unmounted = folder.path().join("absent");
        let away = [data, ("backup.targets", unmounted.to_str().unwrap()), ("backup.recipients", &recipient)];
        assert_eq!(warnings(&away, Environment::Development), ["backup_target"]);
        // One elsewhere is enough.
        let both = format!("{},/proc", folder.path().display());
        let kept = [
            data,
            ("instance.root_key_file", "/elsewhere"),
            ("backup.targets", &both),
            ("backup.recipients", &recipient),
        ];
        assert_eq!(warnings(&kept, Environment::Staging), Vec::<&str>::new());
        assert_eq!(warnings(&kept, Environment::Production), ["recipients"], "two in production");
        let told = super::findings(&Config::of(&kept).unwrap(), Environment::Production);
        let failures: Vec<_> = told.into_iter().map(sterner).filter(|told| told.level == Level::Failure).collect();
        let failures: Vec<_> = failures.iter().map(|failure| failure.check.to_string()).collect();
        assert_eq!(failures, ["recipients"], "by doctor");
        // What serving would refuse is a failure here too.
        let config = Config::of(&[("backup.targets", "gcs://bucket")]).unwrap();
        assert_eq!(target(&config, Environment::Development).level, Level::Failure);
        let config = Config::of(&[("backup.recipients", "a")]).unwrap();
        assert_eq!(recipients(&config, Environment::Development).level, Level::Failure);
    }
}
