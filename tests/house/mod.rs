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
        backups::{Backups, Identity},
        collections::Collections,
        documents::{Documents, Limits as DocumentLimits},
        health::{Health, Phase},
        identities::{Identities, Settings},
        instance::{self, Stamp},
        invitations::Invitations,
        keyring::{Keyring, Purpose},
        organizations::Organizations,
        sessions::Sessions,
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
pub fn state(store: Arc<dyn Store>, stamp: &Stamp, keyring: &Keyring, folder: &Path, limits: Limits) -> State {
    state_with(store, stamp, keyring, folder, limits, Settings::default())
}

/// As [`state`], where the operator decided otherwise.
pub fn state_with(
    store: Arc<dyn Store>,
    stamp: &Stamp,
    keyring: &Keyring,
    folder: &Path,
    limits: Limits,
    settings: Settings,
) -> State {
    let clock: SharedClock = Arc::new(SystemClock);
    let sessions = Arc::new(Sessions::new(store.clone(), clock.clone(), stamp, keyring));
    let access = Arc::new(Access::new(stamp.environment));
    let recipients = [(); 2].map(|()| Identity::generate(Vec::new()).recipient().clone());
    let target = Arc::new(Folder::open(folder).unwrap());
    let keys = Arc::new(keyring.clone());
    let (recipients, time) = (recipients.to_vec(), clock.clone());
    let backups = Backups::new(store.clone(), target, stamp.clone(), keys, recipients, time, access.clone());
    let health = Arc::new(Health::default());
    health.enter(Phase::Serving);
    let identities = Identities::new(store.clone(), clock.clone(), sessions.clone(), access.clone());
    let identities = Arc::new(identities.with(settings));
    let memberships = identities.memberships().clone();
    State {
        organizations: Organizations::new(store.clone(), clock.clone(), access.clone(), memberships),
        invitations: Invitations::new(store.clone(), clock.clone(), access.clone(), identities.clone()),
        documents: Documents::new(store.clone(), clock.clone(), DocumentLimits::default(), access.clone()),
        collections: Collections::new(store.clone(), clock.clone(), access.clone()),
        identities,
        sessions,
        backups: Arc::new(backups),
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
        Self::furnished(limits, Settings::default()).await
    }

    pub async fn furnished(limits: Limits, settings: Settings) -> Self {
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
        instance::furnish(&*store, Timestamp(1)).await.unwrap();
        let backups = folder.path().join("backups");
        std::fs::create_dir(&backups).unwrap();
        let state = state_with(store, &stamp, &keyring, &backups, limits, settings);
        let password = Zeroizing::new(PASSWORD.to_owned());
        state.identities.add(&Caller::system(), EMAIL, password, vec![Role::Admin]).await.unwrap();
        let health = state.health.clone();
        let router = http::router(state).boxed();
        let mut house = Self { router, token: String::new(), health, folder };
        house.token = house.login(EMAIL, PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
        house
    }

    pub async fn call(&self, request: Request) -> Answer {
        let mut response = self.router.get_response(request).await;
        let body = response.take_body().into_vec().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: String::from_utf8(body).unwrap() }
    }

    /// A request of the administrator; headers as `name: value`.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        self.ask_as(Some(&self.token), method, path, headers, body).await
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
