//! Old backups let go of, by the plan.

use super::{At, Backups, desk::blocking, lane::Lane, send::fault};
use crate::{
    base::fault::Fault,
    services::{
        Result,
        access::{Action, Caller, Resource},
        audit::Event,
    },
};

/// Names an event of the audit log tells.
const MOST_TOLD: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    pub dropped: Vec<String>,
    /// Those the target would not let go of, and why.
    pub refused: Vec<(String, Fault)>,
}

impl Backups {
    /// Drops what the plan drops, at a target or at each; `dry_run` only tells what would go.
    pub async fn prune(&self, caller: &Caller, target: Option<&str>, dry_run: bool) -> Result<Vec<At<Pruned>>> {
        self.access.decide(caller, Action::Manage, Resource::Module("backups"))?;
        let mut all = Vec::new();
        for lane in self.wanted(target)? {
            all.push((lane.target.name.clone(), self.prune_lane(caller, lane, dry_run).await));
        }
        Ok(all)
    }

    /// As the schedule does after each full backup.
    pub async fn prune_target(&self, target: &str) -> Result<Pruned> {
        self.prune_lane(&Caller::system(), self.lane(target)?, false).await
    }

    async fn prune_lane(&self, caller: &Caller, lane: &Lane, dry_run: bool) -> Result<Pruned> {
        let state = self.state(lane).await?;
        let dropped = self.retained(lane, &state).await?.dropped;
        if dry_run || dropped.is_empty() {
            return Ok(Pruned { dropped, refused: Vec::new() });
        }
        let told: Vec<_> = dropped.iter().take(MOST_TOLD).cloned().collect();
        let event = Event::new("backups.prune").with("target", lane.target.name.as_str());
        self.audit.record(caller, event.with("count", dropped.len()).with("names", told)).await?;
        let objects = lane.target.objects.clone();
        let pruned = blocking(move || {
            let mut pruned = Pruned { dropped: Vec::new(), refused: Vec::new() };
            for name in dropped {
                match objects.delete(&name) {
                    Ok(_) => pruned.dropped.push(name),
                    // One that is locked against deletion holds up no other.
                    Err(error) => pruned.refused.push((name, fault(&error.into()))),
                }
            }
            Ok(pruned)
        })
        .await?;
        tracing::info!(backup_target = lane.target.name, dropped = pruned.dropped.len(), "old backups are gone");
        if let Some((name, why)) = pruned.refused.first() {
            let refused = pruned.refused.len();
            tracing::warn!(backup_target = lane.target.name, refused, name, %why, "old backups that could not be deleted");
        }
        Ok(pruned)
    }
}
