//! Answers that are believed, and all those that are not.

use super::{bench::Signer, *};
use rcgen::ExtendedKeyUsagePurpose::{OcspSigning, ServerAuth};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const URL: &str = "http://ocsp.example.cd/a";
const ALWAYS: (i32, i32) = (2000, 2100);

fn times() -> (Timestamp, Option<Timestamp>) {
    (NOW.plus_seconds(-60), Some(NOW.plus_seconds(3600)))
}

fn asked(root: &Signer) -> Question {
    Question::of(&root.leaf("api.example.cd", Some(URL), false).chain).unwrap()
}

#[test]
fn who_is_asked_is_named_by_the_certificate() {
    let root = Signer::root("A");
    assert_eq!(Question::of(&root.leaf("a.cd", None, true).chain), None);
    assert_eq!(Question::of(&root.leaf("a.cd", Some("ldap://a.cd"), false).chain), None);
    let leaf = root.leaf("a.cd", Some(URL), false);
    assert_eq!(Question::of(&leaf.chain[..1]), None, "who would have signed is not there");
    let question = Question::of(&leaf.chain).unwrap();
    assert_eq!(&*question.url, URL);
    // Whoever is asked, and even if nobody is.
    for wanted in [false, true] {
        assert_eq!(required(&root.leaf("a.cd", None, wanted).chain[0]), wanted);
    }
    assert!(!required(&[]));
}

#[test]
fn the_issuer_and_whom_it_told_to_are_believed() {
    let root = Signer::root("A");
    let question = asked(&root);
    let (this_update, next_update) = (times().0, times().1.unwrap());
    for standing in [Standing::Good, Standing::Revoked(NOW.plus_seconds(-500)), Standing::Unknown] {
        let answer = root.answer(&question, standing, times(), &[]);
        assert_eq!(question.read(&answer, NOW).unwrap(), Answer { standing, this_update, next_update });
    }
    let delegate = root.delegate("R", OcspSigning, ALWAYS);
    let answer = delegate.answer(&question, Standing::Good, times(), &[&root, &delegate]);
    assert_eq!(question.read(&answer, NOW).unwrap().standing, Standing::Good);
    // To the second.
    assert!(question.read(&answer, this_update).is_ok() && question.read(&answer, next_update).is_ok());
}

#[test]
fn nobody_else_is() {
    let (root, other) = (Signer::root("A"), Signer::root("A"));
    let question = asked(&root);
    let refused = |answer: &[u8], expected: &str| {
        let why = question.read(answer, NOW).unwrap_err();
        assert!(why.contains(expected), "{why}");
    };
    let good = |by: &Signer, brought: &[&Signer]| by.answer(&question, Standing::Good, times(), brought);
    refused(&good(&other, &[]), "neither");
    refused(&good(&other, &[&other]), "not for answers");
    // Named alike, and told to by the other one.
    let delegate = other.delegate("R", OcspSigning, ALWAYS);
    refused(&good(&delegate, &[&delegate]), "its signature is wrong");
    let stranger = Signer::root("B").delegate("R", OcspSigning, ALWAYS);
    refused(&good(&stranger, &[&stranger]), "another authority's");
    // A certificate like ours could else speak for all others.
    let server = root.delegate("R", ServerAuth, ALWAYS);
    refused(&good(&server, &[&server]), "not for answers");
    for out in [(2000, 2020), (2050, 2100)] {
        let late = root.delegate("R", OcspSigning, out);
        refused(&good(&late, &[&late]), "out of its time");
    }
    let absent = root.delegate("R", OcspSigning, ALWAYS);
    refused(&good(&absent, &[]), "neither");
    let many = vec![&root; MOST_CERTIFICATES];
    refused(&good(&absent, &[many, vec![&absent]].concat()), "neither");
}

#[test]
fn it_must_be_about_this_one_and_for_now() {
    let root = Signer::root("A");
    let (question, other) = (asked(&root), asked(&root));
    let refused = |answer: Vec<u8>, expected: &str| {
        let why = question.read(&answer, NOW).unwrap_err();
        assert!(why.contains(expected), "{why}");
    };
    refused(root.answer(&other, Standing::Good, times(), &[]), "another certificate");
    let at = |from: i64, to: i64| (NOW.plus_seconds(from), Some(NOW.plus_seconds(to)));
    // Clocks differ by so much.
    assert!(question.read(&root.answer(&question, Standing::Good, at(300, 600), &[]), NOW).is_ok());
    refused(root.answer(&question, Standing::Good, at(301, 600), &[]), "and now is");
    refused(root.answer(&question, Standing::Good, at(-60, -1), &[]), "and now is");
    refused(root.answer(&question, Standing::Good, (NOW, None), &[]), "until when");
    refused(vec![0x30, 0x03, 0x0a, 0x01, 0x03], "busy");
    refused(vec![0x30, 0x03, 0x0a, 0x01, 0x06], "does not answer for");
    refused(Vec::new(), "");
}

#[test]
fn whatever_is_changed_or_cut_is_refused() {
    let root = Signer::root("A");
    let question = asked(&root);
    let delegate = root.delegate("R", OcspSigning, ALWAYS);
    let answer = delegate.answer(&question, Standing::Good, times(), &[&delegate]);
    for at in 0..answer.len() {
        assert!(question.read(&answer[..at], NOW).is_err(), "cut at {at}");
        let mut changed = answer.clone();
        changed[at] ^= 1;
        // What the two signatures do not cover names how long the parts are, and by what they are signed.
        assert!(question.read(&changed, NOW).is_err(), "changed at {at}");
    }
    assert!(question.read(&[answer, vec![0]].concat(), NOW).is_err(), "added to");
}
