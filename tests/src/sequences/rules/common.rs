//! Rows of both daemons: protocol and administration.

use super::{Case, Rule, has_fds};
use crate::sequences::comparison::Place;
use crate::sequences::message::Twist;
use crate::sequences::observation::{Body, Item};
use crate::sequences::operation::Operation;
use crate::wire::ADMIN_PROGRAM;

/// Procedures of the admin program (libvirt's values, on the wire).
const LIST_SERVERS: i32 = 4;
const SET_OUTPUTS: i32 = 16;
const SET_FILTERS: i32 = 17;

pub(super) const RULES: &[Rule] = &[
    Rule { title: "server list of virt-admin", parts: false, explains: lists_servers },
    Rule {
        title: "`client-info` before a client's first call",
        parts: false,
        explains: asks_for_identity,
    },
    Rule { title: "log setting that is not UTF-8", parts: true, explains: sets_odd_text },
    Rule { title: "OPEN that brings fds along", parts: false, explains: opens_with_fds },
    Rule {
        title: "call whose fds come behind bytes of another",
        parts: true,
        explains: takes_late_fds,
    },
    Rule { title: "call with fds that fails early", parts: true, explains: fails_with_fds },
    Rule { title: "length word below the header's size", parts: true, explains: has_no_header },
];

fn lists_servers(case: &Case<'_>) -> bool {
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    match (case.items(), case.bodies()) {
        (
            (Some(Item::Message { header, .. }), Some(_)),
            (Some(Body::Bytes(theirs)), Some(Body::Bytes(ours))),
        ) => header.procedure == LIST_SERVERS && sorted(theirs) == sorted(ours),
        _ => false,
    }
}

fn asks_for_identity(case: &Case<'_>) -> bool {
    case.difference.theirs.contains("No identity information available for client")
        && matches!(case.bodies().1, Some(Body::Bytes(_)))
}

fn sets_odd_text(case: &Case<'_>) -> bool {
    let sets = |procedure| case.is_call(ADMIN_PROGRAM, procedure);
    let (_, Some(Body::Error(ours))) = case.bodies() else { return false };
    let is_refused = ours.message.as_deref() == Some("Unable to decode message payload");
    is_refused && (sets(SET_OUTPUTS) || sets(SET_FILTERS))
}

/// The caller's own fds come before the pipe.
fn opens_with_fds(case: &Case<'_>) -> bool {
    let (Some(Item::Message { fds: theirs, .. }), Some(Item::Message { fds: ours, .. })) =
        case.items()
    else {
        return false;
    };
    ours.len() == 1 && theirs.len() > 1 && theirs.last() == ours.last() && case.has_sent_fds()
}

/// Ours has taken the next fds for the call's, and done what it says.
fn takes_late_fds(case: &Case<'_>) -> bool {
    let closes = matches!(case.answer_items(), (Some(Item::Closed), Some(Item::Message { .. })));
    closes && case.has_sent_fds()
}

/// Their fds come back with a byte each, which puts the stream out of step.
fn fails_with_fds(case: &Case<'_>) -> bool {
    matches!(case.difference.place, Place::Leftovers | Place::Item { .. }) && case.has_sent_fds()
}

/// The length word is such a one, or whatever comes where one is expected after a part of a message.
fn has_no_header(case: &Case<'_>) -> bool {
    let Place::Item { client, .. } = case.difference.place else { return false };
    let is_odd = |operation: &Operation| match operation {
        Operation::Send { client: sender, message, bytes } => {
            *sender == client && (bytes.is_some() || matches!(message.twist, Twist::Length(_)))
        }
        _ => false,
    };
    matches!(case.items(), (None, Some(Item::Closed))) && case.operations.iter().any(is_odd)
}

impl Case<'_> {
    fn has_sent_fds(&self) -> bool {
        self.messages_of_client().any(has_fds)
    }
}
