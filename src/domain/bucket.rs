//! The token bucket: how many requests a caller may still make, as the one moment at which it is full again.

use crate::base::clock::Timestamp;

const MINUTE: i64 = 60_000_000_000;
/// A clock set back, or a very large request, keeps nobody out for longer than this.
const MOST_OWED: i64 = 10 * MINUTE;

/// Tokens a bucket holds when full, and gains in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u32);

/// How a caller stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub limit: u32,
    pub remaining: u32,
    /// Seconds until the bucket is full.
    pub reset: u64,
    /// Refused: seconds until a token is there.
    pub retry_after: Option<u64>,
}

/// Nanoseconds since the epoch at which the bucket is full. A moment past is a full bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(i64);

impl Rate {
    /// At least one a minute.
    pub fn per_minute(tokens: u32) -> Self {
        Self(tokens.max(1))
    }

    fn token(self) -> i64 {
        MINUTE / i64::from(self.0)
    }

    fn whole(self) -> i64 {
        self.token() * i64::from(self.0)
    }
}

impl Bucket {
    /// Takes a token, or says when there is one. A refusal takes nothing.
    pub fn take(&mut self, rate: Rate, now: Timestamp) -> Standing {
        let missing = self.missing(now);
        let short = missing + rate.token() - rate.whole();
        if short > 0 {
            // After a clock was set back, from here on.
            self.0 = nanos(now).saturating_add(missing);
            return Standing { retry_after: Some(seconds(short)), ..standing(rate, missing) };
        }
        self.owe(rate, 1, now)
    }

    /// Takes tokens whether they are there or not: what is missing is owed, and paid by waiting.
    pub fn owe(&mut self, rate: Rate, tokens: u32, now: Timestamp) -> Standing {
        let missing = self.missing(now).saturating_add(rate.token().saturating_mul(tokens.into())).min(MOST_OWED);
        self.0 = nanos(now).saturating_add(missing);
        standing(rate, missing)
    }

    pub fn is_full(self, now: Timestamp) -> bool {
        self.missing(now) == 0
    }

    fn missing(self, now: Timestamp) -> i64 {
        self.0.saturating_sub(nanos(now)).clamp(0, MOST_OWED)
    }
}

fn standing(rate: Rate, missing: i64) -> Standing {
    let left = (rate.whole() - missing).max(0) / rate.token();
    let remaining = u32::try_from(left).unwrap_or(rate.0);
    Standing { limit: rate.0, remaining, reset: seconds(missing), retry_after: None }
}

fn nanos(at: Timestamp) -> i64 {
    at.0.saturating_mul(1_000_000)
}

/// Rounded up: who waits so long does not come too early.
fn seconds(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or_default().div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_full_bucket_lets_its_rate_through_and_no_more() {
        let (rate, mut bucket) = (Rate::per_minute(100), Bucket::default());
        for left in (0..100).rev() {
            let standing = bucket.take(rate, START);
            assert_eq!((standing.limit, standing.remaining, standing.retry_after), (100, left, None));
        }
        let refused = bucket.take(rate, START);
        assert_eq!(refused, Standing { limit: 100, remaining: 0, reset: 60, retry_after: Some(1) });
        assert_eq!(bucket.take(rate, START), refused, "a refusal took something");
        assert!(bucket.take(rate, Timestamp(START.0 + 599)).retry_after.is_some());
        assert!(bucket.take(rate, Timestamp(START.0 + 600)).retry_after.is_none());
        assert!(bucket.is_full(START.plus_seconds(61)));
        assert_eq!(bucket.take(rate, START.plus_seconds(3600)).remaining, 99, "more than full");
    }

    #[test]
    fn rates_that_do_not_divide_a_minute_hold_too() {
        for tokens in [1, 7, 60, 999_999, u32::MAX / 2] {
            let (rate, mut bucket) = (Rate::per_minute(tokens), Bucket::default());
            assert_eq!(bucket.take(rate, START).remaining, tokens - 1);
        }
        let (rate, mut bucket) = (Rate::per_minute(7), Bucket::default());
        let admitted = (0..60_000).filter(|ms| bucket.take(rate, Timestamp(START.0 + ms)).retry_after.is_none());
        assert_eq!(admitted.count(), 13, "seven at once, and six of the seven of that minute");
        assert_eq!(Rate::per_minute(0), Rate::per_minute(1));
    }

    #[test]
    fn what_is_owed_is_paid_by_waiting() {
        let (rate, mut bucket) = (Rate::per_minute(60), Bucket::default());
        let standing = bucket.owe(rate, 100, START);
        assert_eq!((standing.remaining, standing.reset), (0, 100));
        assert_eq!(bucket.take(rate, START).retry_after, Some(41));
        assert!(bucket.take(rate, START.plus_seconds(41)).retry_after.is_none());
        bucket.owe(rate, u32::MAX, START);
        assert!(bucket.is_full(START.plus_seconds(600)), "kept out for ever");
    }

    #[test]
    fn a_rate_that_changes_keeps_the_share_that_was_left() {
        let mut bucket = Bucket::default();
        bucket.owe(Rate::per_minute(100), 50, START);
        assert_eq!(bucket.take(Rate::per_minute(20), START).remaining, 9);
        bucket = Bucket::default();
        bucket.owe(Rate::per_minute(100), 50, START);
        assert_eq!(bucket.take(Rate::per_minute(200), START).remaining, 99);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let (rate, mut bucket) = (Rate::per_minute(100), Bucket::default());
        bucket.take(rate, START);
        let before = START.plus_seconds(-86_400);
        bucket.take(rate, before);
        assert!(bucket.take(rate, before.plus_seconds(600)).retry_after.is_none());
    }
}
