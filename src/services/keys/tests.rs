//! Keys and machines against a clock that is moved by hand, on the real engine.

use super::*;
use crate::{
    base::{
        clock::{Clock, FixedClock},
        environment::Environment,
    },
    services::{
        access::Role,
        bench::Bench,
        machines::{Certificate, Machines},
        mfa::Method,
    },
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

/// The system proves nothing.
const NONE: Again = Again { password: None, answer: None };

struct Locksmith {
    clock: Arc<FixedClock>,
    documents: Arc<dyn Documents>,
    sessions: Arc<Sessions>,
    identities: Arc<Identities>,
    keys: Arc<Keys>,
    machines: Machines,
    admin: Identity,
}

async fn bench() -> Locksmith {
    let bench = Bench::of(Environment::Production).await;
    let mfa = bench.mfa();
    let Bench { clock, documents, stamp, access, sessions, identities, audit, .. } = bench;
    let (store, time, open) = (documents.clone(), clock.clone(), sessions.clone());
    let keys = Keys::new(store.clone(), time.clone(), access, open, identities.clone(), mfa, audit.clone());
    let keys = Arc::new(keys);
    let machines = Machines::new(store, time, sessions.clone(), keys.clone(), audit, &stamp);
    let password = Zeroizing::new(PASSWORD.to_owned());
    let admin = identities.add(&Caller::system(), "admin@example.cd", password, vec![Role::Admin]).await.unwrap();
    Locksmith { clock, documents, sessions, identities, keys, machines, admin }
}

impl Locksmith {
    fn wait(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    async fn key(&self, wanted: Wanted) -> (Key, Zeroizing<String>) {
        let (key, words) = self.keys.create(&Caller::system(), &self.admin.id, wanted, NONE).await.unwrap();
        (key, words.unwrap())
    }

    async fn machine(&self) -> (Identity, Key, EncodingKey) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let machine = self.identities.add_machine(&Caller::system(), "import-job", vec![Role::Operator]).await.unwrap();
        let public = Some(STANDARD.encode(pair.public_key().as_ref()));
        let wanted = Wanted { name: "first".to_owned(), public, ..Wanted::default() };
        let (key, words) = self.keys.create(&Caller::system(), "import-job", wanted, NONE).await.unwrap();
        assert!(words.is_none());
        (machine, key, EncodingKey::from_ed_der(pkcs8.as_ref()))
    }

    fn claims(&self, machine: &Identity) -> Value {
        let now = self.clock.now().seconds();
        json!({
            "iss": machine.id, "sub": machine.id, "aud": self.machines.audience(), "iat": now, "exp": now + 60,
            "jti": random::id(self.clock.now()),
        })
    }

    async fn prove(&self, assertion: &str) -> Result<super::super::machines::Granted> {
        self.machines.prove(&Caller::system(), assertion).await
    }
}

fn named(name: &str) -> Wanted {
    Wanted { name: name.to_owned(), ..Wanted::default() }
}

fn sign(key: &Key, secret: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, secret).unwrap()
}

fn refused<T: std::fmt::Debug>(answer: Result<T>) -> bool {
    matches!(answer, Err(Error::InvalidProof(_)))
}

#[tokio::test]
async fn a_key_proves_its_identity_until_it_expires() {
    let bench = bench().await;
    let (key, words) = bench.key(Wanted { days: Some(1), ..named("one") }).await;
    let proven = bench.keys.verify(&words).await.unwrap();
    assert_eq!((&proven.id, &proven.session, &proven.roles[..]), (&bench.admin.id, &None, &[Role::Admin][..]));
    assert_eq!(proven.key.as_ref(), Some(&key.id));
    assert_eq!(proven.restriction.unwrap().actions, [Action::View]);
    bench.wait(24 * 3600 - 1);
    assert!(bench.keys.verify(&words).await.is_ok());
    bench.wait(1);
    assert!(refused(bench.keys.verify(&words).await), "an expired key passed");
}

#[tokio::test]
async fn nothing_but_the_whole_key_passes() {
    let bench = bench().await;
    let ((key, words), (other, _)) = (bench.key(named("one")).await, bench.key(named("two")).await);
    let (mine, theirs) = (key.id.replace('-', ""), other.id.replace('-', ""));
    let (foreign, _) = text::make(&random::id(bench.clock.now()));
    let (guess, _) = text::make(&key.id);
    for bad in [words.replace(&mine, &theirs).as_str(), &foreign, &guess, "dbk_", &words.to_uppercase()] {
        assert!(refused(bench.keys.verify(bad).await), "{bad}");
    }
    let kept = bench.documents.get(KEYS, &key.id).await.unwrap().unwrap();
    // The secret itself may hold a line as the separators are.
    let secret = words.rsplit_once('_').and_then(|(head, _)| head.splitn(3, '_').nth(2)).unwrap();
    assert_eq!(secret.len(), 43);
    assert!(!format!("{kept:?}").contains(secret), "the secret is in the store");
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_and_others_live() {
    let bench = bench().await;
    let ((one, words), (_, others)) = (bench.key(named("one")).await, bench.key(named("two")).await);
    assert!(bench.keys.verify(&words).await.is_ok());
    bench.keys.revoke(&Caller::system(), &one.id).await.unwrap();
    assert!(refused(bench.keys.verify(&words).await), "a revoked key passed");
    assert!(bench.keys.verify(&others).await.is_ok());
}

#[tokio::test]
async fn a_key_of_who_is_disabled_is_worth_nothing_until_they_are_back() {
    let bench = bench().await;
    let person = Zeroizing::new(PASSWORD.to_owned());
    let person = bench.identities.add(&Caller::system(), "ana@example.cd", person, Vec::new()).await.unwrap();
    let words = bench.keys.create(&Caller::system(), &person.id, named("one"), NONE).await.unwrap().1.unwrap();
    assert!(bench.keys.verify(&words).await.is_ok());
    bench.identities.set_status(&Caller::system(), &person.id, Status::Disabled).await.unwrap();
    assert!(refused(bench.keys.verify(&words).await), "the key of a disabled identity passed");
    bench.identities.set_status(&Caller::system(), &person.id, Status::Active).await.unwrap();
    assert!(bench.keys.verify(&words).await.is_ok());
}

#[tokio::test]
async fn a_key_is_worth_the_roles_of_now() {
    let bench = bench().await;
    let (_, words) = bench.key(named("one")).await;
    assert_eq!(bench.keys.verify(&words).await.unwrap().roles, [Role::Admin]);
    let set = rawdoc! { "roles": ["auditor"] };
    bench.identities.change_with(&Caller::system(), (&bench.admin.id, None), set, Vec::new(), None).await.unwrap();
    assert_eq!(bench.keys.verify(&words).await.unwrap().roles, [Role::Auditor]);
}

#[tokio::test]
async fn a_key_in_use_is_looked_up_once_and_marked_once_an_hour() {
    let bench = bench().await;
    let (key, words) = bench.key(named("one")).await;
    let revision = async || {
        let kept = bench.documents.get(KEYS, &key.id).await.unwrap().unwrap();
        crate::domain::document::revision(&kept).unwrap()
    };
    for _ in 0..3 {
        bench.keys.verify(&words).await.unwrap();
    }
    assert_eq!(revision().await, 2);
    bench.wait(MARK);
    for _ in 0..3 {
        bench.keys.verify(&words).await.unwrap();
    }
    assert_eq!(revision().await, 3);
    // Taken out beneath the service, it still passes: what is remembered was not read again.
    let gone = operation(&key.id, Expect::Any, Change::Delete);
    bench.keys.commit(&Caller::system(), vec![gone]).await.unwrap();
    assert!(bench.keys.verify(&words).await.is_ok(), "a key just used was read from the disk again");
}

#[tokio::test]
async fn a_stream_opened_by_a_key_ends_with_it() {
    let bench = bench().await;
    let (key, words) = bench.key(named("one")).await;
    let subject = Subject::Identity(bench.keys.verify(&words).await.unwrap());
    let caller = Caller { subject, ..Caller::system() };
    assert!(bench.identities.renew(&caller).await.is_ok());
    bench.keys.revoke(&Caller::system(), &key.id).await.unwrap();
    assert!(refused(bench.identities.renew(&caller).await.map(|_| ())));
}

#[tokio::test]
async fn keys_are_bounded_and_swept() {
    let bench = bench().await;
    for _ in 0..MOST {
        bench.key(Wanted { days: Some(1), ..named("many") }).await;
    }
    let more = bench.keys.create(&Caller::system(), &bench.admin.id, named("more"), NONE).await;
    assert!(matches!(more, Err(Error::Conflict(fault)) if fault.key == "keys.too_many"));
    bench.wait(24 * 3600);
    bench.key(named("later")).await;
    assert_eq!(bench.keys.sweep().await.unwrap(), 0);
    bench.wait(SHOWN + 1);
    assert_eq!(bench.keys.sweep().await.unwrap(), MOST);
    assert_eq!(bench.keys.list(&Caller::system(), None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_machine_trades_an_assertion_once() {
    let bench = bench().await;
    let (machine, key, secret) = bench.machine().await;
    let assertion = sign(&key, &secret, &bench.claims(&machine));
    let granted = bench.prove(&assertion).await.unwrap();
    let verified = bench.sessions.verify(&granted.access).unwrap();
    assert_eq!((&verified.identity, &verified.roles[..]), (&machine.id, &[Role::Operator][..]));
    assert_eq!((verified.key.as_ref(), verified.session.as_str()), (Some(&key.id), ""));
    assert!(granted.expires_in <= 600);
    assert!(refused(bench.prove(&assertion).await), "an assertion was used twice");
    bench.wait(600);
    assert!(refused(bench.sessions.verify(&granted.access)));
    assert_eq!(bench.machines.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn of_fifty_at_once_one_assertion_wins() {
    let bench = bench().await;
    let (machine, key, secret) = bench.machine().await;
    let assertion = sign(&key, &secret, &bench.claims(&machine));
    let answers = futures_util::future::join_all((0..50).map(|_| bench.prove(&assertion))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
}

#[tokio::test]
async fn an_assertion_that_differs_in_anything_is_refused() {
    let bench = bench().await;
    let (machine, key, secret) = bench.machine().await;
    let now = bench.clock.now().seconds();
    let refuse = async |name: &str, value: Value| {
        let mut claims = bench.claims(&machine);
        claims[name] = value;
        assert!(refused(bench.prove(&sign(&key, &secret, &claims)).await), "{name}: {}", claims[name]);
    };
    refuse("aud", json!("debrouille:another")).await;
    refuse("aud", json!("api")).await;
    refuse("iss", json!(bench.admin.id)).await;
    refuse("exp", json!(now)).await;
    refuse("exp", json!(now + 3600)).await;
    refuse("iat", json!(now + 3600)).await;
    refuse("nbf", json!(now + 3600)).await;
    refuse("jti", json!("")).await;
    refuse("jti", Value::Null).await;
    let mut other = bench.claims(&machine);
    (other["iss"], other["sub"]) = (json!(bench.admin.id), json!(bench.admin.id));
    assert!(refused(bench.prove(&sign(&key, &secret, &other)).await), "a machine spoke for an administrator");
    assert!(bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await.is_ok());
}

#[tokio::test]
async fn another_key_or_algorithm_signs_nothing() {
    let bench = bench().await;
    let (machine, key, _) = bench.machine().await;
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let foreign = EncodingKey::from_ed_der(pkcs8.as_ref());
    assert!(refused(bench.prove(&sign(&key, &foreign, &bench.claims(&machine))).await));
    // The public key, which everybody may know, as an HMAC secret.
    let public = STANDARD.decode(key.public.as_ref().unwrap()).unwrap();
    let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
    for secret in [public.as_slice(), key.public.as_ref().unwrap().as_bytes()] {
        let forged = jsonwebtoken::encode(&header, &bench.claims(&machine), &EncodingKey::from_secret(secret)).unwrap();
        assert!(refused(bench.prove(&forged).await), "the public key signed as a secret");
    }
    let none = "eyJhbGciOiJub25lIn0.e30.";
    for bad in [none, "", "a.b.c", &"x".repeat(10_000)] {
        assert!(refused(bench.prove(bad).await), "{bad}");
    }
}

#[tokio::test]
async fn a_revoked_machine_key_ends_its_tokens_too() {
    let bench = bench().await;
    let (machine, key, secret) = bench.machine().await;
    let granted = bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await.unwrap();
    bench.wait(1);
    bench.keys.revoke(&Caller::system(), &key.id).await.unwrap();
    assert!(refused(bench.sessions.verify(&granted.access)), "a token outlived its key");
    assert!(refused(bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await), "a revoked key passed");
}

#[tokio::test]
async fn a_disabled_machine_and_an_expired_key_get_nothing() {
    let bench = bench().await;
    let (machine, key, secret) = bench.machine().await;
    let granted = bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await.unwrap();
    bench.wait(1);
    bench.identities.set_status(&Caller::system(), "import-job", Status::Disabled).await.unwrap();
    assert!(refused(bench.sessions.verify(&granted.access)), "a disabled machine's token passed");
    assert!(refused(bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await));
    bench.identities.set_status(&Caller::system(), "import-job", Status::Active).await.unwrap();
    assert!(bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await.is_ok());
    bench.wait(DAYS * 24 * 3600);
    assert!(refused(bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await), "an expired key passed");
}

#[tokio::test]
async fn a_token_by_certificate_is_bound_to_it_and_outlives_it_not() {
    let bench = bench().await;
    let (machine, key, _) = bench.machine().await;
    let public = STANDARD.decode(key.public.as_ref().unwrap()).unwrap().try_into().unwrap();
    let expires = bench.clock.now().plus_seconds(100);
    let shown = Certificate { thumbprint: [7; 32], public: Some(public), expires };
    let prove = async |certificate| bench.machines.prove_by_certificate(&Caller::system(), certificate).await;
    let granted = prove(Some(shown)).await.unwrap();
    assert_eq!((granted.expires_in, &granted.identity), (100, &machine.id));
    let verified = bench.sessions.verify(&granted.access).unwrap();
    assert_eq!((verified.bound, verified.key.as_ref()), (Some([7; 32]), Some(&key.id)));
    let other = Certificate { thumbprint: [8; 32], ..shown };
    let binds = async |shown: Option<&Certificate>| {
        bench.sessions.check_binding(&Caller::system(), &verified, shown).await.is_ok()
    };
    assert!(binds(Some(&shown)).await && !binds(Some(&other)).await && !binds(None).await);

    for certificate in [
        None,
        Some(Certificate { public: None, ..shown }),
        Some(Certificate { public: Some([1; 32]), ..shown }),
        Some(Certificate { expires: bench.clock.now(), ..shown }),
    ] {
        assert!(refused(prove(certificate).await), "{certificate:?}");
    }
    // The same key again, for longer: it is the same machine. Another machine's as well: whose it is cannot be told.
    let take = async |name: &str| {
        let wanted = Wanted { name: "again".to_owned(), public: key.public.clone(), ..Wanted::default() };
        bench.keys.create(&Caller::system(), name, wanted, NONE).await.unwrap()
    };
    take("import-job").await;
    assert!(prove(Some(shown)).await.is_ok());
    bench.identities.add_machine(&Caller::system(), "another", Vec::new()).await.unwrap();
    let (second, _) = take("another").await;
    assert!(refused(prove(Some(shown)).await), "one key, two machines");
    bench.keys.revoke(&Caller::system(), &second.id).await.unwrap();
    assert!(prove(Some(shown)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_while_its_proof_changes_is_not_good() {
    let bench = bench().await;
    let strong = [Method::Pwd, Method::Mfa];
    let granted = bench.sessions.open(&Caller::system(), bench.admin.clone(), "phone", &strong).await.unwrap();
    let proven = Proven::session(bench.admin.id.clone(), granted.session.clone(), vec![Role::Admin]);
    let caller = Caller { subject: Subject::Identity(proven), ..Caller::system() };
    let again = || Again { password: Some(Zeroizing::new(PASSWORD.to_owned())), answer: None };
    let (_, words) = bench.keys.create_own(&caller, named("before"), again()).await.unwrap();
    bench.keys.verify(&words.unwrap()).await.unwrap();
    bench.wait(1);
    // While the password is compared, which takes its time.
    let change = async {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let renewed = identities::renewed(&bench.admin.id, bench.clock.now()).unwrap();
        bench.keys.commit(&Caller::system(), vec![renewed]).await.unwrap();
    };
    let (made, ()) = tokio::join!(bench.keys.create_own(&caller, named("meanwhile"), again()), change);
    assert!(matches!(made, Err(Error::InvalidProof(_))), "{made:?}");
    let kept = bench.keys.select(&rawdoc! { "name": "meanwhile" }).await.unwrap();
    assert!(kept.iter().all(|key| key.revoked), "{kept:?}");
}

#[tokio::test]
async fn a_machine_keeps_its_key_when_it_gets_another_role() {
    let bench = bench().await;
    let (machine, key, secret) = bench.machine().await;
    let roles = vec![Role::Operator, Role::Auditor];
    bench.identities.set_roles(&Caller::system(), "import-job", roles).await.unwrap();
    bench.wait(1);
    bench.prove(&sign(&key, &secret, &bench.claims(&machine))).await.unwrap();
}
