//! LDAP (RFC 4511): a connection per proof, bound as the person, whom a template names or a search finds.

use crate::{
    base::{config::Secret, fault::Fault, telemetry::scope},
    ports::{
        self, Error,
        directory::{Directory, Entry},
    },
};
use ldap3::{
    LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, dn_escape, ldap_escape, parse_filter,
};
use rustls::{ClientConfig, RootCertStore};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};

/// Stands for what people are called, in a template.
const USER: &str = "{user}";
/// Proofs at once; others wait their turn, within their time.
const AT_ONCE: usize = 16;
/// Results that refuse this person (RFC 4511, appendix A); any other is a fault of the directory's or of ours.
/// constraintViolation and unwillingToPerform: locked out; inappropriateAuthentication: without a password.
const REFUSED: [u32; 7] = [19, 32, 34, 48, 49, 50, 53];
const SIZE_LIMIT_EXCEEDED: u32 = 4;
/// What names an entry for good: of OpenLDAP and 389, Active Directory, FreeIPA.
const IDS: [&str; 4] = ["entryUUID", "nsUniqueId", "objectGUID", "ipaUniqueID"];

/// How a person's entry is told.
#[derive(Debug, Clone)]
pub enum Way {
    /// Its name, with `{user}` in it.
    Template(String),
    /// By an account of ours, beneath a base, with `{user}` in the filter.
    Search { dn: String, password: Secret, base: String, filter: String },
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// `ldaps://HOST` or `ldap://HOST`.
    pub url: String,
    /// Over `ldap:`, TLS before anything is said.
    pub starttls: bool,
    /// Whether words may cross the wire in clear.
    pub cleartext: bool,
    pub way: Way,
    /// The attribute with a person's e-mail addresses.
    pub mail: String,
    pub patience: Duration,
}

pub struct Ldap {
    settings: Settings,
    connection: LdapConnSettings,
    places: Semaphore,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Ldap {
    /// Refuses what could not be asked, or would be asked in clear.
    pub fn new(settings: Settings, roots: RootCertStore) -> Result<Self, Fault> {
        let local = check_url(&settings.url)?;
        let secure = settings.url.starts_with("ldaps:") || settings.starttls;
        if !secure && !local && !settings.cleartext {
            return Err(Fault::new("ldap.cleartext"));
        }
        check_way(&settings.way)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| Fault::new("server.tls_failed").with("cause", error))?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let connection = LdapConnSettings::new().set_config(Arc::new(tls)).set_starttls(settings.starttls);
        Ok(Self { settings, connection, places: Semaphore::new(AT_ONCE) })
    }

    async fn ask(&self, name: &str, password: &str) -> Result<Option<Entry>, Cause> {
        let _place = self.places.acquire().await?;
        let (connection, mut ldap) = LdapConnAsync::with_settings(self.connection.clone(), &self.settings.url).await?;
        // Ended with this proof, however that ends. Apart: what the library cannot read fails the proof alone.
        let mut driver = JoinSet::new();
        driver.spawn(connection.drive());
        let proven = self.prove_over(&mut ldap, name, password).await?;
        let _ = ldap.unbind().await;
        Ok(proven)
    }

    async fn prove_over(&self, ldap: &mut ldap3::Ldap, name: &str, password: &str) -> Result<Option<Entry>, Cause> {
        match &self.settings.way {
            Way::Template(template) => {
                let dn = template.replace(USER, &dn_escape(name));
                if !bind(ldap, &dn, password).await? {
                    return Ok(None);
                }
                match self.find(ldap, &dn, Scope::Base, "(objectClass=*)").await {
                    Err(LdapError::LdapResult { result }) if REFUSED.contains(&result.rc) => {
                        tracing::warn!(code = result.rc, "somebody may not read their own entry: they are not let in");
                        Ok(None)
                    }
                    found => Ok(found?.map(|(_, entry)| entry)),
                }
            }
            Way::Search { dn, password: own, base, filter } => {
                ldap.simple_bind(dn, own.expose()).await?.success()?;
                let filter = filter.replace(USER, &ldap_escape(name));
                match self.find(ldap, base, Scope::Subtree, &filter).await? {
                    Some((dn, entry)) if bind(ldap, &dn, password).await? => Ok(Some(entry)),
                    _ => Ok(None),
                }
            }
        }
    }

    /// The one entry there is, by its name; of several, none.
    async fn find(
        &self,
        ldap: &mut ldap3::Ldap,
        base: &str,
        scope: Scope,
        filter: &str,
    ) -> Result<Option<(String, Entry)>, LdapError> {
        let mail = self.settings.mail.as_str();
        let attributes: Vec<&str> = IDS.into_iter().chain([mail]).collect();
        let seconds = i32::try_from(self.settings.patience.as_secs()).unwrap_or(i32::MAX);
        ldap.with_search_options(SearchOptions::new().sizelimit(2).timelimit(seconds));
        let ldap3::SearchResult(found, result) = ldap.search(base, scope, filter, attributes).await?;
        let more = result.rc == SIZE_LIMIT_EXCEEDED;
        if !more {
            result.success()?;
        }
        let mut entries = found.into_iter().filter(|one| !one.is_ref() && !one.is_intermediate());
        match (entries.next(), entries.next()) {
            (Some(one), None) if !more => Ok(read(SearchEntry::construct(one), mail)),
            (Some(_), _) => {
                tracing::warn!(base, "the directory knows several people by one name: none of them is let in");
                Ok(None)
            }
            (None, _) => Ok(None),
        }
    }
}

#[async_trait::async_trait]
impl Directory for Ldap {
    async fn prove(&self, name: &str, password: &str) -> ports::Result<Option<Entry>> {
        // RFC 4513, 5.1.2: a bind without a password succeeds, and proves nobody; some servers read no further than a NUL.
        if name.is_empty() || password.is_empty() || password.contains('\0') {
            return Ok(None);
        }
        let (url, patience) = (&self.settings.url, self.settings.patience);
        let asked = async {
            match tokio::time::timeout(patience, self.ask(name, password)).await {
                Ok(Ok(proven)) => Ok(proven),
                Ok(Err(error)) => Err(Error::Unavailable(format!("{url}: {error}"))),
                Err(_) => Err(Error::Unavailable(format!("{url}: no answer in {} s", patience.as_secs()))),
            }
        };
        scope::call("ldap").run(asked).await
    }
}

/// Whether these words are the entry's own.
async fn bind(ldap: &mut ldap3::Ldap, dn: &str, password: &str) -> Result<bool, LdapError> {
    // Without a name it would be a bind as nobody.
    if dn.is_empty() || password.is_empty() {
        return Ok(false);
    }
    let result = ldap.simple_bind(dn, password).await?;
    if REFUSED.contains(&result.rc) {
        return Ok(false);
    }
    result.success().map(|_| true)
}

/// Nothing without a name.
fn read(entry: SearchEntry, mail: &str) -> Option<(String, Entry)> {
    if entry.dn.is_empty() {
        return None;
    }
    let texts = |name: &str| {
        let named = entry.attrs.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.flat_map(|(_, values)| values.clone()).collect::<Vec<_>>()
    };
    let bytes = |name: &str| {
        let named = entry.bin_attrs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.and_then(|(_, values)| values.first().cloned())
    };
    let id = |name: &&str| {
        let value = bytes(name).or_else(|| texts(name).into_iter().next().map(String::into_bytes))?;
        Some(format!("{}:{}", name.to_lowercase(), hex::encode(value)))
    };
    let id = IDS.iter().find_map(id).unwrap_or_else(|| format!("dn:{}", entry.dn.to_lowercase()));
    let emails = texts(mail);
    Some((entry.dn, Entry { id, emails }))
}

/// Answers whether it leads to this very machine.
fn check_url(url: &str) -> Result<bool, Fault> {
    let fault = || Fault::new("ldap.url").with("url", url);
    let rest = url.strip_prefix("ldaps://").or_else(|| url.strip_prefix("ldap://")).ok_or_else(fault)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "389"));
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !host.split('.').all(label) || port.parse::<u16>().is_err() {
        return Err(fault());
    }
    Ok(host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

fn check_way(way: &Way) -> Result<(), Fault> {
    let (key, template, sound) = match way {
        Way::Template(template) => ("ldap.user_dn", template, template.contains('=')),
        Way::Search { filter, .. } => ("ldap.filter", filter, parse_filter(filter.replace(USER, "x")).is_ok()),
    };
    match sound && template.contains(USER) {
        true => Ok(()),
        false => Err(Fault::new("ldap.template").with("key", key).with("value", template)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ldap(url: &str, starttls: bool, way: Way) -> Result<Ldap, &'static str> {
        let (mail, patience) = ("mail".to_owned(), Duration::from_secs(1));
        let settings = Settings { url: url.to_owned(), starttls, cleartext: false, way, mail, patience };
        Ldap::new(settings, RootCertStore::empty()).map_err(|fault| fault.key)
    }

    fn search(filter: &str) -> Way {
        let secret: Secret = serde_json::from_value("a word".into()).unwrap();
        Way::Search { dn: "cn=us".to_owned(), password: secret, base: "dc=cd".to_owned(), filter: filter.to_owned() }
    }

    #[test]
    fn nothing_crosses_a_wire_in_clear() {
        let way = || Way::Template("uid={user},dc=cd".to_owned());
        for (url, starttls) in [
            ("ldaps://ldap.example.cd", false),
            ("ldap://ldap.example.cd:1389", true),
            ("ldap://127.0.0.1:1389", false),
            ("ldap://localhost/", false),
        ] {
            assert!(ldap(url, starttls, way()).is_ok(), "{url}");
        }
        assert_eq!(ldap("ldap://ldap.example.cd", false, way()).err(), Some("ldap.cleartext"));
        assert_eq!(ldap("ldap://localhost.example.cd", false, way()).err(), Some("ldap.cleartext"));
        for bad in ["http://a", "ldap://", "ldap://a@b", "ldap://a:b", "ldap://a/dc=cd", "ldapi:///x", "ldap://[::1]"] {
            assert_eq!(ldap(bad, true, way()).err(), Some("ldap.url"), "{bad}");
        }
    }

    #[test]
    fn a_template_names_the_person() {
        for good in ["(mail={user})", "(&(objectClass=person)(|(uid={user})(mail={user})))"] {
            assert!(ldap("ldaps://a", false, search(good)).is_ok(), "{good}");
        }
        for bad in ["(mail=ana)", "(mail={user}", "mail={user})", ""] {
            assert_eq!(ldap("ldaps://a", false, search(bad)).err(), Some("ldap.template"), "{bad}");
        }
        for bad in ["uid=ana,dc=cd", "{user}", ""] {
            let way = Way::Template(bad.to_owned());
            assert_eq!(ldap("ldaps://a", false, way).err(), Some("ldap.template"), "{bad}");
        }
    }

    #[test]
    fn an_entry_keeps_its_id_whatever_it_is_called() {
        let entry = |dn: &str, attrs: &[(&str, &str)], guid: Option<Vec<u8>>| {
            let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
            let bin_attrs = guid.map(|guid| ("objectGUID".to_owned(), vec![guid])).into_iter().collect();
            read(SearchEntry { dn: dn.to_owned(), attrs, bin_attrs }, "mail").map(|(_, entry)| entry)
        };
        let (one, two) = (entry("uid=a", &[("entryuuid", "x")], None), entry("uid=b", &[("entryUUID", "x")], None));
        assert_eq!(one, two);
        assert_eq!(one.unwrap().id, "entryuuid:78");
        assert_eq!(entry("CN=a", &[], Some(vec![0xff, 1])).unwrap().id, "objectguid:ff01");
        assert_eq!(entry("CN=A", &[("Mail", "a@b.cd")], None).unwrap().emails, ["a@b.cd"]);
        assert_eq!(entry("CN=A", &[], None).unwrap().id, "dn:cn=a");
        assert_eq!(entry("", &[("entryUUID", "x")], None), None);
    }

    #[tokio::test]
    async fn without_a_password_nobody_is_asked() {
        // Nothing listens there: a question would fail.
        let directory = ldap("ldap://127.0.0.1:1", true, search("(mail={user})")).unwrap();
        assert_eq!(directory.prove("ana@example.cd", "").await.unwrap(), None);
        assert!(matches!(directory.prove("ana@example.cd", "x").await, Err(Error::Unavailable(_))));
    }
}
