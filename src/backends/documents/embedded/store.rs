//! redb's database on its file: opened, made when new, read again after a failed write.

use super::{
    catalog::{Catalog, Held},
    fault::failed,
    sealed::{DataKeys, Sealed},
    stage::Work,
    tables::{self, Readers, Tables},
    view::View,
};
use crate::{
    base::{fault::Fault, release},
    ports::{Error, Result},
};
use bson::RawDocument;
use redb::{Builder, Database, ReadableDatabase, ReadableTable};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// The sealed file and what opens it.
#[derive(Clone)]
pub struct Place {
    pub path: PathBuf,
    pub keys: DataKeys,
    /// Names the instance and environment; no other opens the file.
    pub stamp: Vec<u8>,
}

pub struct Store {
    place: Option<Place>,
    cache: usize,
    database: Option<Database>,
    sealed: Option<Sealed>,
}

/// Bytes that may still be written, and by what lets go of more than it takes.
#[derive(Clone, Copy)]
pub struct Space {
    pub headroom: u64,
    pub relief: u64,
}

/// What the engine carries from one transaction to the next.
#[derive(Clone)]
pub struct State {
    pub catalog: Arc<Catalog>,
    pub counts: BTreeMap<u32, u64>,
    pub sequence: u64,
    /// Bytes of all records.
    pub journal_bytes: u64,
}

impl Store {
    /// Opens the file, or makes it when there is none.
    pub fn open(place: Place, cache: usize) -> Result<(Self, State)> {
        let Place { path, keys, stamp } = place.clone();
        let exists = path.try_exists().map_err(|error| Error::Backend(Box::new(error)))?;
        let sealed = match exists {
            true => Sealed::open(&path, keys, &stamp),
            false => Sealed::create(&path, keys, &stamp),
        };
        let sealed = sealed.map_err(refused)?;
        let database = build(cache, sealed.clone()).map_err(failed)?;
        sealed.opened();
        if sealed.fell_back() {
            tracing::warn!("a head of the database was unreadable: torn by a crash, or else the disk is failing");
        }
        let state = load(&database)?;
        upgrade(&database)?;
        Ok((Self { place: Some(place), cache, database: Some(database), sealed: Some(sealed) }, state))
    }

    /// On another storage than the sealed file, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn over(backend: impl redb::StorageBackend, cache: usize) -> Result<(Self, State)> {
        let database = build(cache, backend).map_err(failed)?;
        let state = load(&database)?;
        Ok((Self { place: None, cache, database: Some(database), sealed: None }, state))
    }

    pub fn database(&self) -> Result<&Database> {
        self.database.as_ref().ok_or_else(|| Error::Unavailable("the store is closed".to_owned()))
    }

    /// Far more than any commit takes where nobody counts.
    pub fn space(&self) -> Result<Space> {
        let Some(sealed) = &self.sealed else { return Ok(Space { headroom: u64::MAX, relief: u64::MAX }) };
        let (headroom, relief) = (sealed.headroom().map_err(refused)?, sealed.relief().map_err(refused)?);
        Ok(Space { headroom, relief })
    }

    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    pub fn view(&self, state: &State) -> Result<View> {
        view(self.database()?, state)
    }

    /// Seals with the one in use of these from now on.
    pub fn take_keys(&mut self, keys: DataKeys) -> Result<()> {
        let (Some(sealed), Some(place)) = (&self.sealed, &mut self.place) else { return Ok(()) };
        // However far the change comes, what is opened again later needs them all.
        place.keys = keys.clone();
        sealed.set_keys(keys).map_err(refused)
    }

    /// After a failed write redb answers nothing any more: the file as last synced is opened for reading, and what
    /// redb itself writes stays in memory.
    pub fn reopen_for_reading(&mut self) -> Result<State> {
        let Some(place) = self.place.clone() else { return Err(Error::Unavailable("a write failed".to_owned())) };
        // A file that was not the cause is closed in good order below, later than anything acknowledged so far.
        let until = self.sealed.as_ref().filter(|sealed| sealed.broken().is_some()).map(Sealed::acknowledged);
        self.database = None;
        self.sealed = None;
        let (database, sealed, state) = read_only(place, self.cache, until)?;
        (self.database, self.sealed) = (Some(database), Some(sealed));
        Ok(state)
    }

    pub fn close(&mut self) -> Result<()> {
        self.sealed = None;
        self.database.take().map_or(Ok(()), |database| database.close().map_err(failed))
    }
}

pub fn read_only(place: Place, cache: usize, until: Option<u64>) -> Result<(Database, Sealed, State)> {
    let sealed = Sealed::open_read_overlay(&place.path, place.keys, &place.stamp, until).map_err(refused)?;
    let database = build(cache, sealed.clone()).map_err(failed)?;
    sealed.opened();
    let state = load(&database)?;
    Ok((database, sealed, state))
}

/// Opens a store nobody holds, reads all of it and changes nothing. The first damaged page is an error.
pub fn inspect(place: Place) -> Result<()> {
    let (_database, sealed, _) = read_only(place, 8 << 20, None)?;
    let found = sealed.scrub(0..u64::MAX).map_err(refused)?;
    match found.wrong.first().filter(|_| !found.unswept) {
        Some(page) => Err(refused(super::sealed::Error::Page { page: *page })),
        None => Ok(()),
    }
}

pub fn view(database: &Database, state: &State) -> Result<View> {
    let transaction = database.begin_read().map_err(failed)?;
    let tables = Readers::open(&transaction).map_err(failed)?;
    let State { catalog, counts, sequence, journal_bytes } = state.clone();
    Ok(View { tables, catalog, counts, sequence, journal_bytes })
}

pub fn refused(error: super::sealed::Error) -> Error {
    if error.corrupt() {
        Error::Corrupt(error.to_string())
    } else if error.full() {
        Error::Full(error.to_string())
    } else if matches!(error, super::sealed::Error::Io(_)) {
        Error::Backend(Box::new(error))
    } else {
        Error::Rejected(error.fault())
    }
}

fn build(cache: usize, backend: impl redb::StorageBackend) -> std::result::Result<Database, redb::DatabaseError> {
    Builder::new().set_cache_size(cache).create_with_backend(backend)
}

fn load(database: &Database) -> Result<State> {
    let transaction = database.begin_read().map_err(failed)?;
    let metadata = match transaction.open_table(tables::METADATA) {
        Ok(metadata) => metadata,
        Err(redb::TableError::TableDoesNotExist(_)) => return initialise(database),
        Err(error) => return Err(failed(error)),
    };
    let number = |name: &str| -> Result<u64> {
        Ok(metadata.get(name).map_err(failed)?.map(|number| number.value()).unwrap_or_default())
    };
    let format = number("format")?;
    if format > tables::FORMAT {
        let needs = match transaction.open_table(tables::NEEDS) {
            Ok(needs) => needs.get("release").map_err(failed)?.map(|release| release.value().to_owned()),
            Err(_) => None,
        };
        let fault = Fault::new("documents.format").with("found", format).with("known", tables::FORMAT);
        return Err(Error::Rejected(fault.with("release", needs.unwrap_or_default())));
    }
    let small = |name: &str| u32::try_from(number(name)?).map_err(|_| unreadable(name));
    let mut catalog = Catalog {
        collections: BTreeMap::new(),
        next_collection: small("next_collection")?,
        next_index: small("next_index")?,
    };
    for row in transaction.open_table(tables::COLLECTIONS).map_err(failed)?.iter().map_err(failed)? {
        let (name, state) = row.map_err(failed)?;
        let held = RawDocument::from_bytes(state.value()).ok().and_then(Held::read);
        let held = held.ok_or_else(|| unreadable(name.value()))?;
        catalog.collections.insert(name.value().to_owned(), Arc::new(held));
    }
    let mut counts = BTreeMap::new();
    for row in transaction.open_table(tables::COUNTS).map_err(failed)?.iter().map_err(failed)? {
        let (number, count) = row.map_err(failed)?;
        counts.insert(number.value(), count.value());
    }
    let (sequence, journal_bytes) = (number("sequence")?, number("journal_bytes")?);
    Ok(State { catalog: Arc::new(catalog), counts, sequence, journal_bytes })
}

fn unreadable(what: &str) -> Error {
    Error::Corrupt(format!("the engine's state of {what} is unreadable"))
}

/// From here on it holds what earlier releases do not read.
fn upgrade(database: &Database) -> Result<()> {
    let transaction = database.begin_read().map_err(failed)?;
    let metadata = transaction.open_table(tables::METADATA).map_err(failed)?;
    if metadata.get("format").map_err(failed)?.is_some_and(|format| format.value() == tables::FORMAT) {
        return Ok(());
    }
    let transaction = database.begin_write().map_err(failed)?;
    transaction.open_table(tables::METADATA).map_err(failed)?.insert("format", tables::FORMAT).map_err(failed)?;
    let release = release::version();
    transaction.open_table(tables::NEEDS).map_err(failed)?.insert("release", release).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn initialise(database: &Database) -> Result<State> {
    let transaction = database.begin_write().map_err(failed)?;
    let state = State { catalog: Arc::new(Catalog::initial()), counts: BTreeMap::new(), sequence: 0, journal_bytes: 0 };
    {
        let tables = Tables::open(&transaction).map_err(failed)?;
        let mut work = Work::new(tables, &state);
        work.tables.metadata.insert("format", tables::FORMAT).map_err(failed)?;
        work.tables.metadata.insert("sequence", 0).map_err(failed)?;
        work.save(&state.catalog.collections.keys().cloned().collect()).map_err(failed)?;
    }
    {
        let mut needs = transaction.open_table(tables::NEEDS).map_err(failed)?;
        needs.insert("release", release::version()).map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(state)
}
