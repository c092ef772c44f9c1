//! Fields kept sealed in the store: which they are, how a document is sealed and opened, how a query finds what it
//! cannot read. The cryptography itself is handed in.

mod definition;
mod walk;

pub use definition::{shown, stored};

use super::{
    collection::{Class, Definition},
    filter::{Filter, Test},
    key,
    path::{self, Leaf, Path},
    sort::Sort,
    value,
};
use crate::base::fault::Fault;
use bson::{Binary, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, spec::BinarySubtype};
use walk::{at, mapped, placed, touch};

/// The subtype of a sealed value, of those BSON leaves to users.
const SUBTYPE: BinarySubtype = BinarySubtype::UserDefined(0xd5);
/// Where the hashes by which sealed values are found stand, under the names of their fields. Nobody sees it.
pub const HASHES: &str = "_hashes";
/// Whose a document is, unless its collection says otherwise.
pub const OWNER: &str = "_owner";

/// The cryptography. `bound` is what a sealed value belongs to: moved elsewhere it does not open.
pub trait Cipher {
    fn seal(&self, subject: &str, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault>;
    /// `None`: its key is gone.
    fn open(&self, subject: &str, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
    /// The same for the same bytes, whoever's they are.
    fn hash(&self, bytes: &[u8]) -> [u8; 16];
}

/// A collection's sealed fields. None: nothing here costs anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    collection: String,
    /// Of the classes restricted and confidential, the outermost.
    fields: Vec<Path>,
    /// Those of them an index asks for, and whether a unique one does.
    hashed: Vec<(Path, bool)>,
    /// Names the subject, whose key it is.
    subject: Path,
}

/// A sealed value as it was found in the store.
struct Kept {
    sealed: Vec<u8>,
    /// The BSON of the value; `None`: its key is gone.
    plain: Option<Vec<u8>>,
}

impl Sealing {
    /// Of a definition as the catalogue keeps it.
    pub fn of(definition: &Definition) -> Self {
        let sealed = || definition.classes.iter().filter(|(_, class)| class.sealed()).map(|(path, _)| path);
        let outermost = |path: &&Path| !sealed().any(|other| other != *path && other.holds(path));
        let mut hashed: Vec<(Path, bool)> = Vec::new();
        for index in &definition.indexes {
            for path in index.keys.iter().filter_map(|(path, _)| path.within(HASHES)) {
                match hashed.iter_mut().find(|(known, _)| *known == path) {
                    Some((_, unique)) => *unique |= index.unique,
                    None => hashed.push((path, index.unique)),
                }
            }
        }
        Self {
            collection: definition.name.clone(),
            fields: sealed().filter(outermost).cloned().collect(),
            hashed,
            subject: definition.subject(),
        }
    }

    pub fn is_nothing(&self) -> bool {
        self.fields.is_empty()
    }

    pub fn fields(&self) -> &[Path] {
        &self.fields
    }

    /// The field that names the subject.
    pub fn subject(&self) -> &Path {
        &self.subject
    }

    /// Whose a document is.
    pub fn subject_of<'a>(&self, document: &'a RawDocument) -> Option<&'a str> {
        let subject = at(document, self.subject.parts())?.as_str()?;
        super::document::check_id(subject).is_ok().then_some(subject)
    }

    /// Whether no place that may name a subject holds anything, those in lists included.
    pub fn names_nobody(&self, document: &RawDocument) -> bool {
        let named = |value: Option<RawBsonRef<'_>>| value.is_some_and(|value| value != RawBsonRef::Null);
        !path::any(document, self.subject.parts(), Leaf::Elements, &mut |value| named(value))
    }

    /// Whether documents that lie under this sealing may stay as they are under the next.
    pub fn admits(&self, next: &Self) -> bool {
        let same =
            self.fields.len() == next.fields.len() && self.fields.iter().all(|field| next.fields.contains(field));
        same && (self.is_nothing() || self.subject == next.subject)
            && next.hashed.iter().all(|hashed| self.hashed.contains(hashed))
    }

    /// Whether a document as people read it has a value to be sealed.
    pub fn concerns(&self, document: &RawDocument) -> bool {
        self.fields.iter().any(|field| walk::reaches(document, field.parts()))
    }

    /// Whether a document is its owner's, who stays.
    pub fn is_owner(&self) -> bool {
        self.subject.parts() == [OWNER]
    }

    /// Whether a stored document holds a sealed value.
    pub fn is_sealed(&self, stored: &RawDocument) -> bool {
        self.fields.iter().any(|field| !found(stored, field).is_empty())
    }

    /// A document as people read it. A field whose key is gone is gone.
    pub fn open(&self, stored: &RawDocument, cipher: &dyn Cipher) -> Result<RawDocumentBuf, Fault> {
        let mut opened = without_hashes(stored);
        let subject = self.subject_of(stored);
        for field in &self.fields {
            let bound = self.bound(stored, field);
            opened = mapped(&opened, field.parts(), &mut |value| match (sealed(value), subject) {
                (None, _) => Ok(Some(value.into())),
                (Some(_), None) => Ok(None),
                (Some(bytes), Some(subject)) => match cipher.open(subject, &bound, bytes)? {
                    Some(plain) => read(&plain).map(Some),
                    None => Ok(None),
                },
            })?;
        }
        Ok(opened)
    }

    /// A document as it is stored, from how people read it and how it was stored before. What is the same as before
    /// keeps its bytes; what could not be opened and is not replaced keeps them too.
    pub fn seal(
        &self,
        document: &RawDocument,
        stored: Option<&RawDocument>,
        cipher: &dyn Cipher,
    ) -> Result<RawDocumentBuf, Fault> {
        let mut out = without_hashes(document);
        let mut hashes = RawDocumentBuf::new();
        let subject = self.subject_of(document);
        for field in &self.fields {
            let kept = stored.map(|stored| self.kept(stored, field, cipher)).transpose()?.unwrap_or_default();
            let same = stored.is_some_and(|stored| self.subject_of(stored) == subject);
            let bound = self.bound(document, field);
            out = mapped(&out, field.parts(), &mut |value| {
                let plain = written(value);
                let before = kept.iter().find(|kept| same && kept.plain.as_ref() == Some(&plain));
                if let Some(before) = before {
                    return Ok(Some(binary(before.sealed.clone(), SUBTYPE)));
                }
                let subject = subject.ok_or_else(|| Fault::new("sealing.no_subject").at(self.subject.to_string()))?;
                Ok(Some(binary(cipher.seal(subject, &bound, &plain)?, SUBTYPE)))
            })?;
            let mut hash = self.hash_of(document, field, cipher);
            if let Some(stored) = stored.filter(|_| kept.iter().any(|kept| kept.plain.is_none())) {
                // In a list nobody can tell any more to which element it belonged.
                let unreadable = || Fault::new("sealing.unreadable").at(field.to_string()).with("field", field);
                let lost = at(stored, field.parts()).filter(|value| sealed(*value).is_some());
                let lost = lost.ok_or_else(unreadable)?;
                if !walk::reaches(document, field.parts()) {
                    out = placed(&out, field.parts(), lost.into()).ok_or_else(unreadable)?;
                    hash = at(stored, field.under(HASHES).parts()).map(RawBson::from);
                }
            }
            if let Some(hash) = hash {
                hashes = placed(&hashes, field.parts(), hash).unwrap_or(hashes);
            }
        }
        if !hashes.is_empty() {
            out.append(bson::cstr!("_hashes"), hashes);
        }
        Ok(out)
    }

    /// A stored document without its sealed values and what they were found by.
    pub fn strip(&self, stored: &RawDocument, cipher: &dyn Cipher) -> Result<RawDocumentBuf, Fault> {
        let mut out = without_hashes(stored);
        let mut hashes = RawDocumentBuf::new();
        for field in &self.fields {
            out = mapped(&out, field.parts(), &mut |_| Ok(None))?;
            if let Some(hash) = self.hash_of(&out, field, cipher) {
                hashes = placed(&hashes, field.parts(), hash).unwrap_or(hashes);
            }
        }
        if !hashes.is_empty() {
            out.append(bson::cstr!("_hashes"), hashes);
        }
        Ok(out)
    }

    /// The filter as the store answers it: a sealed field is found by equality, where an index asks for it.
    pub fn translate(&self, filter: Filter, cipher: &dyn Cipher) -> Result<Filter, Fault> {
        if self.is_nothing() {
            return Ok(filter);
        }
        let all = |parts: Vec<Filter>| -> Result<Vec<Filter>, Fault> {
            parts.into_iter().map(|part| self.translate(part, cipher)).collect()
        };
        match filter {
            Filter::And(parts) => Ok(Filter::And(all(parts)?)),
            Filter::Or(parts) => Ok(Filter::Or(all(parts)?)),
            Filter::Nor(parts) => Ok(Filter::Nor(all(parts)?)),
            Filter::Field(path, test) if self.fields.contains(&path) => {
                let known = self.hashed.iter().find(|(hashed, _)| *hashed == path);
                let (_, unique) = known.ok_or_else(|| unfit(&path))?;
                Ok(Filter::Field(path.under(HASHES), self.test(&path, *unique, test, cipher)?))
            }
            other => match other.names(&|path| !self.hides(path)) {
                Ok(()) => Ok(other),
                Err(path) => Err(unfit(&path)),
            },
        }
    }

    /// What is sealed has no order.
    pub fn check_sort(&self, sort: &Sort) -> Result<(), Fault> {
        match sort.0.iter().find(|(path, _)| !self.is_nothing() && self.hides(path)) {
            Some((path, _)) => Err(Fault::new("sealing.sort").at("sort").with("field", path)),
            None => Ok(()),
        }
    }

    /// Whether what a path leads to is sealed, or holds something that is.
    fn hides(&self, path: &Path) -> bool {
        path.parts().first().is_some_and(|first| first == HASHES) || self.fields.iter().any(|field| touch(field, path))
    }

    fn test(&self, path: &Path, unique: bool, test: Test, cipher: &dyn Cipher) -> Result<Test, Fault> {
        let hash = |value: &RawBson| RawBson::from(self.hash(path, value.as_raw_bson_ref(), cipher));
        let mut values = match test {
            Test::Eq(value) => vec![value],
            Test::In { values, patterns } if patterns.is_empty() => values,
            Test::Not(test) => return Ok(Test::Not(Box::new(self.test(path, unique, *test, cipher)?))),
            Test::All(tests) => {
                let tests = tests.into_iter().map(|test| self.test(path, unique, test, cipher));
                return Ok(Test::All(tests.collect::<Result<_, _>>()?));
            }
            _ => return Err(unfit(path)),
        };
        let null = values.contains(&RawBson::Null);
        if null && unique {
            return Err(Fault::new("sealing.null").at(path.to_string()).with("field", path));
        }
        values = values.iter().map(hash).collect();
        if null {
            // What is missing has no hash.
            values.push(RawBson::Null);
        }
        values.sort_by(|a, b| value::order(a.as_raw_bson_ref(), b.as_raw_bson_ref()));
        values.dedup();
        Ok(Test::In { values, patterns: Vec::new() })
    }

    /// What a field of a document is found by: a hash, or a list of them. Nothing where it is missing or null; under a
    /// unique index that is no value either, so it is told apart from every other document's.
    fn hash_of(&self, document: &RawDocument, field: &Path, cipher: &dyn Cipher) -> Option<RawBson> {
        let (_, unique) = self.hashed.iter().find(|(hashed, _)| hashed == field)?;
        let (mut all, mut nulls) = (Vec::new(), 0);
        path::any(document, field.parts(), Leaf::Elements, &mut |value| {
            let value = value.filter(|value| *value != RawBsonRef::Undefined).unwrap_or(RawBsonRef::Null);
            nulls += usize::from(value == RawBsonRef::Null);
            all.push(self.hash(field, value, cipher));
            false
        });
        match (all.as_slice(), nulls) {
            ([_], 1) if *unique => {
                let own = [&self.bound(document, field)[..], b"none"].concat();
                Some(binary(cipher.hash(&own).to_vec(), BinarySubtype::Generic))
            }
            ([_], 1) => None,
            ([one], _) => Some(RawBson::from(one.clone())),
            (all, _) => {
                let mut list = RawArrayBuf::new();
                all.iter().for_each(|hash| list.push(hash.clone()));
                Some(RawBson::Array(list))
            }
        }
    }

    fn hash(&self, field: &Path, value: RawBsonRef<'_>, cipher: &dyn Cipher) -> Binary {
        let bytes = [framed(&[&self.collection, &field.to_string()]), key::component(value)].concat();
        Binary { subtype: BinarySubtype::Generic, bytes: cipher.hash(&bytes).to_vec() }
    }

    fn bound(&self, document: &RawDocument, field: &Path) -> Vec<u8> {
        let id = path::field(document, "_id").and_then(RawBsonRef::as_str).unwrap_or_default();
        framed(&[&self.collection, id, &field.to_string()])
    }

    fn kept(&self, stored: &RawDocument, field: &Path, cipher: &dyn Cipher) -> Result<Vec<Kept>, Fault> {
        let (bound, subject) = (self.bound(stored, field), self.subject_of(stored));
        let open = |sealed: Vec<u8>| {
            let plain = subject.map(|subject| cipher.open(subject, &bound, &sealed)).transpose()?.flatten();
            Ok(Kept { sealed, plain })
        };
        found(stored, field).into_iter().map(open).collect()
    }
}

impl Class {
    /// Whether fields of this class are kept sealed.
    pub fn sealed(self) -> bool {
        matches!(self, Self::Restricted | Self::Confidential)
    }
}

/// Whether a document shows sealed bytes, or what they are found by: it was opened under another definition than the
/// one it was sealed under.
pub fn shows(document: &RawDocument) -> bool {
    fn any(value: RawBsonRef<'_>) -> bool {
        match value {
            RawBsonRef::Document(inner) => inner.iter().map_while(Result::ok).any(|(_, value)| any(value)),
            RawBsonRef::Array(inner) => path::elements(inner).any(any),
            other => sealed(other).is_some(),
        }
    }
    path::field(document, HASHES).is_some() || any(RawBsonRef::Document(document))
}

fn without_hashes(document: &RawDocument) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    let fields = document.iter().map_while(Result::ok);
    fields.filter(|(name, _)| name.as_str() != HASHES).for_each(|(name, value)| out.append(name, value));
    out
}

/// The sealed values of a field.
fn found(stored: &RawDocument, field: &Path) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    walk::each(stored, field.parts(), &mut |value| all.extend(sealed(value).map(<[u8]>::to_vec)));
    all
}

fn sealed(value: RawBsonRef<'_>) -> Option<&[u8]> {
    value.as_binary().filter(|binary| binary.subtype == SUBTYPE).map(|binary| binary.bytes)
}

fn binary(bytes: Vec<u8>, subtype: BinarySubtype) -> RawBson {
    RawBson::Binary(Binary { subtype, bytes })
}

fn written(value: RawBsonRef<'_>) -> Vec<u8> {
    let mut document = RawDocumentBuf::new();
    document.append(bson::cstr!("v"), value);
    document.into_bytes()
}

fn read(plain: &[u8]) -> Result<RawBson, Fault> {
    let document = RawDocument::from_bytes(plain).ok();
    let value = document.and_then(|document| path::field(document, "v"));
    value.map(RawBson::from).ok_or_else(|| Fault::new("sealing.damaged"))
}

/// The parts, each behind its length.
fn framed(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn unfit(path: &Path) -> Fault {
    Fault::new("sealing.filter").at(path.to_string()).with("field", path)
}

#[cfg(test)]
mod tests;
