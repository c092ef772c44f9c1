//! Shares split, spelt, read and put together, and what must be refused.

use super::*;
use crate::{base::messages::Language, services::backups::Signer};
use unicode_normalization::UnicodeNormalization;

const LANGUAGES: [Language; 2] = [Language::French, Language::English];

fn key(error: Error) -> &'static str {
    match error {
        Error::Refused(fault) | Error::Invalid(fault) | Error::Damaged(fault) => fault.key,
        other => panic!("{other}"),
    }
}

fn refusal<T>(result: Result<T>) -> &'static str {
    key(result.err().expect("it must be refused"))
}

#[test]
fn any_few_give_the_key_back_and_fewer_do_not() {
    let identity = Identity::generate(Vec::new());
    let shares = split(&identity, 5, 3).unwrap();
    for chosen in 0_u32..32 {
        let some: Vec<Share> = shares.iter().filter(|share| chosen >> share.number & 1 == 1).cloned().collect();
        match some.len() {
            0..3 => assert_eq!(refusal(combine(&some)), "backups.shares_few"),
            _ => assert_eq!(combine(&some).unwrap().private_bytes(), identity.private_bytes()),
        }
    }
    // The same one again is no other one.
    assert_eq!(refusal(combine(&[&shares[..2], &shares[..2]].concat())), "backups.shares_few");
    assert_eq!(combine(&split(&identity, 255, 2).unwrap()[253..]).unwrap().recipient(), identity.recipient());
    for (shares, threshold) in [(5, 1), (2, 3), (0, 0)] {
        assert_eq!(refusal(split(&identity, shares, threshold)), "backups.share_numbers");
    }
}

#[test]
fn what_does_not_belong_together_is_told() {
    let identity = Identity::generate(Vec::new());
    let (one, two) = (split(&identity, 3, 2).unwrap(), split(&identity, 3, 2).unwrap());
    assert_eq!(refusal(combine(&[one[0].clone(), two[1].clone()])), "backups.shares_mixed");
    let mut forged = one[1].clone();
    forged.part[0] ^= 1;
    assert_eq!(refusal(combine(&[one[0].clone(), forged.clone()])), "backups.shares_wrong");
    assert_eq!(refusal(combine(&[one[1].clone(), forged])), "backups.shares_differ");
}

#[test]
fn words_and_text_come_back_and_slips_are_noticed() {
    let share = split(&Identity::generate(Vec::new()), 2, 2).unwrap().remove(1);
    let text = share.to_string();
    assert!(text.parse::<Share>().unwrap() == share && text.to_uppercase().parse::<Share>().unwrap() == share);
    assert_eq!(text.len(), PREFIX.len() + 110);
    for language in LANGUAGES {
        let words = share.words(language);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(words.len(), 40);
        assert!(Share::of_words(&words).unwrap() == share);
        for place in 0..words.len() {
            let mut wrong = words.clone();
            wrong[place] = if wrong[place] == "zoo" || wrong[place] == "abaisser" { "zone" } else { "zoo" };
            let slip = refusal(Share::of_words(&wrong));
            assert!(["backups.share_checksum", "backups.share_word"].contains(&slip), "{slip}");
            let other = (place + 1) % words.len();
            let mut swapped = words.clone();
            swapped.swap(place, other);
            assert!(swapped == words || refusal(Share::of_words(&swapped)) == "backups.share_checksum");
        }
        assert_eq!(refusal(Share::of_words(&words[1..])), "backups.share_words");
    }
    let words = share.words(Language::French);
    let mut wrong: Vec<&str> = words.iter().map(String::as_str).collect();
    wrong[11] = "xyz";
    let Err(Error::Invalid(fault)) = Share::of_words(&wrong) else { panic!("a word of no list") };
    assert_eq!(fault.params, [("number", "12".to_owned()), ("word", "xyz".to_owned())]);
    let later = [&[2_u8][..], &share.bytes()[1..]].concat();
    assert_eq!(refusal(encode(PREFIX, &later).parse::<Share>()), "backups.share_newer");
}

/// As a keyboard without accents, or a system that decomposes them, gives the words.
#[test]
fn accents_and_capitals_do_not_matter() {
    let share = split(&Identity::generate(Vec::new()), 2, 2).unwrap().remove(0);
    let words = share.words(Language::French);
    let bare = |word: &str| word.nfkd().filter(char::is_ascii).collect::<String>().to_uppercase();
    let bare: Vec<String> = words.iter().map(|word| bare(word)).collect();
    assert!(Share::of_words(&bare.iter().map(String::as_str).collect::<Vec<_>>()).unwrap() == share);
    let apart = words.iter().map(|word| word.nfd().collect::<String>() + " ").collect::<String>();
    assert!(Paper::read(&apart).unwrap().shares == [share]);
}

#[test]
fn a_sheet_is_read_however_it_is_laid_out() {
    let signers: Vec<Signer> = [1, 2].map(|n| Signer::new(&[n; 32]).unwrap()).to_vec();
    let shares = split(&Identity::generate(Vec::new()), 3, 2).unwrap();
    for language in LANGUAGES {
        let numbered = |share: &Share| -> String {
            let words = share.words(language);
            let end = |n: usize| if n % 4 == 3 { "\r\n" } else { "  " };
            words.iter().enumerate().map(|(n, word)| format!("{:>3}. {word}{}", n + 1, end(n))).collect()
        };
        let sheet = format!("# 3 of\n{}\n█▀▄ █\n{}\n{}\n", numbered(&shares[0]), shares[0], signers[0]);
        let paper = Paper::read(&sheet).unwrap();
        assert!(paper.shares == [shares[0].clone(), shares[0].clone()] && paper.signers == signers[..1]);
        let both = Paper::read(&[numbered(&shares[0]), numbered(&shares[2])].concat()).unwrap();
        combine(&both.shares).unwrap();
    }
    assert_eq!(refusal(Paper::read("debrouille-identity-1-00")), "backups.share_text");

    let paper = |signers: &[Signer]| Paper { shares: Vec::new(), signers: signers.to_vec() };
    let (all, some) = agreed(&[paper(&signers), paper(&signers[1..])]);
    assert_eq!((all, some), (signers[1..].to_vec(), signers[..1].to_vec()));
}

/// f(x) = 7 + 80x, in hex, worked out by hand: 80·2 is 1b under AES's polynomial. The format never moves.
#[test]
fn a_share_is_what_the_page_says() {
    let identity = Identity::new(&[7; 32], Vec::new()).unwrap();
    let recipient = beginning(identity.recipient());
    let share = |number: u8, part: u8| {
        let part = Zeroizing::new([part; 32]);
        Share { set: [1; 8], recipient, threshold: 2, number, part }
    };
    let shares = [share(1, 7 ^ 0x80), share(2, 7 ^ 0x1b)];
    assert_eq!(combine(&shares).unwrap().private_bytes(), identity.private_bytes());
    let text = format!("{PREFIX}010101010101010101{}0201{}", hex::encode(recipient), "87".repeat(32));
    assert!(shares[0].to_string().starts_with(&text), "{}", shares[0]);
}

/// By `tools/combine_shares.py`, which shares no code with this.
#[test]
fn another_program_puts_the_key_together() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let identity = Identity::generate(Vec::new());
    let shares = split(&identity, 4, 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sheet = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (language, list) in [(Language::French, "french.txt"), (Language::English, "english.txt")] {
        let words = |share: &Share| share.words(language).join("\n");
        let sheets = [
            sheet("1", format!("# a\n{}\n", shares[3])),
            sheet("2", words(&shares[1])),
            sheet("3", shares[0].to_string().to_uppercase()),
        ];
        let output = std::process::Command::new(std::env::var("PYTHON").unwrap_or("python3".to_owned()))
            .arg(root.join("tools/combine_shares.py"))
            .arg("--words")
            .arg(root.join("src/services/backups/shares").join(list))
            .args(&sheets)
            .output()
            .unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        assert!(identity.to_file().contains(found.trim()) && found.len() > 90, "{found}{:?}", output.stderr);
    }
}
