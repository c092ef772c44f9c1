//! A login, its refreshes and its end, on the real engine.

use super::*;
use crate::{
    base::clock::Clock,
    services::{
        access::{Proven, Role},
        bench::Bench,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

const PASSWORD: &str = "correct horse battery staple";
/// What an administrator in production gives.
const STRONG: &[Method] = &[Method::Pwd, Method::Otp, Method::Mfa];

/// With an administrator.
async fn bench() -> Bench {
    let bench = Bench::of(Environment::Production).await;
    bench.add("admin@example.cd", vec![Role::Admin]).await;
    bench
}

impl Bench {
    async fn add(&self, email: &str, roles: Vec<Role>) -> Identity {
        self.identities.add(&Caller::system(), email, secret(PASSWORD), roles).await.unwrap()
    }

    async fn login(&self) -> Granted {
        let identity = self.identities.prove(&Caller::system(), " Admin@Example.cd ", secret(PASSWORD)).await.unwrap();
        self.sessions.open(&Caller::system(), identity, "phone", STRONG).await.unwrap()
    }

    async fn refresh(&self, token: &str) -> Result<Granted> {
        self.sessions.refresh(&Caller::system(), token).await
    }

    fn caller(&self, access: &str) -> Caller {
        let verified = self.sessions.verify(access).unwrap();
        let (id, session, roles) = (verified.identity.clone(), verified.session.clone(), verified.roles.clone());
        Caller { subject: Subject::Identity(Proven::session(id, session, roles)), ..Caller::system() }
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn refused<T: std::fmt::Debug>(answer: Result<T>) -> bool {
    matches!(answer, Err(Error::InvalidProof(_)))
}

#[tokio::test]
async fn a_login_proves_who_it_is_until_it_expires() {
    let bench = bench().await;
    let granted = bench.login().await;
    let verified = bench.sessions.verify(&granted.access).unwrap();
    assert_eq!((verified.identity.as_str(), &verified.roles[..]), (granted.identity.id.as_str(), &[Role::Admin][..]));
    bench.wait(ACCESS_LIFE - 1);
    assert!(bench.sessions.verify(&granted.access).is_ok());
    bench.wait(1);
    assert!(refused(bench.sessions.verify(&granted.access)), "an expired token passed");
    assert!(bench.refresh(&granted.refresh).await.is_ok());
    assert!(matches!(
        bench.identities.prove(&Caller::system(), "admin@example.cd", secret("wrong")).await,
        Err(Error::Unauthorized)
    ));
    assert!(matches!(
        bench.identities.prove(&Caller::system(), "nobody@example.cd", secret(PASSWORD)).await,
        Err(Error::Unauthorized)
    ));
}

#[tokio::test]
async fn a_second_factor_passed_raises_trust() {
    let bench = bench().await;
    let who = bench.identities.prove(&Caller::system(), "admin@example.cd", secret(PASSWORD)).await.unwrap();
    let before = bench.trust.level(&who.id);
    bench.sessions.open(&Caller::system(), who.clone(), "phone", &[Method::Pwd]).await.unwrap();
    assert_eq!(bench.trust.level(&who.id), before);
    bench.sessions.open(&Caller::system(), who.clone(), "phone", STRONG).await.unwrap();
    assert!(bench.trust.level(&who.id) > before);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_session() {
    let bench = bench().await;
    let first = bench.login().await;
    let second = bench.refresh(&first.refresh).await.unwrap();
    assert!(bench.sessions.verify(&second.access).is_ok());
    assert!(refused(bench.refresh(&first.refresh).await), "a used refresh token passed");
    bench.wait(1);
    assert!(refused(bench.sessions.verify(&second.access)), "the replayed family's access token passed");
    assert!(refused(bench.refresh(&second.refresh).await), "the replayed family lives on");
    assert!(refused(bench.refresh("made-up").await));
}

#[tokio::test]
async fn two_refreshes_at_once_cannot_both_win() {
    let bench = bench().await;
    let granted = bench.login().await;
    let (one, other) = tokio::join!(bench.refresh(&granted.refresh), bench.refresh(&granted.refresh));
    assert!(one.is_ok() ^ other.is_ok() || (one.is_err() && other.is_err()), "both won");
}

#[tokio::test]
async fn logout_ends_one_session_and_logout_all_every_one() {
    let bench = bench().await;
    let (one, two) = (bench.login().await, bench.login().await);
    let caller = bench.caller(&one.access);
    assert_eq!(bench.sessions.list(&caller).await.unwrap().len(), 2);
    bench.sessions.end(&caller, None).await.unwrap();
    assert!(refused(bench.sessions.verify(&one.access)));
    assert!(refused(bench.refresh(&one.refresh).await));
    let caller = bench.caller(&two.access);
    assert_eq!(bench.sessions.list(&caller).await.unwrap().len(), 1);
    bench.sessions.end_own(&caller).await.unwrap();
    assert!(refused(bench.sessions.verify(&two.access)));
}

#[tokio::test]
async fn nobody_ends_a_session_of_someone_else() {
    let bench = bench().await;
    bench.add("other@example.cd", vec![Role::Operator]).await;
    let granted = bench.login().await;
    let other = bench.identities.prove(&Caller::system(), "other@example.cd", secret(PASSWORD)).await.unwrap();
    let other = bench.sessions.open(&Caller::system(), other, "", STRONG).await.unwrap();
    let session = bench.sessions.verify(&granted.access).unwrap().session.clone();
    let answer = bench.sessions.end(&bench.caller(&other.access), Some(&session)).await;
    assert!(matches!(answer, Err(Error::NotFound(_))));
    assert!(bench.sessions.verify(&granted.access).is_ok());
}

#[tokio::test]
async fn what_ended_stays_ended_after_a_restart() {
    let bench = bench().await;
    let granted = bench.login().await;
    bench.sessions.end(&bench.caller(&granted.access), None).await.unwrap();
    let restarted = bench.sessions(&bench.stamp, &bench.keyring);
    assert!(restarted.verify(&granted.access).is_ok(), "nothing to recall: the test proves nothing");
    restarted.recall().await.unwrap();
    assert!(refused(restarted.verify(&granted.access)));
}

#[tokio::test]
async fn a_new_password_or_a_disabled_identity_ends_every_session() {
    let bench = bench().await;
    let granted = bench.login().await;
    let who = "admin@example.cd";
    bench.identities.change_password(&Caller::system(), who, secret("another horse battery staple")).await.unwrap();
    assert!(refused(bench.sessions.verify(&granted.access)));
    assert!(matches!(bench.identities.prove(&Caller::system(), who, secret(PASSWORD)).await, Err(Error::Unauthorized)));

    let disable = bench.identities.set_status(&Caller::system(), who, identities::Status::Disabled).await;
    assert!(matches!(disable, Err(Error::Conflict(_))), "the last administrator was locked out");
    bench.add("second@example.cd", vec![Role::Admin]).await;
    bench.wait(1);
    let identity =
        bench.identities.prove(&Caller::system(), who, secret("another horse battery staple")).await.unwrap();
    let granted = bench.sessions.open(&Caller::system(), identity, "", STRONG).await.unwrap();
    assert!(bench.sessions.verify(&granted.access).is_ok());
    bench.identities.set_status(&Caller::system(), who, identities::Status::Disabled).await.unwrap();
    assert!(refused(bench.sessions.verify(&granted.access)));
    assert!(refused(bench.refresh(&granted.refresh).await));
    assert!(bench.identities.prove(&Caller::system(), who, secret("another horse battery staple")).await.is_err());
}

#[tokio::test]
async fn a_token_of_another_instance_environment_key_or_hand_is_refused() {
    let bench = bench().await;
    let granted = bench.login().await;
    let elsewhere = |stamp: &Stamp, keyring: &Keyring| bench.sessions(stamp, keyring).verify(&granted.access).map(drop);
    assert!(elsewhere(&bench.stamp, &bench.keyring).is_ok());
    let staging = Stamp { environment: Environment::Staging, ..bench.stamp.clone() };
    assert!(refused(elsewhere(&staging, &bench.keyring)), "a token of another environment passed");
    let other = Stamp { id: "other".to_owned(), ..bench.stamp.clone() };
    assert!(refused(elsewhere(&other, &bench.keyring)), "a token of another instance passed");
    let keys = Keyring::generate((Zeroizing::default(), Vec::new()), bench.clock.now());
    assert!(refused(elsewhere(&bench.stamp, &keys)), "a token of another key passed");
    let rotated = bench.keyring.clone();
    rotated.rotate(super::super::keyring::Purpose::TokenSigning, bench.clock.now());
    assert!(elsewhere(&bench.stamp, &rotated).is_ok(), "a rotation ended living tokens");

    let parts: Vec<&str> = granted.access.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","kid":"token-1"}"#);
    for forged in [format!("{none}.{}.", parts[1]), format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86))] {
        assert!(refused(bench.sessions.verify(&forged)), "{forged}");
    }
    assert!(refused(bench.sessions.verify(&"x".repeat(5000))));
}

#[tokio::test]
async fn an_address_belongs_to_one_identity() {
    let bench = bench().await;
    let again = bench.identities.add(&Caller::system(), "ADMIN@example.cd", secret(PASSWORD), vec![]).await;
    assert!(matches!(again, Err(Error::Conflict(fault)) if fault.key == "identities.email_taken"));
    for wrong in ["", "nobody", "a b@c", "@c", "a@", "a@b@c"] {
        let answer = bench.identities.add(&Caller::system(), wrong, secret(PASSWORD), vec![]).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{wrong}");
    }
}

#[tokio::test]
async fn a_proof_of_a_password_changed_meanwhile_opens_nothing() {
    let bench = bench().await;
    let proven = bench.identities.prove(&Caller::system(), "admin@example.cd", secret(PASSWORD)).await.unwrap();
    bench.wait(1);
    bench
        .identities
        .change_password(&Caller::system(), &proven.id, secret("another horse battery staple"))
        .await
        .unwrap();
    bench.wait(1);
    let answer = bench.sessions.open(&Caller::system(), proven, "phone", STRONG).await;
    assert!(matches!(answer, Err(Error::InvalidProof(_))), "{answer:?}");
}

#[tokio::test]
async fn sessions_long_over_are_let_go_and_no_other() {
    let bench = bench().await;
    let first = bench.login().await;
    bench.wait(SESSION_LIFE / 2);
    let second = bench.refresh(&first.refresh).await.unwrap();
    let third = bench.login().await;
    assert_eq!(bench.sessions.sweep().await.unwrap(), 0);
    // The first token's life is over; the session it opened was prolonged.
    bench.wait(SESSION_LIFE / 2 + 2 * ACCESS_LIFE);
    assert_eq!(bench.sessions.sweep().await.unwrap(), 0);
    bench.wait(1);
    assert_eq!(bench.sessions.sweep().await.unwrap(), 1);
    bench.refresh(&second.refresh).await.unwrap();
    bench.refresh(&third.refresh).await.unwrap();
    bench.wait(2 * SESSION_LIFE);
    assert_eq!(bench.sessions.sweep().await.unwrap(), 6, "two sessions and their four tokens");
    for name in [SESSIONS, REFRESHES] {
        assert_eq!(bench.documents.describe(name).await.unwrap().unwrap().documents, 0, "{name}");
    }
}

#[tokio::test]
async fn two_administrators_cannot_disable_each_other_at_once() {
    let bench = bench().await;
    bench.add("second@example.cd", vec![Role::Admin]).await;
    let caller = Caller::system();
    let disable = |who| bench.identities.set_status(&caller, who, Status::Disabled);
    let both = futures_util::join!(disable("admin@example.cd"), disable("second@example.cd"));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
}

#[tokio::test]
async fn a_role_that_wants_more_than_was_proven_ends_the_refreshes() {
    let bench = bench().await;
    let weak = bench.add("weak@example.cd", Vec::new()).await;
    let granted = bench.sessions.open(&Caller::system(), weak, "", &[Method::Pwd]).await.unwrap();
    let granted = bench.refresh(&granted.refresh).await.unwrap();
    let raised = rawdoc! { "roles": ["admin"] };
    let raise = set(IDENTITIES, &granted.identity.id, Expect::Present, &raised).unwrap();
    bench.sessions.commit(&Caller::system(), bench.clock.now(), vec![raise]).await.unwrap();
    assert!(refused(bench.refresh(&granted.refresh).await), "an administrator went on without a second factor");
}

#[tokio::test]
async fn a_token_says_how_and_when_it_was_proven() {
    let bench = bench().await;
    let granted = bench.login().await;
    assert_eq!(bench.sessions.verify(&granted.access).unwrap().methods, STRONG);
    let claims = granted.access.split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["amr"], serde_json::json!(["pwd", "otp", "mfa"]));
    bench.wait(60);
    let later = bench.refresh(&granted.refresh).await.unwrap();
    assert_eq!(claims["auth_time"], bench.clock.now().seconds() - 60);
    assert_eq!(bench.sessions.verify(&later.access).unwrap().methods, STRONG);
}

#[tokio::test]
async fn ones_own_new_password_ends_the_other_sessions_alone() {
    let bench = bench().await;
    let (one, other) = (bench.login().await, bench.login().await);
    let caller = bench.caller(&one.access);
    let change = async |current, new| bench.identities.change_own_password(&caller, secret(current), secret(new)).await;
    assert!(matches!(change("not the present one", "another horse battery staple").await, Err(Error::Unauthorized)));
    assert!(matches!(change(PASSWORD, "short").await, Err(Error::Invalid(_))));
    assert!(bench.sessions.verify(&other.access).is_ok());
    change(PASSWORD, "another horse battery staple").await.unwrap();
    assert!(bench.sessions.verify(&one.access).is_ok());
    assert!(bench.refresh(&one.refresh).await.is_ok());
    bench.wait(1);
    assert!(refused(bench.sessions.verify(&other.access)));
    assert!(refused(bench.refresh(&other.refresh).await));
    assert!(bench.identities.prove(&Caller::system(), "admin@example.cd", secret(PASSWORD)).await.is_err());
}

#[tokio::test]
async fn nobody_sets_their_own_password_by_their_rights_over_others() {
    let bench = bench().await;
    let granted = bench.login().await;
    let caller = bench.caller(&granted.access);
    let own =
        bench.identities.change_password(&caller, "admin@example.cd", secret("another horse battery staple")).await;
    assert!(matches!(own, Err(Error::Refused(_))));
    bench.add("other@example.cd", Vec::new()).await;
    let other = bench.identities.change_password(&caller, "other@example.cd", secret("another horse battery staple"));
    assert!(other.await.is_ok());
}

const SHARED: &[u8] = b"a secret that both sides have long known";

/// A token as the instance makes it, its header and signature replaced.
fn resigned(token: &str, kid: &str, algorithm: jsonwebtoken::Algorithm, key: &jsonwebtoken::EncodingKey) -> String {
    let payload = token.split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let header = jsonwebtoken::Header { kid: Some(kid.to_owned()), ..jsonwebtoken::Header::new(algorithm) };
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}

#[tokio::test]
async fn a_shared_secret_signs_only_where_asked_for() {
    use jsonwebtoken::{Algorithm, EncodingKey};
    let bench = bench().await;
    let plain = bench.login().await.access;
    let identity = bench.identities.prove(&Caller::system(), "admin@example.cd", secret(PASSWORD)).await.unwrap();
    let shared = bench.sessions(&bench.stamp, &bench.keyring);
    let shared = shared.with_shared_secret(SHARED);
    let token = shared.open(&Caller::system(), identity, "phone", STRONG).await.unwrap().access;
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::HS256, Some("hs256")));
    assert!(shared.verify(&token).is_ok());
    // Those from before live out their ten minutes; without the secret nothing signed by one passes.
    assert!(shared.verify(&plain).is_ok());
    assert!(refused(bench.sessions.verify(&token)), "a shared secret was taken unasked");

    let right = EncodingKey::from_secret(SHARED);
    assert!(shared.verify(&resigned(&token, "hs256", Algorithm::HS256, &right)).is_ok());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert!(refused(shared.verify(&resigned(&token, "hs256", algorithm, &right))), "{algorithm:?}");
    }
    assert!(
        refused(shared.verify(&resigned(&token, "token-1", Algorithm::HS256, &right))),
        "by the kid of an EdDSA key"
    );
    let wrong = EncodingKey::from_secret(b"another secret, as long as the first one");
    assert!(refused(shared.verify(&resigned(&token, "hs256", Algorithm::HS256, &wrong))));
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    use crate::services::keyring::Purpose;
    use jsonwebtoken::{Algorithm, EncodingKey};
    let bench = bench().await;
    let token = bench.login().await.access;
    let public = bench.keyring.current(Purpose::TokenSigning).public.clone();
    let texts = [public.clone(), hex::encode(&public).into_bytes(), URL_SAFE_NO_PAD.encode(&public).into_bytes()];
    let shared = bench.sessions(&bench.stamp, &bench.keyring);
    let shared = shared.with_shared_secret(SHARED);
    for public in texts {
        for kid in ["token-1", "hs256", ""] {
            let forged = resigned(&token, kid, Algorithm::HS256, &EncodingKey::from_secret(&public));
            assert!(refused(bench.sessions.verify(&forged)) && refused(shared.verify(&forged)), "{kid}");
        }
    }
}

#[tokio::test]
async fn a_proof_changed_ends_the_others_even_where_the_process_ended_before_it_could() {
    let bench = bench().await;
    let granted = bench.login().await;
    bench.wait(1);
    let renewed = identities::renewed(&granted.identity.id, bench.clock.now()).unwrap();
    bench.sessions.commit(&Caller::system(), bench.clock.now(), vec![renewed]).await.unwrap();
    assert!(refused(bench.refresh(&granted.refresh).await), "a session of before the change lives on");
}

#[tokio::test]
async fn the_session_in_which_a_password_is_changed_goes_on() {
    let bench = bench().await;
    let (here, elsewhere) = (bench.login().await, bench.login().await);
    bench.wait(1);
    let caller = bench.caller(&here.access);
    let (old, new) = (secret(PASSWORD), secret("another horse, another staple"));
    bench.identities.change_own_password(&caller, old, new).await.unwrap();
    assert!(refused(bench.refresh(&elsewhere.refresh).await));
    bench.refresh(&here.refresh).await.unwrap();
}

/// A key in other hands signs what it likes; it is believed for the life of a token after it has a successor.
#[tokio::test]
async fn a_rotated_key_is_believed_for_the_life_of_a_token() {
    use super::super::keyring::Purpose;
    use jsonwebtoken::{Algorithm, EncodingKey};
    let bench = bench().await;
    let granted = bench.login().await;
    let seed = bench.keyring.current(Purpose::TokenSigning).material.clone();
    let pkcs8 = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &seed].concat();
    let payload: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(granted.access.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let forged = |jti: &str| {
        let mut claims = payload.clone();
        claims["exp"] = (payload["exp"].as_i64().unwrap() + 1_000_000).into();
        claims["jti"] = jti.into();
        let header =
            jsonwebtoken::Header { kid: Some("token-1".to_owned()), ..jsonwebtoken::Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&pkcs8)).unwrap()
    };
    let (early, late) = (forged("early"), forged("late"));
    bench.keyring.rotate(Purpose::TokenSigning, bench.clock.now());
    bench.sessions.take_keys(&bench.keyring);
    assert!(bench.sessions.verify(&early).is_ok() && bench.sessions.verify(&granted.access).is_ok());
    bench.wait(ACCESS_LIFE + 61);
    // Looked at before, and never.
    assert!(refused(bench.sessions.verify(&early)) && refused(bench.sessions.verify(&late)));

    let bench = self::bench().await;
    let granted = bench.login().await;
    assert!(bench.sessions.verify(&granted.access).is_ok());
    let version = bench.keyring.rotate(Purpose::TokenSigning, bench.clock.now());
    bench.keyring.retain(Purpose::TokenSigning, |kept| kept == version);
    bench.sessions.take_keys(&bench.keyring);
    assert!(refused(bench.sessions.verify(&granted.access)), "it is remembered from before");
}
