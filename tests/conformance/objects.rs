//! What every place of objects does, whatever is behind it.

use debrouille_appliance::ports::{Error, Result, objects::Objects};
use std::io::{Read, Write};

/// Bytes that differ from place to place.
pub fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(count + 8);
    while out.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(count);
    out
}

/// Written, read back, checked, named.
pub fn put(objects: &dyn Objects, name: &str, bytes: &[u8]) -> Result<()> {
    let mut upload = objects.put_new(name)?;
    upload.write_all(bytes)?;
    let mut back = Vec::new();
    upload.reread()?.expect("may be read").read_to_end(&mut back)?;
    assert!(back == bytes, "{name} reads back otherwise");
    upload.publish()
}

pub fn get(objects: &dyn Objects, name: &str, from: u64) -> Option<Vec<u8>> {
    let mut back = Vec::new();
    objects.get(name, from).expect("an answer")?.read_to_end(&mut back).expect("read");
    Some(back)
}

pub fn names(objects: &dyn Objects) -> Vec<String> {
    objects.list().expect("a list").into_iter().map(|object| object.name).collect()
}

pub fn key(error: &Error) -> &'static str {
    match error {
        Error::Rejected(fault) | Error::OutOfReach(fault) => fault.key,
        other => panic!("{other}"),
    }
}

pub fn refused<T>(result: Result<T>) -> &'static str {
    key(&result.err().expect("must be refused"))
}

/// `long` bytes are more than the place sends at once.
pub fn appear_whole_and_once(objects: &dyn Objects, long: usize) {
    let long = bytes(long);
    assert_eq!(names(objects), Vec::<String>::new());
    for (name, bytes) in [("long", &long[..]), ("a.backup", b"first"), ("empty", b"")] {
        put(objects, name, bytes).expect(name);
        assert_eq!(refused(put(objects, name, b"second")), "objects.exists", "{name}");
        assert!(get(objects, name, 0).as_deref() == Some(bytes), "{name} was replaced");
        assert_eq!(objects.size(name).expect("a size"), Some(bytes.len() as u64));
    }
    let listed: Vec<_> = objects.list().expect("a list").into_iter().map(|one| (one.name, one.bytes)).collect();
    let expected =
        [("a.backup", 5), ("empty", 0), ("long", long.len() as u64)].map(|(name, bytes)| (name.to_owned(), bytes));
    assert_eq!(listed, expected);
    for from in [1, 8 * 1024 * 1024 - 1, 8 * 1024 * 1024, long.len() - 1, long.len()] {
        assert!(get(objects, "long", from as u64).as_deref() == Some(&long[from..]), "from {from}");
    }
    assert_eq!(get(objects, "a.backup", 2).as_deref(), Some(&b"rst"[..]));
    assert!(get(objects, "absent", 0).is_none() && get(objects, "absent", 3).is_none());
    assert_eq!(objects.size("absent").expect("an answer"), None);
    assert!(objects.delete("long").expect("deleted") && !objects.delete("long").expect("an answer"));
    assert!(get(objects, "long", 0).is_none());
    assert_eq!(names(objects), ["a.backup", "empty"]);
}

/// The quicker of two writers wins, and the slower says so.
pub fn keep_the_first_of_two(objects: &dyn Objects, long: usize) {
    for (name, count) in [("long", long), ("short", 10)] {
        let (slow, quick) = (bytes(count), bytes(count + 1));
        let mut upload = objects.put_new(name).expect("begun");
        upload.write_all(&slow).expect("written");
        put(objects, name, &quick).expect("the quicker one");
        let late = upload.reread().map(drop).and_then(|()| upload.publish());
        assert_eq!(refused(late), "objects.exists", "{name}");
        assert!(get(objects, name, 0).as_deref() == Some(&quick[..]), "{name}");
    }
}

pub fn leave_nothing_of_what_is_dropped(objects: &dyn Objects, long: usize) {
    for (name, count) in [("long", long), ("short", 10)] {
        let mut upload = objects.put_new(name).expect("begun");
        upload.write_all(&bytes(count)).expect("written");
        drop(upload);
        let mut upload = objects.put_new(name).expect("begun");
        upload.write_all(&bytes(count)).expect("written");
        assert!(upload.reread().expect("read back").is_some());
        drop(upload);
        assert_eq!(names(objects), Vec::<String>::new(), "{name}");
        put(objects, name, b"x").expect("the name is free");
        assert!(objects.delete(name).expect("deleted"));
    }
}

pub fn list_more_than_a_page(objects: &dyn Objects) {
    let expected: Vec<String> = (0..1_100).map(|n| format!("{n:05}.backup")).collect();
    std::thread::scope(|scope| {
        for some in expected.chunks(275) {
            scope.spawn(move || {
                for name in some {
                    put(objects, name, name.as_bytes()).expect(name);
                }
            });
        }
    });
    let listed = names(objects);
    assert!(listed == expected, "{} of {}", listed.len(), expected.len());
}

pub fn hold_others_beneath(objects: &dyn Objects) {
    let beneath = objects.beneath("subjects");
    assert_eq!(names(&*beneath), Vec::<String>::new());
    put(&*beneath, "key", b"beneath").expect("beneath");
    put(objects, "key", b"above").expect("above");
    assert_eq!((names(objects), names(&*beneath)), (vec!["key".to_owned()], vec!["key".to_owned()]));
    assert_eq!(get(&*beneath, "key", 0).as_deref(), Some(&b"beneath"[..]));
    assert!(beneath.delete("key").expect("deleted"));
    assert_eq!((names(objects).len(), names(&*beneath).len()), (1, 0));
    assert!(beneath.place().starts_with(&objects.place()) && beneath.place().ends_with("/subjects"));
}

pub fn keep_to_names(objects: &dyn Objects) {
    for name in ["", ".", "..", "../a", "a/b", "/a", ".hidden", "a\0b", "é", &"a".repeat(201)] {
        assert_eq!(refused(objects.put_new(name)), "objects.name", "{name}");
        assert!(objects.get(name, 0).is_err() && objects.delete(name).is_err() && objects.size(name).is_err());
    }
}
