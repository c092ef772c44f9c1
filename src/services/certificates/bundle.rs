//! What clients import to trust the internal authority: PEM, DER, a profile for Apple's devices (RFC 7468, Apple's
//! Configuration Profile Reference).

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Roots, as DER; the one that signs comes first, then who is to sign after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(pub Vec<Vec<u8>>);

impl Bundle {
    /// As [`Bundle::pem`] writes it. `None`: there is no certificate in it, or what stands there is none.
    pub fn read(pem: &str) -> Option<Self> {
        let mut all = Vec::new();
        let mut rest = pem;
        while let Some((_, after)) = rest.split_once(BEGIN) {
            let (body, after) = after.split_once(END)?;
            all.push(STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?);
            rest = after;
        }
        (!all.is_empty()).then_some(Self(all))
    }

    pub fn pem(&self) -> String {
        self.0.iter().map(|certificate| pem(certificate)).collect()
    }

    /// One certificate is all that DER holds: the last one's turn comes, or has come.
    pub fn der(&self) -> &[u8] {
        self.0.last().map_or(&[], Vec::as_slice)
    }

    /// SHA-256 of each, as browsers show it: for people to compare over another way.
    pub fn fingerprints(&self) -> Vec<String> {
        let pairs = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        self.0.iter().map(|certificate| pairs(&Sha256::digest(certificate))).collect()
    }

    /// A profile that iOS, iPadOS and macOS offer to install. `title`: what people read there.
    pub fn profile(&self, title: &str) -> String {
        let payloads: String = self.0.iter().map(|certificate| payload(certificate, title)).collect();
        let (title, id) = (escaped(title), identifier(&self.0.concat()));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\"><dict>\n\
             <key>PayloadType</key><string>Configuration</string>\n\
             <key>PayloadVersion</key><integer>1</integer>\n\
             <key>PayloadIdentifier</key><string>debrouille-appliance.{id}</string>\n\
             <key>PayloadUUID</key><string>{id}</string>\n\
             <key>PayloadDisplayName</key><string>{title}</string>\n\
             <key>PayloadContent</key><array>\n{payloads}</array>\n\
             </dict></plist>\n"
        )
    }
}

fn payload(certificate: &[u8], title: &str) -> String {
    let (title, id, data) = (escaped(title), identifier(certificate), STANDARD.encode(certificate));
    format!(
        "<dict>\n\
         <key>PayloadType</key><string>com.apple.security.root</string>\n\
         <key>PayloadVersion</key><integer>1</integer>\n\
         <key>PayloadIdentifier</key><string>debrouille-appliance.{id}</string>\n\
         <key>PayloadUUID</key><string>{id}</string>\n\
         <key>PayloadDisplayName</key><string>{title}</string>\n\
         <key>PayloadContent</key><data>{data}</data>\n\
         </dict>\n"
    )
}

/// The same for the same content, so that a profile replaces itself (RFC 9562, version 8).
fn identifier(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string().to_uppercase()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = format!("{BEGIN}\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(END);
    pem.push('\n');
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_text_and_from_nothing_else() {
        let bundle = Bundle(vec![vec![7; 700], vec![9; 3]]);
        let text = bundle.pem();
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        assert_eq!(Bundle::read(&format!("words before\r\n{text}")), Some(bundle.clone()));
        assert_eq!(bundle.der(), [9; 3]);
        for wrong in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA", &text.replace("CQkJ", "*")] {
            assert_eq!(Bundle::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_profile_holds_every_certificate_and_keeps_its_name() {
        let bundle = Bundle(vec![vec![7; 700], vec![9; 3]]);
        let profile = bundle.profile("Mairie <A> & B");
        assert_eq!(profile, bundle.profile("Mairie <A> & B"));
        let tree = roxmltree::Document::parse_with_options(
            &profile,
            roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() },
        )
        .unwrap();
        let data: Vec<_> = tree.descendants().filter(|node| node.has_tag_name("data")).collect();
        assert_eq!(
            data.iter().map(|node| STANDARD.decode(node.text().unwrap()).unwrap()).collect::<Vec<_>>(),
            bundle.0
        );
        assert!(tree.descendants().any(|node| node.text() == Some("Mairie <A> & B")));
        let ids = |bundle: &Bundle| bundle.profile("x").matches("PayloadUUID").count();
        assert_eq!(ids(&bundle), 3);
        assert_ne!(Bundle(vec![vec![1]]).profile("x"), Bundle(vec![vec![2]]).profile("x"));
    }
}
