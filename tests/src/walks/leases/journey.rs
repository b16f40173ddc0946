//! The journey of virtlockd in which a system call fails, and what must hold all the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use super::actions::{ACQUIRE, BUSY, REGISTER, RELEASE, registration_arguments};
use super::is_connection_kept;
use super::owner::Owner;
use crate::load::is_free;
use crate::supervisor::claims;
use crate::walks::injected::Machine;
use crate::walks::locks::{self, locks};
use crate::wire::Writer;

/// More of the lock program's procedures.
const NEW: i32 = 3;
const CREATE: i32 = 4;
const DELETE: i32 = 5;

/// Images that guests want.
const IMAGES: usize = 4;

/// Makes the journey: three processes, of which the first is killed and the others are stopped, and an
/// upgrade of each.
///
/// # Panics
/// When something is not as it has to be.
pub(in crate::walks) fn travel(machine: &mut Machine) {
    let mut leases = Journey::new(machine);
    leases.start();
    leases.start();
    leases.acquire(0, 0);
    leases.acquire(1, 1);
    leases.contend(1, 0);
    leases.use_lockspace(0);
    leases.release(0);
    leases.acquire(0, 0);
    leases.upgrade();
    leases.acquire(0, 2);
    leases.contend(1, 2);
    leases.restart(Signal::SIGKILL);
    leases.release(1);
    leases.acquire(1, 3);
    leases.contend(0, 3);
    leases.upgrade();
    leases.release(2);
    leases.die(1);
    leases.restart(Signal::SIGTERM);
    leases.start();
    leases.acquire(1, 1);
    leases.contend(1, 0);
    leases.release(0);
    leases.leave(1);
    leases.upgrade();
    leases.acquire(0, 3);
    leases.die(0);
    leases.expect_empty_store();
    leases.machine.end(Signal::SIGTERM);
}

struct Image {
    name: String,
    inode: u64,
    file: locks::File,
    /// The number of the guest that has it.
    holder: Option<u64>,
}

struct Journey<'a> {
    machine: &'a mut Machine,
    owners: Vec<Owner>,
    images: Vec<Image>,
    /// Numbers of guests.
    last: u64,
}

impl<'a> Journey<'a> {
    fn new(machine: &'a mut Machine) -> Self {
        let make = |number: usize| {
            let name = format!("image{number}");
            fs::write(machine.file(&name), "").expect("making an image");
            let found = fs::metadata(machine.file(&name)).expect("an image");
            let (inode, file) = (found.ino(), locks::file(found.dev(), found.ino()));
            Image { name, inode, file, holder: None }
        };
        let images = (0..IMAGES).map(make).collect();
        Self { machine, owners: Vec::new(), images, last: 0 }
    }

    /// A guest starts and registers.
    fn start(&mut self) {
        let last = &mut self.last;
        let owner = self.machine.perform("a guest's start", |machine| {
            *last += 1;
            let socket = machine.service.daemon().main_socket();
            Owner::try_start(*last, &socket, || machine.service.has_ended())
                .ok_or_else(|| "it cannot register".to_owned())
        });
        self.owners.push(owner);
        self.settle();
    }

    fn acquire(&mut self, owner: usize, image: usize) {
        let number = self.ask("ACQUIRE", owner, image, ACQUIRE);
        self.images[image].holder = Some(number);
        self.settle();
    }

    fn release(&mut self, image: usize) {
        let holder = self.images[image].holder;
        let owner = self.owners.iter().position(|owner| Some(owner.number) == holder);
        self.ask("RELEASE", owner.expect("it is held"), image, RELEASE);
        self.images[image].holder = None;
        self.settle();
    }

    /// Whoever else wants a lease is told that it is held.
    fn contend(&mut self, owner: usize, image: usize) {
        let calls = self.calls(owner, ACQUIRE, resource("", &self.path(image)));
        self.machine.perform("ACQUIRE of what is held", |machine| match machine.call(&calls)? {
            Ok(_) => panic!("a lease is given to two"),
            Err(error) if error.code == BUSY => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        });
        self.settle();
    }

    /// A lockspace is made, and in it a resource, which is leased, given back and removed.
    fn use_lockspace(&mut self, owner: usize) {
        let space = self.machine.file("space");
        fs::create_dir_all(&space).expect("a directory");
        let space = space.to_str().expect("a path of ASCII").to_owned();
        let new = Writer::new().string(&*space).u32(0).into_bytes();
        let steps = [(NEW, new)].into_iter().chain(
            [CREATE, ACQUIRE, RELEASE, DELETE]
                .map(|procedure| (procedure, resource(&space, "disk"))),
        );
        for (procedure, payload) in steps {
            let calls = self.calls(owner, procedure, payload);
            let mut is_tried = false;
            self.machine.perform("a lockspace's call", |machine| match machine.call(&calls)? {
                Ok(_) => Ok(()),
                // What was not answered may have been done.
                Err(_) if is_tried => Ok(()),
                Err(error) => {
                    is_tried = true;
                    Err(format!("{procedure}: {error:?}"))
                }
            });
        }
        self.settle();
    }

    fn die(&mut self, owner: usize) {
        let mut owner = self.owners.remove(owner);
        owner.kill();
        self.forget(&owner);
    }

    /// Whoever closes its connection while it holds leases is ended.
    fn leave(&mut self, owner: usize) {
        let mut owner = self.owners.remove(owner);
        owner.leave();
        self.machine.settle(|_| match owner.is_running() {
            true => Err("a guest that leaves its leases goes on".to_owned()),
            false => Ok(()),
        });
        self.forget(&owner);
    }

    fn forget(&mut self, owner: &Owner) {
        for image in &mut self.images {
            image.holder = image.holder.filter(|&number| number != owner.number);
        }
        self.settle();
    }

    fn upgrade(&mut self) {
        self.machine.upgrade();
        self.settle();
    }

    fn restart(&mut self, by: Signal) {
        self.machine.restart(by);
        self.settle();
    }

    /// Guests live, and the kernel's locks and the store are what they were promised.
    fn settle(&mut self) {
        let Self { machine, owners, images, .. } = self;
        machine.settle(|machine| {
            for owner in owners.iter_mut() {
                assert!(owner.is_running(), "guest {} has been ended", owner.number);
            }
            check_locks(images)?;
            check_store(machine, owners, images)
        });
        for image in images.iter().filter(|image| image.holder.is_some()) {
            let path = machine.file(&image.name);
            let path = path.to_str().expect("a path of ASCII");
            assert!(!is_free(path), "a stranger could lock {path}");
        }
    }

    fn expect_empty_store(&mut self) {
        assert!(self.owners.is_empty(), "all guests have ended");
        self.machine.settle(|machine| {
            let mut names = machine.service.supervisor.names();
            names.retain(|name| name.starts_with(['r', 'c']));
            if names.is_empty() { Ok(()) } else { Err(format!("{names:?} stay in the store")) }
        });
    }

    /// A manager calls for a guest; gives the guest's number.
    fn ask(&mut self, what: &str, owner: usize, image: usize, procedure: i32) -> u64 {
        let calls = self.calls(owner, procedure, resource("", &self.path(image)));
        let undo = self.calls(owner, RELEASE, resource("", &self.path(image)));
        let again = self.calls(owner, ACQUIRE, resource("", &self.path(image)));
        let mut is_unknown = false;
        self.machine.perform(what, |machine| {
            if is_unknown {
                // Whichever way the call went that was not answered, this is where it began.
                let back = if procedure == ACQUIRE { &undo } else { &again };
                drop(machine.call(back)?);
            }
            is_unknown = true;
            machine.call(&calls)?.map_err(|error| format!("{error:?}"))
        });
        self.owners[owner].number
    }

    fn calls(&self, owner: usize, procedure: i32, payload: Vec<u8>) -> [(i32, Vec<u8>); 2] {
        let owner = &self.owners[owner];
        [(REGISTER, registration_arguments(owner.number, owner.pid())), (procedure, payload)]
    }

    fn path(&self, image: usize) -> String {
        let path = self.machine.file(&self.images[image].name);
        path.to_str().expect("a path of ASCII").to_owned()
    }
}

fn resource(space: &str, name: &str) -> Vec<u8> {
    Writer::new().string(space).string(name).u32(0).into_bytes()
}

/// By the kernel's word.
fn check_locks(images: &[Image]) -> Result<(), String> {
    let locks = locks();
    for image in images {
        let count = locks.get(&image.file).copied().unwrap_or(0);
        if count != usize::from(image.holder.is_some()) {
            return Err(format!("there are {count} locks on {}", image.name));
        }
    }
    Ok(())
}

fn check_store(machine: &Machine, owners: &[Owner], images: &[Image]) -> Result<(), String> {
    let stored = machine.service.supervisor.stored();
    let claims = claims(&stored).ok_or("there is no complete journal")?;
    let names = stored.iter().map(|stored| stored.name.clone());
    let names: BTreeSet<_> = names.filter(|name| name.starts_with(['r', 'c'])).collect();
    if names != claims.names() {
        return Err(format!("the store has {names:?}, the journal claims {claims:?}"));
    }
    let mut held = images.iter().filter(|image| image.holder.is_some());
    if let Some(image) = held.find(|image| machine.service.stored_name('r', image.inode).is_none())
    {
        return Err(format!("the lease of {} is not in the store", image.name));
    }
    match owners.iter().find(|owner| !is_connection_kept(&machine.service, owner)) {
        Some(owner) => Err(format!("the connection of guest {} is not in the store", owner.number)),
        None => Ok(()),
    }
}
