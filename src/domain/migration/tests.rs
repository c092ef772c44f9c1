//! Every migration can be read, and what goes up comes down as it was.

use super::*;
use bson::{Bson, doc};
use proptest::prelude::*;

fn change(steps: &str) -> Change {
    let text = format!("name = 'x'\nrelease = '9'\n[[change]]\ndocuments = 'system.x'\n{steps}");
    Migration::read("0001-x", &text).unwrap().changes.remove(0)
}

fn step(step: &str) -> String {
    format!("[[change.step]]\n{step}\n")
}

#[test]
fn those_of_this_release_are_in_order() {
    let all = declared().unwrap();
    assert_eq!(all.iter().map(|one| one.number).collect::<Vec<_>>(), (1..=all.len() as u32).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_undone_or_is_not_ours_is_refused() {
    let refused = |target: &str, step: &str| {
        let text = format!("name = 'x'\nrelease = '9'\n[[change]]\n{target}\n[[change.step]]\n{step}\n");
        let error = Migration::read("0001-x", &text).expect_err(step);
        error.to_string()
    };
    let x = "documents = 'system.x'";
    for (target, step) in [
        (x, "unset = { field = 'a' }"),
        (x, "rename = { from = 'a', to = 'a' }"),
        (x, "rename = { from = '_owner', to = 'a' }"),
        (x, "default = { field = 'a.b', value = 1 }"),
        (x, "default = { field = 'a', value = 1.5 }"),
        (x, "map = { field = 'a', values = [['b', 'c'], ['d', 'c']] }"),
        (x, "map = { field = 'a', values = [['b', 'c'], ['b', 'd']] }"),
        (x, "gather = { into = 'a', from = [{ field = 'a', prefix = '' }] }"),
        (x, "index = { keys = 'a' }"),
        ("documents = 'towns'", "default = { field = 'a', value = 1 }"),
        ("documents = 'system.audit'", "default = { field = 'a', value = 1 }"),
        ("definition = 'system.x'", "default = { field = 'a', value = 1 }"),
        ("definition = 'system.x'", "index = { keys = 'a,a' }"),
    ] {
        refused(target, step);
    }
    let sound = "name = 'x'\nrelease = '9'\n[[change]]\ndocuments = 'system.x'\n[[change.step]]
default = { field = 'a', value = 1 }\n";
    assert!(Migration::read("0001-x", sound).is_ok());
    for (name, text) in [
        ("1-x", sound),
        ("0000-x", sound),
        ("x-x", sound),
        ("0001-y", sound),
        ("0001-x", "name = 'x'\nrelease = '9'\nchange = []"),
    ] {
        assert!(Migration::read(name, text).is_err(), "{name} {text}");
    }
}

fn changed(after: Document) -> Option<Up> {
    Some(Up { after: Some(after), left: Vec::new() })
}

fn left(steps: &[usize]) -> Option<Up> {
    Some(Up { after: None, left: steps.to_vec() })
}

fn down(change: &Change, document: Document) -> Option<(Document, bool)> {
    change.down(&document, |_| false)
}

#[test]
fn a_step_whose_way_back_would_do_more_is_left_out() {
    let both = change(&(step("rename = { from = 'a', to = 'b' }") + &step("default = { field = 'a', value = 0 }")));
    assert_eq!(both.up(&doc! { "a": 1 }), changed(doc! { "b": 1, "a": 0_i64 }));
    assert_eq!(both.up(&doc! { "a": 1, "b": 2 }), left(&[1]));
    assert_eq!(both.up(&doc! { "b": 2 }), Some(Up { after: Some(doc! { "b": 2, "a": 0_i64 }), left: vec![0] }));
    assert_eq!(both.down(&doc! { "b": 2, "a": 0_i64 }, |step| step == 0), Some((doc! { "b": 2 }, false)));
    let rename = change(&step("rename = { from = 'a', to = 'b' }"));
    assert_eq!(rename.up(&doc! { "a": 1, "c": 2 }), changed(doc! { "b": 1, "c": 2 }));
    assert_eq!(rename.up(&doc! { "b": 1 }), left(&[0]));
    assert_eq!(rename.up(&doc! { "a": 1, "b": 1 }), left(&[]));
    let map = change(&step("map = { field = 'a', values = [['x', 'y'], ['y', 'x']] }"));
    assert_eq!(map.up(&doc! { "a": "y" }), changed(doc! { "a": "x" }));
    let default = change(&step("default = { field = 'a', value = true }"));
    assert_eq!(default.up(&doc! { "a": false }), left(&[0]));
    assert_eq!(down(&default, doc! { "a": true }), Some((doc! {}, false)));
    assert_eq!(down(&default, doc! { "a": false }), Some((doc! {}, true)), "what only the newer release knows is told");
    assert_eq!(down(&default, doc! {}), None);
}

#[test]
fn handles_are_those_of_an_identity() {
    let [handles, index] = &declared().unwrap()[0].changes[..] else { panic!("two changes") };
    let machine = doc! { "_id": "1", "kind": "MACHINE", "name": "probe", "email": "a@b.cd", "phone": Bson::Null };
    let after = handles.up(&machine).unwrap().after.unwrap();
    assert_eq!(after.get_array("handles").unwrap(), &["id:1", "email:a@b.cd", "machine:probe"].map(Bson::from));
    let person = handles.up(&doc! { "_id": "2", "kind": "PERSON", "name": "probe" }).unwrap().after.unwrap();
    assert_eq!(person.get_array("handles").unwrap(), &["id:2"].map(Bson::from));
    assert_eq!(handles.up(&doc! { "_id": "1", "handles": [] }), left(&[0]));
    let definition = doc! { "_id": "system.identities", "indexes": ["kind"] };
    let after = index.up(&definition).unwrap().after.unwrap();
    assert_eq!(after.get_array("indexes").unwrap().len(), 2);
    assert_eq!(down(index, after), Some((definition, false)));
    let held = doc! { "indexes": [{ "keys": { "handles": 1_i64 }, "unique": true }] };
    assert_eq!(index.up(&held), left(&[0]));
}

fn values() -> impl Strategy<Value = Bson> {
    prop_oneof![
        Just(Bson::Null),
        any::<bool>().prop_map(Bson::Boolean),
        (0..3_i64).prop_map(Bson::Int64),
        prop_oneof![Just("x"), Just("y"), Just("z"), Just("")].prop_map(Bson::from),
        Just(Bson::Double(f64::NAN)),
        Just(Bson::Array(vec![Bson::Int32(1)])),
    ]
}

fn documents() -> impl Strategy<Value = Document> {
    let field = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    proptest::collection::vec((field, values()), 0..5)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn steps() -> impl Strategy<Value = String> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    let one = prop_oneof![
        (name(), name()).prop_filter("another", |(from, to)| from != to).prop_flat_map(|(from, to)| prop_oneof![
            Just(format!("rename = {{ from = '{from}', to = '{to}' }}")),
            Just(format!("copy = {{ from = '{from}', to = '{to}' }}")),
            Just(format!("gather = {{ into = '{to}', from = [{{ field = '{from}', prefix = 'p:' }}] }}")),
        ]),
        name().prop_map(|field| format!("default = {{ field = '{field}', value = 1 }}")),
        name().prop_map(|field| format!("map = {{ field = '{field}', values = [['x', 'y'], ['y', 'z'], [1, 0]] }}")),
    ];
    proptest::collection::vec(one.prop_map(|one| step(&one)), 1..4).prop_map(|steps| steps.concat())
}

proptest! {
    /// Whatever the steps and the document.
    #[test]
    fn down_undoes_up(steps in steps(), document in documents()) {
        let change = change(&steps);
        let Up { after, left } = change.up(&document).expect("every step has a way back");
        let after = after.unwrap_or_else(|| document.clone());
        let back = change.down(&after, |step| left.contains(&step)).map(|(back, _)| back);
        prop_assert!(same(&back.unwrap_or(after), &document), "{document}");
    }
}
