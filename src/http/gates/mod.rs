//! What every request passes on its way in and every answer on its way out, in one endpoint. Time is kept here and
//! nowhere else: a whole answer has so long; what is long by nature is bound by the silence of its body.

mod headers;
mod limits;
mod routes;

use super::{State, error, exchange::Exchange, proof::Proof};
use crate::{
    base::telemetry::scope,
    services::{Error, access::Subject, audit::Event},
};
use futures_util::{FutureExt, TryStreamExt, stream};
use poem::{
    Body, Endpoint, Request, Response, Result,
    http::{Method, StatusCode},
};
use routes::Routes;
use std::{io, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

pub struct Gates {
    state: Arc<State>,
    routes: Arc<Routes>,
}

impl Gates {
    pub fn new(state: Arc<State>) -> Self {
        Self { routes: Arc::new(Routes::new(&state)), state }
    }

    /// A panic, a late answer and every error become envelopes; nothing is left for poem to word.
    async fn answer(&self, mut request: Request, exchange: &Exchange, known: Option<&limits::Known>) -> Response {
        if let Err(refusal) = limits::admit(&request, exchange, known) {
            return error::answer(&refusal.into(), exchange);
        }
        if !headers::acceptable(&request) {
            return error::answer(&StatusCode::NOT_ACCEPTABLE.into(), exchange);
        }
        let method = request.method().clone();
        let long = routes::is_long(&request);
        let carried = routes::may_write(&request);
        if long || carried {
            // What is carried through once it is whole must become so in its time, whoever still waits for it.
            let until = (!long).then(|| Instant::now() + self.state.limits.request);
            let body = request.take_body();
            request.set_body(timely(body, self.state.limits.silence, until));
        }
        let routes = self.routes.clone();
        let call = AssertUnwindSafe(async move { routes.call(request).await }).catch_unwind();
        let call: Pin<Box<dyn Future<Output = _> + Send + '_>> = match carried {
            true => Box::pin(carry(&self.state.tasks, call)),
            false => Box::pin(call),
        };
        let answered = match long {
            true => Ok(call.await),
            false => timeout(self.state.limits.request, call).await,
        };
        let late = |_| Error::Unavailable("the answer took too long".to_owned()).into();
        match answered.map_err(late).and_then(|caught| match caught {
            Ok(result) => result,
            Err(_) => Ok(error::panicked(exchange)),
        }) {
            Ok(response) => response,
            Err(error) => {
                self.tell_denial(&method, &error, exchange).await;
                self.routes.refused(&error, error::answer(&error, exchange))
            }
        }
    }

    /// Somebody known asked for what they may not.
    async fn tell_denial(&self, method: &Method, error: &poem::Error, exchange: &Exchange) {
        let denied = matches!(error.downcast_ref::<Error>(), Some(Error::Forbidden));
        let (Some(caller), true) = (exchange.by.get(), denied) else { return };
        let route = self.routes.pattern(error).unwrap_or_default();
        let event = Event::new("access.denied").denied("no right").object(format!("{method} {route}"));
        self.state.audit.refused(caller, event).await;
    }
}

/// Carries a change through, even when its client leaves or its time is over: what follows a commit, such as a right
/// that is forgotten, must not be left undone.
async fn carry<T: Send + 'static>(
    tasks: &TaskTracker,
    call: impl Future<Output = std::thread::Result<T>> + Send + 'static,
) -> std::thread::Result<T> {
    let carried = tasks.spawn(scope::carried().run(call));
    carried.await.unwrap_or_else(|error| Err(Box::new(error)))
}

/// A body that fails once nothing of it has come for so long, even after the head of the answer has left, or once it is
/// not whole by a time.
fn timely(body: Body, silence: Duration, until: Option<Instant>) -> Body {
    let chunks = Box::pin(body.into_bytes_stream());
    Body::from_bytes_stream(stream::try_unfold(chunks, move |mut chunks| async move {
        let silent = Instant::now() + silence;
        match timeout_at(until.map_or(silent, |until| until.min(silent)), chunks.try_next()).await {
            Ok(chunk) => Ok(chunk?.map(|chunk| (chunk, chunks))),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }))
}

impl Endpoint for Gates {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let exchange = Exchange::open(&self.state, &mut request);
        let arrival = headers::Arrival::of(&request, &exchange);
        let whole = async {
            let proof = Proof::establish(&mut request, &exchange).await;
            if let Some(Subject::Identity(proven)) = &proof.subject {
                let (audit, id) = (self.state.audit.clone(), proven.id.clone());
                exchange.scope.acts_for(move || audit.pseudonym_of(&id));
            }
            let known = limits::Known::of(proof.subject.as_ref(), &exchange);
            let mut response = self.answer(request, &exchange, known.as_ref()).await;
            self.routes.name(&mut response);
            limits::tell(&mut response, &exchange, known.as_ref());
            arrival.leave(&mut response, proof.subject.is_some());
            response
        };
        Ok(exchange.scope.run(whole).await)
    }
}
