//! A token's life, by a login or given: renewed, replaced, missed in time. And the namespace it is of.

use super::{SECOND, Site, Vault, partner, vault_is};
use crate::appliance::until;
use serde_json::Value;

/// Where a token's renewal comes to its end, or there is none, another login follows.
#[test]
fn a_token_that_cannot_be_renewed_is_replaced() {
    // Its own: others' logins are revoked with these.
    let vault = Vault::own();
    for (name, more) in
        [("capped", &["token_ttl=4s", "token_max_ttl=5s"][..]), ("batch", &["token_ttl=4s", "token_type=batch"])]
    {
        vault.key(name);
        let role = vault.role(name, more);
        let secret = role.secret();
        let site = Site::of(&role).initialised(&secret);
        let server = site.start(&secret);
        std::thread::sleep(SECOND * 9);
        site.run(&["secrets", "rotate", "media"], "");
        let metrics = server.ops("/metrics").1;
        assert!(!metrics.contains("job_failures_total{job=\"vault_renewal\"} "), "{name}: {metrics}");
        // Revoked on the vault's side: the next request logs in again.
        if name == "capped" {
            vault.bao(&["token", "revoke", "-mode=path", "auth/approle"]);
            site.run(&["secrets", "rotate", "media"], "");
        }
        server.stop();
    }
}

fn by_token(vault: &Vault, token: &str, more: &str) -> String {
    let (address, trusted) = (&vault.address, partner("VAULT_CA"));
    format!("[tls]\ntrusted = \"{trusted}\"\n[vault]\naddress = \"{address}\"\ntoken = \"{token}\"\n{more}\n")
}

#[test]
fn a_given_token_that_never_ends_will_do_and_one_that_is_none_is_refused() {
    let vault = Vault::shared();
    vault.key("given");
    let settings = |token: &str| by_token(&vault, token, "transit_key = \"given\"");
    let site = Site::new(&settings(&partner("VAULT_ROOT_TOKEN"))).initialised("");
    site.start("").stop();
    site.configure(&settings("s.000000000000000000000000"));
    let told = site.fails(site.serve(""), 3);
    assert!(told.contains("does not know vault.token") && !told.contains("s.0000"), "{told}");
}

/// No login can replace it, so it must live, or be missed in time.
#[test]
fn a_given_token_is_renewed_and_one_that_will_end_is_told_of() {
    let vault = Vault::shared();
    vault.key("lent");
    let _policy = vault.role("lent", &[]);
    let token = |more: &[&str]| -> Value {
        let made = vault.bao(&[&["token", "create", "-policy=lent", "-format=json"], more].concat());
        serde_json::from_str::<Value>(&made).unwrap()["auth"].take()
    };
    let settings = |token: &str| by_token(&vault, token, "transit_key = \"lent\"");
    let sites = [(); 2].map(|()| Site::new(&settings(&partner("VAULT_ROOT_TOKEN"))).initialised(""));
    let start = |site: &Site, token: &Value| {
        site.configure(&settings(token["client_token"].as_str().unwrap()));
        site.start("")
    };
    // Looked at half a minute on.
    let lives = token(&["-ttl=10m"]);
    let server = start(&sites[0], &lives);
    let ending = start(&sites[1], &token(&["-ttl=1m", "-renewable=false"]));
    let accessor = format!("accessor={}", lives["accessor"].as_str().unwrap());
    let renewed = || vault.bao(&["write", "auth/token/lookup-accessor", &accessor]).contains("last_renewal ");
    assert!(until(90, renewed), "it is not renewed");
    assert!(until(30, || vault_is(&server, "ok")), "{}", server.ops("/readyz").1);
    assert!(until(90, || vault_is(&ending, "warning")), "{}", ending.ops("/readyz").1);
    assert!(ending.ops("/readyz").1.contains("renews it no more"), "{}", ending.ops("/readyz").1);
    server.stop();
    ending.stop();
}

#[test]
fn a_namespace_of_the_vault_is_asked_and_no_other() {
    let vault = Vault::shared();
    vault.bao(&["namespace", "create", "team"]);
    vault.bao(&["secrets", "enable", "-namespace=team", "transit"]);
    vault.bao(&["write", "-namespace=team", "-f", "transit/keys/theirs", "type=aes256-gcm96"]);
    let settings =
        |more: &str| by_token(&vault, &partner("VAULT_ROOT_TOKEN"), &format!("transit_key = \"theirs\"\n{more}"));
    let site = Site::new(&settings("namespace = \"team\"")).initialised("");
    site.all_wrapped_by("vault:v1");
    site.configure(&settings(""));
    assert!(site.fails(site.serve(""), 3).contains("has no key transit/decrypt/theirs"));
}
