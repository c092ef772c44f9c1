//! Doors of this floor the command line already knocks at, until the embedded engine stands behind them.

use super::problem::{Kind, Problem};
use crate::{
    backends::objects::folder::Folder,
    base::{config::Config, fault::Fault},
    services::{
        backups::{self, Identity, Trust, Verified},
        health::Finding,
    },
};
use std::path::PathBuf;
use tokio::io::DuplexStream;

fn pending<T>() -> Result<T, Problem> {
    Err(Problem::new(Kind::Unavailable, Fault::new("cli.pending")))
}

/// The instance opened by this process, under its lock.
pub struct Offline(());

pub async fn offline(_config: Config) -> Result<Offline, Problem> {
    pending()
}

impl Offline {
    /// A connection to it, spoken to as over the control socket.
    pub fn connect(&self) -> DuplexStream {
        tokio::io::duplex(1).0
    }

    pub async fn close(self) -> Result<(), Problem> {
        pending()
    }
}

pub async fn serve(_config: Config) -> Result<(), Problem> {
    pending()
}

pub async fn preconditions(_config: &Config) -> Vec<Finding> {
    Vec::new()
}

/// Opens a backup of this folder with a recipient's key and reads all of it.
pub async fn verify(folder: PathBuf, backup: Option<String>, identity: Identity) -> Result<Verified, Problem> {
    let read = tokio::task::spawn_blocking(move || {
        let target = Folder::open(folder)?;
        let name = backups::locate(&target, backup.as_deref())?;
        let trust = match identity.signers() {
            [] => Trust::Anyone,
            signers => Trust::Signers(signers),
        };
        Ok::<_, Problem>(backups::verify_open(&target, &name, &identity, trust)?)
    });
    read.await.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}

pub mod init {
    use super::{Config, Problem, pending};
    use crate::{
        base::{clock::SharedClock, environment::Environment},
        services::instance::Stamp,
    };
    use std::path::PathBuf;
    use zeroize::Zeroizing;

    pub struct Init {
        pub environment: Environment,
        pub hostnames: Vec<String>,
        pub email: String,
        pub password: Option<Zeroizing<String>>,
    }

    pub struct Initialised {
        pub stamp: Stamp,
        pub password: Option<Zeroizing<String>>,
        pub authority: PathBuf,
    }

    pub const AUTHORITY: &str = "ca.crt";

    pub async fn init(_config: &Config, _clock: SharedClock, _init: Init) -> Result<Initialised, Problem> {
        pending()
    }
}

pub mod restore {
    use super::{Config, Problem, pending};
    use crate::{
        base::{clock::SharedClock, environment::Environment},
        services::{
            backups::{Identity, Manifest, Progress},
            instance::Stamp,
        },
    };
    use std::path::PathBuf;

    pub struct Restoring {
        pub from: PathBuf,
        pub backup: Option<String>,
        pub identity: Identity,
        pub environment: Environment,
        pub dry_run: bool,
    }

    pub struct Restored {
        pub name: String,
        pub stamp: Stamp,
        pub manifest: Manifest,
        pub unvouched: bool,
    }

    pub async fn restore(
        _config: &Config,
        _clock: SharedClock,
        _restoring: Restoring,
        _progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Restored, Problem> {
        pending()
    }
}
