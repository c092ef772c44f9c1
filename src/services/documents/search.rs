//! A query as a caller asks it, and the page it gets.

use super::{Limits, cursor::Fingerprint};
use crate::{
    base::fault::Fault,
    domain::{document::malformed, filter::Filter, json, projection::Projection, sort::Sort},
    ports::documents::Explain,
    services::{Error, Result},
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

/// What to find. Built from a URL or from a body; the same either way.
#[derive(Debug, Clone, Default)]
pub struct Search {
    pub filter: RawDocumentBuf,
    pub sort: Sort,
    pub limit: Option<usize>,
    pub cursor: Option<String>,
    pub fields: Projection,
    /// Whether to count everything the filter finds.
    pub total: bool,
}

#[derive(Debug, Clone)]
pub struct Found {
    pub documents: Vec<RawDocumentBuf>,
    pub limit: usize,
    /// Absent on the last page.
    pub next: Option<String>,
    pub total: Option<u64>,
    pub explain: Explain,
}

impl Search {
    /// From `{filter?, sort?, limit?, cursor?, fields?, total?}`; sort and fields as text or as documents.
    pub fn read(document: &RawDocument) -> Result<Self> {
        let mut search = Self::default();
        for entry in document {
            let (name, value) = entry.map_err(malformed).map_err(Error::Invalid)?;
            match (name.as_str(), value) {
                ("sort", RawBsonRef::String(sort)) => search.sort_by(sort)?,
                ("fields", RawBsonRef::String(fields)) => search.show(fields)?,
                (name, value) => search.set(name, value).map_err(Error::Invalid)?,
            }
        }
        Ok(search)
    }

    /// The parts a URL carries.
    pub fn of_url(filter: Option<&str>, sort: Option<&str>, fields: Option<&str>) -> Result<Self> {
        let mut search = Self::default();
        if let Some(filter) = filter {
            search.filter = json("filter", filter)?;
        }
        sort.map(|sort| search.sort_by(sort)).transpose()?;
        fields.map(|fields| search.show(fields)).transpose()?;
        Ok(search)
    }

    /// `-population,name`, or JSON when it opens a brace.
    fn sort_by(&mut self, text: &str) -> Result<()> {
        self.sort = match text.trim_start().starts_with('{') {
            true => Sort::parse(&json("sort", text)?),
            false => Sort::parse_text(text),
        }
        .map_err(Error::Invalid)?;
        Ok(())
    }

    /// `name,address.city`, or JSON when it opens a brace.
    fn show(&mut self, text: &str) -> Result<()> {
        self.fields = match text.trim_start().starts_with('{') {
            true => Projection::parse(&json("fields", text)?),
            false => Projection::parse_text(text),
        }
        .map_err(Error::Invalid)?;
        Ok(())
    }

    fn set(&mut self, name: &str, value: RawBsonRef<'_>) -> std::result::Result<(), Fault> {
        match (name, value) {
            (_, RawBsonRef::Null) => {}
            ("filter", RawBsonRef::Document(filter)) => self.filter = filter.to_owned(),
            ("sort", RawBsonRef::Document(sort)) => self.sort = Sort::parse(sort)?,
            ("fields", RawBsonRef::Document(fields)) => self.fields = Projection::parse(fields)?,
            ("limit", RawBsonRef::Int32(limit)) => self.limit = Some(page_size(limit.into())?),
            ("limit", RawBsonRef::Int64(limit)) => self.limit = Some(page_size(limit)?),
            ("cursor", RawBsonRef::String(cursor)) => self.cursor = Some(cursor.to_owned()),
            ("total", RawBsonRef::Boolean(total)) => self.total = total,
            ("filter" | "sort" | "fields" | "limit" | "cursor" | "total", _) => {
                return Err(Fault::new("search.type").at(name));
            }
            _ => return Err(Fault::new("search.unknown").at(name)),
        }
        Ok(())
    }

    pub(super) fn filter(&self) -> Result<Filter> {
        Filter::parse(&self.filter).map_err(Error::Invalid)
    }

    /// Rows a page holds: what was asked, within what the server allows.
    pub(super) fn rows(&self, limits: &Limits) -> Result<usize> {
        match self.limit {
            None => Ok(limits.page),
            Some(rows) if rows <= limits.page_most => Ok(rows),
            Some(_) => Err(Error::Invalid(Fault::new("search.limit").at("limit").with("limit", limits.page_most))),
        }
    }

    pub(super) fn fingerprint(&self, collection: &str) -> Fingerprint {
        Fingerprint::of(collection, self.filter.as_bytes(), &self.sort.to_string())
    }
}

/// A page has at least a row.
pub fn page_size(limit: i64) -> std::result::Result<usize, Fault> {
    usize::try_from(limit).ok().filter(|rows| *rows > 0).ok_or_else(|| Fault::new("search.page").at("limit"))
}

/// A parameter that holds JSON; what is wrong with it is placed under its name.
fn json(name: &str, text: &str) -> Result<RawDocumentBuf> {
    let parsed = json::parse(text.as_bytes(), json::Limits::default()).map_err(Error::from);
    parsed.map_err(|error| {
        error.map_fault(|fault| match fault.path.as_str() {
            "" => fault.at(name),
            path => {
                let path = format!("{name}.{path}");
                fault.at(path)
            }
        })
    })
}
