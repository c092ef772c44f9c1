//! Every index filled at the end of a restore, where nobody waits to write: one thread gathers entries while this one
//! puts the last ones in.

use super::{
    build::{self, Gathered},
    catalog::{Catalog, Held, HeldIndex, Progress},
    fault::Refusal,
    stage::Work,
    store::{State, Store},
    tables::{Readers, Tables},
};
use crate::ports;
use redb::{Database, ReadableDatabase};
use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

/// So many times the usual piece: entries come in no order, and each piece lays out most of an index's pages again.
/// Tests fill several with few documents.
const TIMES: usize = if cfg!(test) { 1 } else { 400 };

/// `room` says whether there is enough for one more piece. Each is committed; the state follows.
pub fn all(store: &Store, state: &mut State, room: &dyn Fn() -> ports::Result<()>) -> Result<(), Refusal> {
    while let Some((name, held, at)) = next(&state.catalog) {
        let database = store.database().map_err(Refusal::Batch)?;
        thread::scope(|scope| {
            // Gathered ahead: one piece, while one is put in.
            let (sender, receiver) = sync_channel(0);
            scope.spawn(|| gather(database, &held, at, sender));
            for gathered in receiver {
                room().map_err(Refusal::Batch)?;
                *state = put(database, state, (&name, at), gathered?)?;
            }
            Ok::<_, Refusal>(())
        })?;
    }
    Ok(())
}

fn next(catalog: &Catalog) -> Option<(String, Arc<Held>, usize)> {
    catalog.collections.iter().find_map(|(name, held)| {
        let filling = |index: &HeldIndex| matches!(index.progress, Progress::Filling { .. });
        Some((name.clone(), held.clone(), held.indexes.iter().position(filling)?))
    })
}

/// Until there are no more documents, or nobody listens.
fn gather(database: &Database, held: &Held, at: usize, sender: SyncSender<Result<Gathered, redb::Error>>) {
    let Some(index) = held.indexes.get(at) else { return };
    let Progress::Filling { mut cursor, .. } = index.progress.clone() else { return };
    loop {
        // Each piece on a view of its own: a longer one would keep every page alive that was laid out again.
        let documents = database.begin_read().map_err(redb::Error::from);
        let documents = documents.and_then(|transaction| Ok(Readers::open(&transaction)?.documents));
        let gathered = documents.and_then(|documents| build::gather(&documents, held.number, index, &cursor, TIMES));
        let next = gathered.as_ref().ok().filter(|gathered| gathered.refused.is_none());
        let next = next.and_then(|gathered| gathered.last.clone());
        match (sender.send(gathered), next) {
            (Ok(()), Some(last)) => cursor = last,
            _ => return,
        }
    }
}

fn put(
    database: &Database,
    state: &State,
    (name, at): (&str, usize),
    gathered: Gathered,
) -> Result<State, redb::Error> {
    let transaction = database.begin_write()?;
    let after = {
        let mut work = Work::new(Tables::open(&transaction)?, state);
        build::put(&mut work, name, at, gathered)?;
        work.state()
    };
    transaction.commit()?;
    Ok(after)
}
