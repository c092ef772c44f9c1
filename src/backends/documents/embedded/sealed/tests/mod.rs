//! Tests of the sealed file: against a plain vector, through crashes, under damage, and with redb on top.

mod crash;
mod damage;
mod disk;
mod files;
mod full;
mod model;
mod reseal;

use super::{DataKeys, Error, Sealed};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;

const STAMP: &[u8] = b"instance 1, test";
const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("documents");

fn keys() -> DataKeys {
    DataKeys::new(1, [1; 32])
}

/// Two versions, this one of them in use.
fn both(current: u32) -> DataKeys {
    let material = |version: u32| [u8::try_from(version).unwrap(); 32];
    DataKeys::new(current, material(current)).with(3 - current, material(3 - current))
}

type Model = BTreeMap<u64, Vec<u8>>;

fn database(sealed: &Sealed) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(1 << 20).create_with_backend(sealed.clone())
}

/// Everything in the table.
fn contents(database: &Database) -> Result<Model, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Model::new()),
        other => other?,
    };
    let mut model = Model::new();
    for row in table.iter()? {
        let (key, value) = row?;
        model.insert(key.value(), value.value().to_vec());
    }
    Ok(model)
}
