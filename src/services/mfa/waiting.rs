//! What waits for the second half of an exchange: bounded, short-lived, taken once. Lost at a restart, begun again.

use crate::base::clock::Timestamp;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Seconds.
pub const LIFE: i64 = 300;
/// Of each sort. Where more wait, the oldest make room: who begins again is served.
const MOST: usize = 10_000;

pub struct Waiting<T>(Mutex<HashMap<String, (Timestamp, T)>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Waiting<T> {
    pub fn put(&self, key: String, value: T, now: Timestamp) {
        self.put_until(key, value, now.plus_seconds(LIFE), now);
    }

    /// Puts back what was taken, for as long as it had.
    pub fn put_until(&self, key: String, value: T, expires: Timestamp, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, (expires, _)| *expires > now);
        }
        if all.len() >= MOST
            && let Some(oldest) = all.iter().min_by_key(|(_, (expires, _))| *expires).map(|(key, _)| key.clone())
        {
            all.remove(&oldest);
        }
        all.insert(key, (expires, value));
    }

    /// Of several who come at once with the same key, one gets it.
    pub fn take(&self, key: &str, now: Timestamp) -> Option<(Timestamp, T)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(key).filter(|(expires, _)| *expires > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_once_and_in_time() {
        let waiting = Waiting::default();
        waiting.put("a".to_owned(), 1, Timestamp(0));
        waiting.put("b".to_owned(), 2, Timestamp(0));
        assert_eq!(waiting.take("a", Timestamp(LIFE * 1000 - 1)).map(|(_, value)| value), Some(1));
        assert!(waiting.take("a", Timestamp(0)).is_none(), "taken twice");
        assert!(waiting.take("b", Timestamp(LIFE * 1000)).is_none(), "taken too late");
    }

    #[test]
    fn however_many_begin_so_many_wait() {
        let waiting = Waiting::default();
        for number in 0..=MOST {
            waiting.put(number.to_string(), number, Timestamp(i64::try_from(number).unwrap()));
        }
        assert!(waiting.take("0", Timestamp(0)).is_none(), "the oldest stayed");
        assert!(waiting.take("1", Timestamp(0)).is_some());
        assert_eq!(waiting.0.lock().unwrap().len(), MOST - 1);
    }
}
