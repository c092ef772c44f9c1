//! Login by the password of a real directory on loopback (`scripts/services` starts it and sets `LDAP_URL` and its like).

use crate::{
    audit::{entries, find},
    house::{EMAIL, House, PASSWORD},
};
use debrouille_appliance::{
    backends::directory::ldap::{self, Ldap, Way},
    base::trust,
    http::Limits,
    ports::directory::Directory,
    services::{directory::Vouching, identities::Settings},
};
use serde_json::json;
use std::{path::Path, sync::Arc, time::Duration};

const LEA: &str = "lea@directory.example.org";
const WORD: &str = "une phrase de Lea";

/// What the settings of a house may say otherwise.
#[derive(Clone)]
struct Asked {
    url: String,
    starttls: bool,
    way: Way,
    trusted: bool,
}

/// As `scripts/services` says: without a directory nothing here would be proven.
fn asked() -> Asked {
    let url = std::env::var("LDAP_URL")
        .expect("LDAP_URL is not set: run `eval \"$(scripts/services start)\"`, which starts the directory");
    Asked { url, starttls: true, way: search("(&(objectClass=person)(|(mail={user})(uid={user})))"), trusted: true }
}

fn search(filter: &str) -> Way {
    let password = serde_json::from_value(json!("the word of the service")).unwrap();
    let (dn, base) = ("cn=appliance,dc=example,dc=org".to_owned(), "ou=people,dc=example,dc=org".to_owned());
    Way::Search { dn, password, base, filter: filter.to_owned() }
}

impl Asked {
    fn directory(self) -> Ldap {
        let roots = match self.trusted {
            true => trust::only(Path::new(&std::env::var("LDAP_CA").unwrap())).unwrap(),
            false => rustls::RootCertStore::empty(),
        };
        let Self { url, starttls, way, .. } = self;
        let (mail, patience) = ("mail".to_owned(), Duration::from_secs(2));
        let settings = ldap::Settings { url, starttls, cleartext: false, way, mail, patience };
        Ldap::new(settings, roots).unwrap()
    }

    async fn house(self) -> House {
        let directory = Arc::new(self.directory());
        let vouching = Vouching { directory, create_accounts: true };
        House::furnished(Limits::default(), Settings { directory: Some(vouching), ..Settings::default() }).await
    }
}

async fn refused(house: &House, who: &str, password: &str) {
    house.login(who, password).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
}

#[tokio::test]
async fn a_login_from_the_directorys_word_to_a_session() {
    let house = asked().house().await;
    let granted = house.login(LEA, WORD).await.ok(200).data();
    assert_eq!((&granted["identity"]["email"], &granted["identity"]["roles"]), (&json!(LEA), &json!([])));
    assert!(granted["refreshToken"].is_string());
    // By the same entry, however she is called.
    let again = house.login("Lea", WORD).await.ok(200).data();
    assert_eq!(again["identity"]["_id"], granted["identity"]["_id"]);
    refused(&house, LEA, "une phrase de Leo").await;
    house.put(&format!("/api/v1/admin/identities/{LEA}/status"), json!({ "status": "disabled" })).await.ok(200);
    refused(&house, LEA, WORD).await;
    let told = entries(&house).await;
    let failed = find(&told, "auth.login").into_iter().filter(|entry| entry["outcome"] == "failed").count();
    assert!(failed >= 1, "{told:?}");
}

#[tokio::test]
async fn who_is_nobody_there_or_has_no_password_is_nobody_here() {
    let house = asked().house().await;
    for (who, password) in [
        (LEA, ""),
        (LEA, " "),
        ("nobody@directory.example.org", WORD),
        ("blank@directory.example.org", "anything"),
        ("twin@directory.example.org", "une phrase de jumeau"),
        ("le*@directory.example.org", WORD),
        ("x)(uid=lea)(mail=x@directory.example.org", WORD),
    ] {
        refused(&house, who, password).await;
    }
    house.login(LEA, WORD).await.ok(200);
}

#[tokio::test]
async fn whoever_has_a_password_here_is_not_the_directorys() {
    let house = asked().house().await;
    refused(&house, EMAIL, "une phrase de voleur").await;
    refused(&house, "admin", "une phrase de voleur").await;
    house.login(EMAIL, PASSWORD).await.ok(200);
    // Once given one here, it is the only one.
    house.login(LEA, WORD).await.ok(200);
    let own = "une autre phrase de passe";
    house.put(&format!("/api/v1/admin/identities/{LEA}/password"), json!({ "password": own })).await.ok(200);
    refused(&house, LEA, WORD).await;
    house.login(LEA, own).await.ok(200);
}

#[tokio::test]
async fn an_entry_is_found_by_its_name() {
    let asked = asked();
    let by_name = Way::Template("uid={user},ou=people,dc=example,dc=org".to_owned());
    let house = Asked { way: by_name, url: std::env::var("LDAPS_URL").unwrap(), ..asked }.house().await;
    assert_eq!(
        house.login("jo", "une phrase de Jo").await.ok(200).data()["identity"]["email"],
        "jo@directory.example.org"
    );
    for (who, password) in [("jo", ""), ("jo", WORD), ("nobody", WORD), ("jo,ou=people", "une phrase de Jo")] {
        refused(&house, who, password).await;
    }
}

#[tokio::test]
async fn a_name_is_a_value_whatever_is_in_it() {
    let asked = asked();
    let by_name = Way::Template("uid={user},ou=people,dc=example,dc=org".to_owned());
    for (way, hostile) in [
        (by_name, ["jo,ou=people,dc=example,dc=org", "jo+cn=jo", "", "jo\\", "#6a6f"]),
        (search("(uid={user})"), ["j*", "jo)(objectClass=*", "x)(|(uid=jo)", "\\6a\\6f", "jo\0"]),
    ] {
        let directory = Asked { way, ..asked.clone() }.directory();
        let odd = directory.prove("odd, one", "une phrase rare").await.unwrap().expect("found by its name");
        assert_eq!(odd.emails, ["odd,one@directory.example.org"]);
        for name in hostile {
            assert_eq!(directory.prove(name, "une phrase de Jo").await.unwrap(), None, "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_directory_out_of_reach_is_the_same_answer_for_all_but_those_with_a_password_here() {
    // The last accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("ldaps://{}", silent.local_addr().unwrap());
    let changes: [fn(&mut Asked); 4] = [
        |asked| asked.url = "ldaps://127.0.0.1:1".to_owned(),
        |asked| asked.trusted = false,
        |asked| (asked.trusted, asked.url) = (false, std::env::var("LDAPS_URL").unwrap()),
        |asked| {
            let Way::Search { password, .. } = &mut asked.way else { return };
            *password = serde_json::from_value(json!("another word")).unwrap();
        },
    ];
    let mut all: Vec<Asked> = Vec::new();
    for change in changes {
        let mut one = asked();
        change(&mut one);
        all.push(one);
    }
    all.push(Asked { url: silent, ..asked() });
    for one in all {
        let what = format!("{} {}", one.url, one.trusted);
        let house = one.house().await;
        for (who, password) in [(LEA, WORD), (LEA, "wrong"), ("nobody@directory.example.org", WORD)] {
            let answer = house.login(who, password).await;
            assert_eq!(answer.refusal(), (503, "UNAVAILABLE".to_owned(), "http.unavailable".to_owned()), "{what}");
        }
        house.login(EMAIL, PASSWORD).await.ok(200);
    }
}
