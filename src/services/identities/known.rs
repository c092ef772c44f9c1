//! Passwords everybody tries first. Length alone decides nothing against who begins with these.

/// One per line, NFKC, lower case, sorted: 49,193 of them, from `passwords.json` of npm `@zxcvbn-ts/language-common`
/// 4.1.3 (MIT, © 2012–2016 Dan Wheeler and Dropbox, Inc., © 2021 @zxcvbn-ts), compressed with zstd.
const LIST: &[u8] = include_bytes!("common_passwords.zst");

/// Names of the product.
const OWN: [&str; 2] = ["debrouille", "débrouille"];
/// A shorter name of a person is found in words that have nothing to do with it.
const SHORTEST_NAME: usize = 4;
/// What is left without a name must be a password by itself.
const OF_ONES_OWN: usize = 12;
/// What repeats within so many characters is no longer than they are.
const PERIOD: usize = 6;

/// Whether a password, normalised, is among the first an attacker tries: on the list, on it but for figures and signs
/// before and after, one short piece over and over, a row of neighbours, or around the person's or the product's name.
pub fn is_common(password: &str, email: &str) -> bool {
    let password = password.to_lowercase();
    let name = email.split('@').next().unwrap_or_default().trim().to_lowercase();
    let name = Some(name.as_str()).filter(|name| name.chars().count() >= SHORTEST_NAME);
    let around = |name: &str| password.contains(name) && password.replace(name, "").chars().count() < OF_ONES_OWN;
    OWN.into_iter().chain(name).any(around) || is_row(&password) || is_repeated(&password) || {
        let core = password.trim_matches(|c: char| !c.is_alphabetic());
        is_listed(&[&password, core])
    }
}

fn is_listed(words: &[&str]) -> bool {
    let list = zstd::decode_all(LIST).expect("the list is part of the program");
    list.split(|byte| *byte == b'\n').any(|line| !line.is_empty() && words.iter().any(|word| word.as_bytes() == line))
}

/// `abcdefghijkl`, `210987654321`: each character the neighbour of the one before, in one direction.
fn is_row(password: &str) -> bool {
    let steps = |by: i64| {
        password.chars().zip(password.chars().skip(1)).all(|(one, next)| {
            let step = i64::from(u32::from(next)) - i64::from(u32::from(one));
            step == by || (one.is_ascii_digit() && next.is_ascii_digit() && (step - by).rem_euclid(10) == 0)
        })
    };
    steps(1) || steps(-1)
}

fn is_repeated(password: &str) -> bool {
    let letters: Vec<char> = password.chars().collect();
    (1..=PERIOD.min(letters.len() / 2))
        .any(|period| letters.iter().zip(letters.iter().skip(period)).all(|(a, b)| a == b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_tries_first_is_refused() {
        for common in [
            "passwordpassword",
            "PasswordPassword",
            "1234567890123456",
            "098765432109",
            "abcdefghijklmnop",
            "aaaaaaaaaaaaaaaa",
            "abc123abc123abc1",
            "Motdepasse2026!!",
            "!!iloveyou!!1985",
            "Mukendi-2026-Mukendi",
            "vive debrouille 2026",
            "Débrouille-toi donc",
        ] {
            assert!(is_common(common, "Mukendi@example.cd"), "{common}");
        }
    }

    #[test]
    fn a_phrase_of_ones_own_is_taken() {
        for own in [
            "une longue phrase de passe",
            "correct horse battery staple",
            "abcd-efgh-jkmn-pqrs-tuvw",
            "motdepasse du village",
        ] {
            assert!(!is_common(own, "ana@example.cd"), "{own}");
        }
        // Three letters are everywhere.
        assert!(!is_common("des bananes au soleil", "ana@example.cd"));
        assert!(!is_common("another horse battery staple", "other@example.cd"));
    }
}
