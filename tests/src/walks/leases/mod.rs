//! Walks of virtlockd: each image is leased to one guest or to none, by the daemon's word and by the
//! kernel's, and no guest goes on without a lease that it has been given.

mod actions;
mod journey;
mod owner;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;

pub(super) use journey::travel;
pub(super) use owner::live;

use super::disk::Place;
use super::listed::{listed, of_path};
use super::locks::{self, locks};
use super::step::Fault;
use super::walk::{Walk, eventually_ok};
use super::world::{Guests, World};
use crate::load::is_free;
use crate::supervisor::{Service, claims, patience};
use owner::Owner;

/// Images that guests want, by place.
const IMAGES: [Place; 7] = [
    Place::Sound,
    Place::Sound,
    Place::Sound,
    Place::Sick,
    Place::Sick,
    Place::Movable,
    Place::Movable,
];

/// Who has an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// The guest of this number.
    Guest(u64),
    /// This guest or nobody: a call was not answered.
    Perhaps(u64),
    /// Its lock came back without a journal that says whose it is: it may stay locked, for nobody.
    Parked,
}

#[derive(Debug)]
struct Image {
    name: String,
    place: Place,
    inode: u64,
    file: locks::File,
    holder: Holder,
}

/// All guests and images of a walk.
#[derive(Debug)]
pub(super) struct Leases {
    owners: Vec<Owner>,
    images: Vec<Image>,
    /// Numbers of guests.
    last: u64,
}

impl Leases {
    /// Makes the images.
    pub(super) fn new(world: &World) -> Self {
        let make = |(number, &place): (usize, &Place)| {
            let name = format!("image{number}");
            fs::write(world.disk.beside(place, &name), "").expect("making an image");
            let found = fs::metadata(world.disk.path(place, &name)).expect("an image");
            let (inode, file) = (found.ino(), locks::file(found.dev(), found.ino()));
            Image { name, place, inode, file, holder: Holder::Nobody }
        };
        let images = IMAGES.iter().enumerate().map(make).collect();
        Self { owners: Vec::new(), images, last: 0 }
    }

    fn owner(&mut self, number: u64) -> &mut Owner {
        let owner = self.owners.iter_mut().find(|owner| owner.number == number);
        owner.expect("a holder is there")
    }

    /// The guest has ended, so nobody holds what it held; when that hangs it is not known yet.
    fn owner_is_gone(&mut self, world: &World, number: u64) {
        self.owners.retain(|owner| owner.number != number);
        for image in &mut self.images {
            if matches!(image.holder, Holder::Guest(it) | Holder::Perhaps(it) if it == number) {
                let is_known = !world.is_wrong(image.place);
                image.holder = if is_known { Holder::Nobody } else { Holder::Perhaps(number) };
            }
        }
    }

    fn check_owners(&mut self) {
        for owner in &mut self.owners {
            assert!(owner.is_running(), "guest {} has been ended", owner.number);
        }
    }

    /// By the kernel's word.
    fn check_locks(&self, world: &World) -> Result<(), String> {
        let locks = locks();
        for image in &self.images {
            let count = locks.get(&image.file).copied().unwrap_or(0);
            let is_right = match image.holder {
                Holder::Guest(_) => count == 1,
                Holder::Nobody => count == 0 || world.is_wrong(image.place),
                Holder::Perhaps(_) | Holder::Parked => count <= 1,
            };
            if !is_right {
                return Err(format!("there are {count} locks on {image:?}"));
            }
        }
        Ok(())
    }

    /// By trying.
    fn check_contender(&self, world: &World) {
        for image in self.images.iter().filter(|image| !world.is_wrong(image.place)) {
            if let Holder::Guest(_) = image.holder {
                let path = world.disk.path(image.place, &image.name);
                let path = path.to_str().expect("a path of ASCII");
                assert!(!is_free(path), "a stranger could lock {image:?}");
            }
        }
    }

    /// By the tool's word.
    fn check_listed(&self, world: &World) -> Result<(), String> {
        let Some(items) = listed(world) else { return Ok(()) };
        let is_stored = world.is_store_trusted() && !world.is_store_wrong();
        for image in &self.images {
            let path = world.disk.path(image.place, &image.name);
            let found = of_path(&items, &path);
            let is_right = match image.holder {
                Holder::Guest(number) => {
                    let owner = self.owners.iter().find(|owner| owner.number == number);
                    let pid = owner.map(Owner::pid);
                    // libvirt's daemon hands over no names of guests that are not connected.
                    let is_named = |item: &Value| {
                        item["domain"] == format!("guest{number}")
                            || (item["domain"] == "" && item["held_before"] == true)
                    };
                    matches!(found[..], [item] if is_named(item)
                        && item["pid"].as_u64() == pid.map(u64::from)
                        && item["inode"].as_u64() == Some(image.inode)
                        && item["lacks"].is_null()
                        && (!is_stored || item["in_fd_store"] == true))
                }
                Holder::Nobody => found.is_empty() || world.is_wrong(image.place),
                Holder::Perhaps(_) | Holder::Parked => found.len() <= 1,
            };
            if !is_right {
                return Err(format!("{image:?} is listed as {found:?}"));
            }
        }
        Ok(())
    }

    fn check_store(&self, world: &World) -> Result<(), String> {
        let stored = world.service.supervisor.stored();
        let claims = claims(&stored).ok_or("there is no complete journal")?;
        let names = stored.iter().map(|stored| stored.name.clone());
        let names: BTreeSet<_> = names.filter(|name| name.starts_with(['r', 'c'])).collect();
        // What was removed is removed when the supervisor can be asked, which takes two pipes.
        let may_have_more = world.has(Fault::FdLimit) && names.is_superset(&claims.names());
        if names != claims.names() && !may_have_more {
            return Err(format!("the store has {names:?}, the journal claims {claims:?}"));
        }
        for image in self.images.iter().filter(|image| matches!(image.holder, Holder::Guest(_))) {
            if world.service.stored_name('r', image.inode).is_none() {
                return Err(format!("the lease of {image:?} is not in the store"));
            }
        }
        for owner in self.owners.iter().filter(|owner| owner.is_connected) {
            if !is_connection_kept(&world.service, owner) {
                return Err(format!(
                    "the connection of guest {} is not in the store",
                    owner.number
                ));
            }
        }
        Ok(())
    }
}

impl Guests for Leases {
    fn process_has_ended(&mut self, world: &World, by: Signal) {
        let claims = claims(&world.service.supervisor.stored()).unwrap_or_default();
        let (mut ended, mut doubtful) = (BTreeSet::new(), BTreeSet::new());
        for image in &mut self.images {
            let name = world.service.stored_name('r', image.inode);
            if image.holder == Holder::Parked && name.is_none() {
                image.holder = Holder::Nobody;
            }
            let (Holder::Guest(number) | Holder::Perhaps(number)) = image.holder else { continue };
            let path = world.disk.path(image.place, &image.name);
            let owner = self.owners.iter().find(|owner| owner.number == number);
            let pid = owner.map_or(0, Owner::pid);
            if name.as_ref().is_some_and(|name| claims.has_lease(name, &path, pid)) {
                continue;
            }
            let is_certain = matches!(image.holder, Holder::Guest(_));
            assert!(
                !(is_certain && world.is_store_trusted()),
                "the lease of {image:?} is not in the store"
            );
            // With an old journal it may even be taken for another's.
            let is_parked = name.is_some();
            image.holder = if is_parked { Holder::Parked } else { Holder::Nobody };
            if is_certain { &mut ended } else { &mut doubtful }.insert(number);
        }
        if by == Signal::SIGTERM {
            self.expect_ended(world, &ended);
            self.see_ended(world, &doubtful);
        }
        for owner in &mut self.owners {
            let is_kept = owner.is_connected && is_connection_kept(&world.service, owner);
            assert!(
                is_kept || !owner.is_connected || !world.is_store_trusted(),
                "the connection of guest {} is not in the store",
                owner.number
            );
            owner.is_connected = is_kept;
        }
    }

    /// What is not known yet is known when its disk is well: the store has it, or nobody.
    fn process_has_begun(&mut self, _world: &World) {}

    fn libvirt_takes_over(&mut self, _world: &World) {}
}

impl Leases {
    /// Guests that were connected and held what is not in the store must not go on.
    fn expect_ended(&mut self, world: &World, numbers: &BTreeSet<u64>) {
        for &number in numbers {
            if self.owners.iter().any(|owner| owner.number == number && owner.is_connected) {
                let owner = self.owner(number);
                eventually_ok("a guest whose lease is lost is ended", patience(), || {
                    if owner.is_running() { Err(format!("guest {number}")) } else { Ok(()) }
                });
                self.owner_is_gone(world, number);
            }
        }
    }

    /// A guest of which nobody knows whether it had what is not in the store may have been ended.
    fn see_ended(&mut self, world: &World, numbers: &BTreeSet<u64>) {
        let ended = self.owners.iter_mut().filter(|owner| numbers.contains(&owner.number));
        let ended: Vec<_> =
            ended.filter_map(|owner| (!owner.is_running()).then_some(owner.number)).collect();
        ended.into_iter().for_each(|number| self.owner_is_gone(world, number));
    }
}

impl Walk for Leases {
    fn act(&mut self, world: &mut World, action: super::step::Action, number: u64) {
        self.perform(world, action, number);
    }

    fn before_event(&mut self) {}

    fn check(&mut self, world: &mut World) {
        self.settle(world);
        self.check_owners();
        eventually_ok("the kernel's locks are right", patience(), || self.check_locks(world));
        self.check_contender(world);
        eventually_ok("what is listed is right", patience(), || self.check_listed(world));
        if world.is_store_wrong() {
            return;
        }
        let hangs = world.has(Fault::DiskHangs);
        if world.is_store_trusted() && !hangs {
            eventually_ok("the store is as it should be", patience(), || self.check_store(world));
        } else if self.check_store(world).is_ok() {
            world.store_is_complete();
        }
    }

    fn is_stored(&self, world: &World) -> Result<(), String> {
        self.check_store(world)
    }

    fn finish(&mut self, world: &mut World) {
        while let Some(mut owner) = self.owners.pop() {
            owner.kill();
            self.owner_is_gone(world, owner.number);
        }
        eventually_ok("all leases are free", patience(), || self.check_locks(world));
        if !world.is_store_wrong() {
            eventually_ok("the store is empty", patience(), || self.check_store(world));
        }
    }
}

/// Whether the store has the daemon's end of an owner's connection, and the journal says so.
fn is_connection_kept(service: &Service, owner: &Owner) -> bool {
    let stored = service.supervisor.stored();
    let claims = claims(&stored).unwrap_or_default();
    stored.iter().filter(|stored| claims.has(&stored.name)).any(|stored| {
        let peer = getsockopt(&stored.fd.as_fd(), PeerCredentials);
        peer.is_ok_and(|peer| peer.pid().cast_unsigned() == owner.pid())
    })
}
