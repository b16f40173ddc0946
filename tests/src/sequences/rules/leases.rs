//! Rows of virtlockd.

use std::collections::BTreeSet;

use super::{Case, Rule};
use crate::sequences::comparison::Place;
use crate::sequences::message::Twist;
use crate::sequences::observation::{Body, Item};
use crate::sequences::operation::{Change, GUEST_CLIENTS, Operation};
use crate::wire::LOCK_PROGRAM;

const NEW: i32 = 3;
const CREATE: i32 = 4;
const DELETE: i32 = 5;
const ACQUIRE: i32 = 6;
const RELEASE: i32 = 7;

/// Code of an error that says that a resource is leased, libvirt's value.
const BUSY: i32 = 87;

pub(super) const RULES: &[Rule] = &[
    Rule {
        title: "NEW that cannot make its directory",
        parts: true,
        explains: |case| is_call(case, NEW) && is_granted_by_theirs_only(case),
    },
    Rule {
        title: "owner that was dead at REGISTER",
        parts: true,
        explains: |case| {
            is_about_leases(case)
                && (has_registered(case, "a dead pid") || has_registered(case, "pid -1"))
        },
    },
    Rule {
        title: "owner died without a connection of its own",
        parts: true,
        explains: |case| is_about_leases(case) && has_died(case),
    },
    Rule {
        title: "lease that its owner has taken twice (SHARED), when he ends",
        parts: true,
        explains: |case| is_about_leases(case) && has_guest_left(case) && is_shared_twice(case),
    },
    Rule {
        title: "guest's connection closed by virt-admin, or for a broken message",
        parts: true,
        explains: is_guest_closed,
    },
    Rule {
        title: "SHARED by a name whose file was replaced",
        parts: true,
        explains: |case| {
            is_call(case, ACQUIRE) && is_refused_by_ours_only(case) && is_changed(case)
        },
    },
    Rule {
        title: "two names of one image",
        parts: true,
        explains: |case| {
            is_call(case, ACQUIRE) && is_refused_by_ours_only(case) && has_two_names(case)
        },
    },
    Rule {
        title: "DELETE of a file that is leased under another name, or locked by another process",
        parts: true,
        explains: |case| is_call(case, DELETE) && is_refused_by_ours_only(case),
    },
    Rule {
        title: "releasing one name",
        parts: true,
        explains: |case| {
            (is_lock(case, "free", "exclusive") || is_lock(case, "free", "shared"))
                && has_two_names(case)
        },
    },
    Rule {
        title: "automatic file whose last lease of this name is released while another name of it \
                is shared",
        parts: true,
        explains: |case| is_call(case, RELEASE) && is_file_kept(case) && has_two_names(case),
    },
];

fn is_call(case: &Case<'_>, procedure: i32) -> bool {
    case.is_call(LOCK_PROGRAM, procedure)
}

fn is_granted_by_theirs_only(case: &Case<'_>) -> bool {
    matches!(case.answers(), (Some(Body::Bytes(_)), Some(Body::Error(_))))
}

fn is_refused_by_ours_only(case: &Case<'_>) -> bool {
    matches!(case.answers(), (Some(Body::Bytes(_)), Some(Body::Error(error))) if error.code == BUSY)
}

/// Holders of leases, and files that are removed with the last one.
fn is_about_leases(case: &Case<'_>) -> bool {
    let calls = [CREATE, DELETE, ACQUIRE, RELEASE];
    match case.difference.place {
        Place::Lock(_) | Place::File(_) | Place::Leases => true,
        Place::Item { .. } => calls.into_iter().any(|procedure| is_call(case, procedure)),
        Place::Leftovers | Place::Pipes | Place::Guests | Place::Outcome => false,
    }
}

fn has_died(case: &Case<'_>) -> bool {
    case.operations.iter().any(|operation| matches!(operation, Operation::Die { .. }))
}

/// The file is there at ours only, and locked for its other name.
fn is_file_kept(case: &Case<'_>) -> bool {
    match &case.difference.place {
        Place::File(name) | Place::Lock(name) => {
            !case.theirs.files.contains_key(name) && case.ours.files.contains_key(name)
        }
        _ => false,
    }
}

fn is_lock(case: &Case<'_>, theirs: &str, ours: &str) -> bool {
    let Place::Lock(name) = &case.difference.place else { return false };
    case.theirs.locks.get(name) == Some(&theirs) && case.ours.locks.get(name) == Some(&ours)
}

fn has_registered(case: &Case<'_>, who: &str) -> bool {
    case.operations.iter().any(|operation| match operation {
        // A word in another place may make another pid of it.
        Operation::Send { message, .. } => {
            message.said.starts_with(&format!("REGISTER {who}"))
                || message.said.starts_with("REGISTER") && matches!(message.twist, Twist::Word(..))
        }
        _ => false,
    })
}

/// A guest has closed a connection of its own; all do in the end.
fn has_guest_left(case: &Case<'_>) -> bool {
    let is_guests = |client: &usize| GUEST_CLIENTS.contains(client);
    case.operations.iter().any(|operation| match operation {
        Operation::Send { client, .. } | Operation::Close { client } => is_guests(client),
        _ => false,
    })
}

fn is_shared_twice(case: &Case<'_>) -> bool {
    let shared = |operation: &Operation| match operation {
        Operation::Send { message, .. } => {
            let (call, flags) = message.said.split_once(" flags 0x")?;
            let is_shared = flags.starts_with(['1', '3']) && call.starts_with("ACQUIRE");
            is_shared.then(|| call.to_owned())
        }
        _ => None,
    };
    let all: Vec<_> = case.operations.iter().filter_map(shared).collect();
    all.iter().collect::<BTreeSet<_>>().len() < all.len()
}

/// Both daemons have closed a guest's connection; libvirt's ends the guest as if he had left.
fn is_guest_closed(case: &Case<'_>) -> bool {
    let is_closed = |client| match case.theirs.items.get(client) {
        Some(items) => items.contains(&Item::Closed),
        None => false,
    };
    GUEST_CLIENTS.iter().any(is_closed)
        && matches!(case.difference.place, Place::Guests | Place::Lock(_) | Place::File(_))
}

/// A file that somebody wants has been wanted by another name, or others may have given it one.
fn has_two_names(case: &Case<'_>) -> bool {
    let named = |operation: &Operation| match operation {
        Operation::Send { message, .. } => resource_in(&message.said),
        _ => None,
    };
    let names: BTreeSet<_> = case.operations.iter().filter_map(named).collect();
    let files: BTreeSet<_> = names.iter().map(|name| file_of(name)).collect();
    files.len() < names.len() || case.changes().next().is_some()
}

/// The lockspace and the name in a message.
fn resource_in(said: &str) -> Option<String> {
    let (call, rest) = said.split_once(' ')?;
    let is_call = ["CREATE", "DELETE", "ACQUIRE", "RELEASE"].contains(&call);
    is_call.then(|| rest.split(" flags").next().unwrap_or_default().to_owned())
}

/// The file of a resource as the files are in the beginning of a sequence, by its last component.
fn file_of(resource: &str) -> &str {
    let name = resource.rsplit('/').next().unwrap_or_default();
    let name = name.rsplit(' ').next().unwrap_or_default();
    let name = name.split("\\u{0}").next().unwrap_or_default();
    match name {
        "link" => "a",
        "hard" => "b",
        name => name,
    }
}

/// Another file has got the name of one.
fn is_changed(case: &Case<'_>) -> bool {
    let is_such =
        |change: &Change| matches!(change, Change::Replace(_) | Change::Rename(_) | Change::Remove);
    case.changes().any(|(_, change)| is_such(change))
}
