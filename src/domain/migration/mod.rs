//! How the data of one release becomes that of the next, and back: declared in `migrations/`, never programmed. Each
//! step has an inverse, so that every migration can be undone, and undoing it is tried on each document before the
//! document is changed.

mod read;
mod step;

pub use read::Malformed;
pub use step::Step;

use bson::Document;

/// Every migration of this release, in order; a test holds the folder to it.
pub const DECLARED: &[(&str, &str)] = &[("0001-handles", include_str!("../../../migrations/0001-handles.toml"))];

#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    pub number: u32,
    pub name: String,
    /// The first release that brings it.
    pub release: String,
    /// Of its declaration: what was applied is known to be what is declared.
    pub digest: String,
    pub changes: Vec<Change>,
}

/// Steps taken with each document of one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub target: Target,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Of a collection.
    Documents(String),
    /// The catalogue's of a collection.
    Definition(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What a change does to one document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Up {
    /// `None`: it stays as it is.
    pub after: Option<Document>,
    /// Steps that do nothing where their way back would do something: they are noted, and left out on the way back.
    pub left: Vec<usize>,
}

impl Migration {
    /// What is declared in a file of this name.
    pub fn read(name: &str, text: &str) -> Result<Self, Malformed> {
        read::migration(name, text)
    }
}

/// Those of this release.
pub fn declared() -> Result<Vec<Migration>, Malformed> {
    DECLARED.iter().map(|(name, text)| Migration::read(name, text)).collect()
}

impl Change {
    /// Tries each step's way back before it answers; `None`: one would not find it, and must not be taken.
    pub fn up(&self, document: &Document) -> Option<Up> {
        let (mut at, mut up) = (document.clone(), Up::default());
        for (number, step) in self.steps.iter().enumerate() {
            let mut after = at.clone();
            step.up(&mut after);
            let mut back = after.clone();
            step.down(&mut back);
            match (same(&at, &after), same(&at, &back)) {
                (true, true) => {}
                (true, false) => up.left.push(number),
                (false, true) => at = after,
                (false, false) => return None,
            }
        }
        up.after = (!same(document, &at)).then_some(at);
        Some(up)
    }

    /// But for the steps that were left out on the way up. `None`: it stays. And whether something is lost that only the
    /// newer release knows.
    pub fn down(&self, document: &Document, left: impl Fn(usize) -> bool) -> Option<(Document, bool)> {
        let steps: Vec<&Step> =
            self.steps.iter().enumerate().filter(|(number, _)| !left(*number)).map(|(_, step)| step).collect();
        let mut after = document.clone();
        steps.iter().rev().for_each(|step| step.down(&mut after));
        if same(document, &after) {
            return None;
        }
        let mut again = after.clone();
        steps.iter().for_each(|step| step.up(&mut again));
        // Fields stand elsewhere, an index is written otherwise: the same.
        let lost = again != *document && matches!(self.target, Target::Documents(_));
        Some((after, lost))
    }
}

/// To the byte: the order of fields counts, and a number that is none equals itself.
fn same(left: &Document, right: &Document) -> bool {
    match (left.to_vec(), right.to_vec()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
