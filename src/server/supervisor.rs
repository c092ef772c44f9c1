//! What systemd is told (sd_notify(3)), and what the operator tells us by signals.

use sd_notify::NotifyState;
use std::io::{self, IsTerminal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Sent when a write passes the process's file size limit; by default it kills.
const SIGXFSZ: i32 = 25;

/// Nothing happens, and that is fine, when no supervisor listens.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the supervisor");
    }
}

pub fn status(words: &str) {
    tell(&[NotifyState::Status(words)]);
}

/// Until it is said again, at the latest: many times as long as it takes to be said.
const EXTENDED: std::time::Duration = std::time::Duration::from_secs(120);

/// A start that is long by nature is not taken for one that hangs.
pub fn longer() {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(EXTENDED.as_micros()).unwrap_or(u32::MAX))]);
}

pub fn ready(words: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

pub fn stopping(words: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(words)]);
}

/// Shows that the runtime turns, as often as the supervisor wants to see it; never ends.
pub async fn keep_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(limit / 3).await;
    }
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// By this signal.
    End(&'static str),
    /// Look at the configuration again.
    Reload,
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// A person started it: when their terminal goes, so does it.
    attended: bool,
    /// Held so that a full quota is an error of the write, not the end of the process.
    _too_large: Signal,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            attended: io::stdin().is_terminal(),
            _too_large: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    pub async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End("SIGTERM"),
            _ = self.interrupt.recv() => Told::End("SIGINT"),
            _ = self.hang_up.recv() => if self.attended { Told::End("SIGHUP") } else { Told::Reload },
        }
    }

    /// The name of the next signal to end.
    pub async fn end(&mut self) -> &'static str {
        loop {
            if let Told::End(signal) = self.next().await {
                return signal;
            }
        }
    }
}
