//! How people are reached and named: one spelling for each address and number, so that nobody exists twice.

use crate::base::fault::Fault;
use icu_normalizer::ComposingNormalizerBorrowed;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// Longest of an address (RFC 5321), of its part before the `@`, of a name, of a language tag.
const LONGEST_EMAIL: usize = 254;
const LONGEST_LOCAL: usize = 64;
const LONGEST_NAME: usize = 200;
const LONGEST_TAG: usize = 35;

/// An e-mail address: lower case, compatibility characters folded (NFKC), the host in its ASCII form (UTS 46).
pub fn email(text: &str) -> Result<String, Fault> {
    let fault = || Fault::new("identities.email").at("email").with("email", text);
    let (local, host) = text.trim().rsplit_once('@').ok_or_else(fault)?;
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let local = nfkc.normalize(&nfkc.normalize(local).to_lowercase()).into_owned();
    // What is neither letter nor digit beyond ASCII may not show at all: two addresses would look like one.
    let visible = |c: char| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
    if local.is_empty() || local.len() > LONGEST_LOCAL || !local.chars().all(|c| visible(c) && !"@<>\",;:".contains(c))
    {
        return Err(fault());
    }
    let host = host.trim_end_matches('.').as_bytes();
    let host = Uts46::new().to_ascii(host, AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify);
    let email = format!("{local}@{}", host.map_err(|_| fault())?);
    if email.len() > LONGEST_EMAIL { Err(fault()) } else { Ok(email) }
}

/// A telephone number in E.164: `+`, then 7 to 15 digits. Written as people do, with spaces, dots, hyphens, brackets
/// or `00` for the `+`; one that begins with a single 0 is of the country whose calling code is given.
pub fn phone(text: &str, country: Option<u16>) -> Result<String, Fault> {
    let fault = || Fault::new("identities.phone").at("phone").with("phone", text);
    let spaces = |c: char| c.is_whitespace() || "-.()/".contains(c);
    let bare: String = text.chars().filter(|c| !spaces(*c)).collect();
    let international = match (bare.strip_prefix('+').or_else(|| bare.strip_prefix("00")), country) {
        (Some(digits), _) => digits.to_owned(),
        (None, Some(country)) => format!("{country}{}", bare.strip_prefix('0').ok_or_else(fault)?),
        (None, None) => return Err(fault()),
    };
    let digits = international.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || international.starts_with('0') || !(7..=15).contains(&international.len()) {
        return Err(fault());
    }
    Ok(format!("+{international}"))
}

/// A name of a person or an organization: composed characters (NFC), single spaces, nothing that does not show.
pub fn name(text: &str) -> Result<String, Fault> {
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    let name = composed.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = name.chars().count();
    if length == 0 || length > LONGEST_NAME || name.chars().any(is_invisible) {
        return Err(Fault::new("identities.name").at("name").with("limit", LONGEST_NAME));
    }
    Ok(name)
}

/// What does not show, or turns around what does: of Unicode's format characters all but the two joiners, which Persian
/// and Indian spellings want, and the tags.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A language tag (BCP 47), in its usual case: `fr`, `fr-CD`, `zh-Hant-TW`.
pub fn locale(text: &str) -> Result<String, Fault> {
    let fault = || Fault::new("identities.locale").at("locale").with("locale", text);
    let mut parts = Vec::new();
    for (place, part) in text.trim().replace('_', "-").split('-').enumerate() {
        let letters = part.bytes().all(|byte| byte.is_ascii_alphabetic());
        let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric()) && (1..=8).contains(&part.len());
        parts.push(match (place, part.len()) {
            (0, 2 | 3) if letters => part.to_ascii_lowercase(),
            (0, _) => return Err(fault()),
            _ if !plain => return Err(fault()),
            (_, 2) if letters => part.to_ascii_uppercase(),
            (_, 4) if letters => title(part),
            _ => part.to_ascii_lowercase(),
        });
    }
    let tag = parts.join("-");
    if tag.len() > LONGEST_TAG { Err(fault()) } else { Ok(tag) }
}

/// A number a state gave an organization: upper case, without what people put between its parts.
pub fn legal_id(text: &str) -> Result<String, Fault> {
    let folded = ComposingNormalizerBorrowed::new_nfkc().normalize(text).to_uppercase();
    let id: String = folded.chars().filter(|c| !c.is_whitespace() && !"-./".contains(*c)).collect();
    if id.is_empty() || id.len() > LONGEST_LOCAL || !id.chars().all(char::is_alphanumeric) {
        return Err(Fault::new("organizations.legal_id").at("legalId").with("id", text));
    }
    Ok(id)
}

fn title(part: &str) -> String {
    let mut letters = part.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hide_nothing() {
        for hidden in ["\u{202e}nimda", "admin\u{200b}", "\u{feff}", "a\u{ad}b", "a\u{2066}b\u{2069}", "\u{e0041}a"] {
            assert_eq!(name(hidden).map_err(|fault| fault.key), Err("identities.name"), "{hidden:?}");
        }
        for shown in ["Élodie N\u{2019}Guessan", "می\u{200c}خواهم", "क्\u{200d}ष"] {
            assert_eq!(name(shown).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn one_address_has_one_spelling() {
        for same in [" Awa@Example.ORG ", "awa@example.org.", "ＡＷＡ@example.org", "awa@ＥＸＡＭＰＬＥ.org"]
        {
            assert_eq!(email(same).as_deref(), Ok("awa@example.org"), "{same}");
        }
        let accented = ["RENÉ@École.cd", "rene\u{301}@e\u{301}cole.cd", "rené@xn--cole-9oa.cd"];
        for same in accented {
            let expected = email(accented[0]).unwrap();
            assert_eq!(email(same).as_ref(), Ok(&expected), "{same}");
        }
        assert_eq!(email("a.b+c@localhost").as_deref(), Ok("a.b+c@localhost"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.org", "x".repeat(65));
        let bad =
            ["", "a", "@b.c", "a@", "a b@c.d", "a@b@c.d", "a\u{200b}@b.c", "a@b c", "a@-b.c", "a\u{0}@b.c", &long];
        for bad in bad {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_number_has_one_spelling() {
        for same in ["+243 81 234 56 78", "00243-81-2345678", "+243812345678", "081 234.5678"] {
            assert_eq!(phone(same, Some(243)).as_deref(), Ok("+243812345678"), "{same}");
        }
        for bad in ["812345678", "+0812345678", "+24381abc678", "+123456", "+1234567890123456", "", "+", "٠81"] {
            assert!(phone(bad, Some(243)).is_err(), "{bad}");
        }
        assert!(phone("0812345678", None).is_err(), "a national number of no country");
    }

    #[test]
    fn tags_and_names_have_one_spelling() {
        for (given, kept) in [("FR", "fr"), ("fr_cd", "fr-CD"), ("zh-hant-tw", "zh-Hant-TW"), ("sw", "sw")] {
            assert_eq!(locale(given).as_deref(), Ok(kept));
        }
        for bad in ["", "f", "français", "fr-", "fr--CD", "fr-toolonggg", "1fr"] {
            assert!(locale(bad).is_err(), "{bad}");
        }
        assert_eq!(name("  Awa \n Ilunga ").as_deref(), Ok("Awa Ilunga"));
        assert!(name(" ").is_err() && name("a\u{7}b").is_err() && name(&"x".repeat(201)).is_err());
        assert_eq!(legal_id("cd/kin rccm-14.b").as_deref(), Ok("CDKINRCCM14B"));
        assert!(legal_id("--").is_err());
    }
}
