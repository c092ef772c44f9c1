//! What is under way: a request, or a run of a job. Its lines bear its ids, and where traces are kept it remembers the
//! steps it is made of (spans, as OpenTelemetry calls them).

use super::{
    super::{
        clock::{Stopwatch, Timestamp},
        random,
    },
    records::Said,
    traces::Traces,
};
use std::{
    convert::Infallible,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Steps remembered of one scope; a change of a thousand documents tells no more by a thousand steps.
const MOST_STEPS: usize = 128;

tokio::task_local! {
    static CURRENT: Current;
}

#[derive(Clone)]
struct Current {
    scope: Arc<Scope>,
    /// The step within it, where there is one.
    step: Option<[u8; 8]>,
}

type Identity = LazyLock<String, Box<dyn FnOnce() -> String + Send>>;

pub struct Scope {
    /// 32 and 16 hex digits (W3C Trace Context).
    pub trace: String,
    pub span: String,
    /// A request's id.
    pub request: Option<String>,
    /// Of the span it is a part of, at another's.
    pub parent: Option<Parent>,
    /// It is kept however it ends.
    pub(super) drawn: bool,
    /// What it says goes to a collector too: not what sending it there says.
    pub(super) sent: bool,
    identity: OnceLock<Identity>,
    steps: Option<Steps>,
}

/// What `traceparent` says (W3C Trace Context, 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub trace: String,
    pub span: String,
    /// The caller keeps its part of the trace.
    pub sampled: bool,
}

struct Steps {
    began: (Timestamp, Stopwatch),
    /// The id of the last: counted on from the scope's own, which chance drew; to draw each would cost more than all else of
    /// a step.
    last: AtomicU64,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    steps: Vec<Step>,
    /// For which there was no room.
    more: usize,
}

/// Times are nanoseconds since 1970.
#[derive(Debug, Clone)]
pub struct Step {
    pub id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    pub name: &'static str,
    /// Whether another server, or the store, did it.
    pub outside: bool,
    pub begin: u64,
    /// 0: it goes on.
    pub end: u64,
    pub failed: bool,
    pub attributes: Vec<(&'static str, Said)>,
}

impl Scope {
    /// Remembers its steps where traces are kept.
    pub fn new(request: Option<String>, parent: Option<Parent>, traces: Option<&Traces>, now: Timestamp) -> Arc<Self> {
        Arc::new(Self::of(request, parent, traces, now))
    }

    /// Of which a collector hears nothing.
    pub fn unsent(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { sent: false, ..Self::of(None, None, None, now) })
    }

    fn of(request: Option<String>, parent: Option<Parent>, traces: Option<&Traces>, now: Timestamp) -> Self {
        let bytes = random::array::<24>();
        let (trace, span) = bytes.split_at(16);
        let trace = parent.as_ref().map_or_else(|| hex::encode(trace), |parent| parent.trace.clone());
        let drawn = traces.is_some_and(|traces| traces.is_drawn(&trace));
        let steps = traces.map(|_| Steps {
            began: (now, Stopwatch::start()),
            last: AtomicU64::new(span.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))),
            taken: Mutex::default(),
        });
        let (span, identity) = (hex::encode(span), OnceLock::new());
        Self { trace, span, request, parent, drawn, sent: true, identity, steps }
    }

    /// Whose it is, by a name that is made only where a line wants it.
    pub fn acts_for(&self, name: impl FnOnce() -> String + Send + 'static) {
        let _ = self.identity.set(LazyLock::new(Box::new(name)));
    }

    pub fn identity(&self) -> Option<&str> {
        self.identity.get().map(|name| name.as_str())
    }

    /// Runs a part of it.
    pub async fn run<T>(self: &Arc<Self>, part: impl Future<Output = T>) -> T {
        CURRENT.scope(Current { scope: self.clone(), step: None }, part).await
    }

    /// Nanoseconds since 1970 of its beginning and of now, and the steps in between, with how many more there were. `None`
    /// where none are remembered. A step that goes on is told as far as it went.
    pub(super) fn end(&self) -> Option<((u64, u64), Vec<Step>, usize)> {
        let steps = self.steps.as_ref()?;
        let Taken { steps: mut taken, more } = std::mem::take(&mut *steps.held());
        let now = steps.now();
        for step in taken.iter_mut().filter(|step| step.end == 0) {
            step.end = now;
            step.attributes.push(("debrouille.unfinished", Said::Truth(true)));
        }
        Some(((nanos(steps.began.0), now), taken, more))
    }
}

impl Steps {
    /// By the steady clock: a wall clock that is set meanwhile makes no step negative.
    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.began.1.elapsed().as_nanos()).unwrap_or(u64::MAX);
        nanos(self.began.0).saturating_add(elapsed)
    }

    fn held(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, step: Step) {
        let mut taken = self.held();
        match taken.steps.len() < MOST_STEPS {
            true => taken.steps.push(step),
            false => taken.more += 1,
        }
    }

    /// One that ended after the whole did is told of no more.
    fn close(&self, id: [u8; 8], failed: bool) {
        let now = self.now();
        if let Some(step) = self.held().steps.iter_mut().rev().find(|step| step.id == id) {
            (step.end, step.failed) = (now, failed);
        }
    }
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or_default().saturating_mul(1_000_000)
}

/// The scope under way, as whoever goes on elsewhere takes it along.
#[derive(Clone)]
pub struct Carried(Option<Current>);

pub fn carried() -> Carried {
    Carried(CURRENT.try_with(Clone::clone).ok())
}

impl Carried {
    /// In another task.
    pub async fn run<T>(self, part: impl Future<Output = T>) -> T {
        match self.0 {
            Some(current) => CURRENT.scope(current, part).await,
            None => part.await,
        }
    }

    /// On another thread.
    pub fn enter<T>(self, part: impl FnOnce() -> T) -> T {
        match self.0 {
            Some(current) => CURRENT.sync_scope(current, part),
            None => part(),
        }
    }
}

/// Looks at the scope under way.
pub(super) fn with<T>(look: impl FnOnce(&Scope) -> T) -> Option<T> {
    CURRENT.try_with(|current| look(&current.scope)).ok()
}

/// `traceparent` for another server that is asked meanwhile. Whether what is kept at the end alone will be, nobody can say
/// yet.
pub fn traceparent() -> Option<String> {
    CURRENT
        .try_with(|Current { scope, step }| {
            let span = step.map_or_else(|| scope.span.clone(), hex::encode);
            format!("00-{}-{span}-{:02x}", scope.trace, u8::from(scope.drawn))
        })
        .ok()
}

/// A step of what is under way; nothing at all where none are remembered.
pub fn step(name: &'static str) -> Open {
    let open = CURRENT.try_with(|current| {
        let steps = current.scope.steps.as_ref()?;
        let step = Step {
            id: steps.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1).to_be_bytes(),
            parent: current.step,
            name,
            outside: false,
            begin: steps.now(),
            end: 0,
            failed: false,
            attributes: Vec::new(),
        };
        Some((current.scope.clone(), step))
    });
    Open(open.ok().flatten())
}

/// A step that another server, or the store, does.
pub fn call(name: &'static str) -> Open {
    let mut open = step(name);
    if let Some((_, step)) = &mut open.0 {
        step.outside = true;
    }
    open
}

pub struct Open(Option<(Arc<Scope>, Step)>);

impl Open {
    pub fn with(mut self, name: &'static str, value: impl Into<Said>) -> Self {
        if let Some((_, step)) = &mut self.0 {
            step.attributes.push((name, value.into()));
        }
        self
    }

    /// Runs it. What failed says so, and what was given up, or panicked; why is in the log.
    pub async fn run<T, E>(self, part: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let Some((current, under)) = self.begin() else { return part.await };
        under.over(CURRENT.scope(current, part).await)
    }

    /// The same, of what does not wait.
    pub fn enter<T, E>(self, part: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let Some((current, under)) = self.begin() else { return part() };
        under.over(CURRENT.sync_scope(current, part))
    }

    /// The same, of what cannot fail.
    pub fn pass<T>(self, part: impl FnOnce() -> T) -> T {
        let Ok(done) = self.enter(|| Ok::<_, Infallible>(part()));
        done
    }

    fn begin(self) -> Option<(Current, Under)> {
        let (scope, step) = self.0?;
        let under = Under { scope: scope.clone(), id: step.id, failed: true };
        let current = Current { scope: scope.clone(), step: Some(step.id) };
        scope.steps.as_ref()?.take(step);
        Some((current, under))
    }
}

/// A step under way. Dropped before it is over, it failed.
struct Under {
    scope: Arc<Scope>,
    id: [u8; 8],
    failed: bool,
}

impl Under {
    fn over<T, E>(mut self, done: Result<T, E>) -> Result<T, E> {
        self.failed = done.is_err();
        done
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if let Some(steps) = &self.scope.steps {
            steps.close(self.id, self.failed);
        }
    }
}
