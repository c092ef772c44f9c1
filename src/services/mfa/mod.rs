//! Proof by more than one factor: who must give a second one, what it may be, and the exchange in which it is given.
//! Every way in that begins with one factor ends in [`Mfa::admit`].

mod factors;
mod own;
mod passkeys;
mod totp;
mod waiting;

pub use factors::Answer;
pub use own::{Again, Status};
pub use passkeys::{Offered, Passkey, Site};

use super::{
    Error, Result,
    access::{Caller, Role},
    audit::{Audit, Event},
    identities::{self, IDENTITIES, Identities, Identity},
    sessions::{Granted, Sessions, own},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        environment::Environment,
        secret,
    },
    domain::document::revision,
    ports::documents::{Batch, Change, Documents, Expect, Operation},
};
use factors::Factors;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use waiting::Waiting;
use zeroize::Zeroizing;

pub const FACTORS: &str = "system.factors";

/// Wrong answers to one challenge, and to one identity within [`WINDOW`] seconds: six digits are soon guessed otherwise.
const TRIES: u32 = 5;
const TRIES_OF_ONE: u32 = 10;
const WINDOW: i64 = 900;
/// How often a change is tried again over another's.
const ROUNDS: usize = 16;

/// How something was proven, in the words of RFC 8176.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A password.
    Pwd,
    /// A code good for one use.
    Otp,
    /// A passkey bound to one device, or one its owner's devices share.
    Hwk,
    Swk,
    /// Another provider's word (not of RFC 8176, which has no name for it).
    Fed,
    /// More than one factor.
    Mfa,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pwd => "pwd",
            Self::Otp => "otp",
            Self::Hwk => "hwk",
            Self::Swk => "swk",
            Self::Fed => "fed",
            Self::Mfa => "mfa",
        }
    }
}

/// What is still owed after a first factor that was right.
#[derive(Debug)]
pub struct Owed {
    /// Names the exchange; good for one success.
    pub challenge: String,
    pub methods: Vec<&'static str>,
    /// There is no second factor yet and there must be one: it is set up within the exchange.
    pub enrol: bool,
}

/// A second factor given.
pub enum Second {
    Answer(Answer),
    Passkey { ceremony: String, credential: serde_json::Value },
}

/// A secret shown once, to be put into an authenticator app.
pub struct Secret {
    pub secret: Zeroizing<String>,
    pub uri: Zeroizing<String>,
}

/// Someone whose first factor was right.
struct Challenge {
    identity: Identity,
    device: String,
    methods: Vec<Method>,
    enrol: bool,
    /// To be confirmed by a code of it.
    secret: Option<Zeroizing<Vec<u8>>>,
    wrong: u32,
}

pub struct Mfa {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    environment: Environment,
    identities: Arc<Identities>,
    sessions: Arc<Sessions>,
    audit: Arc<Audit>,
    site: Site,
    challenges: Waiting<Challenge>,
    enrolments: Waiting<own::Enrolment>,
    registrations: Waiting<passkeys::Registration>,
    logins: Waiting<passkeys::Login>,
    /// By identity: answers since the last right one, and since when they count.
    tries: Mutex<HashMap<String, (u32, Timestamp)>>,
}

/// Whether this identity must have a second factor.
pub fn is_required(environment: Environment, identity: &Identity) -> bool {
    environment != Environment::Development && identity.roles.contains(&Role::Admin)
}

impl Mfa {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        identities: Arc<Identities>,
        sessions: Arc<Sessions>,
        environment: Environment,
        audit: Arc<Audit>,
        site: Site,
    ) -> Self {
        Self {
            documents,
            clock,
            environment,
            identities,
            sessions,
            audit,
            site,
            challenges: Waiting::default(),
            enrolments: Waiting::default(),
            registrations: Waiting::default(),
            logins: Waiting::default(),
            tries: Mutex::default(),
        }
    }

    /// Opens a session for who has proven themselves by these methods, unless a second factor is owed: then it must be
    /// in `answer`, or [`Error::SecondFactor`] says how to give it.
    pub async fn admit(
        &self,
        caller: &Caller,
        identity: Identity,
        device: &str,
        methods: &[Method],
        answer: Option<Answer>,
    ) -> Result<Granted> {
        let (factors, _) = self.load(&identity.id).await?;
        let enrol = factors.is_empty();
        if methods.contains(&Method::Mfa) || (enrol && !is_required(self.environment, &identity)) {
            return self.sessions.open(caller, identity, device, methods).await;
        }
        if let Some(answer) = answer.filter(|_| !enrol) {
            if !self.spend(caller, &identity.id, &answer).await? {
                return Err(Error::Unauthorized);
            }
            return self.sessions.open(caller, identity, device, &with(methods, Method::Otp)).await;
        }
        let offered = if enrol { vec!["totp"] } else { factors.methods() };
        let (device, methods) = (device.to_owned(), methods.to_vec());
        let challenge = Challenge { identity, device, methods, enrol, secret: None, wrong: 0 };
        let key = secret::make().to_string();
        self.challenges.put(key.clone(), challenge, self.clock.now());
        Err(Error::SecondFactor(Box::new(Owed { challenge: key, methods: offered, enrol })))
    }

    /// The second factor of a challenge: right, it opens the session; wrong, it may be tried a few times more.
    pub async fn verify(&self, caller: &Caller, key: &str, second: Second) -> Result<Granted> {
        let (expires, challenge) = self.take(key, false)?;
        let id = &challenge.identity.id;
        let given = match &second {
            Second::Answer(answer) => self.spend(caller, id, answer).await.map(|right| right.then_some(Method::Otp)),
            Second::Passkey { ceremony, credential } => match self.assert(caller, ceremony, credential).await {
                Ok((identity, method)) => Ok((identity.id == *id).then_some(method)),
                Err(Error::Unauthorized) => Ok(None),
                Err(error) => Err(error),
            },
        };
        match given {
            Ok(Some(method)) => {
                let Challenge { identity, device, methods, .. } = challenge;
                self.sessions.open(caller, identity, &device, &with(&methods, method)).await
            }
            given => {
                self.put_back(key, challenge, expires);
                Err(given.err().unwrap_or(Error::Unauthorized))
            }
        }
    }

    /// A secret for who must set up a second factor before anything else.
    pub fn enrol_start(&self, key: &str) -> Result<Secret> {
        let (expires, mut challenge) = self.take(key, true)?;
        let secret = totp::secret();
        let shown = self.shown(&secret, &challenge.identity);
        challenge.secret = Some(secret);
        self.challenges.put_until(key.to_owned(), challenge, expires, self.clock.now());
        Ok(shown)
    }

    /// Confirms that secret by a code of it. Answers the session, and recovery codes told this once.
    pub async fn enrol_confirm(&self, caller: &Caller, key: &str, code: &str) -> Result<(Granted, Vec<String>)> {
        let (expires, challenge) = self.take(key, true)?;
        let now = self.clock.now();
        let secret = challenge.secret.as_ref();
        let Some((secret, step)) = secret.and_then(|secret| Some((secret, totp::step(secret, code, now, 0)?))) else {
            self.put_back(key, challenge, expires);
            return Err(Error::Unauthorized);
        };
        let id = &challenge.identity.id;
        // Whoever began this exchange before a password changed has no say any more.
        let current = self.identities.require(id).await?;
        if current.tokens_from != challenge.identity.tokens_from {
            return Err(Error::InvalidProof("identity changed"));
        }
        let changed = self.change(caller, (id, current.tokens_from), |factors| {
            if !factors.is_empty() {
                return Err(Error::InvalidProof("enrolled meanwhile"));
            }
            factors.enrol_totp(secret, step, now);
            Ok(factors.renew_recovery())
        });
        let (codes, since) = changed.await?;
        let identity = self.identities.require(id).await?;
        if identity.tokens_from != since {
            return Err(Error::InvalidProof("identity changed"));
        }
        let methods = with(&challenge.methods, Method::Otp);
        let granted = self.sessions.open(caller, identity, &challenge.device, &methods).await?;
        self.sessions.end_all(caller, id, Some(&granted.session)).await?;
        Ok((granted, codes))
    }

    fn take(&self, key: &str, enrol: bool) -> Result<(Timestamp, Challenge)> {
        let taken = self.challenges.take(key, self.clock.now());
        taken.filter(|(_, challenge)| challenge.enrol == enrol).ok_or(Error::InvalidProof("no such challenge"))
    }

    fn put_back(&self, key: &str, mut challenge: Challenge, expires: Timestamp) {
        challenge.wrong += 1;
        if challenge.wrong < TRIES {
            self.challenges.put_until(key.to_owned(), challenge, expires, self.clock.now());
        }
    }

    fn shown(&self, secret: &[u8], identity: &Identity) -> Secret {
        let uri = totp::uri(secret, self.site.name(), identity.label());
        Secret { secret: Zeroizing::new(totp::base32(secret)), uri }
    }

    /// Whether the code is right; used up before this answers, so that of any number at once one is.
    async fn spend(&self, caller: &Caller, id: &str, answer: &Answer) -> Result<bool> {
        self.count_try(id)?;
        for _ in 0..ROUNDS {
            let (mut factors, expect) = self.load(id).await?;
            if !factors.spend(answer, self.clock.now()) {
                let failed = Event::new("auth.factor").failed("a code that is wrong or used").about(id);
                self.audit.refused(caller, failed).await;
                return Ok(false);
            }
            match self.keep(caller, &factors, expect, Vec::new()).await {
                Err(Error::Precondition(_)) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.tries.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
                    return Ok(true);
                }
            }
        }
        Err(busy())
    }

    /// Counted before it is judged: those that come together count as well.
    fn count_try(&self, id: &str) -> Result<()> {
        let now = self.clock.now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, (_, since)| since.plus_seconds(WINDOW) > now);
        let (count, since) = tries.entry(id.to_owned()).or_insert((0, now));
        *count += 1;
        if *count <= TRIES_OF_ONE {
            return Ok(());
        }
        let wait = since.plus_seconds(WINDOW).seconds() - now.seconds();
        Err(Error::RateLimit { retry_after: u64::try_from(wait).unwrap_or_default().max(1) })
    }

    /// Changes someone's factors, as they were when that was proven (`since`: their `tokens_from`); in the same commit,
    /// what was proven before opens nothing any more. Answers the new `tokens_from` too.
    async fn change<R>(
        &self,
        caller: &Caller,
        (id, since): (&str, Timestamp),
        change: impl Fn(&mut Factors) -> Result<R>,
    ) -> Result<(R, Timestamp)> {
        for _ in 0..ROUNDS {
            let kept = self.documents.get(IDENTITIES, id).await?.ok_or(Error::InvalidProof("identity gone"))?;
            let identity = identities::read(&kept)?;
            if identity.tokens_from != since || identity.status != identities::Status::Active {
                return Err(Error::InvalidProof("identity changed"));
            }
            let (mut factors, expect) = self.load(id).await?;
            let result = change(&mut factors)?;
            factors.tidy();
            let now = self.clock.now();
            let as_read = revision(&kept).map_or(Expect::Present, Expect::Revision);
            let mut renewed = vec![Operation { expect: as_read, ..identities::renewed(id, now)? }];
            // Nobody has a session yet who sets up a first factor to get one.
            if let Ok((_, session)) = own(caller) {
                renewed.push(Sessions::renewed(session, now)?);
            }
            match self.keep(caller, &factors, expect, renewed).await {
                Err(Error::Precondition(_)) => {}
                Err(Error::Conflict(fault)) if fault.key == "documents.exists" => {}
                kept => return kept.map(|()| (result, now)),
            }
        }
        Err(busy())
    }

    async fn load(&self, id: &str) -> Result<(Factors, Expect)> {
        let Some(document) = self.documents.get(FACTORS, id).await? else {
            return Ok((Factors::of(id), Expect::Absent));
        };
        let factors =
            bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))?;
        Ok((factors, revision(&document).map_or(Expect::Present, Expect::Revision)))
    }

    async fn keep(&self, caller: &Caller, factors: &Factors, expect: Expect, with: Vec<Operation>) -> Result<()> {
        let document =
            bson::serialize_to_raw_document_buf(factors).map_err(|error| Error::Internal(Box::new(error)))?;
        let (collection, id) = (FACTORS.to_owned(), factors.id.clone());
        let mut operations = vec![Operation { collection, id, expect, change: Change::Put(document) }];
        operations.extend(with);
        self.commit(caller, operations).await
    }

    async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> Result<()> {
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }
}

fn with(methods: &[Method], second: Method) -> Vec<Method> {
    [methods, &[second, Method::Mfa]].concat()
}

fn busy() -> Error {
    Error::Unavailable("these factors change too often".to_owned())
}
