//! Which traces are kept, and those that wait to be sent: a share of all, and always those that failed or took long.
//!
//! The share is taken by the trace's own id, so that servers with the same share keep the same traces; but an id that
//! somebody unknown brings along decides nothing. What failed or was slow is known at the end alone: until then each
//! scope remembers its steps.

use super::{
    records::Said,
    scope::{Scope, Step},
    waiting::Waiting,
};
use std::sync::Arc;

/// Bytes of traces that wait while the collector is away.
const WAITING: usize = 16 << 20;
/// Bits of a trace's id that are random (W3C Trace Context, level 2).
const RANDOM: u32 = 56;

/// One scope that is over, and is kept.
#[derive(Debug, Clone)]
pub struct Trace {
    pub trace: String,
    pub span: String,
    pub parent: Option<String>,
    pub name: String,
    /// Whether it answered a request; else it is a job's run.
    pub answered: bool,
    pub begin: u64,
    pub end: u64,
    pub failed: bool,
    pub attributes: Vec<(&'static str, Said)>,
    pub steps: Vec<Step>,
}

impl Trace {
    /// About as much memory as it takes.
    fn bytes(&self) -> usize {
        400 + self.attributes.len() * 80 + self.steps.len() * 250
    }
}

/// How a scope ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct End {
    pub failed: bool,
    pub slow: bool,
    /// Who asked for it is somebody known, whose wish that the trace be kept counts.
    pub known: bool,
}

/// What a trace is called, and what is known of it.
pub type Told = (String, Vec<(&'static str, Said)>);

pub struct Traces {
    /// Of [`RANDOM`] bits: what is not under it is kept.
    threshold: u64,
    pub waiting: Waiting<Trace>,
}

impl Traces {
    /// `percent` of all traces, and those that must be.
    pub fn new(percent: u8) -> Arc<Self> {
        let threshold = (1_u64 << RANDOM) * u64::from(100 - percent.min(100)) / 100;
        Arc::new(Self { threshold, waiting: Waiting::new(WAITING, Trace::bytes) })
    }

    /// Whether a trace belongs to the share.
    pub(super) fn is_drawn(&self, trace: &str) -> bool {
        let last = trace.get(trace.len().saturating_sub(16)..).unwrap_or_default();
        u64::from_str_radix(last, 16).is_ok_and(|bits| bits & ((1 << RANDOM) - 1) >= self.threshold)
    }

    /// Keeps it or lets go of it; answers whether it is kept.
    pub fn end(&self, scope: &Scope, End { failed, slow, known }: End, tell: impl FnOnce() -> Told) -> bool {
        let ours = scope.request.is_none() || known;
        let asked = ours && scope.parent.as_ref().is_some_and(|parent| parent.sampled);
        let drawn = if ours || scope.parent.is_none() { scope.drawn } else { self.is_drawn(&scope.span) };
        if !(failed || slow || asked || drawn) {
            return false;
        }
        let Some(((begin, now), steps, more)) = scope.end() else { return false };
        let (name, mut attributes) = tell();
        if more > 0 {
            attributes.push(("debrouille.steps_left_out", (more as u64).into()));
        }
        if let Some(identity) = scope.identity() {
            attributes.push(("enduser.pseudo.id", identity.into()));
        }
        if let Some(request) = &scope.request {
            attributes.push(("debrouille.request", request.as_str().into()));
        }
        let trace = Trace {
            trace: scope.trace.clone(),
            span: scope.span.clone(),
            parent: scope.parent.as_ref().map(|parent| parent.span.clone()),
            name,
            answered: scope.request.is_some(),
            begin,
            end: now,
            failed,
            attributes,
            steps,
        };
        if !ours {
            return self.waiting.push_modestly(trace);
        }
        self.waiting.push(trace);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::clock::Timestamp,
            scope::{self, Parent},
        },
        *,
    };

    const BAD: End = End { failed: true, slow: false, known: false };

    fn told() -> Told {
        ("GET /x".to_owned(), vec![("a", "1".into())])
    }

    #[test]
    fn a_share_is_kept_by_the_id_and_what_failed_or_was_slow_always() {
        let kept = |percent, end| {
            let traces = Traces::new(percent);
            (0..2000).filter(|_| traces.end(&Scope::new(None, None, Some(&traces), Timestamp(1)), end, told)).count()
        };
        assert_eq!((kept(0, End::default()), kept(100, End::default())), (0, 2000));
        assert!((20..200).contains(&kept(5, End::default())));
        assert_eq!((kept(0, BAD), kept(0, End { slow: true, ..End::default() })), (2000, 2000));
        // The specification's own reading of an id: the last 56 bits.
        let half = Traces::new(50);
        assert!(
            half.is_drawn("00000000000000000080000000000000") && !half.is_drawn("ffffffffffffffffff7fffffffffffff")
        );
    }

    #[test]
    fn a_wish_to_keep_it_counts_from_who_is_known() {
        let traces = Traces::new(0);
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        let parent = |sampled| Parent { trace: trace.clone(), span: "00f067aa0ba902b7".to_owned(), sampled };
        let end = |sampled, known| {
            let scope = Scope::new(Some("r".to_owned()), Some(parent(sampled)), Some(&traces), Timestamp(1));
            traces.end(&scope, End { known, ..End::default() }, told)
        };
        assert!(end(true, true) && !end(true, false) && !end(false, true));
        // Nor does an id that was chosen to be drawn.
        let some = Traces::new(5);
        let forced = |known| {
            let parent = Parent { trace: "f".repeat(32), span: "00f067aa0ba902b7".to_owned(), sampled: false };
            let scope = Scope::new(Some("r".to_owned()), Some(parent), Some(&some), Timestamp(1));
            some.end(&scope, End { known, ..End::default() }, told)
        };
        assert!((0..200).all(|_| forced(true)) && (0..200).filter(|_| forced(false)).count() < 60);
        let kept = traces.waiting.take(9).all()[0].clone();
        assert_eq!((&*kept.trace, kept.parent.as_deref(), kept.answered), (&*trace, Some("00f067aa0ba902b7"), true));
        assert!(!traces.end(&Scope::new(None, None, None, Timestamp(1)), BAD, told), "it remembered nothing");
    }

    #[tokio::test]
    async fn steps_know_what_they_are_part_of_on_any_thread() {
        let traces = Traces::new(100);
        let scope = Scope::new(None, None, Some(&traces), Timestamp(5));
        let work = async {
            let inner = async {
                let carried = scope::carried();
                let thread = move || carried.enter(|| scope::step("read").enter(|| Err::<(), _>("no")));
                tokio::task::spawn_blocking(thread).await.unwrap()
            };
            let _ = scope::call("find").with("collection", "c").run(inner).await;
            scope::step("policy").enter(|| Ok::<_, ()>(()))
        };
        scope.run(work).await.unwrap();
        assert!(traces.end(&scope, End::default(), told));
        let kept = traces.waiting.take(9).all()[0].clone();
        let [find, read, policy] = kept.steps.try_into().unwrap();
        assert_eq!((read.name, read.parent, read.failed, read.outside), ("read", Some(find.id), true, false));
        assert_eq!((find.name, find.parent, find.failed, find.outside), ("find", None, true, true));
        assert_eq!((policy.name, policy.failed, find.attributes), ("policy", false, vec![("collection", "c".into())]));
        let ids = [&kept.span, &hex::encode(find.id), &hex::encode(read.id), &hex::encode(policy.id)];
        assert_eq!(std::collections::HashSet::from(ids).len(), 4, "{ids:?}");
        assert!(kept.begin == 5_000_000 && kept.begin <= find.begin && find.begin <= read.begin);
        assert!(read.end <= find.end && find.end <= policy.begin && policy.end <= kept.end);
        assert!(scope::step("elsewhere").enter(|| Ok::<_, ()>(())).is_ok(), "no scope, no step");
    }

    #[tokio::test]
    async fn what_was_given_up_or_goes_on_is_told_too() {
        let traces = Traces::new(0);
        let scope = Scope::new(None, None, Some(&traces), Timestamp(5));
        let forever = async || scope::call("find").run(std::future::pending::<Result<(), ()>>()).await;
        let soon = std::time::Duration::from_millis(5);
        let (goes_on, given_up) = (scope.run(forever()), scope.run(forever()));
        let mut goes_on = Box::pin(goes_on);
        assert!(tokio::time::timeout(soon, &mut goes_on).await.is_err());
        assert!(tokio::time::timeout(soon, given_up).await.is_err());
        assert!(traces.end(&scope, BAD, told));
        let kept = traces.waiting.take(1).all()[0].clone();
        let unfinished = |step: &Step| step.attributes.iter().any(|(name, _)| *name == "debrouille.unfinished");
        let [goes_on, given_up] = &kept.steps[..] else { panic!("{kept:?}") };
        assert!(unfinished(goes_on) && !goes_on.failed && goes_on.end == kept.end);
        assert!(!unfinished(given_up) && given_up.failed && given_up.end > given_up.begin);
    }

    #[tokio::test]
    async fn a_scope_remembers_so_many_steps() {
        let traces = Traces::new(0);
        let scope = Scope::new(None, None, Some(&traces), Timestamp(5));
        let work = async { (0..1000).for_each(|_| scope::step("s").enter(|| Ok::<_, ()>(())).unwrap()) };
        scope.run(work).await;
        assert!(traces.end(&scope, BAD, told));
        let kept = traces.waiting.take(1).all()[0].clone();
        assert_eq!((kept.steps.len(), &kept.attributes[1].1), (128, &Said::Whole(872)));
    }
}
