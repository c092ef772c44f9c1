//! A public authority by ACME (RFC 8555): an account, an order, its proofs, a certificate; and when it wants one replaced
//! (RFC 9773).

mod client;
pub mod dns;
pub mod handshake;
pub mod hook;

use super::files;
use crate::{
    backends::web::https::Https,
    base::{clock::Timestamp, config::Challenge, fault::Fault},
    domain::certificate::Certificate,
    ports::{
        self, Error,
        certificates::{Denial, Issuer, Leaf, Order, Proof, Proofs, Window},
    },
};
use client::Client;
use futures_util::FutureExt;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// For an authority to answer all that one step asks of it.
const PATIENCE: Duration = Duration::from_secs(300);
/// For it to look at the proofs, and again to sign.
const LOOK: Duration = Duration::from_secs(90);
const LONGEST_TOKEN: usize = 256;
/// Of an authority's own words, in characters.
const MOST_WORDS: usize = 500;
/// Of its problems (RFC 8555, 6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
const OUT_OF_STEP: &str = "certificates.issuer_out_of_step";

pub struct Acme {
    pub directory: String,
    /// A kind of certificate the authority names, where not its usual one.
    pub profile: Option<String>,
    /// Key identifier and MAC key of an account that was agreed elsewhere (RFC 8555, 7.3.4).
    pub external: Option<(String, Zeroizing<Vec<u8>>)>,
    /// A mail address.
    pub contact: Option<String>,
    pub challenge: Challenge,
    pub proofs: Arc<dyn Proofs>,
    pub https: Arc<Https>,
}

#[async_trait::async_trait]
impl Issuer for Acme {
    fn directory(&self) -> &str {
        &self.directory
    }

    async fn register(&self, now: Timestamp) -> Result<Zeroizing<Vec<u8>>, Denial> {
        let client = Client::new(self.https.clone(), now);
        let contact = self.contact.as_ref().map(|address| format!("mailto:{address}"));
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.external.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
        let made = Account::builder_with_http(Box::new(client.clone()));
        let made = made.create(&account, self.directory.clone(), external.as_ref());
        let (_, credentials) = self.asked(&client, async { Ok(made.await?) }).await?;
        let text = serde_json::to_vec(&credentials).map_err(|error| fault(Error::Backend(Box::new(error))))?;
        Ok(Zeroizing::new(text))
    }

    async fn order(&self, order: Order<'_>, now: Timestamp) -> Result<Leaf, Denial> {
        match self.attempt(&order, now).await {
            // Of one request among a dozen the nonce was refused three times: an order begun anew costs the authority little.
            Err(denial) if denial.again.is_none() && is_out_of_step(&denial.error) => self.attempt(&order, now).await,
            done => done,
        }
    }

    async fn window(&self, account: &[u8], certificate: &[u8], now: Timestamp) -> Result<Option<Window>, Denial> {
        let client = Client::new(self.https.clone(), now);
        let account = self.account(account, &client).await?;
        let der = CertificateDer::from(certificate);
        let Ok(id) = CertificateIdentifier::try_from(&der) else { return Ok(None) };
        let said = async {
            match account.renewal_info(&id).await {
                Err(instant_acme::Error::Unsupported(_)) => Ok(None),
                said => Ok(Some(said?)),
            }
        };
        Ok(self.asked(&client, said).await?.map(|(info, again)| {
            let time = |time: time::OffsetDateTime| Timestamp(time.unix_timestamp().saturating_mul(1000));
            let (start, end) = (time(info.suggested_window.start), time(info.suggested_window.end));
            let again = now.plus_seconds(i64::try_from(again.as_secs()).unwrap_or(i64::MAX / 1000));
            Window { start, end, again }
        }))
    }
}

/// On whose side the way to a certificate ended.
enum Failure {
    Answered(instant_acme::Error),
    Ours(Error),
}

impl From<instant_acme::Error> for Failure {
    fn from(error: instant_acme::Error) -> Self {
        Self::Answered(error)
    }
}

impl Acme {
    async fn attempt(&self, order: &Order<'_>, now: Timestamp) -> Result<Leaf, Denial> {
        let client = Client::new(self.https.clone(), now);
        let account = self.account(order.account, &client).await?;
        let identifiers: Vec<_> = order.names.iter().map(|name| identifier(name)).collect();
        let mut placed = self.asked(&client, self.place(&account, &identifiers, order.replaces)).await?;
        let proofs = self.asked(&client, self.proofs(&mut placed, order.names)).await?;
        let proven = match proofs.is_empty() {
            true => Ok(()),
            // Zones and programs have their own patience.
            false => match self.proofs.show(&proofs).await {
                Ok(()) => self.asked(&client, self.prove(&mut placed)).await,
                Err(error) => Err(fault(error)),
            },
        };
        if let Err(error) = self.proofs.withdraw(&proofs).await {
            tracing::warn!(issuer = self.directory, %error, "a proof for an authority is left behind");
        }
        proven?;
        self.asked(&client, self.collect(&mut placed, order.names, now)).await
    }

    /// What an authority is asked, within a time; whatever it answers, it stops nothing but this order.
    async fn asked<T>(&self, client: &Client, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Denial> {
        let answered = timeout(PATIENCE, AssertUnwindSafe(asked).catch_unwind()).await;
        let again = client.again();
        let away = |cause: String| {
            let fault = Fault::new("certificates.issuer_away").with("issuer", &self.directory);
            Denial { error: Error::OutOfReach(fault.with("cause", cause)), again, stranger: false }
        };
        match answered {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(Failure::Ours(error)))) => Err(Denial { error, again, stranger: false }),
            Ok(Ok(Err(Failure::Answered(error)))) => match &error {
                instant_acme::Error::Api(problem) if problem.r#type.as_deref() == Some(BAD_NONCE) => {
                    let fault = Fault::new(OUT_OF_STEP).with("issuer", &self.directory);
                    let error = Error::OutOfReach(fault.with("cause", shortened(&error.to_string())));
                    Err(Denial { error, again, stranger: false })
                }
                instant_acme::Error::Api(problem) if problem.r#type.as_deref() != Some(RATE_LIMITED) => {
                    let stranger = problem.r#type.as_deref() == Some(NO_ACCOUNT);
                    Err(Denial { error: self.refused(&error.to_string()), again, stranger })
                }
                instant_acme::Error::Api(_) => {
                    let fault = Fault::new("certificates.issuer_busy").with("issuer", &self.directory);
                    let error = Error::OutOfReach(fault.with("cause", shortened(&error.to_string())));
                    Err(Denial { error, again, stranger: false })
                }
                _ => Err(away(shortened(&error.to_string()))),
            },
            Ok(Err(_)) => Err(away("an answer that cannot be".to_owned())),
            Err(_) => Err(away(format!("no end in {} s", PATIENCE.as_secs()))),
        }
    }

    async fn account(&self, kept: &[u8], client: &Client) -> Result<Account, Denial> {
        let credentials: AccountCredentials = serde_json::from_slice(kept)
            .map_err(|error| fault(Error::Corrupt(format!("the account with {}: {error}", self.directory))))?;
        let account = Account::builder_with_http(Box::new(client.clone())).from_credentials(credentials);
        self.asked(client, async { Ok(account.await?) }).await
    }

    /// What it replaces is said only as far as the authority takes it: it may not, may not know it, or find it another's.
    async fn place(
        &self,
        account: &Account,
        identifiers: &[Identifier],
        replaces: Option<&[u8]>,
    ) -> Result<instant_acme::Order, Failure> {
        let plain = || match &self.profile {
            Some(profile) => NewOrder::new(identifiers).profile(profile),
            None => NewOrder::new(identifiers),
        };
        let der = replaces.map(CertificateDer::from);
        let Some(Ok(id)) = der.as_ref().map(CertificateIdentifier::try_from) else {
            return Ok(account.new_order(&plain()).await?);
        };
        match account.new_order(&plain().replaces(id)).await {
            Err(error) if may_be_for_replacing(&error) => Ok(account.new_order(&plain()).await?),
            placed => Ok(placed?),
        }
    }

    /// What is to be shown for an order: for its names and no others, however the authority words it.
    async fn proofs(&self, order: &mut instant_acme::Order, names: &[String]) -> Result<Vec<Proof>, Failure> {
        let ours = |cause: String| Failure::Ours(self.refused(&cause));
        let mut proofs = Vec::new();
        let mut asked = order.authorizations();
        while let Some(authorization) = asked.next().await {
            let mut authorization = authorization?;
            // Proven lately: it need not be again.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            if !names.contains(&name) || proofs.len() >= names.len() {
                return Err(ours(format!("a proof for {} was not asked for", shortened(&name))));
            }
            let kind = self.kind();
            let Some(challenge) = authorization.challenge(kind.clone()) else {
                return Err(ours(format!("no {kind:?} for {name}")));
            };
            let token = challenge.token.clone();
            // RFC 8555, 8.3: base64url. What is written to a zone or given to a program depends on it.
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(letter) {
                return Err(ours(format!("a token for {name} that is none")));
            }
            let answer = challenge.key_authorization();
            let digest = answer.digest().as_ref().try_into().expect("SHA-256 is 32 bytes");
            let authorization = answer.as_str().to_owned();
            proofs.push(Proof { name: name.trim_start_matches("*.").to_owned(), token, authorization, digest });
        }
        Ok(proofs)
    }

    /// Tells the authority that all is shown, and waits until it has seen it.
    async fn prove(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let mut told = order.authorizations();
        while let Some(authorization) = told.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(self.kind()) {
                challenge.set_ready().await?;
            }
        }
        match order.poll_ready(&RetryPolicy::default().timeout(LOOK)).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Err(instant_acme::Error::Api(problem)) if problem.r#type.as_deref() == Some(RATE_LIMITED) => {
                Err(instant_acme::Error::Api(problem).into())
            }
            Ok(_) | Err(instant_acme::Error::Api(_)) => Err(Failure::Ours(self.refused(&why(order).await))),
            Err(error) => Err(error.into()),
        }
    }

    fn kind(&self) -> ChallengeType {
        match self.challenge {
            Challenge::Http => ChallengeType::Http01,
            Challenge::Tls => ChallengeType::TlsAlpn01,
            Challenge::Dns => ChallengeType::Dns01,
        }
    }

    /// Has a new key certified, and looks at what came as a client would.
    async fn collect(
        &self,
        order: &mut instant_acme::Order,
        names: &[String],
        now: Timestamp,
    ) -> Result<Leaf, Failure> {
        let own = |error: rcgen::Error| Failure::Ours(Error::Backend(Box::new(error)));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(own)?;
        let mut parameters = CertificateParams::new(names.to_vec()).map_err(own)?;
        parameters.distinguished_name = DistinguishedName::new();
        let request = parameters.serialize_request(&key).map_err(own)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&RetryPolicy::default().timeout(LOOK)).await?;
        let secret = Zeroizing::new(key.serialize_der());
        self.judge(chain.as_bytes(), &secret, names, now).map_err(|cause| {
            let fault = Fault::new("certificates.issuer_wrong").with("issuer", &self.directory).with("cause", cause);
            Failure::Ours(Error::Rejected(fault))
        })
    }

    fn judge(&self, pem: &[u8], key: &[u8], names: &[String], now: Timestamp) -> Result<Leaf, String> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| error.to_string())?;
        let leaf = files::leaf(&chain, key)?;
        let certificate = Certificate::read(&leaf.chain[0])?;
        if let Some(name) = names.iter().find(|name| !certificate.covers(name)) {
            return Err(format!("it is not for {name}"));
        }
        if now >= leaf.not_after {
            return Err(format!("it ended at {}", leaf.not_after.rfc3339()));
        }
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key)).clone_key();
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| error.to_string())?;
        Ok(leaf)
    }

    fn refused(&self, cause: &str) -> Error {
        let fault = Fault::new("certificates.issuer_refused").with("issuer", &self.directory);
        Error::Rejected(fault.with("cause", shortened(cause)))
    }
}

/// Every other answer but that it is asked too much, or knows no such account: those an order without it meets too.
fn may_be_for_replacing(error: &instant_acme::Error) -> bool {
    match error {
        instant_acme::Error::Unsupported(_) => true,
        instant_acme::Error::Api(problem) => {
            ![Some(RATE_LIMITED), Some(NO_ACCOUNT)].contains(&problem.r#type.as_deref())
        }
        // The library's own word where it is not confirmed; ours where there was no answer.
        instant_acme::Error::Other(error) => error.downcast_ref::<ports::Error>().is_none(),
        _ => false,
    }
}

/// An authority's words are its own, and no longer than people read.
fn shortened(words: &str) -> String {
    words.chars().take(MOST_WORDS).collect()
}

/// Why an order became invalid, as the first proof that failed says.
async fn why(order: &mut instant_acme::Order) -> String {
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return format!("{name}: {problem}");
        }
    }
    "the order became invalid".to_owned()
}

/// Nothing was done: the library asks three times with a new nonce (RFC 8555, 6.5), and then gives up.
fn is_out_of_step(error: &Error) -> bool {
    matches!(error, Error::OutOfReach(fault) if fault.key == OUT_OF_STEP)
}

fn identifier(name: &str) -> Identifier {
    match name.parse::<IpAddr>() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(name.to_owned()),
    }
}

fn fault(error: Error) -> Denial {
    Denial { error, again: None, stranger: false }
}
