//! Rows of virtlogd.

use nix::libc::{EBADF, EBUSY, EINVAL, ENAMETOOLONG};

use super::{Case, Rule, names};
use crate::sequences::comparison::Place;
use crate::sequences::files::{Content, Tree};
use crate::sequences::observation::{Body, Item};
use crate::sequences::operation::{Change, Operation};
use crate::wire::{LOG_PROGRAM, RpcError};

const READ: i32 = 3;

/// Bytes of a line for which a log is cut in front of it, and not in it; libvirt's value.
const LINE_BYTES_MAX: usize = 80;

/// Older parts of a log that there may be.
const PARTS_MAX: u32 = 64;

pub(super) const RULES: &[Rule] = &[
    Rule {
        title: "READ with an unknown inode, few older parts",
        parts: false,
        explains: reads_unknown_inode,
    },
    Rule {
        title: "READ from a position in a file that is two parts of the log",
        parts: false,
        explains: reads_file_twice,
    },
    Rule { title: DEVICE, parts: false, explains: |case| refuses_device(case) == Some(READ) },
    Rule {
        title: DEVICE,
        parts: true,
        explains: |case| refuses_device(case).is_some_and(|procedure| procedure != READ),
    },
    Rule { title: TOO_LONG, parts: false, explains: |case| is_too_long(case) && reads(case) },
    Rule { title: TOO_LONG, parts: true, explains: |case| is_too_long(case) && !reads(case) },
    Rule { title: "OPEN right after the guest's end", parts: true, explains: opens_after_end },
    Rule { title: "write or rotation error", parts: true, explains: closes_at_error },
    Rule {
        title: "log removed, renamed, truncated outside",
        parts: true,
        explains: |case| is_changed(case, is_removal) || has_two_names(case),
    },
    Rule {
        title: "log, or its directory, whose owner puts a symbolic link, another name of a file, \
                or somebody else's directory there",
        parts: true,
        explains: |case| is_changed(case, |change| !is_removal(change)),
    },
    Rule { title: "cut between two files", parts: true, explains: cuts_elsewhere },
];

const DEVICE: &str = "FIFO, socket or device as log, also with TRUNCATE";
const TOO_LONG: &str = "older part whose name would be too long";

fn reads_unknown_inode(case: &Case<'_>) -> bool {
    let (Some(Body::Error(theirs)), Some(_)) = case.bodies() else { return false };
    theirs.int1 == EBADF && begins(theirs, "Unable to seek to inode")
}

/// The procedure with which ours refuses what is no file; or another error comes first at libvirt's.
fn refuses_device(case: &Case<'_>) -> Option<i32> {
    let received = case.ours.items.get(&case.client()?)?;
    received.iter().find_map(|item| match item {
        Item::Message { header, body: Body::Error(error), .. }
            if error.int1 == EINVAL && begins(error, "Unable to open file") =>
        {
            Some(header.procedure)
        }
        _ => None,
    })
}

fn is_too_long(case: &Case<'_>) -> bool {
    let names = case.operations.iter().filter_map(|operation| match operation {
        Operation::Send { message, .. } => Some(&message.said),
        _ => None,
    });
    let is_long = names.into_iter().any(|said| said.contains("nnnnnnnnnn"));
    let (theirs, _) = case.answers();
    let fails = matches!(theirs, Some(Body::Error(error)) if error.int1 == ENAMETOOLONG);
    is_long && (fails || case.theirs.broken_pipes != case.ours.broken_pipes)
}

fn reads(case: &Case<'_>) -> bool {
    case.is_call(LOG_PROGRAM, READ)
}

fn reads_file_twice(case: &Case<'_>) -> bool {
    let mut changes = case.changes();
    reads(case)
        && changes.any(|(file, change)| {
            matches!(change, Change::HardLink(_)) && names::is_about(case, file)
        })
}

fn opens_after_end(case: &Case<'_>) -> bool {
    let has_hung_up = |operation: &Operation| matches!(operation, Operation::HangUp { .. });
    let (Some(Body::Error(theirs)), Some(Body::Position { .. })) = case.answers() else {
        return false;
    };
    theirs.int1 == EBUSY && case.operations.iter().any(has_hung_up)
}

/// Only libvirt's daemon closes a pipe before its guest does.
fn closes_at_error(case: &Case<'_>) -> bool {
    case.theirs.broken_pipes.iter().any(|pipe| !case.ours.broken_pipes.contains(pipe))
}

/// The file that the difference is about was changed while a log was open.
fn is_changed(case: &Case<'_>, is_such: fn(&Change) -> bool) -> bool {
    let opened = case.operations.iter().skip_while(|operation| !is_open(operation));
    let changes = opened.filter_map(|operation| match operation {
        Operation::Outside { file, change } if is_such(change) => Some((file, change)),
        _ => None,
    });
    let mut changed = changes.flat_map(|(file, change)| [Some(&**file), change.other_file()]);
    changed.any(|file| file.is_some_and(|file| names::is_about(case, file)))
}

/// The file that the difference is about is open under two names, or as a log and as an older part of
/// another: what is done to one is done to the other from outside.
fn has_two_names(case: &Case<'_>) -> bool {
    let paths = || case.operations.iter().filter_map(names::path_in);
    let opened = case.operations.iter().filter(|operation| is_open(operation));
    let opened = opened.filter_map(names::path_in);
    let is_such = |path: &str| names::is_about(case, &names::base_of(case, path));
    opened.filter(|path| is_such(path)).any(|one| {
        paths()
            .any(|other| one != other && names::base_of(case, one) == names::base_of(case, other))
    })
}

fn is_open(operation: &Operation) -> bool {
    matches!(operation, Operation::Send { message, .. } if message.said.starts_with("OPEN "))
}

fn is_removal(change: &Change) -> bool {
    use Change::{Remove, Rename, Replace, Truncate};
    matches!(change, Remove | Rename(_) | Replace(_) | Truncate)
}

/// The bytes are the same, but not which file they are in. Those of the oldest part may be gone already.
fn cuts_elsewhere(case: &Case<'_>) -> bool {
    let bases = case.theirs.files.keys().chain(case.ours.files.keys());
    let count = 1 + usize::try_from(case.configuration.max_backups).expect("a small number");
    let moved = |base: &String| {
        let (theirs, ours) = (parts(&case.theirs.files, base), parts(&case.ours.files, base));
        theirs != ours && (is_end(&theirs, &ours, count) || is_end(&ours, &theirs, count))
    };
    let cuts = case.configuration.max_size > 0;
    cuts && (bases.into_iter().any(moved) || is_left_by_link(case))
}

/// Whether the file is what a log's link led to, and the link was dropped as the oldest part: its end was
/// cut elsewhere.
fn is_left_by_link(case: &Case<'_>) -> bool {
    let Place::File(name) = &case.difference.place else { return false };
    let (Some(theirs), Some(ours)) =
        (bytes_of(&case.theirs.files, name), bytes_of(&case.ours.files, name))
    else {
        return false;
    };
    let mut paths = case.operations.iter().filter_map(names::path_in);
    let is_behind_link =
        paths.any(|path| names::base_of(case, path) == *name && !path.ends_with(&**name));
    let is_cut = (theirs.starts_with(ours) || ours.starts_with(theirs))
        && theirs.len().abs_diff(ours.len()) < LINE_BYTES_MAX;
    is_behind_link && is_cut
}

/// Whether some parts hold the end of what others hold, and are as many as there can be if it is not all.
fn is_end(some: &[&[u8]], others: &[&[u8]], count: usize) -> bool {
    let (some_bytes, others_bytes) = (some.concat(), others.concat());
    let is_all = some_bytes.len() == others_bytes.len();
    others_bytes.ends_with(&some_bytes) && (is_all || some.len() == count)
}

/// A log's content, the oldest first.
fn parts<'a>(files: &'a Tree, base: &str) -> Vec<&'a [u8]> {
    let older = (0..PARTS_MAX).rev().map(|index| format!("{base}.{index}"));
    let names = older.chain([base.to_owned()]);
    names.filter_map(|name| bytes_of(files, &name)).collect()
}

/// What is in a file, or in that which a link leads to.
fn bytes_of<'a>(files: &'a Tree, name: &str) -> Option<&'a [u8]> {
    match &files.get(name)?.content {
        Content::File(bytes) => Some(bytes),
        Content::Link(target) if target != name => bytes_of(files, &names::beside(name, target)),
        _ => None,
    }
}

fn begins(error: &RpcError, text: &str) -> bool {
    error.message.as_ref().is_some_and(|message| message.starts_with(text))
}
