//! After a sequence: both daemons are as they were, and who holds which lease is said.

use std::collections::BTreeSet;

use super::message::{Message, Piece, World};
use super::observation::answer_text;
use super::operation::{ACQUIRE, GUESTS, ODD_PIDS, Operation, Scene};
use super::side::{Gone, Side};
use crate::harness::Program;
use crate::wire::{ADMIN_PROGRAM, Header, LOCK_PROGRAM, Writer};

const REGISTER: i32 = 1;
const RELEASE: i32 = 7;
const SET_LIMITS: i32 = 13;
const SET_OUTPUTS: i32 = 16;
const SET_FILTERS: i32 = 17;
const SET_TIMEOUT: i32 = 19;

/// How often a lease can be shared by one owner in a sequence, and more.
const SHARES_MAX: usize = 24;

/// Gives all leases back that the operations may have got. Says what came of each.
///
/// # Errors
/// The daemon is gone, or hangs.
pub(super) fn release_all(side: &mut Side, operations: &[Operation]) -> Result<Vec<String>, Gone> {
    let resources: BTreeSet<_> = operations.iter().filter_map(acquired).collect();
    let mut said = Vec::new();
    if resources.is_empty() {
        return Ok(said);
    }
    let guests = (0..GUESTS).map(|guest| side.pid(guest));
    let owners: Vec<_> = guests.chain(ODD_PIDS.iter().copied()).collect();
    for (guest, pid) in owners.into_iter().enumerate() {
        let owner = Writer::new().fixed(&[0; 16]).string("tidy").u32(1).u32(pid).u32(0);
        side.call(Header::call(LOCK_PROGRAM, REGISTER), &owner.into_bytes())?;
        for (name, arguments) in &resources {
            for _ in 0..SHARES_MAX {
                let frame = side.call(Header::call(LOCK_PROGRAM, RELEASE), arguments)?;
                let answer = answer_text(side, &frame);
                let is_over = frame.header.status != 0;
                said.push(format!("guest {guest} {name}: {answer}"));
                if is_over {
                    break;
                }
            }
        }
    }
    Ok(said)
}

/// Sets what an administrator may have changed.
///
/// # Errors
/// The daemon is gone, or hangs.
pub(super) fn reset_settings(side: &mut Side, scene: &Scene) -> Result<(), Gone> {
    const UINT: u32 = 2;
    for (server, clients) in [(scene.program.name(), 1_024), ("admin", 5_000)] {
        let limits = Writer::new().string(server).u32(2);
        let limits = limits.string("nclients_max").u32(UINT).u32(clients);
        let limits = limits.string("nclients_unauth_max").u32(UINT).u32(clients).u32(0);
        side.call(Header::call(ADMIN_PROGRAM, SET_LIMITS), &limits.into_bytes())?;
    }
    for procedure in [SET_OUTPUTS, SET_FILTERS, SET_TIMEOUT] {
        side.call(Header::call(ADMIN_PROGRAM, procedure), &[0; 8])?;
    }
    Ok(())
}

/// Whether an operation can change settings.
pub(super) fn is_administration(operation: &Operation) -> bool {
    matches!(operation, Operation::Send { message, .. } if message.header().prog == ADMIN_PROGRAM)
}

/// The resource that an operation may have taken, and RELEASE's arguments for it.
fn acquired(operation: &Operation) -> Option<(String, Vec<u8>)> {
    let Operation::Send { message, .. } = operation else { return None };
    let Message { said, arguments, .. } = message;
    let header = message.header();
    let [Piece::Bytes(bytes)] = &arguments[..] else { return None };
    if (header.prog, header.procedure) != (Program::Virtlockd.number(), ACQUIRE) {
        return None;
    }
    let mut release = bytes.clone();
    let flags = release.len().checked_sub(4)?;
    release[flags..].fill(0);
    let name = said.split(" flags").next().unwrap_or_default();
    Some((name.to_owned(), release))
}
