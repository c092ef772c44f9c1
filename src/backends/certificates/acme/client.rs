//! How the ACME library reaches an authority: by our own HTTPS client, which also remembers when it may be asked again.

use crate::{
    backends::web::https::Https,
    base::clock::{Stopwatch, Timestamp},
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes, header};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// What an authority that is asked too much may ask for, at most.
const LONGEST_SECONDS: i64 = 7 * 86_400;

#[derive(Clone)]
pub(super) struct Client {
    https: Arc<Https>,
    /// When the work began, and since then.
    begun: (Timestamp, Stopwatch),
    /// 0: it said nothing.
    again: Arc<AtomicI64>,
}

impl Client {
    /// For the requests of one piece of work, begun now.
    pub fn new(https: Arc<Https>, now: Timestamp) -> Self {
        Self { https, begun: (now, Stopwatch::start()), again: Arc::default() }
    }

    /// Before when it wants not to be asked again.
    pub fn again(&self) -> Option<Timestamp> {
        Some(self.again.load(Ordering::Relaxed)).filter(|again| *again != 0).map(Timestamp)
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (https, (begun, watch), again) = (self.https.clone(), self.begun, self.again.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(head, Full::new(body.to_bytes()));
            let mut response = https.send(request).await.map_err(|error| Error::Other(Box::new(error)))?;
            if let Some(word) = response.headers_mut().remove(header::RETRY_AFTER) {
                let now = begun.plus_seconds(i64::try_from(watch.elapsed().as_secs()).unwrap_or_default());
                let time = word.to_str().ok().and_then(|word| after(word, now));
                let busy =
                    [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status());
                if let Some(time) = time.filter(|_| busy) {
                    again.store(time.0, Ordering::Relaxed);
                }
                // The library reckons with it, and would go astray with one beyond all bounds.
                let seconds = time.map_or(0, |time| time.seconds().saturating_sub(now.seconds()));
                response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
            }
            Ok(BytesResponse::from(response.map(Full::new)))
        })
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn after(word: &str, now: Timestamp) -> Option<Timestamp> {
    let seconds = match word.trim().parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = OffsetDateTime::parse(word.trim(), &Rfc2822).ok()?;
            date.unix_timestamp().saturating_sub(now.seconds())
        }
    };
    (seconds > 0).then(|| now.plus_seconds(seconds.min(LONGEST_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_come_again_is_read_and_bounded() {
        let now = Timestamp(1_795_000_000_000);
        assert_eq!(after("120", now), Some(now.plus_seconds(120)));
        assert_eq!(after(" Wed, 18 Nov 2026 11:30:00 GMT", now).map(|time| time.seconds() - now.seconds()), Some(1400));
        assert_eq!(after("99999999999", now), Some(now.plus_seconds(LONGEST_SECONDS)));
        for none in ["0", "-5", "soon", "", "Wed, 18 Nov 2020 11:30:00 GMT"] {
            assert_eq!(after(none, now), None, "{none}");
        }
    }
}
