//! A search as the URL of a list carries it.

use crate::services::{
    Error, Result,
    documents::{Search, page_size},
};
use poem_openapi::param::Query;

pub fn search(
    filter: Query<Option<String>>,
    sort: Query<Option<String>>,
    limit: Query<Option<u32>>,
    cursor: Query<Option<String>>,
    total: Query<Option<bool>>,
) -> Result<Search> {
    Ok(Search {
        limit: limit.0.map(|rows| page_size(rows.into())).transpose().map_err(Error::Invalid)?,
        cursor: cursor.0,
        total: total.0.unwrap_or_default(),
        ..Search::of_url(filter.0.as_deref(), sort.0.as_deref(), None)?
    })
}
