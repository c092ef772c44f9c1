//! What a public authority says of the certificate shown (RFC 6960), for clients to have it with the certificate: asked for
//! again at half its time, and shown as long as it is good. Kept on disk, so that a restart has it at once. The newest is kept
//! past its end: a revocation holds until the authority itself takes it back.

use super::orders::{ORDERS, share, waits};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    domain::ocsp::{Answer, Question, Standing, required},
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
/// However long an answer is for: a revocation is known a day later.
const LONGEST: i64 = 24 * 3600;

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
    /// DER; empty: nothing is shown.
    leaf: Vec<u8>,
    question: Option<Question>,
    required: bool,
    /// What was kept has been looked at.
    recalled: bool,
    /// The newest there was, ended or not.
    newest: Option<Held>,
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
    /// When it was judged: it may have ended since, and is still the newest.
    at: Timestamp,
}

/// An answer to be shown, and for how long.
pub struct Staple {
    /// The certificate that it is about, as DER.
    pub leaf: Vec<u8>,
    pub response: Vec<u8>,
    pub left: Duration,
}

/// How it stands with the certificate shown.
pub struct Stapled {
    /// What its authority says; `None` where nothing was answered, or no longer. Revoked, it is so past the answer's end.
    pub answer: Option<Answer>,
    /// When it is asked again; `None`: there is nobody to ask.
    pub next: Option<Timestamp>,
    /// Why there is no answer, or no newer one.
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

    /// Sees to what there is to be shown with this chain, and has it shown before another's turn; an empty one wants nothing.
    pub async fn tend(&self, chain: &[Vec<u8>], ask: Ask, show: impl FnOnce(Option<Staple>) + Send) {
        let _turn = self.turn.lock().await;
        let (leaf, question) = (chain.first().cloned().unwrap_or_default(), Question::of(chain));
        {
            let mut state = self.state();
            if state.leaf != leaf || state.question != question {
                let required = required(&leaf);
                *state = State { leaf, required, question: question.clone(), ..State::default() };
            }
        }
        if let Some(question) = question {
            match self.recall(&question).await {
                Ok(()) if ask == Ask::Now || ask == Ask::IfDue && self.is_due() => self.ask(&question).await,
                Ok(()) => {}
                // Without it a revocation could be taken back: nothing is asked until it is known.
                Err(error) => tracing::warn!(%error, "what was answered of the certificate is not found again"),
            }
        }
        show(self.staple());
    }

    /// What to show with the certificate now.
    fn staple(&self) -> Option<Staple> {
        let now = self.clock.now();
        let state = self.state();
        let held = state.newest.as_ref().filter(|held| held.answer.is_for(now))?;
        if held.answer.standing != Standing::Good {
            return None;
        }
        let left = Duration::from_millis(u64::try_from(held.answer.next_update.0.saturating_sub(now.0)).ok()?);
        Some(Staple { leaf: state.leaf.clone(), response: held.response.clone(), left })
    }

    /// `None`: nobody is to be asked about it, and nobody misses that.
    pub fn status(&self) -> Option<Stapled> {
        let now = self.clock.now();
        let state = self.state();
        let (required, asked) = (state.required, state.question.is_some());
        if !asked && !required {
            return None;
        }
        let answer = state.newest.as_ref().map(|held| held.answer);
        let answer = answer.filter(|answer| is_revoked(answer) || answer.is_for(now));
        let missing = match asked {
            true => "certificates.staple_awaited",
            false => "certificates.staple_nobody",
        };
        let trouble = state.trouble.clone().or_else(|| (required && answer.is_none()).then(|| Fault::new(missing)));
        Some(Stapled { answer, next: asked.then_some(state.next), trouble, required })
    }

    /// Nor does it wait for a time that a clock which was ahead has set.
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        let state = self.state();
        let most = match state.newest.as_ref().is_some_and(|held| held.answer.is_for(now)) {
            true => LONGEST,
            false => LONGEST_PAUSE * 2,
        };
        !waits(state.next, now, most)
    }

    /// Once. What was kept is judged again, as of then: it may be of another certificate.
    async fn recall(&self, question: &Question) -> Result<()> {
        if self.state().recalled {
            return Ok(());
        }
        let document = self.documents.get(ORDERS, ID).await?;
        let kept = document.map(|document| bson::deserialize_from_slice::<Kept>(document.as_bytes()));
        let judged = kept.map(|kept| {
            let Kept { response, at } = kept.map_err(|error| error.to_string())?;
            let response = hex::decode(response).map_err(|error| error.to_string())?;
            let answer = question.read(&response, at)?;
            Ok::<_, String>((Held { response, answer }, at))
        });
        let mut state = self.state();
        state.recalled = true;
        match judged {
            Some(Ok((held, at))) => {
                state.next = halfway(&held.answer, at);
                state.newest = Some(held);
            }
            Some(Err(cause)) => tracing::debug!(cause, "what was answered before does not serve any more"),
            None => {}
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
        let kept = Kept { response: hex::encode(&held.response), at: now };
        {
            let mut state = self.state();
            (state.failures, state.trouble, state.next) = (0, None, halfway(&held.answer, now));
            state.newest = Some(held);
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
        // Whoever stands between could else take a revocation back, if only by waiting until its answer has ended.
        match self.state().newest.as_ref().map(|held| held.answer) {
            Some(newest) if answer.this_update < newest.this_update => {
                Err("an older answer than the one there is".to_owned())
            }
            Some(newest) if answer.this_update == newest.this_update && is_revoked(&newest) && !is_revoked(&answer) => {
                Err("an answer no newer than the one by which it is revoked".to_owned())
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

fn is_revoked(answer: &Answer) -> bool {
    matches!(answer.standing, Standing::Revoked(_))
}

/// At half an answer's time, or after a day, less up to a tenth; for one that comes from a cache past that, at half of what is
/// left.
fn halfway(answer: &Answer, now: Timestamp) -> Timestamp {
    let half = |from: Timestamp| answer.next_update.seconds().saturating_sub(from.seconds()).max(0) / 2;
    let at = answer.this_update.plus_seconds(half(answer.this_update));
    let at = if at > now { at } else { now.plus_seconds(half(now)) };
    let at = at.min(now.plus_seconds(LONGEST));
    at.plus_seconds(-share(at.seconds().saturating_sub(now.seconds()) / 10))
}

/// Seconds until the next question after so many failures in a row, give or take a tenth.
fn pause(failures: u32) -> i64 {
    let pause = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    pause * 9 / 10 + share(pause / 5)
}
