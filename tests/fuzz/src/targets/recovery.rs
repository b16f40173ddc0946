//! Recovery from the fd store after a crash: journal, slots and names, through adoption.
//!
//! An input is a JSON document: `header` and `changes` are the journal's; `names` are pairs of a
//! name and an inherited number; `marks`, `risks`, `lines` and `pending` are lists of numbers that
//! the slots are filled with.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use common::fd_store::journal::Journal;
use common::fd_store::recovery::Mark;
use common::fd_store::slots::{AtRisk, Line, SlotFile};
use common::handover::document::{self, Change, Document, Target};
use common::handover::text::parse_uuid;
use common::startup::fuzzing::Adopted;
use serde_json::Value;

use super::adoption::{go_on, log_once, settings};
use super::inheritance::{self, FIRST, Inheritance};

/// Fds that a supervisor returns.
const NAMES_MAX: usize = 24;

/// Whatever the store has, there is a process after it, and one after that which says the same.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(store) = document::read::<Value>(bytes) else { return };
    log_once();
    let (inheritance, mut inherited) = Inheritance::new(&[]);
    let mut stored = Vec::new();
    for pair in list(&store, "names").iter().take(NAMES_MAX) {
        let number = pair[1].as_i64().and_then(|number| i32::try_from(number).ok());
        if let (Some(name), Ok(fd)) = (pair[0].as_str(), inherited.take(number)) {
            stored.push((name.to_owned(), fd));
        }
    }
    drop(inherited.take_rest());
    stored.extend(journal(&store));
    stored.extend(slots(&store, &inheritance));
    let misused: BTreeSet<i64> = (FIRST.into()..).take(inheritance::COUNT).collect();
    match store["locks"].as_bool() {
        Some(true) => {
            let first =
                Adopted::<virtlockd::Handler>::from_store(stored, virtlockd::Settings::default())
                    .expect("a process");
            go_on(first, &inheritance, &misused, virtlockd::Settings::default);
        }
        _ => {
            let first = Adopted::<virtlogd::Handler>::from_store(stored, settings());
            go_on(first.expect("a process"), &inheritance, &misused, settings);
        }
    }
    inheritance::check_closed();
}

fn journal(store: &Value) -> Vec<(String, OwnedFd)> {
    let mut journal = Journal::new(1).expect("memfds");
    let header = store["header"].to_string();
    let header: Document<'static> = document::read(header.as_bytes()).unwrap_or_default();
    journal.begin(&header).expect("room");
    for change in list(store, "changes") {
        let change = document::read::<Change>(change.to_string().as_bytes()).unwrap_or_default();
        journal.note(&change).expect("room");
    }
    journal.complete().expect("room");
    let copy = |(number, fd): (u64, std::os::fd::BorrowedFd<'_>)| {
        (format!("j{number:x}"), fd.try_clone_to_owned().expect("an fd"))
    };
    journal.fds().map(copy).collect()
}

fn slots(store: &Value, inheritance: &Inheritance) -> [(String, OwnedFd); 2] {
    let [marks, pending] = ["marks", "pending"].map(|name| SlotFile::new(name).expect("a memfd"));
    for [key, owner, order] in numbers(store, "marks") {
        marks.set(1 + key % 63, Mark { owner, order }.to_bytes()).expect("a valid key");
    }
    for [key, round, owner, bytes, inode, size_bytes] in numbers(store, "risks") {
        let target = (inode > 0).then_some(Target { inode, size_bytes });
        let [round, owner] = [round, owner].map(|number| u32::try_from(number).unwrap_or(1));
        let at_risk = AtRisk { round, owner, bytes, target };
        marks.set_at_risk(key % 64, at_risk).expect("a valid key");
    }
    for [key, order, guest, left_bytes, inode, size_bytes] in numbers(store, "lines") {
        let pipe_inode = inheritance.guest_inode(usize::try_from(guest).unwrap_or(0));
        let target = Target { inode, size_bytes };
        let text = b"*** lost ***\n".to_vec();
        let line = Line { order, pipe_inode, target, left_bytes, text };
        marks.set_line(key % 64, &line).expect("a valid key");
    }
    for (key, words) in (1..64).zip(list(store, "pending")) {
        let words = words.as_str().and_then(parse_uuid).unwrap_or_default();
        pending.set(key, words).expect("a valid key");
    }
    let copy = |slots: &SlotFile| slots.as_fd().try_clone_to_owned().expect("an fd");
    [("m1".to_owned(), copy(&marks)), ("o1".to_owned(), copy(&pending))]
}

fn list<'a>(store: &'a Value, key: &str) -> &'a [Value] {
    store[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn numbers<const N: usize>(store: &Value, key: &str) -> Vec<[u64; N]> {
    let row = |row: &Value| std::array::from_fn(|index| row[index].as_u64().unwrap_or(0));
    list(store, key).iter().map(row).collect()
}
