//! Checkpoints of the audit log: C2SP's tlog-checkpoint in a signed note, Ed25519.

use super::merkle::Hash;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The signature algorithm byte of Ed25519 in signed notes.
const ED25519_NOTE: u8 = 1;

/// What is signed: the tree of this origin has so many entries and this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// A key that signs notes: its name and its public half. As text: `NAME+ID+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    name: String,
    public: [u8; 32],
}

/// A checkpoint with its signatures, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub checkpoint: Checkpoint,
    text: String,
    signatures: Vec<(String, [u8; 4], Vec<u8>)>,
}

impl fmt::Display for Checkpoint {
    /// The signed text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }
}

impl Checkpoint {
    /// From the signed text; lines after the third are extensions and are ignored.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let canonical = size == "0" || !size.starts_with('0') && size.bytes().all(|byte| byte.is_ascii_digit());
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        (!origin.is_empty() && canonical).then_some(Self { origin: origin.to_owned(), size: size.parse().ok()?, root })
    }

    /// The note, given what signs its text.
    pub fn signed(&self, signer: &Signer, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        format!("{self}\n{}", self.signature(signer, sign))
    }

    /// A line that goes to the end of a note: another's signature.
    pub fn signature(&self, signer: &Signer, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let signature = [&signer.id()[..], &sign(self.to_string().as_bytes())].concat();
        format!("— {} {}\n", signer.name, STANDARD.encode(signature))
    }
}

impl Signer {
    /// `None`: the name is empty or has spaces or a plus sign.
    pub fn new(name: &str, public: &[u8]) -> Option<Self> {
        let sound = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
        Some(Self { name: sound.then(|| name.to_owned())?, public: public.try_into().ok()? })
    }

    fn id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_NOTE]).chain_update(self.public);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [a, b, c, d]
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_NOTE][..], &self.public].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(key))
    }
}

impl FromStr for Signer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return Err(()) };
        let key = STANDARD.decode(key).map_err(|_| ())?;
        let Some((&ED25519_NOTE, public)) = key.split_first() else { return Err(()) };
        let signer = Self::new(name, public).ok_or(())?;
        if hex::encode(signer.id()) == id { Ok(signer) } else { Err(()) }
    }
}

impl FromStr for Note {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let end = text.rfind("\n\n").ok_or(())? + 1;
        let (text, rest) = text.split_at(end);
        let mut signatures = Vec::new();
        for line in rest.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n')).ok_or(())?.split('\n') {
            let (name, signature) = line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(())?;
            let bytes = STANDARD.decode(signature).map_err(|_| ())?;
            let (id, signature) = bytes.split_first_chunk::<4>().ok_or(())?;
            signatures.push((name.to_owned(), *id, signature.to_vec()));
        }
        let checkpoint = Checkpoint::parse(text).ok_or(())?;
        Ok(Self { checkpoint, text: text.to_owned(), signatures })
    }
}

impl Note {
    /// The first of these keys whose signature it bears.
    pub fn signed_by<'a>(&self, signers: &'a [Signer]) -> Option<&'a Signer> {
        signers.iter().find(|signer| {
            let own = self.signatures.iter().filter(|(name, id, _)| *name == signer.name && *id == signer.id());
            let key = UnparsedPublicKey::new(&ED25519, &signer.public);
            own.into_iter().any(|(_, _, signature)| key.verify(self.text.as_bytes(), signature).is_ok())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    #[test]
    fn the_key_and_note_of_the_specification_are_read() {
        // The example of golang.org/x/mod/sumdb/note.
        let key: Signer = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let bytes = STANDARD.decode(signature).unwrap();
        let (id, signature) = bytes.split_first_chunk::<4>().unwrap();
        let note = Note {
            checkpoint: Checkpoint { origin: String::new(), size: 0, root: [0; 32] },
            text: text.to_owned(),
            signatures: vec![("PeterNeumann".to_owned(), *id, signature.to_vec())],
        };
        assert!(note.signed_by(&[key]).is_some());
    }

    #[test]
    fn a_checkpoint_is_signed_and_read_back_and_nothing_changed_passes() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let signer = Signer::new("example.org/log", pair.public_key().as_ref()).unwrap();
        assert_eq!(signer.to_string().parse(), Ok(signer.clone()));
        let checkpoint = Checkpoint { origin: "example.org/log/1".to_owned(), size: 42, root: [9; 32] };
        let text = checkpoint.signed(&signer, |text| pair.sign(text).as_ref().to_vec());
        let note: Note = text.parse().unwrap();
        assert_eq!(note.checkpoint, checkpoint);
        let stranger = Signer::new("example.org/log", &[1; 32]).unwrap();
        assert_eq!(note.signed_by(&[stranger, signer.clone()]), Some(&signer));
        let changed: Note = text.replacen("42", "43", 1).parse().unwrap();
        assert_eq!(changed.signed_by(&[signer]), None);
        for bad in ["", "a\n\n", "a\n1\nAA==\n\n— a b\n", "a\n01\nx\n"] {
            assert!(bad.parse::<Note>().is_err(), "{bad}");
        }
        let leading = text.replacen("42", "042", 1);
        assert!(leading.parse::<Note>().is_err());
        for bad in ["", "a+b+c", "a b+00000000+AQ=="] {
            assert!(bad.parse::<Signer>().is_err(), "{bad}");
        }
        assert_eq!(Signer::new("a+b", &[0; 32]), None);
    }
}
