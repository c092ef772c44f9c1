//! An instance of its own for each test: a store in a temporary folder, an administrator, the router.

use debrouille_appliance::{
    backends::{
        certificates::internal::Maker,
        documents::embedded::{
            Embedded, Options, Place,
            sealed::{DataKeys, KEY},
        },
        keys::local::{LocalKeeper, LocalRootKey},
        mail,
        objects::folder::Folder,
        web::https::Https,
    },
    base::{
        clock::{Clock, FixedClock, SharedClock, SystemClock, Timestamp},
        environment::Environment,
        metrics::Metrics,
    },
    domain::trust::Rules,
    http::{self, Limits, State},
    ports::{documents::Documents as Store, mail::Mailer},
    services::{
        access::{Access, Caller, Role},
        alerts::{Alerts, Head},
        audit::{self, Audit},
        backups::{Backups, Identity, Recipient, Target},
        collections::Collections,
        documents::{Documents, Limits as DocumentLimits},
        drills::Drills,
        health::{Health, Phase},
        identities::{Identities, Settings},
        instance::{self, Stamp},
        invitations::Invitations,
        keyring::{Keyring, Purpose},
        keys::Keys,
        limits::{self, Limiter},
        logs::Logs,
        machines::Machines,
        mfa::{Mfa, Site},
        migrations::{Migrations, Snapshots, Stores},
        oidc::{Oidc, Settings as Provider},
        organizations::Organizations,
        policies::Policies,
        recovery::Recoveries,
        sealing::Seals,
        secrets::{self, Secrets},
        sessions::Sessions,
        status::Status,
        subjects::{Periods, Subjects},
        throttle::Throttle,
        trust::Trust,
        updates,
        verification::Verifications,
    },
};
use poem::{
    Endpoint, EndpointExt, Request, Response,
    endpoint::BoxEndpoint,
    http::{HeaderMap, Method, StatusCode},
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

pub const EMAIL: &str = "admin@example.org";
pub const PASSWORD: &str = "une longue phrase de passe";

pub struct House {
    router: BoxEndpoint<'static, Response>,
    pub token: String,
    pub health: Arc<Health>,
    pub folder: TempDir,
    pub recoveries: Arc<Recoveries>,
    pub verifications: Arc<Verifications>,
    /// Of the documents, and of the subjects' keys.
    pub stores: (Arc<dyn Store>, Arc<dyn Store>),
    /// Who opens its backups.
    pub recipient: Identity,
    pub keys: (Stamp, Keyring),
    pub subjects: Arc<Subjects>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(json["success"], true, "{json}");
        json["data"].clone()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Status, code and rule of a failure.
    pub fn refusal(&self) -> (u16, String, String) {
        let json = self.json();
        assert_eq!(json["success"], false, "{json}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text(&json["error"]["code"]), text(&json["error"]["details"]["rule"]))
    }

    /// The code of a failure; empty for a success or a stream.
    pub fn code(&self) -> String {
        let json: Value = serde_json::from_str(&self.text).unwrap_or_default();
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, rule: &str) {
        assert_eq!(self.refusal(), (status, code.to_owned(), rule.to_owned()), "{}", self.text);
    }

    #[track_caller]
    pub fn ok(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

pub fn keys() -> (Stamp, Keyring) {
    let now = SystemClock.now();
    (Stamp::new(Environment::Development, now), Keyring::generate((Zeroizing::new(vec![1]), vec![1]), now))
}

/// The router over any store, with an administrator's token where the store can keep one.
pub async fn state(store: Arc<dyn Store>, stamp: &Stamp, keyring: &Keyring, folder: &Path, limits: Limits) -> State {
    let recipients = [(); 2].map(|()| Identity::generate(Vec::new()).recipient().clone()).to_vec();
    let (clock, settings) = (Arc::new(SystemClock), Settings::default());
    state_at(clock, (store, memory()), (stamp, keyring), folder, limits, settings, recipients).await
}

/// A store in memory.
pub fn memory() -> Arc<dyn Store> {
    let backend = redb::backends::InMemoryBackend::new();
    Arc::new(Embedded::open_over(backend, Options::default(), Arc::new(SystemClock)).unwrap())
}

/// Over a store of documents and one of subjects' keys, its backups sealed to these.
async fn state_at(
    clock: SharedClock,
    (store, subjects): (Arc<dyn Store>, Arc<dyn Store>),
    (stamp, keyring): (&Stamp, &Keyring),
    folder: &Path,
    limits: Limits,
    settings: Settings,
    recipients: Vec<Recipient>,
) -> State {
    let sealed = subjects.clone();
    let seals = Arc::new(Seals::open(subjects, clock.clone()).await.unwrap());
    let trust = Arc::new(Trust::new(store.clone(), clock.clone(), Rules::default()));
    let access = Arc::new(Access::new(stamp.environment, clock.clone(), trust.clone()));
    let keys = Arc::new(keyring.clone());
    let (kept, time, own) = (store.clone(), clock.clone(), stamp.clone());
    let audit = Arc::new(Audit::new(kept, time, own, keys.clone(), audit::Settings::default(), access.clone()));
    let (kept, time, rights) = (store.clone(), clock.clone(), access.clone());
    let policies = Arc::new(Policies::new(kept, time, stamp.environment, rights, seals.clone(), audit.clone()));
    let (kept, time) = (store.clone(), clock.clone());
    let sessions = Arc::new(Sessions::new(kept, time, stamp, keyring, trust.clone(), audit.clone()));
    let throttle = Arc::new(Throttle::new(clock.clone()));
    let (kept, time, people) = (store.clone(), clock.clone(), sessions.clone());
    let identities =
        Identities::new(kept, time, people, throttle.clone(), trust.clone(), access.clone(), audit.clone());
    let identities = Arc::new(identities.with(settings));
    let memberships = identities.memberships().clone();
    let site = Site::new(&["localhost".to_owned()], 443, &[]).unwrap();
    let (kept, time, who, open) = (store.clone(), clock.clone(), identities.clone(), sessions.clone());
    let mfa = Arc::new(Mfa::new(kept, time, who, open, stamp.environment, audit.clone(), site));
    let objects = Arc::new(Folder::open(folder).unwrap());
    let targets = vec![Target { name: "local".to_owned(), objects, window: None, segments_wait: false }];
    let (kept, time, own, to) = (store.clone(), clock.clone(), stamp.clone(), (targets, recipients));
    let backups = Backups::new(kept, to, own, keys.clone(), time, access.clone(), audit.clone());
    let backups = Arc::new(backups.beside(seals.clone(), 30));
    let drills = Drills {
        documents: store.clone(),
        clock: clock.clone(),
        access: access.clone(),
        audit: audit.clone(),
        keyring: keys.clone(),
        stamp: stamp.clone(),
    };
    let subjects = Subjects {
        documents: store.clone(),
        clock: clock.clone(),
        access: access.clone(),
        audit: audit.clone(),
        identities: identities.clone(),
        seals: seals.clone(),
        backups: backups.clone(),
        keyring: keys.clone(),
        stamp: stamp.clone(),
        periods: Periods { subjects: 30, journal: 90 },
        erasing: tokio::sync::Mutex::default(),
    };
    let (held, time, open, who) = (store.clone(), clock.clone(), sessions.clone(), identities.clone());
    let api_keys = Arc::new(Keys::new(held, time, access.clone(), open, who, mfa.clone(), audit.clone()));
    let (held, time, open) = (store.clone(), clock.clone(), sessions.clone());
    let machines = Machines::new(held, time, open, api_keys.clone(), audit.clone(), stamp);
    let sender = mail::sender("Appliance <noreply@example.org>").unwrap();
    let mailer = mail::folder::Folder::new(folder.with_file_name("mail"), sender, clock.clone());
    let (held, time, page) = (store.clone(), clock.clone(), "https://example.org/recover".to_owned());
    let (who, mailer) = (identities.clone(), Some(Arc::new(mailer) as Arc<dyn Mailer>));
    let recoveries = Recoveries::new(held, time, who, audit.clone(), mailer.clone(), page);
    let (held, time, page) = (store.clone(), clock.clone(), "https://example.org/verify".to_owned());
    let verifications = Verifications::new(held, time, identities.clone(), audit.clone(), mailer, page);
    let (time, web) = (clock.clone(), Https::new(rustls::RootCertStore::empty(), Duration::from_secs(10)).unwrap());
    let oidc = Oidc::new(time, identities.clone(), audit.clone(), Arc::new(web), provider());
    let secrets = Secrets {
        keyring: keys,
        documents: store.clone(),
        subjects: sealed,
        sessions: sessions.clone(),
        access: access.clone(),
        audit: audit.clone(),
        clock: clock.clone(),
        maker: Arc::new(Maker(vec!["localhost".to_owned()])),
        certificates: Default::default(),
        periods: secrets::Periods::default(),
        vault: vault(folder, stamp).shared(),
    };
    let health = Arc::new(Health::default());
    health.enter(Phase::Serving);
    let (metrics, started) = (Metrics::new(clock.clone()), clock.now());
    let (told, rights) = ((clock.clone(), metrics.clone(), health.clone()), (access.clone(), audit.clone()));
    let head = Head { host: "localhost".to_owned(), environment: stamp.environment.name() };
    let logs = Logs { access: access.clone(), audit: audit.clone(), clock: clock.clone(), levels: None };
    let alerts = Arc::new(Alerts::new(told, rights, folder.join("alerts.json"), head, Vec::new()));
    let noted = updates::Notes { access: access.clone(), audit: audit.clone() };
    let migrations = Arc::new(Migrations::new(store.clone(), clock.clone(), Vec::new()));
    let snapshots = Snapshots {
        access: access.clone(),
        documents: store.clone(),
        audit: audit.clone(),
        clock: clock.clone(),
        migrations,
        stores: Arc::new(NoStores),
        folder: folder.with_file_name("rehearsals"),
        making: tokio::sync::Mutex::default(),
    };
    let (kept, rooms, time, rows) = (store.clone(), store.clone(), clock.clone(), DocumentLimits::default());
    State {
        snapshots: Arc::new(snapshots),
        organizations: Organizations::new(store.clone(), clock.clone(), access.clone(), memberships),
        invitations: Invitations::new(store.clone(), clock.clone(), access.clone(), identities.clone()),
        documents: Documents::new(kept, time, rows, access.clone(), audit.clone(), seals),
        collections: Collections::new(store, clock.clone(), access.clone(), policies.clone()),
        identities,
        access,
        policies,
        subjects: Arc::new(subjects),
        secrets: Arc::new(secrets),
        sessions,
        mfa,
        keys: api_keys,
        machines: Arc::new(machines),
        recoveries: Arc::new(recoveries),
        verifications: Arc::new(verifications),
        oidc: Arc::new(oidc),
        throttle,
        backups,
        drills: Arc::new(drills),
        audit,
        trust,
        limiter: Arc::new(Limiter::new(clock.clone(), limits::Settings::default())),
        proxies: Vec::new(),
        logs: Arc::new(logs),
        traces: None,
        status: Status { alerts, health: health.clone(), metrics, started, documents: rooms },
        updates: noted,
        health,
        clock,
        environment: stamp.environment,
        limits,
        tasks: TaskTracker::new(),
        bodies: http::Room::default(),
    }
}

/// Copies are made by real servers (`tests/process`).
struct NoStores;

#[async_trait::async_trait]
impl Stores for NoStores {
    async fn create(&self, _: &Path) -> debrouille_appliance::ports::Result<Arc<dyn Store>> {
        Err(debrouille_appliance::ports::Error::Unavailable("no stores here".to_owned()))
    }
}

/// A root key and a keyring's place of its own.
fn vault(folder: &Path, stamp: &Stamp) -> secrets::Vault {
    let data = folder.join("vault");
    std::fs::create_dir_all(&data).unwrap();
    let path = data.join("root.key");
    let root = LocalRootKey::from_file(&path).or_else(|_| LocalRootKey::create(&path)).unwrap();
    let (authority, keeper) = (data.join("ca.crt"), Arc::new(LocalKeeper(Some(path))));
    std::fs::write(&authority, "").unwrap();
    secrets::Vault { data, stamp: stamp.clone(), root: Arc::new(root), keeper, authority }
}

/// The provider `scripts/services` starts, if it did.
fn provider() -> Option<Provider> {
    let issuer = std::env::var("OIDC_PROVIDER_URL").ok()?;
    let (client, redirect) = ("appliance".to_owned(), "https://example.org/back".to_owned());
    let secret = serde_json::from_value(json!("a secret of both sides")).unwrap();
    Some(Provider { issuer, client, secret: Some(secret), redirect, create_accounts: true })
}

impl House {
    pub async fn open() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let mut house =
            Self::build(Environment::Development, Arc::new(SystemClock), limits, Settings::default(), |_| ()).await;
        house.enter().await;
        house
    }

    /// Where the operator decided otherwise.
    pub async fn furnished(limits: Limits, settings: Settings) -> Self {
        let mut house = Self::build(Environment::Development, Arc::new(SystemClock), limits, settings, |_| ()).await;
        house.enter().await;
        house
    }

    /// Limited to so many requests a minute, by a clock of the test's own, behind a proxy at 10.0.0.1.
    pub async fn limited(clock: SharedClock, per_minute: u32, routes: &[&str]) -> Self {
        let routes: Vec<String> = routes.iter().map(|&route| route.to_owned()).collect();
        let settings = limits::Settings::new(per_minute, &routes).unwrap();
        let mut house =
            Self::build(Environment::Development, clock.clone(), Limits::default(), Settings::default(), |state| {
                state.limiter = Arc::new(Limiter::new(clock, settings));
                state.proxies = vec!["10.0.0.1/32".parse().unwrap()];
            })
            .await;
        house.enter().await;
        house
    }

    /// Of this environment, its administrator not logged in, its time standing where it is put.
    pub async fn at(environment: Environment) -> (Self, Arc<FixedClock>) {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        (Self::build(environment, clock.clone(), Limits::default(), Settings::default(), |_| ()).await, clock)
    }

    /// Logs the administrator in.
    async fn enter(&mut self) {
        self.token = self.login(EMAIL, PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    }

    async fn build(
        environment: Environment,
        clock: SharedClock,
        limits: Limits,
        settings: Settings,
        change: impl FnOnce(&mut State),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (stamp, keyring) = keys();
        let stamp = Stamp { environment, ..stamp };
        let key = keyring.current(Purpose::Data);
        let material: [u8; KEY] = key.material.as_slice().try_into().unwrap();
        let place = Place {
            path: folder.path().join("documents.sealed"),
            keys: DataKeys::new(key.version, material),
            stamp: stamp.id.clone().into_bytes(),
        };
        let store = Embedded::open(place, Options::default(), clock.clone()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let backups = folder.path().join("backups");
        std::fs::create_dir(&backups).unwrap();
        let keys = (stamp, keyring);
        Self::raise(clock, (store, memory()), keys, folder, (limits, settings), change).await
    }

    /// Over stores that may hold something already, with an administrator, logged in.
    pub async fn over(
        stores: (Arc<dyn Store>, Arc<dyn Store>),
        keys: (Stamp, Keyring),
        folder: TempDir,
        limits: Limits,
    ) -> Self {
        let settings = (limits, Settings::default());
        let mut house = Self::raise(Arc::new(SystemClock), stores, keys, folder, settings, |_| ()).await;
        house.enter().await;
        house
    }

    async fn raise(
        clock: SharedClock,
        stores: (Arc<dyn Store>, Arc<dyn Store>),
        keys: (Stamp, Keyring),
        folder: TempDir,
        (limits, settings): (Limits, Settings),
        change: impl FnOnce(&mut State),
    ) -> Self {
        instance::furnish(&*stores.0, Timestamp(1)).await.unwrap();
        let recipient = Identity::generate(Vec::new());
        let recipients = vec![recipient.recipient().clone()];
        let backups = folder.path().join("backups");
        let own = (&keys.0, &keys.1);
        let mut state = state_at(clock, stores.clone(), own, &backups, limits, settings, recipients).await;
        state.policies.load().await.unwrap();
        change(&mut state);
        let password = Zeroizing::new(PASSWORD.to_owned());
        // There already where a backup brought it back.
        let _ = state.identities.add(&Caller::system(), EMAIL, password, vec![Role::Admin]).await;
        let (health, subjects) = (state.health.clone(), state.subjects.clone());
        let (recoveries, verifications) = (state.recoveries.clone(), state.verifications.clone());
        let router = http::router(state).boxed();
        Self {
            router,
            token: String::new(),
            health,
            folder,
            recoveries,
            verifications,
            stores,
            recipient,
            keys,
            subjects,
        }
    }

    pub async fn respond(&self, request: Request) -> Response {
        self.router.get_response(request).await
    }

    pub async fn call(&self, request: Request) -> Answer {
        let mut response = self.respond(request).await;
        let body = response.take_body().into_vec().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: String::from_utf8(body).unwrap() }
    }

    /// An answer whose body is still to be read.
    pub async fn stream(&self, token: &str, path: &str) -> Response {
        let request = Request::builder().uri_str(encode(path)).header("authorization", format!("Bearer {token}"));
        self.respond(request.finish()).await
    }

    /// A request of the administrator, unless a header says whose; headers as `name: value`.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let own = (!headers.iter().any(|(name, _)| *name == "authorization")).then_some(self.token.as_str());
        self.ask_as(own, method, path, headers, body).await
    }

    /// A request under another token, or without any.
    pub async fn ask_as(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri_str(encode(path)).header("accept-language", "en");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Some(body) => request.content_type("application/json").body(body.to_string()),
            None => request.finish(),
        };
        self.call(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, data: Value) -> Answer {
        self.ask(Method::POST, path, &[], Some(json!({ "data": data }))).await
    }

    pub async fn put(&self, path: &str, data: Value) -> Answer {
        self.ask(Method::PUT, path, &[], Some(json!({ "data": data }))).await
    }

    pub async fn patch(&self, path: &str, data: Value) -> Answer {
        self.ask(Method::PATCH, path, &[], Some(json!({ "data": data }))).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], None).await
    }

    pub async fn login(&self, email: &str, password: &str) -> Answer {
        self.anyone("/api/v1/auth/login", json!({ "email": email, "password": password })).await
    }

    /// A request without proof.
    pub async fn anyone(&self, path: &str, data: Value) -> Answer {
        let request = Request::builder().method(Method::POST).uri_str(path).content_type("application/json");
        self.call(request.body(json!({ "data": data }).to_string())).await
    }

    /// A request with a token of one's own.
    pub async fn by(&self, token: &str, method: Method, path: &str, data: Value) -> Answer {
        let request = Request::builder().method(method).uri_str(path).content_type("application/json");
        let request = request.header("authorization", format!("Bearer {token}"));
        self.call(request.body(json!({ "data": data }).to_string())).await
    }

    /// Takes away policies the instance started with.
    pub async fn without(&self, policies: &[&str]) {
        for policy in policies {
            self.delete(&format!("/api/v1/policies/{policy}")).await.ok(200);
        }
    }

    /// A collection, and its documents' path.
    pub async fn collection(&self, definition: Value) -> String {
        let name = definition["name"].as_str().unwrap().to_owned();
        self.post("/api/v1/collections", definition).await.ok(201);
        format!("/api/v1/collections/{name}/documents")
    }
}

/// Query strings as they are typed in tests: braces, quotes and spaces escaped.
fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/?&=-._~%:,@".contains(&byte);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
