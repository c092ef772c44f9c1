//! Names that lead to nobody without the key: of people, of documents named by people, of what a document held.

use super::event::Object;
use crate::services::{
    identities::{IDENTITIES, LINKS},
    keyring::{Keyring, Purpose},
};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use bson::RawDocument;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Opens every pseudonym, as no other text of an entry begins.
const MARK: char = '~';

pub struct Pseudonyms {
    /// Each identity's own key comes of it and of the id alone, so an erasure destroys none: who holds the keyring and an
    /// id finds its pseudonym again.
    subjects: Zeroizing<[u8; 32]>,
    names: Key,
    images: Key,
}

impl Pseudonyms {
    /// From the oldest signing key: they must not change when it is rotated.
    pub fn new(keyring: &Keyring) -> Self {
        let oldest = keyring.versions(Purpose::AuditSigning).next();
        let oldest = oldest.unwrap_or_else(|| keyring.current(Purpose::AuditSigning));
        let material = oldest.material.as_slice();
        let key = |label: &str| Key::new(HMAC_SHA256, &*derived(material, &["debrouille audit ", label].concat()));
        Self { subjects: derived(material, "debrouille audit subjects"), names: key("names"), images: key("images") }
    }

    /// Of an identity.
    pub fn of(&self, identity: &str) -> String {
        let subject = derived(&*self.subjects, identity);
        short(&Key::new(HMAC_SHA256, &*subject), b"audit")
    }

    /// Of who acts; those who are no person stay readable.
    pub fn actor(&self, actor: &str) -> String {
        match actor {
            "" | "system" | "anonymous" => actor.to_owned(),
            local if local.starts_with("local:") => local.to_owned(),
            pseudonym if pseudonym.starts_with(MARK) => pseudonym.to_owned(),
            identity => self.of(identity),
        }
    }

    /// Of a word that may be a person's: an e-mail that was tried.
    pub fn word(&self, word: &str) -> String {
        short(&self.names, word.as_bytes())
    }

    pub(super) fn object(&self, object: &Object) -> String {
        match object {
            Object::Name(name) => name.clone(),
            Object::Document { collection, id } => self.document(collection, id),
        }
    }

    /// `collection/id`. Ids a machine drew and the appliance's own names stay readable; any other may be an e-mail or
    /// a number of a register, or be made to look like another's pseudonym.
    pub fn document(&self, collection: &str, id: &str) -> String {
        format!("{collection}/{}", self.name(collection, id))
    }

    /// The same without its collection.
    pub fn name(&self, collection: &str, id: &str) -> String {
        match collection {
            IDENTITIES => self.actor(id),
            // Of an outside authority's name for a person, by a hash anyone can make.
            LINKS => self.word(&format!("{collection}/{id}")),
            own if own.starts_with("system.") || is_drawn(id) => id.to_owned(),
            _ => self.word(&format!("{collection}/{id}")),
        }
    }

    /// Every name a document may stand under: its own, as above, as a person's.
    pub fn names(&self, collection: &str, id: &str) -> [String; 3] {
        [format!("{collection}/{id}"), self.document(collection, id), format!("{collection}/{}", self.of(id))]
    }

    /// Of what a document held at a revision: the same for the same bytes, and not to be guessed without the key.
    pub fn image(&self, collection: &str, id: &str, image: &RawDocument) -> String {
        let mut text = Vec::with_capacity(collection.len() + id.len() + image.as_bytes().len() + 2);
        for part in [collection.as_bytes(), id.as_bytes()] {
            text.extend_from_slice(part);
            text.push(0);
        }
        text.extend_from_slice(image.as_bytes());
        hex::encode(sign(&self.images, &text))
    }
}

/// An ObjectId, or a UUID that is random or a time. One made from a name (versions 3 and 5) can be guessed at; what
/// is digits throughout may be a number of a register, and almost never was drawn.
pub fn is_drawn(id: &str) -> bool {
    let object = || id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let uuid = || match uuid::Uuid::try_parse(id) {
        Ok(uuid) => [4, 7].contains(&uuid.get_version_num()) && uuid.hyphenated().to_string() == id,
        Err(_) => false,
    };
    id.bytes().any(|byte| byte.is_ascii_alphabetic()) && (object() || uuid())
}

fn short(key: &Key, text: &[u8]) -> String {
    let tag = sign(key, text);
    format!("{MARK}{}", hex::encode(tag.as_ref().get(..16).unwrap_or_default()))
}

fn derived(material: &[u8], info: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let made = Hkdf::<Sha256>::new(None, material).expand(info.as_bytes(), &mut *key);
    made.expect("32 bytes are within HKDF's reach");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use bson::rawdoc;

    fn keyring() -> Keyring {
        Keyring::generate((Zeroizing::new(vec![1]), vec![1]), Timestamp(1))
    }

    #[test]
    fn people_are_known_by_pseudonym_alone_and_keep_it_when_the_key_is_rotated() {
        let keyring = keyring();
        let before = Pseudonyms::new(&keyring);
        keyring.rotate(Purpose::AuditSigning, Timestamp(2));
        let after = Pseudonyms::new(&keyring);
        let person = "01985c2e-0000-7000-8000-000000000001";
        assert_eq!(before.of(person), after.of(person));
        assert_eq!((before.of(person).len(), before.actor(person)), (33, before.of(person)));
        assert_eq!(before.actor(&before.of(person)), before.of(person));
        assert_ne!(before.of(person), Pseudonyms::new(&self::keyring()).of(person));
        for nobody in ["system", "anonymous", "local:uid 0"] {
            assert_eq!(before.actor(nobody), nobody);
        }
        assert!(!before.document(IDENTITIES, person).contains(person));
    }

    #[test]
    fn ids_that_people_choose_are_not_shown() {
        let names = Pseudonyms::new(&keyring());
        let drawn = "01985c2e-0000-7000-8000-000000000001";
        assert_eq!(names.document("patients", drawn), format!("patients/{drawn}"));
        assert_eq!(names.document("system.collections", "patients"), "system.collections/patients");
        assert!(names.document(LINKS, "0a1b").starts_with("system.links/~"));
        for drawn in ["507f1f77bcf86cd799439011", "9f1c2b3a-4d5e-4f60-8a7b-0c1d2e3f4a5b"] {
            assert_eq!(names.document("patients", drawn), format!("patients/{drawn}"));
        }
        for chosen in [
            "marie@example.org",
            "198001234567890123456789",
            "243812-345678",
            "~marie@example.org",
            "~0123456789abcdef0123456789abcdef",
            "01985C2E-0000-7000-8000-000000000001",
            "urn:uuid:01985c2e-0000-7000-8000-000000000001",
            // Made from a name.
            "cfbff0d1-9375-5685-968c-48ce8b15ae17",
        ] {
            let name = names.document("patients", chosen);
            assert!(name.starts_with("patients/~") && !name.contains(chosen), "{chosen}: {name}");
            assert!(names.names("patients", chosen).contains(&name));
        }
        assert_ne!(names.document("a", "marie"), names.document("b", "marie").replace('b', "a"));
        let image = names.image("c", "x", &rawdoc! { "a": 1 });
        assert_eq!(image, names.image("c", "x", &rawdoc! { "a": 1 }));
        assert_ne!(image, names.image("c", "y", &rawdoc! { "a": 1 }));
        assert_ne!(image, names.image("c", "x", &rawdoc! { "a": 2 }));
    }
}
