//! A token's life: renewed at the half of it, and replaced by another login where it cannot be.

use super::session::{Call, Granted, Held, Login, SELF, Vault};
use crate::{
    base::clock::Stopwatch,
    ports::{Error, Result, keys::Lease},
};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// After a failure, where little of its life is left; and where nothing is known of it yet.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// By the last renewal.
    granted: Duration,
    /// By the login; zero: it never ends.
    first: Duration,
    renewable: bool,
    since: Stopwatch,
}

impl Life {
    pub fn of(granted: &Granted) -> Self {
        let lease = Duration::from_secs(granted.lease_duration);
        Self { granted: lease, first: lease, renewable: granted.renewable, since: Stopwatch::start() }
    }

    fn renewed(self, granted: &Granted) -> Self {
        Self { first: self.first, ..Self::of(granted) }
    }

    fn left(self) -> Duration {
        self.granted.saturating_sub(self.since.elapsed())
    }

    /// Its end comes nearer, whatever it is renewed for.
    fn shrinks(self) -> bool {
        self.granted * 2 < self.first
    }

    /// Near enough for people to act: one that is meant to last months is not complained of from its first day.
    fn ends(self) -> bool {
        self.left() <= (DAY * 14).min(self.first / 2)
    }

    fn due(self) -> Duration {
        if self.first.is_zero() {
            return DAY;
        }
        let half = self.granted / 2;
        match self.left().checked_sub(half).filter(|wait| !wait.is_zero()) {
            Some(wait) => wait.min(DAY),
            None if self.left().is_zero() => self.first.min(AGAIN),
            None => again(self.left()),
        }
    }
}

/// How long until another attempt, of what is left: some come before the end of a short life too.
fn again(left: Duration) -> Duration {
    (left / 4).max((left / 2).min(AGAIN))
}

#[async_trait::async_trait]
impl Lease for Vault {
    fn due(&self) -> Duration {
        match self.held() {
            None | Some(Held { life: None, .. }) => AGAIN,
            Some(Held { life: Some(life), .. }) => life.due(),
        }
    }

    async fn renew(&self) -> Result<()> {
        let Some(Held { token, life }) = self.held() else { return self.enter(None).await.map(drop) };
        let life = match life {
            Some(life) => life,
            None => self.look_up().await?,
        };
        self.hold(Held { token: token.clone(), life: Some(life) });
        if life.first.is_zero() {
            return Ok(());
        }
        let given = matches!(self.settings.login, Login::Token(_));
        let renewed = if life.renewable { Some(self.prolong().await) } else { None };
        let mut ending = life;
        match renewed {
            Some(Ok(granted)) => {
                ending = life.renewed(&granted);
                // Where the one before had ended, another was asked for on the way.
                self.hold(Held { token: granted.client_token, life: Some(ending) });
                if !ending.shrinks() {
                    return Ok(());
                }
            }
            Some(Err(error)) if given => return Err(error),
            Some(Err(_)) | None => {}
        }
        if given {
            if !ending.ends() {
                return Ok(());
            }
            let fault = self.fault("vault.token_ends", SELF).with("seconds", ending.left().as_secs());
            return Err(Error::Rejected(fault));
        }
        self.enter(Some(&token)).await.map(drop)
    }
}

impl Vault {
    async fn look_up(&self) -> Result<Life> {
        #[derive(Deserialize)]
        struct Told {
            data: Token,
        }
        #[derive(Deserialize)]
        struct Token {
            ttl: u64,
            creation_ttl: u64,
            renewable: bool,
        }
        let Told { data: Token { ttl, creation_ttl, renewable } } = self.want(Call { path: SELF, body: None }).await?;
        let seconds = Duration::from_secs;
        Ok(Life { granted: seconds(ttl), first: seconds(creation_ttl), renewable, since: Stopwatch::start() })
    }

    async fn prolong(&self) -> Result<Granted> {
        #[derive(Deserialize)]
        struct Renewed {
            auth: Granted,
        }
        let call = Call { path: "auth/token/renew-self", body: Some(&json!({})) };
        self.want::<Renewed>(call).await.map(|renewed| renewed.auth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_renewed_at_its_half_and_tried_again_before_its_end() {
        let life = |seconds, first| {
            let (granted, first) = (Duration::from_secs(seconds), Duration::from_secs(first));
            Life { granted, first, renewable: true, since: Stopwatch::start() }
        };
        let near = |life: Life, seconds: f64| (life.due().as_secs_f64() - seconds).abs() < 0.5;
        assert!(near(life(3600, 3600), 1800.0) && near(life(4, 4), 2.0));
        assert_eq!(life(0, 0).due(), DAY, "one that never ends");
        assert!(near(life(0, 3600), 30.0) && near(life(0, 4), 4.0), "one at its end");
        assert_eq!(life(9_000_000, 9_000_000).due(), DAY);
        assert_eq!([20, 60, 3600].map(|left| again(Duration::from_secs(left)).as_secs()), [10, 30, 900]);
        let days = |days: u64| days * DAY.as_secs();
        assert!(!life(1801, 3600).ends() && life(1800, 3600).ends(), "one of an hour, at its half");
        assert!(!life(days(15), days(90)).ends() && life(days(14), days(90)).ends(), "two weeks before");
        assert!(!life(1800, 3600).shrinks() && life(1799, 3600).shrinks() && life(0, 4).shrinks());
    }
}
