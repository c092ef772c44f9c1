//! Tampering with an export of a hundred thousand entries, and everything that can be done to each entry of a small
//! one: all of it is found, and named.

use super::*;
use crate::domain::merkle::{Edge, leaf};
use base64::{Engine, engine::general_purpose::STANDARD};

fn draw(below: usize) -> usize {
    (u64::from_le_bytes(random::array()) % below as u64) as usize
}

/// Where the entries stand among the lines.
fn places(lines: &[&str]) -> Vec<usize> {
    (0..lines.len()).filter(|place| lines[*place].starts_with("{\"index\":")).collect()
}

/// One byte of the text another, past the entry's number.
fn edited(line: &str) -> String {
    let from = line.find(',').unwrap();
    let at = from + draw(line.len() - from);
    let mut bytes = line.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
    String::from_utf8(bytes).unwrap()
}

/// The tile that tells an entry's hash, made to fit another text of it.
fn fitted(line: &str, index: u64, text: &str) -> String {
    let mut line: Value = serde_json::from_str(line).unwrap();
    let mut tile = STANDARD.decode(line["hashes"].as_str().unwrap()).unwrap();
    let from = (index - line["tile"].as_u64().unwrap() * 256) as usize * 32;
    tile[from..from + 32].copy_from_slice(&leaf(text.as_bytes()));
    line["hashes"] = STANDARD.encode(&tile).into();
    line.to_string()
}

/// Everything that can be done to one entry, and to it and another; each with what must be found first. The first
/// entry's number is its place.
fn tamper(lines: &[&str], places: &[usize], (at, other): (usize, usize), keys: &[Signer]) {
    let (index, place) = (at as u64, places[at]);
    let check = |lines: &[&str], kind: Kind, index: u64, what: &str| {
        let wrong = verify(lines, keys.to_vec(), Vec::new()).wrong;
        let first = wrong.first().map(|wrong| (wrong.kind, wrong.index));
        assert_eq!(first, Some((kind, index)), "{what} of {at} ({other})");
    };
    let text = edited(lines[place]);
    let mut changed = lines.to_vec();
    changed[place] = &text;
    check(&changed, Kind::Edited, index, "an edit");
    // Its hash made to fit: the signed root is not the tree's any more.
    let tile = (0..place).rev().find(|place| lines[*place].starts_with("{\"tile\":")).unwrap();
    let fitted = fitted(lines[tile], index, &text);
    changed[tile] = &fitted;
    let wrong = verify(&changed, keys.to_vec(), Vec::new()).wrong;
    let among = |wrong: &Wrong| wrong.index <= index && wrong.until.is_some_and(|until| index < until);
    assert!(wrong.iter().any(|wrong| wrong.kind == Kind::Edited && among(wrong)), "a fitted edit of {at}: {wrong:?}");

    let mut changed = lines.to_vec();
    changed.remove(place);
    // The last one's absence shows by the checkpoint or the end after it.
    let ends = lines[place + 1].starts_with("{\"end\":");
    let kind = if ends { Kind::Truncated } else { Kind::Missing };
    check(&changed, kind, index, "a deletion");
    changed.insert(if places[other] > place { places[other] - 1 } else { places[other] }, lines[place]);
    if at != other && at + 1 != other {
        let wrong = verify(&changed, keys.to_vec(), Vec::new()).wrong;
        assert!(wrong.iter().any(|wrong| wrong.kind == Kind::Misplaced), "a move of {at} to {other}: {wrong:?}");
    }
    let mut changed = lines.to_vec();
    changed.swap(place, places[other]);
    if at != other {
        check(&changed, Kind::Misplaced, at.min(other) as u64, "an exchange");
    }
    let mut changed = lines.to_vec();
    changed.insert(place, lines[place]);
    check(&changed, Kind::Misplaced, index, "a doubling");

    check(&lines[..place], Kind::Truncated, index, "a cut");
    let end = json!({ "end": index }).to_string();
    let mut cut = lines[..place].to_vec();
    cut.push(&end);
    check(&cut, Kind::Truncated, index, "a cut with an end");
}

/// Of each kind at places drawn anew each time.
#[tokio::test]
async fn over_a_hundred_thousand_entries_every_tampering_is_found_and_named() {
    const ENTRIES: u64 = 100_000;
    let log = Log::open().await;
    log.tell(ENTRIES).await;
    let lines = log.export().await;
    let keys = log.keys();
    let whole = verify(&lines, keys.clone(), Vec::new());
    assert_eq!(whole.wrong, []);
    assert!(whole.entries > ENTRIES);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let places = places(&lines);
    // Every single entry edited, and every edit found.
    let all: Vec<String> = lines
        .iter()
        .map(|line| if line.starts_with("{\"index\":") { edited(line) } else { (*line).to_owned() })
        .collect();
    let verdict = verify(&all, keys.clone(), Vec::new());
    assert!(verdict.wrong.iter().all(|wrong| wrong.kind == Kind::Edited && wrong.until.is_none()));
    assert_eq!(verdict.wrong.len() as u64 + verdict.more, places.len() as u64);
    for _ in 0..3 {
        let at = 1 + draw(places.len() - 2);
        tamper(&lines, &places, (at, 1 + draw(places.len() - 2)), &keys);
        let (forked, note, size) = fork(&log, &lines, places[at], at as u64);
        let wrong = verify(&forked, keys.clone(), vec![note]).wrong;
        assert_eq!(wrong, [Wrong { index: 0, until: Some(size), kind: Kind::Forked }]);
    }
}

/// Two tiles and a part of one: nothing is left to chance.
#[tokio::test]
async fn nothing_can_be_done_to_any_entry_of_a_small_log() {
    let log = Log::open().await;
    log.tell(270).await;
    let lines = log.export().await;
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (places, keys) = (places(&lines), log.keys());
    assert!(places.len() > 270);
    for at in 0..places.len() {
        tamper(&lines, &places, (at, draw(places.len())), &keys);
        if at % 16 == 0 {
            let (forked, note, size) = fork(&log, &lines, places[at], at as u64);
            let wrong = verify(&forked, keys.clone(), vec![note]).wrong;
            assert_eq!(wrong, [Wrong { index: 0, until: Some(size), kind: Kind::Forked }]);
        }
    }
}

/// Another history, told and signed by who holds the key; and a checkpoint of the true one that somebody kept.
fn fork(log: &Log, lines: &[&str], place: usize, index: u64) -> (Vec<String>, Note, u64) {
    let signer = log.keys().remove(0);
    let pair = log.keyring.current(Purpose::AuditSigning).signer();
    let mut header: Value = serde_json::from_str(lines[0]).unwrap();
    let kept: Note = header["checkpoint"].as_str().unwrap().parse().unwrap();
    let mut edge = Edge::default();
    let mut forked = Vec::new();
    let sign = |edge: &Edge| {
        let checkpoint = Checkpoint { size: edge.size(), root: edge.root(), ..kept.checkpoint.clone() };
        checkpoint.signed(&signer, |text| pair.sign(text).as_ref().to_vec())
    };
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("{\"index\":") {
            let line = if at == place { line.replacen("allowed", "denied", 1) } else { (*line).to_owned() };
            edge.append(leaf(line.as_bytes()), |_| ());
            forked.push(line);
        } else if line.starts_with("{\"tile\":") {
            let first = serde_json::from_str::<Value>(line).unwrap()["tile"].as_u64().unwrap() * 256;
            let forged = lines[place].replacen("allowed", "denied", 1);
            let holds = (first..first + 256).contains(&index);
            forked.push(if holds { fitted(line, index, &forged) } else { (*line).to_owned() });
        } else if line.starts_with("{\"checkpoint\":") {
            // Signed anew, so that the history is whole in itself.
            forked.push(json!({ "checkpoint": sign(&edge) }).to_string());
        } else {
            forked.push((*line).to_owned());
        }
    }
    header["checkpoint"] = sign(&edge).into();
    forked[0] = header.to_string();
    let size = kept.checkpoint.size;
    (forked, kept, size)
}
