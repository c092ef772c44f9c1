//! An instance of its own for each test: a store in a temporary folder, an administrator, the router.

use debrouille_appliance::{
    backends::{
        documents::embedded::{
            Embedded, Options, Place,
            sealed::{DataKeys, KEY},
        },
        objects::folder::Folder,
    },
    base::{
        clock::{Clock, SharedClock, SystemClock, Timestamp},
        environment::Environment,
    },
    http::{self, Limits, State},
    ports::documents::Documents as Store,
    services::{
        access::{Access, Caller, Role},
        backups::{Backups, Identity, Recipient},
        collections::Collections,
        documents::{Documents, Limits as DocumentLimits},
        health::{Health, Phase},
        identities::Identities,
        instance::{self, Stamp},
        keyring::{Keyring, Purpose},
        policies::Policies,
        sealing::Seals,
        sessions::Sessions,
        subjects::{Periods, Subjects},
    },
};
use poem::{
    Endpoint, EndpointExt, Request, Response,
    endpoint::BoxEndpoint,
    http::{HeaderMap, Method, StatusCode},
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};
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
    let recipients = [(); 2].map(|()| Identity::generate(Vec::new()).recipient().clone());
    state_for((store, memory()), (stamp, keyring), folder, limits, recipients.to_vec()).await
}

/// A store in memory.
pub fn memory() -> Arc<dyn Store> {
    let backend = redb::backends::InMemoryBackend::new();
    Arc::new(Embedded::open_over(backend, Options::default(), Arc::new(SystemClock)).unwrap())
}

/// Over a store of documents and one of subjects' keys, its backups sealed to these.
pub async fn state_for(
    (store, subjects): (Arc<dyn Store>, Arc<dyn Store>),
    (stamp, keyring): (&Stamp, &Keyring),
    folder: &Path,
    limits: Limits,
    recipients: Vec<Recipient>,
) -> State {
    let clock: SharedClock = Arc::new(SystemClock);
    let seals = Arc::new(Seals::open(subjects, clock.clone()).await.unwrap());
    let sessions = Arc::new(Sessions::new(store.clone(), clock.clone(), stamp, keyring));
    let access = Arc::new(Access::new(stamp.environment, clock.clone()));
    let (documents, time) = (store.clone(), clock.clone());
    let policies = Arc::new(Policies::new(documents, time, stamp.environment, access.clone(), seals.clone()));
    let target = Arc::new(Folder::open(folder).unwrap());
    let keys = Arc::new(keyring.clone());
    let time = clock.clone();
    let backups = Backups::new(store.clone(), target, stamp.clone(), keys.clone(), recipients, time, access.clone());
    let backups = Arc::new(backups.beside(seals.clone(), Arc::new(Folder::beneath(folder, "subjects")), 30));
    let health = Arc::new(Health::default());
    health.enter(Phase::Serving);
    let identities = Arc::new(Identities::new(store.clone(), clock.clone(), sessions.clone(), access.clone()));
    let subjects = Subjects {
        documents: store.clone(),
        clock: clock.clone(),
        access: access.clone(),
        identities: identities.clone(),
        seals: seals.clone(),
        backups: backups.clone(),
        keyring: keys,
        stamp: stamp.clone(),
        periods: Periods { subjects: 30, journal: 90 },
        erasing: tokio::sync::Mutex::default(),
    };
    let limit = DocumentLimits::default();
    State {
        documents: Documents::new(store.clone(), clock.clone(), limit, access.clone(), seals),
        collections: Collections::new(store, clock.clone(), access, policies.clone()),
        identities,
        policies,
        subjects: Arc::new(subjects),
        sessions,
        backups,
        health,
        clock,
        environment: stamp.environment,
        limits,
        tasks: TaskTracker::new(),
        bodies: http::Room::default(),
    }
}

impl House {
    pub async fn open() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (stamp, keyring) = keys();
        let key = keyring.current(Purpose::Data);
        let material: [u8; KEY] = key.material.as_slice().try_into().unwrap();
        let place = Place {
            path: folder.path().join("documents.sealed"),
            keys: DataKeys::new(key.version, material),
            stamp: stamp.id.clone().into_bytes(),
        };
        let store = Embedded::open(place, Options::default(), Arc::new(SystemClock)).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let backups = folder.path().join("backups");
        std::fs::create_dir(&backups).unwrap();
        Self::over((store, memory()), (stamp, keyring), folder, limits).await
    }

    /// Over stores that may hold something already, with an administrator.
    pub async fn over(
        stores: (Arc<dyn Store>, Arc<dyn Store>),
        (stamp, keyring): (Stamp, Keyring),
        folder: TempDir,
        limits: Limits,
    ) -> Self {
        instance::furnish(&*stores.0, Timestamp(1)).await.unwrap();
        let recipient = Identity::generate(Vec::new());
        let recipients = vec![recipient.recipient().clone()];
        let backups = folder.path().join("backups");
        let state = state_for(stores.clone(), (&stamp, &keyring), &backups, limits, recipients).await;
        state.policies.load().await.unwrap();
        let password = Zeroizing::new(PASSWORD.to_owned());
        // There already where a backup brought it back.
        let _ = state.identities.add(&Caller::system(), EMAIL, password, vec![Role::Admin]).await;
        let (health, subjects) = (state.health.clone(), state.subjects.clone());
        let router = http::router(state).boxed();
        let keys = (stamp, keyring);
        let mut house = Self { router, token: String::new(), health, folder, stores, recipient, keys, subjects };
        house.token = house.login(EMAIL, PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
        house
    }

    pub async fn call(&self, request: Request) -> Answer {
        let mut response = self.router.get_response(request).await;
        let body = response.take_body().into_vec().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: String::from_utf8(body).unwrap() }
    }

    /// A request of the administrator, unless a header says whose; headers as `name: value`.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri_str(encode(path));
        request = request.header("accept-language", "en");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
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
        let body = json!({ "data": { "email": email, "password": password } });
        let request = Request::builder()
            .method(Method::POST)
            .uri_str("/api/v1/auth/login")
            .content_type("application/json")
            .body(body.to_string());
        self.call(request).await
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
