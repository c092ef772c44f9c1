//! Where a page ended: the sort's components of its last row, and the row's id.

use super::key;
use crate::base::fault::Fault;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// One per field of the sort, in its direction ([`key`]).
    pub components: Vec<Vec<u8>>,
    pub id: String,
}

impl Cursor {
    /// Version (1), number of components (1), each with its length (4, big-endian), then the id.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![key::VERSION, u8::try_from(self.components.len()).unwrap_or(u8::MAX)];
        for component in &self.components {
            out.extend_from_slice(&u32::try_from(component.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(component);
        }
        out.extend_from_slice(self.id.as_bytes());
        out
    }

    /// A cursor of a sort by this many fields; what clients send back may be anything.
    pub fn decode(bytes: &[u8], fields: usize) -> Result<Self, Fault> {
        Self::parse(bytes).filter(|cursor| cursor.components.len() == fields).ok_or_else(|| Fault::new("query.cursor"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let [version, count, rest @ ..] = bytes else { return None };
        if *version != key::VERSION {
            return None;
        }
        let mut rest = rest;
        let mut components = Vec::new();
        for _ in 0..*count {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (component, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            components.push(component.to_vec());
            rest = after;
        }
        Some(Self { components, id: std::str::from_utf8(rest).ok()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_come_back(components: Vec<Vec<u8>>, id: String) {
            let cursor = Cursor { components, id };
            prop_assume!(cursor.components.len() < 256);
            prop_assert_eq!(Cursor::decode(&cursor.encode(), cursor.components.len()), Ok(cursor.clone()));
            prop_assert!(Cursor::decode(&cursor.encode(), cursor.components.len() + 1).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Cursor::decode(&bytes, 1);
        }
    }
}
