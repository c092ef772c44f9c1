//! One request to the server and its answer, tried again while that can help; what it refuses, in words.

use super::{
    Lock, Settings,
    answers::{self, Refused},
    signature::{self, Unsigned},
};
use crate::{
    backends::objects::pace::PacedReader,
    base::{clock::SharedClock, fault::Fault, telemetry::scope},
    ports::{Error, Result, objects::FORBIDDEN},
};
use std::{io::Read, sync::Arc, time::Duration};
use ureq::{
    Agent, Body, SendBody,
    http::{HeaderMap, Request, Uri},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// Bytes a second: a link that carries less is given up.
const FLOOR: usize = 2 * 1024;
/// What the system may hold of a body when all of it seems sent, and the link has still to carry.
const HELD: usize = 4 << 20;
/// Attempts at what somebody is waiting for; what was half sent is worth `Patience::attempts`.
const FEW: usize = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A list of a thousand keys has 500 KiB.
const LONGEST_ANSWER: u64 = 8 << 20;

/// How long a weak link is believed in.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub connect: Duration,
    /// Without a byte going either way.
    pub stall: Duration,
    pub attempts: usize,
    /// Before the second attempt; each later pause is twice as long.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(10), stall: seconds(60), attempts: 8, pause: seconds(1) }
    }
}

pub struct Call<'a> {
    pub method: &'static str,
    /// Without the prefix; `None`: of the bucket itself.
    pub key: Option<&'a str>,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// What the credential must be allowed to.
    pub right: &'static str,
    /// Statuses that are an answer here and no refusal.
    pub answers: &'a [u16],
    /// The body of a good answer is left to be read; else it is short, and part of the answer.
    pub streams: bool,
}

pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub refused: Refused,
    pub text: String,
    body: Body,
    /// An earlier attempt may have reached the server, whatever it says now.
    pub again: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn done(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn into_reader(self) -> impl Read + Send + 'static {
        self.body.into_reader()
    }
}

/// Where requests go, and in whose name.
pub struct Server {
    pub settings: Settings,
    pub clock: SharedClock,
    agent: Agent,
    scheme: String,
    host: String,
    /// What stands before a key, percent-encoded, from `/` to `/`.
    root: String,
}

impl Server {
    pub fn new(settings: Settings, clock: SharedClock) -> Result<Self> {
        let wrong = || Error::Rejected(Fault::new("objects.endpoint").with("endpoint", &settings.endpoint));
        let uri: Uri = settings.endpoint.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
        let usual = if scheme == "https" { 443 } else { 80 };
        let port = uri.port_u16().filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
        let (host, path) = (format!("{}{port}", authority.host()), uri.path().trim_end_matches('/'));
        let bucket = signature::encoded(&settings.bucket, false);
        let (host, root) = match settings.path_style {
            true => (host, format!("{path}/{bucket}/")),
            false => (format!("{bucket}.{host}"), format!("{path}/")),
        };
        let roots = settings.roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect::<Vec<_>>();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots)));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let Patience { connect, stall, .. } = settings.patience;
        let agent = Agent::config_builder()
            .tls_config(tls.unversioned_rustls_crypto_provider(provider).build())
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            .build()
            .new_agent();
        Ok(Self { scheme: scheme.to_owned(), agent, host, root, settings, clock })
    }

    /// The same server, other settings beneath its bucket.
    pub fn elsewhere(&self, settings: Settings, clock: SharedClock) -> Self {
        let (scheme, host, root) = (self.scheme.clone(), self.host.clone(), self.root.clone());
        Self { settings, clock, agent: self.agent.clone(), scheme, host, root }
    }

    /// For people.
    pub fn place(&self) -> String {
        let Settings { bucket, prefix, .. } = &self.settings;
        let place = format!("s3://{}/{bucket}/{prefix}", self.host);
        place.trim_end_matches('/').to_owned()
    }

    /// Asks as often as somebody would wait for.
    pub fn ask(&self, call: &Call<'_>) -> Result<Answer> {
        self.attempt(call, FEW.min(self.settings.patience.attempts))
    }

    /// Asks as often as what was already sent is worth.
    pub fn insist(&self, call: &Call<'_>) -> Result<Answer> {
        self.attempt(call, self.settings.patience.attempts)
    }

    fn attempt(&self, call: &Call<'_>, attempts: usize) -> Result<Answer> {
        let step = scope::call("s3 request").with("server.address", self.host.as_str());
        step.with("http.request.method", call.method).enter(|| self.patiently(call, attempts))
    }

    fn patiently(&self, call: &Call<'_>, attempts: usize) -> Result<Answer> {
        let mut pause = self.settings.patience.pause;
        let mut again = false;
        for left in (0..attempts.max(1)).rev() {
            let why = match self.once(call) {
                Ok(answer) => match self.judged(call, answer)? {
                    Judged::Answer(answer) => return Ok(Answer { again, ..answer }),
                    Judged::Busy(why) => why,
                },
                Err(error) => self.broken(error)?,
            };
            if left == 0 {
                return Err(self.out_of_reach(why));
            }
            tracing::debug!(place = self.place(), why, "tried again");
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            again = true;
        }
        Err(self.out_of_reach("no attempt"))
    }

    fn once(&self, call: &Call<'_>) -> std::result::Result<Answer, ureq::Error> {
        let now = self.clock.now();
        let (digest, date) = (hex::encode(signature::sha256(call.body)), signature::date(now));
        let fixed = [("host", self.host.as_str()), ("x-amz-content-sha256", &digest), ("x-amz-date", &date)];
        let headers = [&fixed[..], call.headers].concat();
        let path = match call.key {
            Some(key) => format!("{}{}", self.root, signature::encoded(&self.settings.prefix, true) + key),
            None if self.settings.path_style => self.root.trim_end_matches('/').to_owned(),
            None => self.root.clone(),
        };
        let unsigned =
            Unsigned { method: call.method, path: &path, query: call.query, headers: &headers, digest: &digest };
        let Settings { credential, region, .. } = &self.settings;
        let authorization = signature::authorization(&unsigned, credential, region, now);
        let query = match call.query {
            [] => String::new(),
            query => format!("?{}", signature::query(query)),
        };
        let mut request = Request::builder().method(call.method);
        request = request.uri(format!("{}://{}{path}{query}", self.scheme, self.host));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = request.header("authorization", authorization);
        let mut body = PacedReader::new(call.body, self.settings.pace.clone());
        let sends = matches!(call.method, "PUT" | "POST");
        let stall = self.settings.patience.stall;
        let sent = stall + Duration::from_secs((call.body.len() / FLOOR) as u64);
        let answered = stall + stall.mul_f64(call.body.len().min(HELD) as f64 / f64::from(1 << 20));
        let response = if sends {
            request = request.header("content-length", call.body.len());
            let request = self.agent.configure_request(request.body(SendBody::from_reader(&mut body))?);
            self.agent.run(request.timeout_send_body(Some(sent)).timeout_per_read(Some(answered)).build())?
        } else {
            self.agent.run(request.body(())?)?
        };
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let (headers, refused, text) = (head.headers, Refused::default(), String::new());
        let mut answer = Answer { status, headers, refused, text, body, again: false };
        if call.method != "HEAD" && !(call.streams && answer.done()) {
            answer.text = answer.body.with_config().limit(LONGEST_ANSWER).read_to_string()?;
        }
        if !answer.done() {
            answer.refused = answers::refused(&answer.text).unwrap_or_default();
        }
        Ok(answer)
    }

    /// What an answer comes to: itself, to be asked again, or an error.
    fn judged(&self, call: &Call<'_>, answer: Answer) -> Result<Judged> {
        let (status, code) = (answer.status, answer.refused.code.clone());
        if answer.done() {
            return Ok(Judged::Answer(answer));
        }
        let fault = |key| Fault::new(key).with("place", self.place());
        let rejected = |fault| Err(Error::Rejected(fault));
        match (code.as_str(), status) {
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken", _) => {
                rejected(fault("objects.credential").with("code", code))
            }
            ("RequestTimeTooSkewed", _) => {
                let theirs = answer.header("date").unwrap_or("?").to_owned();
                rejected(fault("objects.clock").with("theirs", theirs).with("ours", self.clock.now().rfc3339()))
            }
            ("NoSuchBucket", _) => rejected(fault("objects.no_bucket").with("bucket", &self.settings.bucket)),
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301 | 307) => {
                let wanted = answer.header("x-amz-bucket-region").map(str::to_owned).or(answer.refused.region);
                let wanted = wanted.unwrap_or_else(|| "?".to_owned());
                rejected(fault("objects.region").with("region", &self.settings.region).with("wanted", wanted))
            }
            ("QuotaExceeded" | "XMinioStorageFull", _) | (_, 507) => Err(Error::Full(self.place())),
            // What came was not what was sent, or somebody else is at it.
            ("BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "RequestTimeout", _)
            | ("ConditionalRequestConflict" | "OperationAborted" | "SlowDown" | "InternalError", _)
            | (_, 408 | 429 | 500 | 502 | 503 | 504) => Ok(Judged::Busy(format!("{status} {code}"))),
            _ if call.answers.contains(&status) => Ok(Judged::Answer(answer)),
            (_, 401 | 403) => rejected(fault(FORBIDDEN).with("right", call.right)),
            (_, 400) if call.headers.iter().any(|(name, _)| *name == Lock::MODE) => {
                rejected(fault("objects.no_lock").with("code", code).with("message", answer.refused.message))
            }
            _ => rejected(
                fault("objects.refused")
                    .with("status", status)
                    .with("code", code)
                    .with("message", answer.refused.message),
            ),
        }
    }

    /// What broke: to be tried again, unless another attempt would end the same.
    fn broken(&self, error: ureq::Error) -> Result<String> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match &error {
            ureq::Error::Io(error) => Some(error),
            ureq::Error::Rustls(error) => Some(error),
            _ => None,
        };
        while let Some(inner) = cause {
            if let Some(rustls::Error::InvalidCertificate(why)) = inner.downcast_ref() {
                let fault = Fault::new("objects.tls").with("place", self.place()).with("why", format!("{why:?}"));
                return Err(Error::Rejected(fault));
            }
            cause = match inner.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
                Some(within) => Some(within),
                None => inner.source(),
            };
        }
        Ok(error.to_string())
    }

    pub fn out_of_reach(&self, why: impl std::fmt::Display) -> Error {
        Error::OutOfReach(Fault::new("objects.out_of_reach").with("place", self.place()).with("why", why))
    }

    /// An answer that makes no sense.
    pub fn senseless(&self, what: &'static str) -> Error {
        let fault = Fault::new("objects.refused").with("place", self.place()).with("status", 200);
        Error::Rejected(fault.with("code", what).with("message", "no such answer is known"))
    }
}

enum Judged {
    Answer(Answer),
    Busy(String),
}
