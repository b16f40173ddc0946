//! What guests of virtlockd and their managers do.

use std::time::Duration;

use super::owner::{Owner, registration};
use super::{Holder, Leases};
use crate::supervisor::patience;
use crate::walks::disk::Place;
use crate::walks::step::{Action, Fault};
use crate::walks::walk::eventually_ok;
use crate::walks::world::World;
use crate::wire::{Answer, Connection, Header, LOCK_PROGRAM, RpcError, Writer};

/// Guests at a time.
const OWNERS_MAX: usize = 6;

/// The lock program's procedures.
pub(super) const REGISTER: i32 = 1;
pub(super) const ACQUIRE: i32 = 6;
pub(super) const RELEASE: i32 = 7;

/// libvirt's code for "resource busy".
pub(super) const BUSY: i32 = 87;

impl Leases {
    pub(super) fn perform(&mut self, world: &World, action: Action, number: u64) {
        match action {
            Action::Start => self.start(world),
            Action::Acquire => self.acquire(world, number),
            Action::Release => self.release(world, number),
            Action::Contend => self.contend(world, number),
            Action::Leave => self.leave(world, number),
            Action::Die => self.die(world, number),
            other => panic!("{} is nothing that guests of virtlockd do", other.name()),
        }
    }

    /// One that cannot have a connection of its own is no guest.
    fn start(&mut self, world: &World) {
        if self.owners.len() < OWNERS_MAX && !world.has(Fault::FdLimit) {
            self.last += 1;
            let socket = world.service.daemon().main_socket();
            self.owners.push(Owner::start(self.last, &socket));
        }
    }

    fn acquire(&mut self, world: &World, number: u64) {
        let Some((owner, pid)) = self.any_owner(number) else { return };
        let free: Vec<_> =
            self.images.iter_mut().filter(|image| image.holder == Holder::Nobody).collect();
        let count = free.len().max(1);
        let Some(image) = free.into_iter().nth(scaled(number >> 8, count)) else { return };
        match call(world, (owner, pid), ACQUIRE, image.place, &image.name) {
            Some(Ok(())) => image.holder = Holder::Guest(owner),
            Some(Err(error)) => {
                let is_excused = world.is_wrong(image.place) || world.has(Fault::FdLimit);
                assert!(is_excused, "{image:?} is refused, and free: {error:?}");
            }
            None => image.holder = Holder::Perhaps(owner),
        }
    }

    fn release(&mut self, world: &World, number: u64) {
        let Some(index) = self.any_held(number) else { return };
        let Holder::Guest(owner) = self.images[index].holder else { return };
        let pid = self.owner(owner).pid();
        let image = &mut self.images[index];
        match call(world, (owner, pid), RELEASE, image.place, &image.name) {
            Some(Ok(())) => image.holder = Holder::Nobody,
            Some(Err(error)) => {
                let is_excused = world.is_wrong(image.place) || world.has(Fault::FdLimit);
                assert!(is_excused, "{image:?} cannot be released: {error:?}");
                image.holder = Holder::Perhaps(owner);
            }
            None => image.holder = Holder::Perhaps(owner),
        }
    }

    /// Whoever else wants a lease is told that it is held.
    fn contend(&mut self, world: &World, number: u64) {
        let Some(index) = self.any_held(number) else { return };
        let Some((owner, pid)) = self.any_owner(number >> 16) else { return };
        let image = &self.images[index];
        if image.holder == Holder::Guest(owner) {
            return;
        }
        let is_excused = world.is_wrong(image.place) || world.has(Fault::FdLimit);
        match call(world, (owner, pid), ACQUIRE, image.place, &image.name) {
            Some(Ok(())) => panic!("{image:?} is given to guest {owner} too"),
            Some(Err(error)) => assert!(
                error.code == BUSY || is_excused,
                "{image:?} is refused to another for another reason: {error:?}"
            ),
            // It comes when the disk is well again, and is refused then.
            None => {}
        }
    }

    /// Whoever closes its connection while it holds leases is ended.
    fn leave(&mut self, world: &World, number: u64) {
        let Some((owner, _)) = self.any_owner(number) else { return };
        let has_lease = self.images.iter().any(|image| image.holder == Holder::Guest(owner));
        if !has_lease || !self.owner(owner).is_connected {
            return;
        }
        let guest = self.owner(owner);
        guest.leave();
        eventually_ok("a guest that leaves its leases is ended", patience(), || {
            if guest.is_running() { Err(format!("guest {owner}")) } else { Ok(()) }
        });
        self.owner_is_gone(world, owner);
    }

    fn die(&mut self, world: &World, number: u64) {
        let Some((owner, _)) = self.any_owner(number) else { return };
        self.owner(owner).kill();
        self.owner_is_gone(world, owner);
    }

    /// Finds out, once its disk is well, whether a lease is held of which nobody knows: whoever may
    /// hold it gives it back, and then nobody does.
    pub(super) fn settle(&mut self, world: &World) {
        for index in 0..self.images.len() {
            let image = &self.images[index];
            let Holder::Perhaps(number) = image.holder else { continue };
            if world.is_wrong(image.place) || world.has(Fault::FdLimit) {
                continue;
            }
            let owner = self.owners.iter().find(|owner| owner.number == number);
            if let Some(owner) = owner {
                let owner = (number, owner.pid());
                // It is not his, or it was: both will do.
                drop(call(world, owner, RELEASE, image.place, &image.name));
            }
            self.images[index].holder = Holder::Nobody;
        }
    }

    fn any_owner(&self, number: u64) -> Option<(u64, u32)> {
        let count = self.owners.len().max(1);
        self.owners.get(scaled(number, count)).map(|owner| (owner.number, owner.pid()))
    }

    /// The index of an image that is held for certain.
    fn any_held(&self, number: u64) -> Option<usize> {
        let held = self.images.iter().enumerate();
        let held = held.filter(|(_, image)| matches!(image.holder, Holder::Guest(_)));
        let held: Vec<_> = held.map(|(index, _)| index).collect();
        held.get(scaled(number, held.len().max(1))).copied()
    }
}

/// A manager calls for a guest, over a connection of its own. `None` when there is no answer, which
/// only what is wrong at this place excuses.
fn call(
    world: &World,
    (number, pid): (u64, u32),
    procedure: i32,
    place: Place,
    image: &str,
) -> Option<Result<(), RpcError>> {
    let path = world.disk.path(place, image);
    let path = path.to_str().expect("a path of ASCII");
    let registration = registration_arguments(number, pid);
    let resource = Writer::new().string("").string(path).u32(0).into_bytes();
    let socket = world.service.daemon().main_socket();
    let mut connection = Connection::open(&socket).expect("connecting");
    let mut exchange = |procedure: i32, payload: &[u8], patience: Duration| {
        let message = Header::call(LOCK_PROGRAM, procedure).message(payload);
        connection.send(&message).expect("calling");
        match connection.answer_within(patience) {
            Answer::Message(frame) => Some(frame.into_result().map(drop)),
            Answer::Closed | Answer::Silence => None,
        }
    };
    let is_excused = world.is_wrong(place) || world.has(Fault::FdLimit);
    // It may look for the guest, but at no disk.
    match exchange(REGISTER, &registration, patience()) {
        Some(Ok(())) => {}
        Some(Err(error)) => return Some(Err(error)),
        None => {
            assert!(is_excused, "nobody answers");
            return Some(Err(RpcError::rpc("no connection")));
        }
    }
    let answer = exchange(procedure, &resource, world.patience_at(place));
    assert!(answer.is_some() || is_excused, "procedure {procedure} is not answered");
    answer
}

/// What REGISTER is told of a guest.
pub(super) fn registration_arguments(number: u64, pid: u32) -> Vec<u8> {
    let owner = registration(number, pid);
    let name = Writer::new().fixed(&owner.uuid).string(&owner.name);
    name.u32(owner.id).u32(owner.pid).u32(0).into_bytes()
}

/// A number below `end`, which is not 0.
fn scaled(number: u64, end: usize) -> usize {
    usize::try_from(number % end as u64).expect("it is below a usize")
}
