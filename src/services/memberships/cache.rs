//! Who belongs where, remembered: asked at each request, so answered without a look at the disk.

use crate::{base::metrics::runtime::Looks, domain::policy::Membership, services::Result};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// People remembered; past that, all are forgotten and asked for again.
const MOST: usize = 50_000;

#[derive(Default)]
pub(super) struct Cache {
    known: RwLock<Known>,
    pub looks: Arc<Looks>,
}

#[derive(Default)]
struct Known {
    people: HashMap<String, Arc<[Membership]>>,
    /// Raised whenever something is forgotten: what was being read meanwhile may be of before.
    turn: u64,
}

impl Cache {
    /// What is remembered, else what `load` reads.
    pub async fn of(
        &self,
        person: &str,
        load: impl Future<Output = Result<Arc<[Membership]>>>,
    ) -> Result<Arc<[Membership]>> {
        let turn = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = known.people.get(person) {
                self.looks.hit();
                return Ok(found.clone());
            }
            known.turn
        };
        self.looks.missed();
        let loaded = load.await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.turn == turn {
            if known.people.len() >= MOST {
                known.people.clear();
            }
            known.people.insert(person.to_owned(), loaded.clone());
        }
        Ok(loaded)
    }

    /// After each change that concerns these people, once it is on disk.
    pub fn forget<'a>(&self, people: impl IntoIterator<Item = &'a str>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.turn += 1;
        for person in people {
            known.people.remove(person);
        }
    }

    /// An organization changed: any of its members may be concerned.
    pub fn forget_all(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.turn += 1;
        known.people.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::MemberRole;

    fn member(role: MemberRole) -> Arc<[Membership]> {
        vec![Membership { organization: "o".to_owned(), role }].into()
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let cache = Cache::default();
        let load = async {
            let read = member(MemberRole::Owner);
            // The change comes between the look and the note.
            cache.forget(["p"]);
            Ok(read)
        };
        cache.of("p", load).await.unwrap();
        let again = cache.of("p", async { Ok(member(MemberRole::Member)) }).await.unwrap();
        assert_eq!(again, member(MemberRole::Member));
        let kept = cache.of("p", async { panic!("asked again") }).await.unwrap();
        assert_eq!(kept, again);
        cache.forget_all();
        assert_eq!(cache.of("p", async { Ok(Arc::default()) }).await.unwrap().len(), 0);
        assert_eq!(cache.looks.seen(), (1, 3), "how often it served, and how often not");
    }
}
