//! What a collection is: its name, its indexes, the catalogue document that defines it.

use super::{path::Path, sealing::OWNER, sort::Direction};
use crate::base::fault::Fault;
use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

/// Indexes a collection may have.
pub const MOST_INDEXES: usize = 64;
/// Fields an index may order by.
pub const MOST_KEYS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// `country_1_population_-1`, as MongoDB names it, unless given.
    pub name: String,
    pub keys: Vec<(Path, Direction)>,
    pub unique: bool,
}

/// How sensitive a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Public,
    Internal,
    Restricted,
    Confidential,
}

/// A collection as its catalogue document says it: `{_id: NAME, schema?, indexes, classes?, subject?, policies?,
/// audit?}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub name: String,
    /// A JSON Schema (2020-12) of the user's fields.
    pub schema: Option<RawDocumentBuf>,
    pub indexes: Vec<Index>,
    pub classes: Vec<(Path, Class)>,
    /// The field that names whose a document is; absent: its owner's.
    pub subject: Option<Path>,
    /// Rules of access, kept as they were given.
    pub policies: Vec<RawDocumentBuf>,
    /// Whether readings are told to the audit log, where it was said.
    pub reads: Option<bool>,
}

/// A user's collection is `[a-z][a-z0-9_-]{0,63}`; names with a dot are the appliance's own.
pub fn check_name(name: &str) -> Result<(), Fault> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    if first && rest && name.len() <= 64 {
        return Ok(());
    }
    Err(Fault::new("collections.name").at("name").with("name", name))
}

impl Definition {
    /// Reads a definition, from a request or from the catalogue. System fields are passed over, any other unknown
    /// field is a fault. Index keys come as text (`country,-population`) or as `{country: 1, population: -1}`.
    pub fn read(name: &str, document: &RawDocument) -> Result<Self, Fault> {
        let mut definition = Self {
            name: name.to_owned(),
            schema: None,
            indexes: Vec::new(),
            classes: Vec::new(),
            subject: None,
            policies: Vec::new(),
            reads: None,
        };
        for entry in document {
            let (field, value) = entry.map_err(|_| Fault::new("collections.definition"))?;
            match (field.as_str(), value) {
                ("name", RawBsonRef::String(given)) if given == name => {}
                ("schema", RawBsonRef::Document(schema)) => definition.schema = Some(schema.to_owned()),
                ("indexes", RawBsonRef::Array(indexes)) => {
                    for (place, index) in indexes.into_iter().enumerate() {
                        let index = index.map_err(|_| Fault::new("collections.definition"))?;
                        let index = Index::read(index).map_err(|fault| within(fault, "indexes", place))?;
                        definition.add(index).map_err(|fault| within(fault, "indexes", place))?;
                    }
                }
                ("classes", RawBsonRef::Document(classes)) => {
                    for entry in classes {
                        let (path, class) = entry.map_err(|_| Fault::new("collections.definition"))?;
                        let fault = || Fault::new("collections.class").at(format!("classes.{path}"));
                        let class = class.as_str().and_then(Class::from_name).ok_or_else(fault)?;
                        definition.classes.push((Path::parse(path.as_str())?, class));
                    }
                }
                ("subject", RawBsonRef::String(path)) => definition.subject = Some(Path::parse(path)?),
                ("policies", RawBsonRef::Array(policies)) => {
                    for (place, policy) in policies.into_iter().enumerate() {
                        let policy = policy.ok().and_then(|policy| policy.as_document());
                        let fault = || Fault::new("collections.policy").at(format!("policies.{place}"));
                        definition.policies.push(policy.ok_or_else(fault)?.to_owned());
                    }
                }
                ("audit", RawBsonRef::Document(audit)) => definition.reads = reads(audit)?,
                ("schema" | "classes" | "subject" | "policies" | "audit", RawBsonRef::Null) => {}
                ("name" | "schema" | "indexes" | "classes" | "subject" | "policies" | "audit", _) => {
                    return Err(Fault::new("collections.field_type").at(field.as_str()));
                }
                (system, _) if system.starts_with('_') => {}
                _ => return Err(Fault::new("collections.field_unknown").at(field.as_str())),
            }
        }
        Ok(definition)
    }

    /// The catalogue's document, without its id; policies are kept elsewhere.
    pub fn document(&self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        if let Some(schema) = &self.schema {
            document.append(bson::cstr!("schema"), schema.clone());
        }
        let mut indexes = RawArrayBuf::new();
        for index in &self.indexes {
            indexes.push(index.document());
        }
        document.append(bson::cstr!("indexes"), indexes);
        if !self.classes.is_empty() {
            let mut classes = RawDocumentBuf::new();
            for (path, class) in &self.classes {
                append(&mut classes, path, class.name());
            }
            document.append(bson::cstr!("classes"), classes);
        }
        if let Some(subject) = &self.subject {
            document.append(bson::cstr!("subject"), subject.to_string());
        }
        if let Some(reads) = self.reads {
            document.append(bson::cstr!("audit"), rawdoc! { "reads": reads });
        }
        document
    }

    /// Whether readings are told to the audit log: as it was said, else where a field is sealed.
    pub fn audits_reads(&self) -> bool {
        self.reads.unwrap_or_else(|| self.classes.iter().any(|(_, class)| class.sealed()))
    }

    /// The field that names whose a document is.
    pub fn subject(&self) -> Path {
        self.subject.clone().unwrap_or_else(|| Path::parse(OWNER).expect("a name"))
    }

    fn add(&mut self, index: Index) -> Result<(), Fault> {
        if self.indexes.iter().any(|other| other.name == index.name) {
            return Err(Fault::new("collections.index_twice").with("name", &index.name));
        }
        if self.indexes.len() == MOST_INDEXES {
            return Err(Fault::new("collections.index_count").with("limit", MOST_INDEXES));
        }
        self.indexes.push(index);
        Ok(())
    }
}

impl Index {
    /// From text, or from `{keys, name?, unique?}`.
    pub fn read(value: RawBsonRef<'_>) -> Result<Self, Fault> {
        let (mut keys, mut name, mut unique) = (None, None, false);
        match value {
            RawBsonRef::String(text) => keys = Some(keys_from_text(text)?),
            RawBsonRef::Document(document) => {
                for entry in document {
                    let (field, value) = entry.map_err(|_| Fault::new("collections.definition"))?;
                    match (field.as_str(), value) {
                        ("keys", RawBsonRef::String(text)) => keys = Some(keys_from_text(text)?),
                        ("keys", RawBsonRef::Document(document)) => keys = Some(keys_from_document(document)?),
                        ("name", RawBsonRef::String(given)) => name = Some(given.to_owned()),
                        ("unique", RawBsonRef::Boolean(given)) => unique = given,
                        ("keys" | "name" | "unique", _) => {
                            return Err(Fault::new("collections.field_type").at(field.as_str()));
                        }
                        _ => return Err(Fault::new("collections.field_unknown").at(field.as_str())),
                    }
                }
            }
            _ => return Err(Fault::new("collections.index_form")),
        }
        let keys = keys.ok_or_else(|| Fault::new("collections.index_form"))?;
        let name = name.unwrap_or_else(|| default_name(&keys));
        if name.is_empty() || name.len() > 256 || name.contains('\0') {
            return Err(Fault::new("collections.index_name").at("name"));
        }
        Self { name, keys, unique }.checked()
    }

    fn checked(self) -> Result<Self, Fault> {
        if self.keys.is_empty() || self.keys.len() > MOST_KEYS {
            return Err(Fault::new("collections.index_keys").at("keys").with("limit", MOST_KEYS));
        }
        for (place, (path, _)) in self.keys.iter().enumerate() {
            if self.keys.iter().take(place).any(|(other, _)| other == path) {
                return Err(Fault::new("collections.index_key_twice").at(format!("keys.{path}")));
            }
        }
        Ok(self)
    }

    /// As the catalogue keeps it.
    pub fn document(&self) -> RawDocumentBuf {
        let mut keys = RawDocumentBuf::new();
        for (path, direction) in &self.keys {
            append(&mut keys, path, direction.sign());
        }
        rawdoc! { "name": self.name.as_str(), "keys": keys, "unique": self.unique }
    }
}

impl Class {
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Public, Self::Internal, Self::Restricted, Self::Confidential]
            .into_iter()
            .find(|class| class.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Restricted => "restricted",
            Self::Confidential => "confidential",
        }
    }
}

impl Direction {
    /// `1` or `-1`, as MongoDB writes it.
    fn sign(self) -> i32 {
        match self {
            Self::Ascending => 1,
            Self::Descending => -1,
        }
    }
}

/// `{reads?}`.
fn reads(audit: &RawDocument) -> Result<Option<bool>, Fault> {
    let mut reads = None;
    for entry in audit {
        match entry.map_err(|_| Fault::new("collections.definition"))? {
            (name, RawBsonRef::Boolean(given)) if name.as_str() == "reads" => reads = Some(given),
            (name, _) if name.as_str() == "reads" => {
                return Err(Fault::new("collections.field_type").at("audit.reads"));
            }
            (name, _) => return Err(Fault::new("collections.field_unknown").at(format!("audit.{name}"))),
        }
    }
    Ok(reads)
}

fn keys_from_text(text: &str) -> Result<Vec<(Path, Direction)>, Fault> {
    text.split(',')
        .map(str::trim)
        .map(|key| match key.strip_prefix('-') {
            Some(path) => Ok((Path::parse(path)?, Direction::Descending)),
            None => Ok((Path::parse(key)?, Direction::Ascending)),
        })
        .collect()
}

fn keys_from_document(document: &RawDocument) -> Result<Vec<(Path, Direction)>, Fault> {
    let mut keys = Vec::new();
    for entry in document {
        let (path, sign) = entry.map_err(|_| Fault::new("collections.definition"))?;
        let direction = match sign {
            RawBsonRef::Int32(1) | RawBsonRef::Int64(1) => Direction::Ascending,
            RawBsonRef::Int32(-1) | RawBsonRef::Int64(-1) => Direction::Descending,
            RawBsonRef::Double(1.0) => Direction::Ascending,
            RawBsonRef::Double(-1.0) => Direction::Descending,
            _ => return Err(Fault::new("collections.index_sign").at(format!("keys.{path}"))),
        };
        keys.push((Path::parse(path.as_str())?, direction));
    }
    Ok(keys)
}

fn default_name(keys: &[(Path, Direction)]) -> String {
    keys.iter().map(|(path, direction)| format!("{path}_{}", direction.sign())).collect::<Vec<_>>().join("_")
}

fn append(document: &mut RawDocumentBuf, path: &Path, value: impl bson::raw::BindRawBsonRef) {
    let name = bson::raw::CString::try_from(path.to_string()).expect("a path is parsed without a NUL");
    document.append(name, value);
}

/// Puts a fault under its place in a list.
fn within(fault: Fault, list: &str, place: usize) -> Fault {
    let path = if fault.path.is_empty() { format!("{list}.{place}") } else { format!("{list}.{place}.{}", fault.path) };
    fault.at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(document: RawDocumentBuf) -> Result<Index, Fault> {
        Index::read(RawBsonRef::Document(&document))
    }

    #[test]
    fn both_forms_of_an_index_are_the_same() {
        let text = Index::read(RawBsonRef::String("country,-population")).unwrap();
        assert_eq!(text.name, "country_1_population_-1");
        assert_eq!(text, index(rawdoc! { "keys": { "country": 1, "population": -1.0 } }).unwrap());
        assert_eq!(text, index(text.document()).unwrap());
    }

    #[test]
    fn whoever_errs_is_told_all_that_is_accepted() {
        use crate::base::messages::{Language, text};
        for key in ["collections.definition", "collections.field_unknown", "collections.field_type"] {
            for language in [Language::French, Language::English] {
                let said = text(language, key);
                for field in ["name", "schema", "indexes", "classes", "subject", "policies", "audit"] {
                    assert!(said.contains(field), "{field} is not in {said}");
                }
            }
        }
    }

    #[test]
    fn a_definition_survives_the_catalogue() {
        let given = rawdoc! {
            "schema": { "type": "object", "required": ["name"] },
            "indexes": ["country,-population", { "keys": "code", "unique": true, "name": "codes" }],
            "classes": { "phone.mobile": "confidential" },
            "subject": "person",
            "audit": { "reads": false },
        };
        let definition = Definition::read("places", &given).unwrap();
        assert_eq!(definition.indexes.len(), 2);
        assert!(definition.indexes[1].unique);
        assert_eq!(Definition::read("places", &definition.document()).unwrap(), definition);
    }

    #[test]
    fn readings_are_audited_where_a_field_is_sealed_unless_it_is_said() {
        let audits = |document: RawDocumentBuf| Definition::read("places", &document).unwrap().audits_reads();
        assert!(!audits(rawdoc! { "classes": { "a": "internal" } }));
        for class in ["restricted", "confidential"] {
            assert!(audits(rawdoc! { "classes": { "a": class } }));
            assert!(!audits(rawdoc! { "classes": { "a": class }, "audit": { "reads": false } }));
        }
        assert!(audits(rawdoc! { "audit": { "reads": true } }));
        assert!(!audits(rawdoc! { "audit": {} }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fault = |document: RawDocumentBuf| Definition::read("places", &document).unwrap_err();
        assert_eq!(fault(rawdoc! { "schemas": {} }).key, "collections.field_unknown");
        assert_eq!(fault(rawdoc! { "schema": [] }).key, "collections.field_type");
        let reads = fault(rawdoc! { "audit": { "reads": 1 } });
        assert_eq!((reads.key, reads.path.as_str()), ("collections.field_type", "audit.reads"));
        assert_eq!(fault(rawdoc! { "audit": { "writes": true } }).path, "audit.writes");
        assert_eq!(fault(rawdoc! { "classes": { "a": "secret" } }).path, "classes.a");
        let twice = fault(rawdoc! { "indexes": ["a", { "keys": { "a": 1 } }] });
        assert_eq!((twice.key, twice.path.as_str()), ("collections.index_twice", "indexes.1"));
        let sign = fault(rawdoc! { "indexes": [{ "keys": { "a": 2 } }] });
        assert_eq!((sign.key, sign.path.as_str()), ("collections.index_sign", "indexes.0.keys.a"));
        assert_eq!(fault(rawdoc! { "indexes": ["a,-a"] }).key, "collections.index_key_twice");
        assert_eq!(fault(rawdoc! { "indexes": [{ "keys": "a", "ttl": 5 }] }).path, "indexes.0.ttl");
        assert_eq!(fault(rawdoc! { "indexes": [""] }).key, "query.path");
    }

    #[test]
    fn names_of_collections() {
        for good in ["a", "places", "n0-b_c"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "système", "0a", "system.users", "a.b", "a/b", "a\0", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
