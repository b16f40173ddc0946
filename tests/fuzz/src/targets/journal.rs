//! The journal of the fd store against a map, with kills between and within writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use common::fd_store::journal::{Journal, read};
use common::handover::document::{Change, Document, Log, Session};
use common::handover::document::{Client, PrivateDaemon};

use super::input::Input;

const STEPS_MAX: usize = 300;

/// Expected content of the journal: the header's mark, and of each key the domain's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    mark: Option<u64>,
    items: BTreeMap<u64, String>,
}

/// At every moment the newest complete memfd says what was recorded. A process that adopts the
/// memfds, however damaged, goes on.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.flag() {
        return damaged(&mut input);
    }
    let mut journal = Journal::new(1).expect("memfds");
    // What counts, and what will once the draft is complete.
    let (mut model, mut draft) = (Model::default(), None::<Model>);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let action = input.byte();
        match action % 8 {
            0 => {
                let mark = input.byte().into();
                journal.begin(&header(mark)).expect("room");
                draft = Some(Model { mark: Some(mark), items: BTreeMap::new() });
            }
            1 => {
                journal.complete().expect("room");
                model = draft.take().unwrap_or(model);
            }
            2 if model.mark.is_some() => {
                let mark = u64::from(input.byte());
                journal.renew(&header(mark)).expect("room");
                if draft.is_none() {
                    model.mark = Some(mark);
                }
            }
            3 => {
                // A crash: the fds stay, and the next process begins to write anew.
                journal = Journal::adopt(copies(&journal)).expect("memfds");
                assert_eq!(contents(&journal), model);
                let mark = input.byte().into();
                journal.begin(&header(mark)).expect("room");
                draft = Some(Model { mark: Some(mark), items: BTreeMap::new() });
            }
            _ => note(&mut journal, draft.as_mut().unwrap_or(&mut model), &mut input),
        }
        assert_eq!(contents(&journal), model);
        let counts = draft.as_ref().unwrap_or(&model);
        assert!((0..6).all(|key| journal.has(key) == counts.items.contains_key(&key)));
    }
}

fn note(journal: &mut Journal, model: &mut Model, input: &mut Input<'_>) {
    let (key, shape) = (u64::from(input.byte() % 6), input.byte());
    let name = String::from_utf8_lossy(input.bytes()).repeat(1 + usize::from(shape >> 5));
    let change = match shape % 3 {
        0 => Change { key: Some(key), ..Change::default() },
        1 => {
            let log = Log { domname: Some(name.clone()), ..Log::default() };
            Change { key: Some(key), log: Some(log), ..Change::default() }
        }
        _ => {
            let session = Session { owner_name: Some(name.clone()), ..Session::default() };
            let client = Client { private_data: Some(session), ..Client::default() };
            Change { key: Some(key), client: Some(client), ..Change::default() }
        }
    };
    let noted = journal.note(&change);
    assert_eq!(noted.is_ok(), model.mark.is_some(), "a record without a header");
    if noted.is_err() {
        return;
    }
    if shape % 3 == 0 {
        model.items.remove(&key);
    } else {
        model.items.insert(key, name);
    }
}

fn header(mark: u64) -> Document<'static> {
    let private = PrivateDaemon { generation: Some(mark), ..PrivateDaemon::default() };
    Document { private: Some(private), ..Document::default() }
}

fn copies(journal: &Journal) -> Vec<(u64, std::os::fd::OwnedFd)> {
    journal.fds().map(|(number, fd)| (number, fd.try_clone_to_owned().expect("an fd"))).collect()
}

/// Reads as a recovery does: the complete memfd with the highest number.
fn contents(journal: &Journal) -> Model {
    let mut sheets: Vec<_> = copies(journal);
    sheets.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let complete: Vec<_> =
        sheets.into_iter().filter_map(|(_, fd)| read(&File::from(fd)).expect("a memfd")).collect();
    let Some(contents) = complete.into_iter().next() else { return Model::default() };
    let mark = contents.document.private.and_then(|private| private.generation);
    let items = contents.changes.into_iter().filter_map(|(key, change)| {
        let log = change.log.and_then(|log| log.domname);
        let session = change.client.and_then(|client| client.private_data);
        Some((key, log.or(session.and_then(|session| session.owner_name))?))
    });
    Model { mark, items: items.collect() }
}

/// Whatever is in the memfds, it can be read, and a journal goes on in them.
fn damaged(input: &mut Input<'_>) {
    let mut journal = Journal::new(u64::from(input.byte())).expect("memfds");
    journal.begin(&header(1)).expect("room");
    let mut model = Model { mark: Some(1), items: BTreeMap::new() };
    for _ in 0..input.byte() % 8 {
        note(&mut journal, &mut model, input);
    }
    journal.complete().expect("room");
    let before = contents(&journal);
    let sheets = copies(&journal);
    for (_, fd) in &sheets {
        let file = File::from(fd.try_clone().expect("an fd"));
        let len = file.metadata().expect("a memfd").len();
        match input.byte() % 4 {
            // Cut off, as by a kill.
            0 => file.set_len(len.saturating_sub(input.u16().into())).expect("a memfd"),
            1 => file.write_all_at(input.bytes(), len).expect("a memfd"),
            2 if len > 0 => {
                let at = u64::from(input.u16()) % len;
                file.write_all_at(&[input.byte()], at).expect("a memfd");
            }
            _ => {}
        }
    }
    let after = contents(&journal);
    if after.mark == before.mark {
        // Lines may be missing behind the damage, but none is made up unless it has its checksum.
        assert!(after.items.keys().all(|key| *key < 6));
    }
    let mut next = Journal::adopt(sheets).expect("memfds");
    next.begin(&header(2)).expect("room");
    let mut model = Model { mark: Some(2), items: BTreeMap::new() };
    note(&mut next, &mut model, input);
    next.complete().expect("room");
    assert_eq!(contents(&next), model);
}
