//! How many requests a caller may make: a bucket per identity, or per address for who proves none, and per route that
//! has a limit of its own.

use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    domain::{
        address::subscriber,
        bucket::{Bucket, Rate, Standing},
        trust::scale,
    },
};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Routes with a limit of their own: what costs a password's hash, or can be guessed at. Whole towns sign in from one
/// address; each of their clients refreshes every ten minutes.
const ROUTES: [&str; 9] = [
    "POST /api/v1/auth/login=60",
    "POST /api/v1/auth/refresh=300",
    "POST /api/v1/auth/recover=10",
    "POST /api/v1/auth/register=10",
    "POST /api/v1/invitations/accept=20",
    "POST /api/v1/auth/recover/confirm=20",
    "POST /api/v1/auth/verify=20",
    "POST /api/v1/admin/backups=10",
    "POST /api/v1/admin/backups/verify=10",
];

const SHARDS: usize = 16;
/// Buckets at once, of each shard: a hundred thousand in all, some 3 MB.
const MOST: usize = 100_000 / SHARDS;

/// Whose bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder<'a> {
    Identity(&'a str),
    /// `None`: nobody knows which; they share one.
    Address(Option<IpAddr>),
}

/// What is configured.
#[derive(Debug, Default)]
pub struct Settings {
    /// 0: no limit but those of `routes`.
    per_minute: u32,
    /// The first that matches counts.
    routes: Vec<Route>,
}

/// `METHOD PATTERN=PER_MINUTE`; a part of the pattern in braces is any part of a path.
#[derive(Debug)]
struct Route {
    method: String,
    pattern: String,
    per_minute: u32,
}

/// A request that was counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub standing: Standing,
    bucket: u64,
    rate: Rate,
}

pub struct Limiter {
    clock: SharedClock,
    settings: Settings,
    /// Callers by a keyed hash, which nobody outside can aim at.
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Bucket>>; SHARDS],
}

impl Settings {
    pub fn new(per_minute: u32, routes: &[String]) -> Result<Self, Fault> {
        let known: &[&str] = if per_minute == 0 { &[] } else { &ROUTES };
        let words = routes.iter().map(String::as_str).chain(known.iter().copied());
        Ok(Self { per_minute, routes: words.map(Route::read).collect::<Result<_, _>>()? })
    }

    /// The route's own limit, and which it is; else the general one.
    fn limit(&self, method: &str, path: &str) -> (u32, Option<usize>) {
        let own = self.routes.iter().position(|route| route.matches(method, path));
        match own.and_then(|at| self.routes.get(at)) {
            Some(route) => (route.per_minute, own),
            None => (self.per_minute, None),
        }
    }
}

impl Route {
    fn read(word: &str) -> Result<Self, Fault> {
        let wrong = || Fault::new("limits.route").at("limits.routes").with("route", word);
        let (route, per_minute) = word.rsplit_once('=').ok_or_else(wrong)?;
        let (method, pattern) = route.trim().split_once(' ').ok_or_else(wrong)?;
        let per_minute = per_minute.trim().parse().map_err(|_| wrong())?;
        let sound = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].contains(&method) && pattern.starts_with("/api/");
        let route = Self { method: method.to_owned(), pattern: pattern.trim().to_owned(), per_minute };
        sound.then_some(route).ok_or_else(wrong)
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let (mut parts, mut wanted) = (path.split('/'), self.pattern.split('/'));
        self.method == method
            && loop {
                match (parts.next(), wanted.next()) {
                    (None, None) => break true,
                    (Some(part), Some(wanted)) if part == wanted || (wanted.starts_with('{') && !part.is_empty()) => {}
                    _ => break false,
                }
            }
    }
}

impl Limiter {
    pub fn new(clock: SharedClock, settings: Settings) -> Self {
        Self { clock, settings, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Counts a request of a caller; an identity's limit follows its level of trust. `None`: nothing limits it.
    pub fn count(&self, holder: Holder<'_>, level: Option<u8>, method: &str, path: &str) -> Option<Counted> {
        let (limit, route) = self.settings.limit(method, path);
        if limit == 0 {
            return None;
        }
        let holder = match holder {
            Holder::Address(address) => Holder::Address(address.map(subscriber)),
            identity @ Holder::Identity(_) => identity,
        };
        let rate = Rate::per_minute(level.map_or(limit, |level| scale(limit, level)));
        let (bucket, now) = (self.hasher.hash_one((holder, route)), self.clock.now());
        let standing = self.with(bucket, now, |bucket| bucket.take(rate, now))?;
        Some(Counted { standing, bucket, rate })
    }

    /// Counts a request that turned out to be worth more than one.
    pub fn charge(&self, counted: &mut Counted, tokens: u32) {
        let now = self.clock.now();
        if let Some(standing) = self.with(counted.bucket, now, |bucket| bucket.owe(counted.rate, tokens, now)) {
            counted.standing = standing;
        }
    }

    fn with<T>(&self, bucket: u64, now: Timestamp, act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        let shard = usize::try_from(bucket % SHARDS as u64).ok().and_then(|at| self.shards.get(at))?;
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(&bucket) {
            make_room(&mut buckets, now);
        }
        Some(act(buckets.entry(bucket).or_default()))
    }
}

/// Full buckets go: they are as good as new ones. In a flood the fullest quarter follows: who has emptied a bucket does
/// not get another by bringing many more callers.
fn make_room(buckets: &mut HashMap<u64, Bucket>, now: Timestamp) {
    buckets.retain(|_, bucket| !bucket.is_full(now));
    if buckets.len() <= MOST - MOST / 8 {
        return;
    }
    let mut levels: Vec<Bucket> = buckets.values().copied().collect();
    let quarter = levels.len() / 4;
    let (_, fullest, _) = levels.select_nth_unstable(quarter);
    let (fullest, mut room) = (*fullest, quarter + 1);
    buckets.retain(|_, bucket| {
        let goes = *bucket <= fullest && room > 0;
        room -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::FixedClock;
    use std::sync::{Arc, atomic::Ordering};

    fn limiter(per_minute: u32, routes: &[&str]) -> (Limiter, Arc<FixedClock>) {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let routes: Vec<String> = routes.iter().map(|&route| route.to_owned()).collect();
        (Limiter::new(clock.clone(), Settings::new(per_minute, &routes).unwrap()), clock)
    }

    fn at(address: &str) -> Holder<'static> {
        Holder::Address(Some(address.parse().unwrap()))
    }

    fn left(limiter: &Limiter, holder: Holder<'_>) -> u32 {
        limiter.count(holder, None, "GET", "/api/v1/meta").unwrap().standing.remaining
    }

    #[test]
    fn every_limit_that_is_built_in_is_documented() {
        let book = include_str!("../../docs/limits.md");
        // `| routes | a minute |`, several of each with a dot between.
        let rows =
            book.lines().filter_map(|line| line.strip_prefix("| `POST ")?.strip_suffix(" |")?.split_once("` | "));
        let told: Vec<(&str, &str)> = rows
            .flat_map(|(routes, limits)| routes.split("` · `").zip(limits.split(" · ")))
            .map(|(route, limit)| (route.trim_start_matches("/api/v1"), limit))
            .collect();
        let built = ROUTES.map(|route| route.trim_start_matches("POST /api/v1").split_once('=').unwrap());
        for route in built {
            assert!(told.contains(&route), "{route:?} is not in {told:?}");
        }
        assert_eq!(told.len(), built.len());
    }

    #[test]
    fn each_caller_has_a_bucket() {
        let (limiter, _) = limiter(10, &[]);
        assert_eq!([left(&limiter, at("192.0.2.1")), left(&limiter, at("::ffff:192.0.2.1"))], [9, 8]);
        assert_eq!([left(&limiter, at("2001:db8::1")), left(&limiter, at("2001:db8::2"))], [9, 8]);
        assert_eq!(left(&limiter, at("2001:db8:0:1::1")), 9, "another /64");
        assert_eq!([left(&limiter, Holder::Identity("a")), left(&limiter, Holder::Identity("b"))], [9, 9]);
        assert_eq!([left(&limiter, Holder::Address(None)), left(&limiter, Holder::Address(None))], [9, 8]);
    }

    #[test]
    fn routes_have_limits_of_their_own() {
        let (limiter, _) = limiter(10, &["POST /api/v1/collections/{collection}/import=2", "GET /api/v1/meta=0"]);
        let limit = |method: &str, path: &str| {
            limiter.count(Holder::Identity("a"), None, method, path).map(|counted| counted.standing.limit)
        };
        assert_eq!(limit("POST", "/api/v1/collections/places/import"), Some(2));
        assert_eq!(limit("GET", "/api/v1/collections/places/import"), Some(10));
        assert_eq!(limit("POST", "/api/v1/collections//import"), Some(10));
        assert_eq!(limit("POST", "/api/v1/collections/places/import/x"), Some(10));
        assert_eq!(limit("POST", "/api/v1/auth/login"), Some(60));
        assert_eq!(limit("GET", "/api/v1/meta"), None);
        for other in ["places", "towns"] {
            limit("POST", &format!("/api/v1/collections/{other}/import"));
        }
        let refused = limiter.count(Holder::Identity("a"), None, "POST", "/api/v1/collections/x/import").unwrap();
        assert_eq!(refused.standing.retry_after, Some(30));
        for wrong in ["GET /api/v1/meta", "GET=1", "get /api/v1/meta=1", "GET /meta=1", "GET /api/v1/meta=-1", ""] {
            assert_eq!(Settings::new(1, &[wrong.to_owned()]).unwrap_err().key, "limits.route", "{wrong}");
        }
    }

    #[test]
    fn no_limit_leaves_only_the_routes_that_are_configured() {
        let (limiter, _) = limiter(0, &["GET /api/v1/meta=1"]);
        assert!(limiter.count(Holder::Identity("a"), None, "POST", "/api/v1/auth/login").is_none());
        assert!(limiter.count(Holder::Identity("a"), None, "GET", "/api/v1/health").is_none());
        assert!(limiter.count(Holder::Identity("a"), None, "GET", "/api/v1/meta").is_some());
    }

    #[test]
    fn trust_scales_the_limit_and_a_charge_is_owed() {
        let (limiter, clock) = limiter(100, &[]);
        let mut counted = limiter.count(Holder::Identity("a"), Some(100), "POST", "/api/v1/batch").unwrap();
        assert_eq!(counted.standing.limit, 200);
        limiter.charge(&mut counted, 300);
        assert_eq!(counted.standing.remaining, 0);
        let again = || limiter.count(Holder::Identity("a"), Some(100), "POST", "/api/v1/batch").unwrap().standing;
        assert_eq!(again().retry_after, Some(31));
        clock.0.fetch_add(31_000, Ordering::Relaxed);
        assert_eq!(again().retry_after, None);
    }

    #[test]
    fn a_flood_of_callers_is_bounded_and_frees_nobody() {
        let (limiter, _) = limiter(100, &[]);
        let emptied = at("192.0.2.1");
        while limiter.count(emptied, None, "GET", "/").unwrap().standing.retry_after.is_none() {}
        for n in 0..300_000_u32 {
            limiter.count(Holder::Address(Some(std::net::Ipv4Addr::from_bits(n).into())), None, "GET", "/");
        }
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= MOST * SHARDS && held > MOST * SHARDS / 2, "{held}");
        assert!(limiter.count(emptied, None, "GET", "/").unwrap().standing.retry_after.is_some(), "freed");
    }
}
