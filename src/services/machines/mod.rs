//! Machines: a signed assertion (RFC 7523 in shape), or a client certificate, against a short access token. No secret of
//! theirs is kept here.

mod certificate;

pub use certificate::Certificate;

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    identities::Identity,
    instance::Stamp,
    keys::{KEYS, Key, Keys},
    sessions::Sessions,
};
use crate::{
    base::clock::{SharedClock, Timestamp},
    domain::{document::revision, filter::Filter, sort::Sort},
    ports::{
        self,
        documents::{Batch, Change, Conflict, Documents, Expect, Operation, Query},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bson::rawdoc;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Assertions that were used, until they could be no more.
pub const ASSERTIONS: &str = "system.assertions";

/// Seconds between an assertion's `iat` and `exp`, at most; and by how much a machine's clock may run ahead.
const LIFE: i64 = 60;
const AHEAD: i64 = 10;
const LONGEST: usize = 4096;
const LONGEST_JTI: usize = 128;
const AT_ONCE: usize = 500;
/// Who is nobody is checked against a key all the same: the answer takes as long.
const DECOY: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

#[derive(serde::Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: i64,
    exp: i64,
    nbf: Option<i64>,
    jti: String,
}

/// What an assertion gives.
#[derive(Debug)]
pub struct Granted {
    pub access: String,
    /// Seconds the access token lives.
    pub expires_in: i64,
    pub identity: String,
}

pub struct Machines {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    sessions: Arc<Sessions>,
    keys: Arc<Keys>,
    audit: Arc<Audit>,
    audience: String,
}

impl Machines {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        sessions: Arc<Sessions>,
        keys: Arc<Keys>,
        audit: Arc<Audit>,
        stamp: &Stamp,
    ) -> Self {
        Self { documents, clock, sessions, keys, audit, audience: audience(stamp) }
    }

    /// What an assertion must name as `aud`.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Trades an assertion, good for one use, for an access token.
    pub async fn prove(&self, caller: &Caller, assertion: &str) -> Result<Granted> {
        let mut told = Event::new("auth.machine");
        let proven = self.judge(caller, assertion, &mut told).await;
        if let Err(Error::InvalidProof(why)) = &proven {
            self.audit.refused(caller, told.failed(*why)).await;
        }
        proven
    }

    /// Names in `told` the key that is meant, as soon as it is known.
    async fn judge(&self, caller: &Caller, assertion: &str, told: &mut Event) -> Result<Granted> {
        const REFUSED: Error = Error::InvalidProof("not an assertion of a machine of this instance");
        if assertion.len() > LONGEST {
            return Err(REFUSED);
        }
        let header = jsonwebtoken::decode_header(assertion).map_err(|_| REFUSED)?;
        let found = self.keys.of_machine(&header.kid.unwrap_or_default()).await?;
        if let Some((key, machine)) = &found {
            *told = told.clone().about(&machine.id).document(KEYS, &key.id);
        }
        let public = found.as_ref().and_then(|(key, _)| STANDARD.decode(key.public.as_ref()?).ok());
        let claims = self.check(assertion, public.as_deref().unwrap_or(&DECOY));
        let (Some((key, machine)), Some(_), Some(claims)) = (found, public, claims) else { return Err(REFUSED) };
        if claims.iss != claims.sub || ![Some(&machine.id), machine.name.as_ref()].contains(&Some(&claims.sub)) {
            return Err(REFUSED);
        }
        self.check_times(&claims)?;
        self.use_once(caller, &key, &claims, told.clone()).await?;
        self.grant(machine, key, None).await
    }

    /// A token, unless the key ended while it was being proven: from here on its end finds the token.
    async fn grant(&self, machine: Identity, key: Key, certificate: Option<&Certificate>) -> Result<Granted> {
        let (access, expires_in) =
            self.sessions.grant_key(&machine, (&key.id, key.expires), key.restriction, certificate)?;
        match self.keys.of_machine(&key.id).await? {
            Some((_, now)) if now.tokens_from == machine.tokens_from => {
                Ok(Granted { access, expires_in, identity: machine.id })
            }
            _ => Err(Error::InvalidProof("key ended meanwhile")),
        }
    }

    /// Lets go of assertions that could not be used again anyway. Answers how many went.
    pub async fn sweep(&self) -> Result<usize> {
        let now = self.clock.now();
        let filter = Filter::parse(&rawdoc! { "expires": { "$lt": now.0 } }).map_err(Error::Invalid)?;
        let (filter, mut gone) = (Arc::new(filter), 0);
        loop {
            let (collection, filter) = (ASSERTIONS.to_owned(), filter.clone());
            let query = Query { collection, filter, sort: Sort::default(), limit: AT_ONCE, after: None };
            let page = self.documents.find(query).await?;
            let operations = page.documents.iter().filter_map(|document| {
                let (collection, id) = (ASSERTIONS.to_owned(), document.get_str("_id").ok()?.to_owned());
                let expect = revision(document).map_or(Expect::Any, Expect::Revision);
                Some(Operation { collection, id, expect, change: Change::Delete })
            });
            let operations: Vec<_> = operations.collect();
            if operations.is_empty() {
                return Ok(gone);
            }
            gone += operations.len();
            self.commit(&Caller::system(), now, operations).await?;
        }
    }

    /// The claims, if this key signed them for this instance. EdDSA whatever the header says.
    fn check(&self, assertion: &str, public: &[u8]) -> Option<Claims> {
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["aud", "iss", "sub", "exp"]);
        // Against our own clock: the library would read the machine's.
        rules.validate_exp = false;
        jsonwebtoken::decode(assertion, &DecodingKey::from_ed_der(public), &rules).ok().map(|token| token.claims)
    }

    fn check_times(&self, claims: &Claims) -> Result<()> {
        let now = self.clock.now().seconds();
        let refuse = |why| Err(Error::InvalidProof(why));
        match claims {
            _ if claims.exp <= now => refuse("assertion expired"),
            _ if claims.iat > now + AHEAD || claims.nbf.is_some_and(|from| from > now + AHEAD) => {
                refuse("assertion of the future")
            }
            _ if claims.exp.saturating_sub(claims.iat) > LIFE => refuse("assertion that lives too long"),
            _ if claims.jti.is_empty() || claims.jti.len() > LONGEST_JTI => refuse("assertion without a fit jti"),
            _ => Ok(()),
        }
    }

    async fn use_once(&self, caller: &Caller, key: &Key, claims: &Claims, told: Event) -> Result<()> {
        let id = hex::encode(Sha256::digest(format!("{} {}", key.id, claims.jti)));
        let expires = Timestamp(claims.exp.saturating_mul(1000));
        let change = Change::Put(rawdoc! { "key": &*key.id, "expires": expires.0 });
        let operation = Operation { collection: ASSERTIONS.to_owned(), id, expect: Expect::Absent, change };
        let operations = vec![operation, self.audit.operation(caller, told)?];
        match self.commit(caller, self.clock.now(), operations).await {
            Err(ports::Error::Conflict(Conflict::Exists { .. })) => Err(Error::InvalidProof("assertion used twice")),
            other => Ok(other?),
        }
    }

    async fn commit(&self, caller: &Caller, time: Timestamp, operations: Vec<Operation>) -> ports::Result<()> {
        let batch = Batch { time, origin: caller.origin(), operations, check: None, receipt: None };
        self.documents.commit(batch).await.map(|_| ())
    }
}

fn audience(stamp: &Stamp) -> String {
    format!("debrouille:{}", stamp.id)
}
