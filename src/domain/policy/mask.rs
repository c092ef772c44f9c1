//! Which fields a policy opens: what of a document is shown, what of it may change, what a filter may name.

use crate::{
    base::fault::Fault,
    domain::{
        document::SYSTEM_FIELDS,
        path::{self, Path, position},
    },
};
use bson::{RawArray, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use std::collections::BTreeMap;

/// Fields a mask names, at most.
pub const MAX_FIELDS: usize = 500;

/// Fields opened (`name`, `address.city`), or fields kept shut (`-salary`) and all others open. Names reach into
/// the documents that arrays hold. The server's own fields (`_id`, `_rev`…) are always open to readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    opens: bool,
    tree: Tree,
}

/// Names and what lies beneath each; nothing beneath: the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree(BTreeMap<String, Tree>);

/// How far a mask lets one see from where the walk stands.
#[derive(Debug, Clone, Copy)]
enum Sight<'a> {
    Open,
    Shut,
    /// Some of what lies beneath: the names that are opened, or shut.
    Part {
        opens: bool,
        tree: &'a Tree,
    },
}

impl Mask {
    /// Everything is open.
    pub fn everything() -> Self {
        Self::default()
    }

    /// From `["name", "address.city"]`, or `["-salary"]`.
    pub fn parse(names: &[&str]) -> Result<Self, Fault> {
        if names.len() > MAX_FIELDS {
            return Err(Fault::new("policies.fields_count").with("limit", MAX_FIELDS));
        }
        let opens = names.first().is_none_or(|name| !name.starts_with('-'));
        let mut mask = Self { opens, tree: Tree::default() };
        for name in names {
            let (shut, bare) = name.strip_prefix('-').map_or((false, *name), |bare| (true, bare));
            if shut == opens {
                return Err(Fault::new("policies.fields_mixed").at(*name));
            }
            let path = Path::parse(bare)?;
            let parts = path.parts();
            // A position is no name: what it stands for changes as elements come and go.
            if parts.iter().any(|part| part.starts_with('$') || position(part).is_some()) {
                return Err(Fault::new("policies.fields_name").at(*name));
            }
            mask.tree.insert(parts);
        }
        Ok(mask)
    }

    pub fn is_everything(&self) -> bool {
        !self.opens && self.tree.0.is_empty()
    }

    /// Whether everything the path leads to is open. Positions count both as what they are and as nothing: under
    /// `a.0.b` lies a field of an array's element, or of a document with a name of digits.
    pub fn opens(&self, path: &Path) -> bool {
        if self.is_everything() {
            return true;
        }
        if path.parts().first().is_some_and(|root| SYSTEM_FIELDS.contains(&root.as_str())) {
            return true;
        }
        let without = path.parts().iter().filter(|part| position(part).is_none());
        self.leads(path.parts().iter()) && self.leads(without)
    }

    fn leads<'a>(&self, parts: impl Iterator<Item = &'a String>) -> bool {
        let mut sight = self.sight();
        for part in parts {
            sight = sight.under(part);
        }
        matches!(sight, Sight::Open)
    }

    fn sight(&self) -> Sight<'_> {
        match self.is_everything() {
            true => Sight::Open,
            false => Sight::Part { opens: self.opens, tree: &self.tree },
        }
    }
}

/// What the masks together show of a document: a field is shown when one of them shows it.
pub fn shown(document: &RawDocument, masks: &[&Mask]) -> RawDocumentBuf {
    let sights: Vec<_> = masks.iter().map(|mask| mask.sight()).collect();
    if sights.iter().any(|sight| matches!(sight, Sight::Open)) {
        return document.to_owned();
    }
    let mut shown = RawDocumentBuf::new();
    for (name, value) in document.iter().map_while(Result::ok) {
        match SYSTEM_FIELDS.contains(&name.as_str()) {
            true => shown.append(name, value),
            false => show(&mut shown, name, value, &under(&sights, name.as_str())),
        }
    }
    shown
}

/// The fields of a document that the masks together do not show, the outermost of each.
pub fn hidden(document: &RawDocument, masks: &[&Mask]) -> Vec<String> {
    let mut fields = Vec::new();
    missing(document, &shown(document, masks), "", &mut fields);
    fields
}

fn missing(whole: &RawDocument, shown: &RawDocument, under: &str, fields: &mut Vec<String>) {
    for (name, value) in whole.iter().map_while(Result::ok) {
        match (value, shown.get(name.as_str())) {
            (value, Ok(Some(same))) if value == same => {}
            (RawBsonRef::Document(whole), Ok(Some(RawBsonRef::Document(shown)))) => {
                missing(whole, shown, &format!("{under}{name}."), fields);
            }
            _ => fields.push(format!("{under}{name}")),
        }
    }
}

fn show(into: &mut RawDocumentBuf, name: &bson::raw::CStr, value: RawBsonRef<'_>, sights: &[Sight<'_>]) {
    match (whole(sights), value) {
        (Some(true), value) => into.append(name, value),
        (Some(false), _) => {}
        (None, RawBsonRef::Document(inner)) => into.append(name, document(inner, sights)),
        (None, RawBsonRef::Array(inner)) => into.append(name, array(inner, sights)),
        (None, scalar) if scalar_shown(sights) => into.append(name, scalar),
        (None, _) => {}
    }
}

fn document(of: &RawDocument, sights: &[Sight<'_>]) -> RawDocumentBuf {
    let mut shown = RawDocumentBuf::new();
    for (name, value) in of.iter().map_while(Result::ok) {
        show(&mut shown, name, value, &under(sights, name.as_str()));
    }
    shown
}

fn array(of: &RawArray, sights: &[Sight<'_>]) -> RawArrayBuf {
    let mut shown = RawArrayBuf::new();
    for value in path::elements(of) {
        match value {
            RawBsonRef::Document(inner) => shown.push(document(inner, sights)),
            RawBsonRef::Array(inner) => shown.push(array(inner, sights)),
            scalar if scalar_shown(sights) => shown.push(scalar),
            _ => {}
        }
    }
    shown
}

fn under<'a>(sights: &[Sight<'a>], name: &str) -> Vec<Sight<'a>> {
    sights.iter().map(|sight| sight.under(name)).collect()
}

/// Whether all is shown, or nothing; `None`: it depends on what lies beneath.
fn whole(sights: &[Sight<'_>]) -> Option<bool> {
    if sights.iter().any(|sight| matches!(sight, Sight::Open)) {
        return Some(true);
    }
    sights.iter().all(|sight| matches!(sight, Sight::Shut)).then_some(false)
}

/// Where names beneath are shut, a scalar that has none is open; where names are opened, it is not among them.
fn scalar_shown(sights: &[Sight<'_>]) -> bool {
    sights.iter().any(|sight| matches!(sight, Sight::Part { opens: false, .. }))
}

/// The first field by which the documents differ that no mask opens. An absent document holds nothing. Lists that
/// differ are weighed whole: an element has no name by which to tell it from another.
pub fn changed(before: Option<&RawDocument>, after: &RawDocument, masks: &[&Mask]) -> Option<String> {
    let sights: Vec<_> = masks.iter().map(|mask| mask.sight()).collect();
    if sights.iter().any(|sight| matches!(sight, Sight::Open)) {
        return None;
    }
    differs(before, Some(after), &sights, "")
}

fn differs(
    before: Option<&RawDocument>,
    after: Option<&RawDocument>,
    sights: &[Sight<'_>],
    prefix: &str,
) -> Option<String> {
    let own = |name: &str| prefix.is_empty() && SYSTEM_FIELDS.contains(&name);
    let fields = |of: Option<&RawDocument>| -> BTreeMap<String, RawBson> {
        let fields = of.into_iter().flat_map(|document| document.iter().map_while(Result::ok));
        let fields = fields.map(|(name, value)| (name.as_str().to_owned(), RawBson::from(value)));
        fields.filter(|(name, _)| !own(name)).collect()
    };
    let (old, new) = (fields(before), fields(after));
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(name, value)| (name, Some(value), None));
    let kept = new.iter().map(|(name, value)| (name, old.get(name), Some(value)));
    kept.chain(gone).find_map(|(name, old, new)| {
        if old == new {
            return None;
        }
        let path = format!("{prefix}{name}");
        let sights = under(sights, name);
        match whole(&sights) {
            Some(true) => None,
            Some(false) => Some(path),
            None => {
                let document = |value: Option<&RawBson>| match value {
                    None => Ok(None),
                    Some(RawBson::Document(inner)) => Ok(Some(inner.clone())),
                    Some(_) => Err(()),
                };
                match (document(old), document(new)) {
                    (Ok(old), Ok(new)) => differs(old.as_deref(), new.as_deref(), &sights, &format!("{path}.")),
                    _ => Some(path),
                }
            }
        }
    })
}

impl<'a> Sight<'a> {
    fn under(self, name: &str) -> Self {
        let Sight::Part { opens, tree } = self else { return self };
        match tree.0.get(name) {
            None if opens => Sight::Shut,
            None => Sight::Open,
            Some(inner) if !inner.0.is_empty() => Sight::Part { opens, tree: inner },
            Some(_) if opens => Sight::Open,
            Some(_) => Sight::Shut,
        }
    }
}

impl Tree {
    /// The shorter of two paths, one leading into the other, is the one that counts.
    fn insert(&mut self, parts: &[String]) {
        let Some((first, rest)) = parts.split_first() else {
            self.0.clear();
            return;
        };
        let known = self.0.get(first).is_some_and(|inner| inner.0.is_empty());
        if !known {
            self.0.entry(first.clone()).or_default().insert(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    fn mask(names: &[&str]) -> Mask {
        Mask::parse(names).expect("a mask")
    }

    #[test]
    fn shows_what_one_of_the_masks_opens() {
        let document = rawdoc! { "_id": "x", "_rev": 1, "a": { "b": 1, "c": 2 }, "d": [{ "e": 3, "f": 4 }, 5], "g": 7 };
        let both = |masks: &[&Mask]| shown(&document, masks);
        assert_eq!(
            both(&[&mask(&["a.b", "d.e"])]),
            rawdoc! { "_id": "x", "_rev": 1, "a": { "b": 1 }, "d": [{ "e": 3 }] }
        );
        assert_eq!(both(&[&mask(&["-a.b", "-d"])]), rawdoc! { "_id": "x", "_rev": 1, "a": { "c": 2 }, "g": 7 });
        let union = rawdoc! { "_id": "x", "_rev": 1, "a": { "c": 2 }, "d": [{ "e": 3 }], "g": 7 };
        assert_eq!(both(&[&mask(&["-a.b", "-d"]), &mask(&["d.e"])]), union);
        assert_eq!(both(&[&mask(&["g"]), &Mask::everything()]), document);
        assert_eq!(both(&[&mask(&[])]), rawdoc! { "_id": "x", "_rev": 1 });
        assert_eq!(both(&[]), rawdoc! { "_id": "x", "_rev": 1 });
        // Of two names the shorter counts, whichever comes first.
        assert_eq!(mask(&["a", "a.b"]), mask(&["a"]));
        assert_eq!(mask(&["a.b", "a"]), mask(&["a"]));
    }

    #[test]
    fn a_filter_may_name_only_what_is_wholly_open() {
        let opens = |names: &[&str], path: &str| mask(names).opens(&Path::parse(path).expect("a path"));
        assert!(opens(&["a.b"], "a.b") && opens(&["a.b"], "a.b.c") && opens(&["a.b"], "_owner"));
        assert!(!opens(&["a.b"], "a") && !opens(&["a.b"], "a.c") && !opens(&["a.b"], "c"));
        assert!(!opens(&["a.b"], "a.0.b") && opens(&["a"], "a.0.b"));
        assert!(opens(&["-a.b"], "c") && opens(&["-a.b"], "a.c"));
        assert!(!opens(&["-a.b"], "a") && !opens(&["-a.b"], "a.b") && !opens(&["-a.b"], "a.0.b"));
        assert!(!opens(&["-a.b"], "a.b.x"));
    }

    #[test]
    fn only_open_fields_may_change() {
        let before = rawdoc! { "_id": "x", "_rev": 1, "a": { "b": 1, "c": 2 }, "d": [1], "g": 7 };
        let change = |after: RawDocumentBuf, names: &[&str]| changed(Some(&before), &after, &[&mask(names)]);
        let with = |a: RawDocumentBuf, g: i32| rawdoc! { "_id": "x", "_rev": 2, "a": a, "d": [1], "g": g };
        assert_eq!(change(with(rawdoc! { "b": 1, "c": 2 }, 7), &[]), None);
        assert_eq!(change(with(rawdoc! { "b": 1, "c": 2 }, 8), &["g"]), None);
        assert_eq!(change(with(rawdoc! { "b": 1, "c": 2 }, 8), &["-g"]), Some("g".to_owned()));
        assert_eq!(change(with(rawdoc! { "b": 9, "c": 2 }, 7), &["a.b"]), None);
        assert_eq!(change(with(rawdoc! { "b": 1, "c": 9 }, 7), &["a.b"]), Some("a.c".to_owned()));
        // Gone, come, and turned into something else.
        assert_eq!(change(with(rawdoc! { "b": 1 }, 7), &["a.b"]), Some("a.c".to_owned()));
        assert_eq!(change(with(rawdoc! { "b": 1, "c": 2, "x": 1 }, 7), &["a.b", "a.c"]), Some("a.x".to_owned()));
        let scalar = rawdoc! { "_id": "x", "_rev": 2, "a": 5, "d": [1], "g": 7 };
        assert_eq!(change(scalar, &["a.b", "a.c"]), Some("a".to_owned()));
        assert_eq!(change(rawdoc! { "_id": "x", "a": { "b": 1, "c": 2 }, "g": 7 }, &["g"]), Some("d".to_owned()));
        assert_eq!(changed(None, &rawdoc! { "_id": "x", "g": 1, "h": 1 }, &[&mask(&["g"])]), Some("h".to_owned()));
        assert_eq!(changed(None, &rawdoc! { "_id": "x", "g": 1 }, &[&mask(&["g"])]), None);
    }

    #[test]
    fn refuses_masks_that_say_two_things() {
        let fault = |names: &[&str]| Mask::parse(names).map_err(|fault| fault.key).err();
        assert_eq!(fault(&["a", "-b"]), Some("policies.fields_mixed"));
        assert_eq!(fault(&["-a", "b"]), Some("policies.fields_mixed"));
        assert_eq!(fault(&["a.0"]), Some("policies.fields_name"));
        assert_eq!(fault(&["a.$b"]), Some("policies.fields_name"));
        assert_eq!(fault(&["a..b"]), Some("query.path"));
        assert_eq!(fault(&vec!["a"; MAX_FIELDS + 1]), Some("policies.fields_count"));
    }
}
