//! Other servers: one request, one answer, both small.

use super::Result;

/// A GET, or a POST where there is a body.
#[derive(Debug, Default)]
pub struct Request {
    pub url: String,
    pub body: Option<Body>,
    pub authorization: Option<String>,
    /// Others, by their names.
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub enum Body {
    /// `application/x-www-form-urlencoded`.
    Form(String),
    /// `text/plain` in UTF-8.
    Text(String),
    Json(String),
    /// `application/ocsp-request`: what is answered is signed, and so may cross a wire in clear, to any server.
    Ocsp(Vec<u8>),
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

#[async_trait::async_trait]
pub trait Web: Send + Sync {
    /// No redirect is followed. Whatever went wrong before an answer came whole is `Unavailable`.
    async fn fetch(&self, request: Request) -> Result<Response>;
}

/// Whether this may be spoken to: by TLS, or on this very machine.
pub fn is_safe(url: &str) -> bool {
    let host = |rest: &str| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        host.to_owned()
    };
    match url.split_once("://") {
        Some(("https", rest)) => !host(rest).is_empty() && !host(rest).contains('@'),
        Some(("http", rest)) => ["127.0.0.1", "localhost", "[::1]"].contains(&host(rest).as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_crosses_a_wire_in_clear() {
        for good in
            ["https://id.example.cd", "https://id.example.cd:8443/a?b", "http://127.0.0.1:9400/x", "http://[::1]:1/"]
        {
            assert!(super::is_safe(good), "{good}");
        }
        for bad in [
            "http://id.example.cd",
            "http://127.0.0.1@evil.example/",
            "http://localhost.evil.example/",
            "https://",
            "https://user@host/",
            "file:///etc/passwd",
            "id.example.cd",
        ] {
            assert!(!super::is_safe(bad), "{bad}");
        }
    }
}
