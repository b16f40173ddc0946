//! Owners of restored leases and registrations.

use std::collections::HashMap;
use std::sync::Arc;

use common::handover::document::{self, Holder};
use common::handover::text::parse_uuid;
use common::sys::pidfd;

use crate::ids::OwnerId;
use crate::outcome::Core;
use crate::owner::identity::{Identity, Key, Known, Way};
use crate::owner::lifecycle::{find_living, owner_of_process};
use crate::owner::lookup::Found;
use crate::owner::watch_retry::spare_last_fds;
use crate::protocol::Guest;
use crate::state::State;

/// Owners that were found, and those that had ended.
#[derive(Default)]
pub(super) struct Adopted(HashMap<Key, (OwnerId, Option<Identity>, bool)>);

impl Adopted {
    /// Who lives comes before who has ended and had the same number.
    pub(super) fn add(&mut self, guest: &Guest, known: &Known, owner: OwnerId, is_dead: bool) {
        let Some(key) = known.keys(guest)[0] else { return };
        let is_better = self.0.get(&key).is_none_or(|&(.., was_dead)| was_dead);
        if is_better {
            self.0.insert(key, (owner, known.identity, is_dead));
        }
    }

    /// Of whom more is known than the number is not one that had ended, of whom it is not.
    pub(super) fn find(&self, guest: &Guest, known: &Known) -> Option<OwnerId> {
        let &(owner, identity, was_dead) = self.0.get(&known.keys(guest)[0]?)?;
        let is_another = was_dead && identity.is_none() && known.identity.is_some();
        (!is_another && known.may_be(&Known { identity, ..*known })).then_some(owner)
    }
}

/// Returns the owner that a process is, a dead one if it has ended.
pub(super) fn adopt_owner(
    state: &mut State,
    core: &mut Core,
    guest: &Arc<Guest>,
    known: Known,
    found: Found,
    adopted: &mut Adopted,
) -> OwnerId {
    let found = match found {
        Found::Process(pidfd) if pidfd::has_ended(&pidfd) => Found::Dead,
        found => spare_last_fds(found),
    };
    let is_dead = matches!(found, Found::Dead);
    let living = find_living(state, core, guest, &known);
    let owner = owner_of_process(state, core, guest, known, found, living);
    adopted.add(guest, &known, owner, is_dead);
    owner
}

pub(super) fn is_dead(process: Option<&document::Process>) -> bool {
    process.is_some_and(|process| process.found == Some(document::Found::Dead))
}

/// What an earlier image knew. One that kept nothing of it has looked for the number.
pub(super) fn known_of(process: Option<&document::Process>) -> Known {
    let Some(process) = process else { return Known::BY_NUMBER };
    let way = match (process.found, process.number) {
        (None | Some(document::Found::Dead), _) => Way::Number,
        (Some(document::Found::Connection), Some(number)) => Way::Connection { number },
        (Some(document::Found::Connection), None) | (Some(document::Found::Never), _) => Way::Never,
    };
    let identity = process.inode.map(Identity::Inode).or(process.start.map(Identity::Start));
    Known { way, identity, namespace: process.namespace }
}

pub(super) fn guest_of(Holder { pid, id, name, uuid, .. }: &Holder) -> Guest {
    Guest {
        uuid: uuid.as_deref().and_then(parse_uuid).unwrap_or_default(),
        name: name.as_deref().unwrap_or_default().as_bytes().into(),
        id: id.unwrap_or(0),
        pid: pid.unwrap_or(0),
    }
}
