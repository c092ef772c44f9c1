//! The end in two stages: first no new work, then no work at all.

use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Aborting,
}

/// Held by whoever decides the end.
pub struct Stopper {
    stage: watch::Sender<Stage>,
    tasks: TaskTracker,
}

/// Held by whatever must end.
#[derive(Clone)]
pub struct Stop {
    stage: watch::Receiver<Stage>,
    tasks: TaskTracker,
}

impl Default for Stopper {
    fn default() -> Self {
        Self { stage: watch::Sender::new(Stage::Serving), tasks: TaskTracker::new() }
    }
}

impl Stopper {
    pub fn stop(&self) -> Stop {
        Stop { stage: self.stage.subscribe(), tasks: self.tasks.clone() }
    }

    /// No new connections or requests; what is in flight goes on. Answers whether all of it ended within `grace`.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.stage.send_replace(Stage::Draining);
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }

    /// Cuts what is left. What cannot be cut, such as a backup being written, ends with the process. Answers whether
    /// all of it ended within `grace`.
    pub async fn abort(&self, grace: Duration) -> bool {
        self.stage.send_replace(Stage::Aborting);
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}

impl Stop {
    /// Runs a task that the drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// For tasks spawned elsewhere that the drain must wait for.
    pub fn tasks(&self) -> TaskTracker {
        self.tasks.clone()
    }

    pub async fn draining(&mut self) {
        self.reached(Stage::Draining).await;
    }

    pub async fn aborting(&mut self) {
        self.reached(Stage::Aborting).await;
    }

    /// A stopper that is gone has nothing left to say: that is the end too.
    async fn reached(&mut self, stage: Stage) {
        let _ = self.stage.wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_cut_does_not_hold_a_stop_up() {
        let stopper = Stopper::default();
        stopper.stop().spawn(std::future::pending());
        assert!(!stopper.drain(Duration::from_millis(10)).await);
        assert!(!stopper.abort(Duration::from_millis(10)).await);
        let stopper = Stopper::default();
        stopper.stop().spawn(async {});
        assert!(stopper.abort(Duration::from_secs(60)).await);
    }
}
