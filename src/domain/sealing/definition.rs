//! A collection's definition with sealed fields, as its users give it and as the catalogue keeps it: there an index of
//! a sealed field is one of its hashes.

use super::{HASHES, OWNER, touch};
use crate::{
    base::fault::Fault,
    domain::{
        collection::Definition,
        path::{Path, position},
    },
};

/// As the catalogue keeps it; a fault where sealing makes no sense.
pub fn stored(mut definition: Definition) -> Result<Definition, Fault> {
    let sealed: Vec<Path> =
        definition.classes.iter().filter(|(_, class)| class.sealed()).map(|(path, _)| path.clone()).collect();
    if let Some(path) = sealed.iter().find(|path| is_own(path) || has_position(path)) {
        return Err(Fault::new("sealing.class").at(format!("classes.{path}")).with("field", path));
    }
    let subject = definition.subject();
    let unfit = is_own(&subject) && subject.to_string() != OWNER;
    if unfit || has_position(&subject) || sealed.iter().any(|field| touch(field, &subject)) {
        return Err(Fault::new("sealing.subject").at("subject").with("field", subject));
    }
    for (place, index) in definition.indexes.iter_mut().enumerate() {
        for (path, _) in &mut index.keys {
            let fault = || Fault::new("sealing.index").at(format!("indexes.{place}.keys.{path}")).with("field", &*path);
            if path.parts().first().is_some_and(|first| first == HASHES) {
                return Err(fault());
            }
            if sealed.contains(path) && !sealed.iter().any(|other| *other != *path && other.holds(path)) {
                *path = path.under(HASHES);
            } else if sealed.iter().any(|field| touch(field, path)) {
                return Err(fault());
            }
        }
    }
    Ok(definition)
}

/// As its users gave it.
pub fn shown(mut definition: Definition) -> Definition {
    for (path, _) in definition.indexes.iter_mut().flat_map(|index| &mut index.keys) {
        if let Some(field) = path.within(HASHES) {
            *path = field;
        }
    }
    definition
}

/// A field only the server sets.
fn is_own(path: &Path) -> bool {
    path.parts().first().is_some_and(|first| first.starts_with('_'))
}

/// A position is no name: what it stands for changes as elements come and go.
fn has_position(path: &Path) -> bool {
    path.parts().iter().any(|part| position(part).is_some())
}
