//! The suite of objects on a folder, plain and on a limited link.

use crate::objects;
use debrouille_appliance::{
    backends::objects::{
        folder::Folder,
        pace::{Pace, Paced},
    },
    ports::objects::Objects,
};
use std::sync::Arc;

const LONG: usize = 9 << 20;

fn both(test: impl Fn(&dyn Objects)) {
    let folder = tempfile::tempdir().expect("a folder");
    test(&Folder::open(folder.path()).expect("there"));
    let folder = tempfile::tempdir().expect("a folder");
    test(&Paced::new(Arc::new(Folder::at(folder.path())), Pace::new(1 << 30)));
}

#[test]
fn objects_in_a_folder_do_what_all_do() {
    both(|folder| objects::appear_whole_and_once(folder, LONG));
    both(|folder| objects::keep_the_first_of_two(folder, LONG));
    both(|folder| objects::leave_nothing_of_what_is_dropped(folder, LONG));
    both(objects::list_more_than_a_page);
    both(objects::hold_others_beneath);
    both(objects::keep_to_names);
}
