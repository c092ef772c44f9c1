//! What plain HTTP answers: the same address over HTTPS, for our own host names and no other; and to a public authority,
//! what it looks for (RFC 8555, 8.3).

use crate::services::certificates::Challenges;
use poem::{Endpoint, IntoEndpoint, Request, Response, endpoint::make_sync, http::StatusCode};
use std::sync::Arc;

const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// `names` are the host names and addresses certified; `port` is the HTTPS port as clients reach it.
pub fn router(
    names: Vec<String>,
    port: u16,
    challenges: Arc<Challenges>,
) -> impl IntoEndpoint<Endpoint = impl Endpoint + 'static> {
    make_sync(move |request| match request.uri().path().strip_prefix(CHALLENGES) {
        Some(token) => prove(challenges.authorization(token)),
        None => answer(&request, &names, port),
    })
}

fn prove(authorization: Option<String>) -> Response {
    match authorization {
        Some(authorization) => Response::builder().content_type("application/octet-stream").body(authorization),
        None => Response::builder().status(StatusCode::NOT_FOUND).finish(),
    }
}

fn answer(request: &Request, names: &[String], port: u16) -> Response {
    let header = request.header("host").or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let Some(host) = header.map(without_port).filter(|host| is_ours(host, names)) else {
        return Response::builder()
            .status(StatusCode::MISDIRECTED_REQUEST)
            .content_type("text/plain; charset=utf-8")
            .body("This server does not answer for that host name.\n");
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    Response::builder()
        .status(StatusCode::PERMANENT_REDIRECT)
        .header("location", format!("https://{host}{port}{path}"))
        .header("connection", "close")
        .finish()
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.is_empty() => host,
        _ => authority,
    }
}

/// IPv6 addresses come in brackets (RFC 3986), and are certified without.
fn is_ours(host: &str, names: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    names.iter().any(|name| bare.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::certificates::{Proof, Proofs};

    async fn ask(host: &str, path: &str, port: u16) -> (StatusCode, Option<String>) {
        let names = ["api.example.cd", "::1"].map(str::to_owned).to_vec();
        let request = Request::builder().uri(path.parse().unwrap()).header("host", host).finish();
        let challenges = Arc::new(Challenges::default());
        let proof = Proof {
            name: "api.example.cd".to_owned(),
            token: "t0k".to_owned(),
            authorization: "t0k.thumb".to_owned(),
            digest: [0; 32],
        };
        challenges.show(&[proof]).await.unwrap();
        let response = router(names, port, challenges).into_endpoint().get_response(request).await;
        (response.status(), response.header("location").map(str::to_owned))
    }

    #[tokio::test]
    async fn redirects_our_names_and_misdirects_others() {
        for (host, port, to) in [
            ("api.example.cd", 443, "https://api.example.cd/a?b=c"),
            ("API.example.cd:80", 8443, "https://API.example.cd:8443/a?b=c"),
            ("[::1]:80", 8443, "https://[::1]:8443/a?b=c"),
        ] {
            let (status, location) = ask(host, "/a?b=c", port).await;
            assert_eq!(status, StatusCode::PERMANENT_REDIRECT, "{host}");
            assert_eq!(location.as_deref(), Some(to));
        }
        for host in ["evil.example", "example.cd", "api.example.cd.evil", "x.api.example.cd", ""] {
            let (status, location) = ask(host, "/", 443).await;
            assert_eq!((status, location), (StatusCode::MISDIRECTED_REQUEST, None), "{host}");
        }
    }

    #[tokio::test]
    async fn an_authority_finds_its_proof_and_nobody_another() {
        let found = ask("whoever", "/.well-known/acme-challenge/t0k", 443).await;
        assert_eq!(found, (StatusCode::OK, None));
        for absent in ["other", "", "t0k/", "../t0k"] {
            let (status, location) = ask("api.example.cd", &format!("{CHALLENGES}{absent}"), 443).await;
            assert_eq!((status, location), (StatusCode::NOT_FOUND, None), "{absent}");
        }
    }
}
