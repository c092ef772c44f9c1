//! tough's way to a repository's metadata: our places, read whole and within a bound.

use super::place::Place;
use crate::{
    base::fault::Fault,
    ports::{Error, Result},
};
use futures_util::stream;
use std::{
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};
use tough::{Bytes, Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// A base that leads nowhere: what stands behind it is a path in the place.
pub const BASE: &str = "https://repository.invalid/";
/// No metadata is longer; tough refuses earlier what is longer than it should be.
pub const LONGEST: u64 = 4 << 20;

#[derive(Clone)]
pub struct Bridge {
    place: Arc<dyn Place>,
    /// Why the last one failed: tough's errors carry words alone.
    failed: Arc<Mutex<Option<Error>>>,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place.name())
    }
}

impl Bridge {
    pub fn new(place: Arc<dyn Place>) -> Self {
        Self { place, failed: Arc::default() }
    }

    /// Why a file did not come, where that was the reason.
    pub fn failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.place.open(path, 0)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.by_ref().take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| {
            let fault = Fault::new("updates.out_of_reach").with("place", self.place.name()).with("why", error);
            Error::OutOfReach(fault)
        })?;
        Ok(Some(bytes))
    }
}

#[async_trait::async_trait]
impl Transport for Bridge {
    async fn fetch(&self, url: Url) -> std::result::Result<TransportStream, TransportError> {
        let (own, path) = (self.clone(), url.path().trim_start_matches('/').to_owned());
        let read = tokio::task::spawn_blocking(move || own.read(&path)).await;
        let came = match read {
            Ok(Ok(Some(bytes))) => Ok(Bytes::from(bytes)),
            Ok(Ok(None)) => Err(TransportError::new(TransportErrorKind::FileNotFound, url.path())),
            Ok(Err(error)) => {
                let told = TransportError::new_with_cause(TransportErrorKind::Other, url.path(), error.to_string());
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(told)
            }
            Err(error) => Err(TransportError::new_with_cause(TransportErrorKind::Other, url.path(), error)),
        };
        // Within the stream: an error of this function is taken by tough for a root that has no successor yet.
        Ok(Box::pin(stream::iter([came])))
    }
}
