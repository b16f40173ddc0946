//! One walk, from its first step to the last.

use std::path::Path;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::leases::Leases;
use super::logs::Logs;
use super::plan::STORE_FDS;
use super::step::{Action, Step};
use super::world::{Guests, World};
use crate::harness::{Host, Program, Subject, Whose, eventually_within};
use crate::supervisor::{Service, patience};

/// A daemon has no more fds at the end than in the beginning, but for this many: spare ones.
const FDS_MORE_MAX: usize = 8;

/// The same of KiB of memory.
const KIB_MORE_MAX: u64 = 4_096;

/// Small enough to be rotated now and then, large enough for nothing to be rotated away.
const CONFIGURATION: &str = "max_size = 4194304\nmax_backups = 30\n";

/// How long the store may take until it is complete without a nudge.
const REFILL_PERIOD: Duration = Duration::from_millis(1_500);

/// Those who live through a walk, and know what they are owed.
pub(super) trait Walk: Guests {
    /// Something is done.
    fn act(&mut self, world: &mut World, action: Action, number: u64);

    /// Something is about to become of the process.
    fn before_event(&mut self);

    /// Checks all that can be told now.
    fn check(&mut self, world: &mut World);

    /// Whether all that was promised is in the store.
    ///
    /// # Errors
    /// Says what is not.
    fn is_stored(&self, world: &World) -> Result<(), String>;

    /// Checks all that has to be in the end, when nothing is wrong any more, and leaves.
    fn finish(&mut self, world: &mut World);
}

/// Walks, in namespaces that are private already. Says on standard output how far it is.
///
/// # Panics
/// When something is not as it has to be.
pub(super) fn walk(program: Program, steps: &[Step], file_system: &Path) {
    let host = Host::new();
    let told = steps.iter().find_map(|step| match step {
        Step::Store(fds) => Some(*fds),
        _ => None,
    });
    let told = told.unwrap_or(STORE_FDS);
    let subject = Subject { whose: Whose::Ours, program };
    if program == Program::Virtlogd {
        drop(subject.setup_on(&host).config(CONFIGURATION));
    }
    let disk = Disk::mount(&host, file_system);
    let service = Service::start(program, &host, told);
    let mut world = World::new(&host, service, disk, told < STORE_FDS);
    match program {
        Program::Virtlogd => go(&mut world, &mut Logs::default(), steps),
        Program::Virtlockd => {
            let mut leases = Leases::new(&world);
            go(&mut world, &mut leases, steps);
        }
    }
}

fn go(world: &mut World, guests: &mut impl Walk, steps: &[Step]) {
    let before = Usage::of(world);
    for (number, step) in steps.iter().enumerate() {
        println!("STEP {number} {step}");
        match *step {
            Step::Store(_) => {}
            Step::Act(action, number) => guests.act(world, action, number),
            Step::Begin(fault, number) => world.begin(fault, number),
            Step::End(fault) => world.end(fault),
            Step::Event(event, number) => {
                guests.before_event();
                world.event(event, number, guests);
            }
        }
        guests.check(world);
    }
    println!("STEP {} all is well again", steps.len());
    world.end_all();
    guests.check(world);
    if !world.is_store_wrong() {
        expect_stored(world, guests);
    }
    guests.finish(world);
    expect_flat(world, &before);
    println!("PASSED");
}

/// What could not be stored for a while is stored at the next upgrade, at the latest.
fn expect_stored(world: &mut World, guests: &mut impl Walk) {
    if eventually_within(REFILL_PERIOD, || guests.is_stored(world).is_ok()) {
        return world.store_is_complete();
    }
    world.nudge();
    eventually_ok("the store is complete in the end", patience(), || guests.is_stored(world));
    world.store_is_complete();
}

#[derive(Debug)]
struct Usage {
    fds: usize,
    kib: u64,
}

impl Usage {
    fn of(world: &World) -> Self {
        let daemon = world.service.daemon();
        Self { fds: daemon.fd_count(), kib: daemon.memory_kib("VmRSS") }
    }
}

fn expect_flat(world: &World, before: &Usage) {
    eventually_ok("fds and memory are as in the beginning", patience(), || {
        let now = Usage::of(world);
        let is_flat = now.fds <= before.fds + FDS_MORE_MAX && now.kib <= before.kib + KIB_MORE_MAX;
        if is_flat { Ok(()) } else { Err(format!("{before:?} became {now:?}")) }
    });
}

/// Waits until something is as it should be.
///
/// # Panics
/// When it does not come about, with the last word about it.
#[track_caller]
pub(super) fn eventually_ok(
    what: &str,
    patience: Duration,
    mut check: impl FnMut() -> Result<(), String>,
) {
    const PAUSE: Duration = Duration::from_millis(3);
    let end = Instant::now() + patience;
    loop {
        let Err(reason) = check() else { return };
        assert!(Instant::now() < end, "{what}: {reason}");
        std::thread::sleep(PAUSE);
    }
}
