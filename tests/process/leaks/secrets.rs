//! Secrets that a test made or was given, in every shape in which they could be written down.

use base64::{Engine, engine::general_purpose};
use debrouille_appliance::{
    backends::keys::local::LocalRootKey,
    services::{instance::Stamp, keyring::Keyring},
};
use std::{io::Write, path::Path, process::Command};

/// By what each is: the bytes that must not be found.
#[derive(Default)]
pub struct Secrets(pub Vec<(String, Vec<u8>)>);

impl Secrets {
    /// One that is nowhere else.
    pub fn make(&mut self, what: &str) -> String {
        let mut bytes = [0; 24];
        let file = std::fs::File::open("/dev/urandom").unwrap();
        std::io::Read::read_exact(&mut &file, &mut bytes).unwrap();
        let secret = general_purpose::STANDARD.encode(bytes).replace(['+', '/'], "x");
        self.know(what, &secret);
        secret
    }

    /// As it is, and as what it may be carried in.
    pub fn know(&mut self, what: &str, secret: &str) {
        self.bytes(what, secret.as_bytes());
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        let mut shapes = vec![bytes.to_vec(), hex::encode(bytes).into_bytes(), hex::encode_upper(bytes).into_bytes()];
        for engine in [&general_purpose::STANDARD_NO_PAD, &general_purpose::URL_SAFE_NO_PAD] {
            shapes.push(engine.encode(bytes).into_bytes());
        }
        shapes.dedup();
        self.0.extend(shapes.into_iter().map(|shape| (what.to_owned(), shape)));
    }

    /// The root key of an instance, and every key that it wraps.
    pub fn of_keys(&mut self, data: &Path) {
        let text = std::fs::read_to_string(data.join("root.key")).unwrap();
        let encoded = text.trim();
        let encoded = &encoded[encoded.len() - 43..];
        self.know("root key", encoded);
        self.bytes("root key", &general_purpose::URL_SAFE_NO_PAD.decode(encoded).unwrap());
        let (root, stamp) =
            (LocalRootKey::from_file(&data.join("root.key")).unwrap(), Stamp::read(data, None).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let keyring = runtime.block_on(Keyring::open(data, &stamp, &root)).unwrap();
        assert!(keyring.keys().len() > 6);
        for key in keyring.keys() {
            // Of what is longer any piece would do.
            let material = &key.material[key.material.len().saturating_sub(32)..];
            self.bytes(&format!("key {} {}", key.purpose.name(), key.version), material);
        }
    }
}

/// By another's hand: the code of this moment.
pub fn totp(secret: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let script = "import sys,hmac,base64,struct; s,t=sys.argv[1],int(sys.argv[2])//30\n\
        k=base64.b32decode(s+'='*(-len(s)%8)); d=hmac.new(k,struct.pack('>Q',t),'sha1').digest(); o=d[-1]&15\n\
        print('%06d'%((struct.unpack('>I',d[o:o+4])[0]&0x7fffffff)%1000000))";
    let output = Command::new("python3").args(["-c", script, secret, &now.to_string()]).output().unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
