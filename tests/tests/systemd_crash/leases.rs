//! virtlockd killed at random moments while guests hold leases, others want them, owners die, and
//! clients take leases and give them back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::guest::{Guest, owner};
use tests::harness::{Program, eventually};
use tests::load::{Contender, is_free};
use tests::machine::{enable, expect_property, main_socket, service, stored_count};
use tests::wire::{LockClient, Owner};

use super::guests::{Holders, image, settled_store, start_guest};
use super::kills::{Kills, count};

tests::on_machine! { Ours:
    no_lease_is_lost_or_left_after_many_kills,
}

/// Guests that live on, with 200 leases together.
const GUESTS: usize = 50;
const LEASES_PER_GUEST: usize = 4;

/// Every how many kills a guest dies.
const KILLS_PER_DEATH: usize = 4;

/// Clients that take leases and give them back.
const RENTERS: usize = 3;

/// How long a dead guest's lease may be held once the daemon serves.
const GHOST_MAX: Duration = Duration::from_secs(1);

fn no_lease_is_lost_or_left_after_many_kills() {
    enable(Program::Virtlockd);
    drop(start_guest(&[image(0, 0)]));
    let idle = settled_store(Program::Virtlockd);
    let holders = Holders::start(GUESTS, LEASES_PER_GUEST);
    let renters: Vec<_> = (0..RENTERS).map(|number| Renter::start(&holders, number)).collect();
    let mut mortal = Mortal::start(0);
    let mut kills = Kills::of(Program::Virtlockd);
    let mut longest = Duration::ZERO;
    for number in 1..=count() {
        kills.wait();
        let dies = number % KILLS_PER_DEATH == 0;
        if dies && kills.random().below(2) == 0 {
            mortal.die();
            kills.strike();
        } else {
            kills.strike();
            // While nobody is there.
            dies.then(|| mortal.die());
        }
        if dies {
            longest = longest.max(mortal.expect_free());
            mortal = Mortal::start(number);
        }
    }
    kills.finish(count());
    println!("a dead guest's lease was free after {longest:?} at the latest");
    let leases: u64 = renters.into_iter().map(Renter::finish).sum();
    println!("{leases} leases were taken and given back meanwhile");
    mortal.die();
    mortal.expect_free();
    holders.finish();
    eventually("nothing stays in the store", || stored_count(Program::Virtlockd) == idle);
}

/// A guest that will die.
struct Mortal {
    guest: Guest,
    images: Vec<String>,
    contender: Option<Contender>,
}

impl Mortal {
    fn start(number: usize) -> Self {
        let images: Vec<_> = (0..2).map(|lease| image(1000 + number, lease)).collect();
        // The daemon lives until it is killed again.
        let guest = start_guest(&images);
        let contender = Some(Contender::start(&images));
        Self { guest, images, contender }
    }

    fn die(&mut self) {
        self.contender.take().expect("it dies once").finish();
        self.guest.kill();
        assert_eq!(self.guest.ending(), Some(9));
    }

    /// Waits until what it had is free; how long that took from the moment the daemon served.
    fn expect_free(&self) -> Duration {
        expect_property(&service(Program::Virtlockd), "ActiveState", "active");
        let start = Instant::now();
        eventually("its leases are free", || self.images.iter().all(is_free));
        let time = start.elapsed();
        assert!(time < GHOST_MAX, "a dead guest's lease was held for {time:?}");
        time
    }
}

/// A client like libvirtd that takes and gives back a lease for a guest, each time on a new
/// connection; when one is lost it makes another.
struct Renter {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Renter {
    fn start(holders: &Holders, number: usize) -> Self {
        let (image, owner) = (image(2000, number), owner(holders.any_pid()));
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            let mut leases = 0;
            while !told.load(Ordering::Relaxed) {
                leases += u64::from(rent(&owner, &image).is_ok());
            }
            rent(&owner, &image).expect("nobody kills the daemon any more");
            leases
        });
        Self { ending, thread }
    }

    /// How many times it had the lease, which is free now.
    fn finish(self) -> u64 {
        self.ending.store(true, Ordering::Relaxed);
        let leases = self.thread.join().expect("what it was told of its lease was true");
        assert!(leases > 0, "a client never got its lease");
        leases
    }
}

/// Takes the lease and gives it back. What was answered counts, whatever happens afterwards.
///
/// # Errors
/// The answer to a call was lost with the connection, and with it what the caller knows.
fn rent(owner: &Owner, image: &str) -> io::Result<()> {
    // What an earlier call that was not answered may have taken.
    let leftover = connect(owner)?.try_release(image)?;
    assert!(leftover.is_err() || is_free(image), "given back, but still held");
    connect(owner)?.try_acquire(image)?.expect("it is free");
    assert!(!is_free(image), "taken, but not held");
    let released = connect(owner).and_then(|mut client| client.try_release(image));
    released?.expect("it is ours");
    assert!(is_free(image), "given back, but still held");
    Ok(())
}

fn connect(owner: &Owner) -> io::Result<LockClient> {
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd))?;
    client.try_register(owner)?.expect("registering");
    Ok(client)
}
