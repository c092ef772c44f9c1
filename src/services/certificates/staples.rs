//! What a public authority says of the certificate shown (RFC 6960), for clients to have it with the certificate: asked for
//! again at half its time, and shown as long as it is good. Kept on disk, so that a restart has it at once.

use super::orders::{ORDERS, share, waits};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    domain::ocsp::{Answer, Question, Standing},
    ports::{
        documents::{Batch, Change, Documents, Expect, Operation},
        web::{Body, Request, Web},
    },
    services::{Error, Result, access::Caller},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const ID: &str = "staple";
/// An answer takes two thousand, or twice that.
const MOST_BYTES: usize = 64 << 10;
/// Seconds without a question after a first failure; each further one takes twice as long.
const FIRST_PAUSE: i64 = 300;
const LONGEST_PAUSE: i64 = 3600;

pub struct Staples {
    web: Arc<dyn Web>,
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    state: Mutex<State>,
    /// One question at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    question: Option<Question>,
    held: Option<Held>,
    /// In a row.
    failures: u32,
    /// No question before.
    next: Timestamp,
    trouble: Option<Fault>,
}

#[derive(Clone)]
struct Held {
    /// DER.
    response: Vec<u8>,
    answer: Answer,
}

/// As the document keeps it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    /// DER in hex.
    response: String,
}

/// An answer to be shown, and for how long.
pub struct Staple {
    pub response: Vec<u8>,
    pub left: Duration,
}

/// How it stands with the certificate shown.
pub struct Stapled {
    /// Whom its authority has answer; `None` where nothing was answered, or no longer.
    pub answer: Option<Answer>,
    /// When it is asked again.
    pub next: Timestamp,
    /// Why the last question came to nothing.
    pub trouble: Option<Fault>,
    /// Clients that know how refuse the certificate without an answer.
    pub required: bool,
}

impl Stapled {
    pub fn revoked(&self) -> Option<Timestamp> {
        match self.answer?.standing {
            Standing::Revoked(since) => Some(since),
            Standing::Good | Standing::Unknown => None,
        }
    }
}

/// Whether the authority is to be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    No,
    IfDue,
    Now,
}

impl Staples {
    pub fn new(web: Arc<dyn Web>, documents: Arc<dyn Documents>, clock: SharedClock) -> Self {
        Self { web, documents, clock, state: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Sees to what there is to be shown with this chain; an empty one wants nothing.
    pub async fn tend(&self, chain: &[Vec<u8>], ask: Ask) {
        let _turn = self.turn.lock().await;
        let question = Question::of(chain);
        if self.state().question != question {
            *self.state() = State { question: question.clone(), ..State::default() };
            if let Some(question) = &question
                && let Err(error) = self.recall(question).await
            {
                tracing::warn!(%error, "what was answered of the certificate is not found again");
            }
        }
        let Some(question) = question else { return };
        if ask == Ask::Now || ask == Ask::IfDue && self.is_due() {
            self.ask(&question).await;
        }
    }

    /// What to show with the certificate now.
    pub fn staple(&self) -> Option<Staple> {
        let held = self.held().filter(|held| held.answer.standing == Standing::Good)?;
        let left = held.answer.next_update.0.saturating_sub(self.clock.now().0);
        Some(Staple { response: held.response, left: Duration::from_millis(u64::try_from(left).ok()?) })
    }

    /// `None`: nobody is to be asked about it.
    pub fn status(&self) -> Option<Stapled> {
        let answer = self.held().map(|held| held.answer);
        let state = self.state();
        let required = state.question.as_ref()?.required;
        Some(Stapled { answer, next: state.next, trouble: state.trouble.clone(), required })
    }

    /// As long as it is for now.
    fn held(&self) -> Option<Held> {
        let now = self.clock.now();
        let fits = |held: &Held| held.answer.this_update <= now && now <= held.answer.next_update;
        self.state().held.clone().filter(fits)
    }

    fn is_due(&self) -> bool {
        let (now, next) = (self.clock.now(), self.state().next);
        match self.held() {
            Some(_) => now >= next,
            None => !waits(next, now, LONGEST_PAUSE * 2),
        }
    }

    /// What was kept is judged again: it may be of another certificate, or too old.
    async fn recall(&self, question: &Question) -> Result<()> {
        let Some(document) = self.documents.get(ORDERS, ID).await? else { return Ok(()) };
        let kept: Kept =
            bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(error.into()))?;
        let Ok(response) = hex::decode(kept.response) else { return Ok(()) };
        match question.read(&response, self.clock.now()) {
            Ok(answer) => {
                let mut state = self.state();
                state.next = halfway(&answer, answer.this_update);
                state.held = Some(Held { response, answer });
            }
            Err(cause) => tracing::debug!(cause, "what was answered before does not serve any more"),
        }
        Ok(())
    }

    async fn ask(&self, question: &Question) {
        let asked = self.asked(question).await;
        let now = self.clock.now();
        let failed = |cause: String| {
            tracing::warn!(url = question.url, cause, "not answered whether the certificate is good");
            let mut state = self.state();
            state.failures = state.failures.saturating_add(1);
            state.next = now.plus_seconds(pause(state.failures));
            let fault = Fault::new("certificates.staple_failed").with("url", &question.url).with("cause", cause);
            state.trouble = Some(fault);
        };
        let held = match asked {
            Ok(held) => held,
            Err(cause) => return failed(cause),
        };
        match held.answer.standing {
            Standing::Unknown => return failed("the authority does not know the certificate".to_owned()),
            Standing::Revoked(since) => {
                let since = since.rfc3339();
                tracing::error!(url = question.url, since, "the authority has revoked the certificate that is shown");
            }
            Standing::Good => {
                let until = held.answer.next_update.rfc3339();
                tracing::info!(url = question.url, until, "the certificate is good, says its authority");
            }
        }
        let kept = Kept { response: hex::encode(&held.response) };
        {
            let mut state = self.state();
            (state.failures, state.trouble, state.next) = (0, None, halfway(&held.answer, now));
            state.held = Some(held);
        }
        if let Err(error) = self.keep(&kept).await {
            tracing::warn!(%error, "what was answered of the certificate is not written");
        }
    }

    async fn asked(&self, question: &Question) -> std::result::Result<Held, String> {
        let body = Some(Body::Ocsp(question.request()?));
        let request = Request { url: question.url.clone(), body, ..Request::default() };
        let answered = self.web.fetch(request).await.map_err(|error| error.to_string())?;
        if answered.status != 200 || answered.body.len() > MOST_BYTES {
            return Err(format!("status {}, {} bytes", answered.status, answered.body.len()));
        }
        let answer = question.read(&answered.body, self.clock.now())?;
        // Whoever stands between could else take a revocation back.
        match self.held() {
            Some(held) if answer.this_update < held.answer.this_update => {
                Err("an older answer than the one there is".to_owned())
            }
            _ => Ok(Held { response: answered.body, answer }),
        }
    }

    async fn keep(&self, kept: &Kept) -> Result<()> {
        let document = bson::serialize_to_raw_document_buf(kept).map_err(|error| Error::Internal(error.into()))?;
        let (collection, id) = (ORDERS.to_owned(), ID.to_owned());
        let operations = vec![Operation { collection, id, expect: Expect::Any, change: Change::Put(document) }];
        let (time, origin) = (self.clock.now(), Caller::system().origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At half an answer's time, less up to a tenth; for one that comes from a cache past that, at half of what is left.
fn halfway(answer: &Answer, now: Timestamp) -> Timestamp {
    let half = |from: Timestamp| answer.next_update.seconds().saturating_sub(from.seconds()).max(0) / 2;
    let at = answer.this_update.plus_seconds(half(answer.this_update));
    let at = if at > now { at } else { now.plus_seconds(half(now)) };
    at.plus_seconds(-share(at.seconds().saturating_sub(now.seconds()) / 10))
}

/// Seconds until the next question after so many failures in a row, give or take a tenth.
fn pause(failures: u32) -> i64 {
    let pause = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    pause * 9 / 10 + share(pause / 5)
}
