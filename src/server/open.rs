//! An instance opened: its stamp, keys and store, and the services over them. For serving, and for commands alone.

use super::{
    authority, keys, migrations, outgoing,
    problem::{Kind, Problem},
    targets,
};
use crate::{
    backends::{
        certificates::internal::Maker,
        documents::embedded::{self, Embedded, Options, Place, Still, sealed::DataKeys},
    },
    base::{
        clock::SharedClock,
        config::{self, Config, Secret, Switch, TokenAlgorithm},
        fault::Fault,
        files,
        zone::Zone,
    },
    domain::{schedule::Schedule, trust::Rules},
    ports::{self, documents::Documents, keys::RootKey},
    services::{
        self,
        access::{Access, Caller},
        audit::Audit,
        backups::{self, Backups},
        drills::Drills,
        identities::{Identities, Settings},
        instance::{self, Stamp},
        invitations::Invitations,
        keyring::{Keyring, Purpose},
        keys::Keys,
        limits::{self, Limiter},
        machines::Machines,
        mfa::{Mfa, Site},
        migrations::{Migrations, Snapshots, Tell},
        oidc::Oidc,
        organizations::Organizations,
        policies::Policies,
        recovery::Recoveries,
        sealing::Seals,
        secrets::{self, Secrets},
        sessions::Sessions,
        subjects::{Periods, Subjects},
        throttle::Throttle,
        trust::Trust,
        verification::Verifications,
    },
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Bytes of its pages kept in memory: keys in use are held beside it.
const SUBJECTS_CACHE: usize = 4 << 20;

pub struct Opened {
    pub stamp: Stamp,
    pub keyring: Arc<Keyring>,
    pub documents: Arc<dyn Documents>,
    pub audit: Arc<Audit>,
    pub seals: Arc<Seals>,
    pub sessions: Arc<Sessions>,
    pub identities: Arc<Identities>,
    pub mfa: Arc<Mfa>,
    pub keys: Arc<Keys>,
    pub machines: Arc<Machines>,
    pub recoveries: Arc<Recoveries>,
    pub verifications: Arc<Verifications>,
    pub oidc: Arc<Oidc>,
    pub backups: Arc<Backups>,
    pub drills: Arc<Drills>,
    pub access: Arc<Access>,
    pub policies: Arc<Policies>,
    pub trust: Arc<Trust>,
    pub throttle: Arc<Throttle>,
    pub limiter: Arc<Limiter>,
    pub subjects: Arc<Subjects>,
    pub secrets: Arc<Secrets>,
    pub migrations: Arc<Migrations>,
    pub snapshots: Arc<Snapshots>,
    pub clock: SharedClock,
}

impl Opened {
    pub fn organizations(&self) -> Organizations {
        let (store, memberships) = (self.documents.clone(), self.identities.memberships().clone());
        Organizations::new(store, self.clock.clone(), self.access.clone(), memberships)
    }

    pub fn invitations(&self) -> Invitations {
        let (store, identities) = (self.documents.clone(), self.identities.clone());
        Invitations::new(store, self.clock.clone(), self.access.clone(), identities)
    }
}

/// Opens the instance of the configured data directory, whose lock it holds until it is closed. Data of an earlier
/// release is migrated.
pub async fn open(config: &Config, clock: SharedClock) -> Result<Opened, Problem> {
    telling(config, clock, &|_| {}).await
}

/// As [`open`], telling how far a migration is.
pub async fn telling(config: &Config, clock: SharedClock, tell: Tell<'_>) -> Result<Opened, Problem> {
    let opened = as_it_is(config, clock).await?;
    if let Err(error) = opened.migrations.up(&Caller::system(), None, tell).await {
        return Err(migrations::unended(&opened.migrations, error).await);
    }
    furnished(opened).await
}

/// For a command alone, beneath which data must not become another release's: refused where a migration is pending.
pub async fn migrated(config: &Config, clock: SharedClock) -> Result<Opened, Problem> {
    let opened = as_it_is(config, clock).await?;
    let Some(number) = opened.migrations.pending().await? else { return furnished(opened).await };
    opened.documents.close().await?;
    opened.seals.close().await?;
    let fault = Fault::new("migrations.pending").with("number", format!("{number:04}"));
    Err(Problem::new(Kind::Refused, fault))
}

async fn furnished(opened: Opened) -> Result<Opened, Problem> {
    instance::furnish(&*opened.documents, opened.clock.now()).await?;
    // Nor must this.
    if let Err(error) = opened.backups.begin().await {
        tracing::error!(%error, "the plan of the backups is not noted");
    }
    opened.policies.load().await?;
    opened.sessions.recall().await?;
    opened.trust.recall().await?;
    // A full disk must not keep the instance down; a job tries again.
    if let Err(error) = opened.subjects.resume().await {
        tracing::error!(%error, "an erasure that was cut short is not finished");
    }
    Ok(opened)
}

/// Whatever was applied to it and was not; never of a newer release.
pub async fn as_it_is(config: &Config, clock: SharedClock) -> Result<Opened, Problem> {
    let data = &config.instance.data_dir;
    let stamp = Stamp::read(data, config.instance.environment)?;
    let (keyring, root) = keys::keyring(config, &stamp).await?;
    let path = database(config);
    // A lost database is never replaced by an empty one.
    if !path.exists() {
        let fault = Fault::new("instance.database_lost").at(path.display().to_string());
        return Err(Problem::new(Kind::Integrity, fault));
    }
    let store = store(config, &stamp, &keyring, &clock).await?;
    // Before anything of it is changed.
    if let Err(error) = Migrations::new(store.clone(), clock.clone(), migrations::known()?).held().await {
        store.close().await?;
        return Err(error.into());
    }
    // What was read before the store's lock was ours may have been changed since, by who held it.
    if keys::keyring(config, &stamp).await?.0.keys() != keyring.keys() {
        store.close().await?;
        return Err(Problem::new(Kind::Unavailable, Fault::new("instance.keyring_changed")));
    }
    let subjects = subjects(config, &stamp, &keyring, &*root, &clock).await?;
    let opened = assemble(config, stamp, (keyring, root), (store, subjects), clock).await?;
    opened.secrets.settle().await;
    instance::ground(&*opened.documents, opened.clock.now()).await?;
    Ok(opened)
}

/// Reads both stores whole of an instance nobody serves, changing nothing. `None`: somebody holds it.
pub async fn inspect(config: &Config, stamp: &Stamp, keyring: &Keyring) -> Option<Result<(), Problem>> {
    if let Err(problem) = keyless(config, keyring) {
        return Some(Err(problem));
    }
    let both = [Purpose::Data, Purpose::Subjects].into_iter().filter(|purpose| keyring.has(*purpose));
    let places: Vec<_> = both.map(|purpose| place(config, stamp, keyring, purpose)).collect();
    if let Some(place) = places.iter().find(|place| !place.path.exists()) {
        let fault = Fault::new("instance.database_lost").at(place.path.display().to_string());
        return Some(Err(Problem::new(Kind::Integrity, fault)));
    }
    let read = tokio::task::spawn_blocking(move || places.into_iter().try_for_each(embedded::inspect)).await;
    match read {
        Ok(Err(ports::Error::Rejected(fault))) if fault.key == "sealed.locked" => None,
        Ok(read) => Some(read.map_err(Problem::from)),
        Err(error) => Some(Err(Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))),
    }
}

/// A store of an instance nobody serves, to be looked into. Blocking.
pub fn look(config: &Config, stamp: &Stamp, keyring: &Keyring, purpose: Purpose) -> Result<Still, Problem> {
    Ok(Still::open(place(config, stamp, keyring, purpose))?)
}

/// The store of the data directory, made when it is not there.
pub async fn store(
    config: &Config,
    stamp: &Stamp,
    keyring: &Keyring,
    clock: &SharedClock,
) -> Result<Arc<dyn Documents>, Problem> {
    opened(place(config, stamp, keyring, Purpose::Data), options(config), clock).await
}

/// The store of subjects' keys, made when it is not there.
pub async fn subjects_store(
    config: &Config,
    stamp: &Stamp,
    keyring: &Keyring,
    clock: &SharedClock,
) -> Result<Arc<dyn Documents>, Problem> {
    let options = Options { cache: SUBJECTS_CACHE, ..options(config) };
    opened(place(config, stamp, keyring, Purpose::Subjects), options, clock).await
}

/// A store of subjects' keys to which there is no key: an older keyring may have been put back, and the keys in there
/// are everybody's.
fn keyless(config: &Config, keyring: &Keyring) -> Result<(), Problem> {
    let path = file(config, Purpose::Subjects);
    if keyring.has(Purpose::Subjects) || !path.exists() {
        return Ok(());
    }
    let fault = Fault::new("instance.subjects_keyless").at(path.display().to_string());
    Err(Problem::new(Kind::Integrity, fault))
}

/// The store of subjects' keys of an instance that exists; one of an earlier release gets its first.
async fn subjects(
    config: &Config,
    stamp: &Stamp,
    keyring: &Keyring,
    root: &dyn RootKey,
    clock: &SharedClock,
) -> Result<Arc<dyn Documents>, Problem> {
    let path = file(config, Purpose::Subjects);
    if keyring.has(Purpose::Subjects) {
        if !path.exists() {
            let fault = Fault::new("instance.database_lost").at(path.display().to_string());
            return Err(Problem::new(Kind::Integrity, fault));
        }
        return subjects_store(config, stamp, keyring, clock).await;
    }
    keyless(config, keyring)?;
    keyring.rotate(Purpose::Subjects, clock.now());
    let store = subjects_store(config, stamp, keyring, clock).await?;
    keyring.save(&config.instance.data_dir, stamp, root).await?;
    Ok(store)
}

async fn opened(place: Place, options: Options, clock: &SharedClock) -> Result<Arc<dyn Documents>, Problem> {
    let clock = clock.clone();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(place, options, clock)).await;
    let opened = opened.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?;
    Ok(Arc::new(opened?))
}

/// The services over the documents and the subjects' keys.
pub async fn assemble(
    config: &Config,
    stamp: Stamp,
    (keyring, root): (Keyring, Arc<dyn RootKey>),
    (documents, subjects): (Arc<dyn Documents>, Arc<dyn Documents>),
    clock: SharedClock,
) -> Result<Opened, Problem> {
    let keyring = Arc::new(keyring);
    let seals = Arc::new(Seals::open(subjects.clone(), clock.clone()).await?);
    let trust = Arc::new(Trust::new(documents.clone(), clock.clone(), rules(config)?));
    let access = Arc::new(Access::new(stamp.environment, clock.clone(), trust.clone()));
    let store = || documents.clone();
    let time = || clock.clone();
    let (settings, web) = (outgoing::audit(config)?, outgoing::web(config)?);
    let audit = Audit::new(store(), time(), stamp.clone(), keyring.clone(), settings, access.clone());
    let audit = Arc::new(audit.with(web.clone()));
    let (rights, open) = (access.clone(), seals.clone());
    let policies = Arc::new(Policies::new(store(), time(), stamp.environment, rights, open, audit.clone()));
    let sessions = Sessions::new(store(), time(), &stamp, &keyring, trust.clone(), audit.clone());
    let sessions = Arc::new(match shared_secret(config)? {
        Some(secret) => sessions.with_shared_secret(secret.expose().as_bytes()),
        None => sessions,
    });
    let throttle = Arc::new(Throttle::new(time()));
    let (people, rights, held) = (sessions.clone(), access.clone(), throttle.clone());
    let settings = Settings {
        registration: config.identity.registration == Switch::On,
        calling_code: Some(config.identity.calling_code).filter(|code| *code > 0),
        directory: outgoing::directory(config, &stamp)?,
    };
    let identities = Identities::new(store(), time(), people, held, trust.clone(), rights, audit.clone());
    let identities = Arc::new(identities.with(settings));
    let port = config.server.https.port();
    let site = Site::new(&config.server.hostnames, port, &config.identity.origins)
        .map_err(|fault| Problem::new(Kind::Refused, fault))?;
    let (who, open) = (identities.clone(), sessions.clone());
    let mfa = Arc::new(Mfa::new(store(), time(), who, open, stamp.environment, audit.clone(), site));
    let (rights, open, who) = (access.clone(), sessions.clone(), identities.clone());
    let keys = Arc::new(Keys::new(store(), time(), rights, open, who, mfa.clone(), audit.clone()));
    let machines = Machines::new(store(), time(), sessions.clone(), keys.clone(), audit.clone(), &stamp);
    let machines = Arc::new(machines);
    let (mailer, pages) = (outgoing::mailer(config, &stamp, &clock)?, outgoing::pages(config));
    let who = identities.clone();
    let recoveries = Recoveries::new(store(), time(), who, audit.clone(), mailer.clone(), pages.recovery);
    let recoveries = Arc::new(recoveries);
    let who = identities.clone();
    let verifications = Verifications::new(store(), time(), who, audit.clone(), mailer, pages.verification);
    let verifications = Arc::new(verifications);
    let provider = outgoing::provider(config)?;
    let oidc = Arc::new(Oidc::new(time(), identities.clone(), audit.clone(), web, provider));
    // Ours to make; one the operator named is not: where its disk is not mounted, what lies beneath would be filled.
    if config.backup.targets.is_empty() {
        let folder = targets::local(config);
        files::private_folder(&folder).map_err(|error| Problem::file(folder.display(), error))?;
    }
    // One that is out of reach fails backups, not the service.
    let targets = targets::all(config, &clock)?;
    let recipients = config.backup.recipients.iter().map(|text| text.parse()).collect::<services::Result<_>>()?;
    let (to, held, rights) = ((targets, recipients), keyring.clone(), access.clone());
    let backups = Backups::new(store(), to, stamp.clone(), held, time(), rights, audit.clone());
    let backups = backups.beside(seals.clone(), config.backup.subject_days).with(backup_settings(config)?);
    let backups = Arc::new(backups);
    let drills = Arc::new(Drills {
        documents: store(),
        clock: time(),
        access: access.clone(),
        audit: audit.clone(),
        keyring: keyring.clone(),
        stamp: stamp.clone(),
    });
    let erasures = Subjects {
        documents: store(),
        clock: time(),
        access: access.clone(),
        audit: audit.clone(),
        identities: identities.clone(),
        seals: seals.clone(),
        backups: backups.clone(),
        keyring: keyring.clone(),
        stamp: stamp.clone(),
        periods: Periods { subjects: config.backup.subject_days, journal: config.storage.journal_days },
        erasing: tokio::sync::Mutex::default(),
    };
    let erasures = Arc::new(erasures);
    let vault = secrets::Vault {
        data: config.instance.data_dir.clone(),
        stamp: stamp.clone(),
        root,
        keeper: keys::keeper(config)?,
        authority: config.instance.data_dir.join(authority::FILE),
    };
    let config::Secrets { token_days, signing_days, storage_days } = config.secrets;
    let secrets = Arc::new(Secrets {
        keyring: keyring.clone(),
        documents: store(),
        subjects,
        sessions: sessions.clone(),
        access: access.clone(),
        audit: audit.clone(),
        clock: time(),
        maker: Arc::new(Maker(config.server.hostnames.clone())),
        certificates: Default::default(),
        periods: secrets::Periods { token: token_days, signing: signing_days, storage: storage_days },
        vault: vault.shared(),
    });
    let limiter = Arc::new(Limiter::new(time(), requests(config)?));
    let migrating = Migrations::new(store(), time(), migrations::known()?).with(audit.clone()).alone();
    let migrating = Arc::new(migrating);
    let snapshots = Arc::new(Snapshots {
        access: access.clone(),
        documents: store(),
        audit: audit.clone(),
        clock: time(),
        migrations: migrating.clone(),
        stores: migrations::stores(config, &stamp, &keyring, &clock),
        folder: config.instance.data_dir.join(migrations::COPIES),
        making: tokio::sync::Mutex::default(),
    });
    Ok(Opened {
        stamp,
        keyring,
        documents,
        audit,
        seals,
        sessions,
        identities,
        mfa,
        keys,
        machines,
        recoveries,
        verifications,
        oidc,
        backups,
        drills,
        access,
        policies,
        subjects: erasures,
        secrets,
        trust,
        throttle,
        limiter,
        migrations: migrating,
        snapshots,
        clock,
    })
}

/// How trust moves, as configured.
pub fn rules(config: &Config) -> Result<Rules, Problem> {
    let trust = &config.trust;
    Ok(Rules::new(trust.baseline, trust.half_life_days, &trust.weights).map_err(services::Error::Invalid)?)
}

/// When backups are made and how long they are kept, as configured.
pub fn backup_settings(config: &Config) -> Result<backups::Settings, Problem> {
    let backup = &config.backup;
    let refused = |fault| Problem::from(services::Error::Invalid(fault));
    let zone = match &backup.timezone {
        Some(name) => Zone::named(name).ok_or_else(|| refused(Fault::new("schedule.timezone").at(name)))?,
        None => Zone::system(),
    };
    Ok(backups::Settings {
        schedule: Schedule::parse(&backup.schedule, zone).map_err(refused)?,
        every: Duration::from_secs(backup.segment_seconds),
        rules: backups::Rules::read(&backup.keep).map_err(refused)?,
        configuration: config.text.clone(),
    })
}

/// How many requests callers may make, as configured.
pub fn requests(config: &Config) -> Result<limits::Settings, Problem> {
    let limits = &config.limits;
    let settings = limits::Settings::new(limits.requests_per_minute, &limits.routes);
    Ok(settings.map_err(services::Error::Invalid)?)
}

/// The secret tokens are signed with, where that is asked for.
fn shared_secret(config: &Config) -> Result<Option<&Secret>, Problem> {
    let asked = config.identity.token_algorithm == TokenAlgorithm::Hs256;
    let absent = || Problem::new(Kind::Refused, Fault::new("instance.no_jwt_secret"));
    asked.then(|| config.identity.jwt_secret.as_ref().ok_or_else(absent)).transpose()
}

/// The database's file in the data directory.
pub fn database(config: &Config) -> PathBuf {
    file(config, Purpose::Data)
}

fn file(config: &Config, purpose: Purpose) -> PathBuf {
    let name = if purpose == Purpose::Subjects { "subjects.sealed" } else { "documents.sealed" };
    config.instance.data_dir.join(name)
}

pub fn place(config: &Config, stamp: &Stamp, keyring: &Keyring, purpose: Purpose) -> Place {
    let keys = DataKeys::of(&keyring.storage_keys(purpose)).expect("opening the keyring makes sure of every purpose");
    Place { path: file(config, purpose), keys, stamp: format!("{} {}", stamp.id, stamp.environment).into_bytes() }
}

fn options(config: &Config) -> Options {
    let bytes = |mib: u64| usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    Options {
        cache: bytes(config.storage.cache_mib),
        max_document: bytes(config.server.document_mib),
        reserve: config.storage.reserve_mib << 20,
    }
}
