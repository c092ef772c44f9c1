//! What every request passes on its way in and every answer on its way out, in one endpoint.

mod headers;
mod routes;

use super::{State, error, exchange::Exchange};
use crate::services::Error;
use futures_util::FutureExt;
use poem::{Endpoint, Request, Response, Result, http::StatusCode};
use routes::Routes;
use std::{panic::AssertUnwindSafe, sync::Arc};
use tokio::time::timeout;
use tracing::Instrument;

pub struct Gates {
    state: Arc<State>,
    routes: Routes,
}

impl Gates {
    pub fn new(state: Arc<State>) -> Self {
        Self { routes: Routes::new(&state), state }
    }

    /// A panic, a late answer and every error become envelopes; nothing is left for poem to word.
    async fn answer(&self, request: Request, exchange: &Exchange) -> Response {
        if !headers::acceptable(&request) {
            return error::answer(&StatusCode::NOT_ACCEPTABLE.into(), exchange);
        }
        let long = routes::is_long(&request);
        let call = AssertUnwindSafe(self.routes.call(request)).catch_unwind();
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
            Err(error) => self.routes.refused(&error, error::answer(&error, exchange)),
        }
    }
}

impl Endpoint for Gates {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let exchange = Exchange::open(&self.state, &mut request);
        let arrival = headers::Arrival::of(&request);
        let span = tracing::info_span!("request", trace = %exchange.trace, request = %exchange.request);
        let mut response = self.answer(request, &exchange).instrument(span).await;
        self.routes.name(&mut response);
        arrival.leave(&mut response, &exchange);
        Ok(response)
    }
}
