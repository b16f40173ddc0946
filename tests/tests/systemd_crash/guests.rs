//! Guests that write logs and hold leases, and whom nothing must happen to.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tests::guest::{Guest, owner};
use tests::harness::{Program, eventually, eventually_within};
use tests::load::{Contender, Pace, Writer, is_free};
use tests::machine::{enable, main_socket, stored_count};
use tests::wire::{LockClient, LogClient};

/// How many of each there are, unless a test needs many.
const WRITERS: usize = 4;
const HOLDERS: usize = 4;

/// Room for all that is written while a test lasts.
const MANY_PARTS: &str = "max_size = 1048576\nmax_backups = 32\n";

/// A store that is being changed changes within this time.
const QUIET: Duration = Duration::from_millis(300);

#[test]
#[ignore = "not a test: other tests run it as a process of its own"]
fn stand_in() {
    tests::guest::stand_in();
}

/// Guests of one of the daemons.
pub(super) enum Guests {
    Logging(Vec<Writer>),
    Leasing(Holders),
}

impl Guests {
    /// Enables the daemon and starts guests.
    pub(super) fn start(program: Program) -> Self {
        fs::write("/etc/libvirt/virtlogd.conf", MANY_PARTS).unwrap();
        enable(program);
        match program {
            Program::Virtlogd => Self::Logging(start_writers()),
            Program::Virtlockd => Self::Leasing(Holders::start(HOLDERS, 2)),
        }
    }

    /// Has them write and keep what they have a little longer, then ends them: every line must be
    /// there, nobody else may have had a lease.
    pub(super) fn finish(self) {
        match self {
            Self::Logging(writers) => writers.into_iter().for_each(Writer::finish),
            Self::Leasing(holders) => holders.finish(),
        }
    }
}

fn start_writers() -> Vec<Writer> {
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let start = |number| {
        let path = PathBuf::from(format!("/srv/guest.{number}.log"));
        let pace = if number % 2 == 0 { Pace::Steady } else { Pace::Lines };
        Writer::start(&path, client.open(&path).unwrap().pipe, pace)
    };
    (0..WRITERS).map(start).collect()
}

/// Guests with leases, and somebody who wants them.
pub(super) struct Holders {
    guests: Vec<Guest>,
    images: Vec<String>,
    contender: Contender,
}

impl Holders {
    /// Guests with so many leases each; the last of them was taken later, as for a disk that was
    /// plugged in.
    pub(super) fn start(guests: usize, leases: usize) -> Self {
        let mut images = Vec::new();
        let guests = (0..guests)
            .map(|number| {
                let own: Vec<_> = (0..leases).map(|lease| image(number, lease)).collect();
                let guest = start_guest(&own);
                images.extend(own);
                guest
            })
            .collect();
        let contender = Contender::start(&images);
        Self { guests, images, contender }
    }

    /// The first guest, for clients that need somebody to take leases for.
    pub(super) fn any_pid(&self) -> u32 {
        self.guests[0].pid()
    }

    /// Checks that all is as it was, then ends the guests, which must free what they had.
    pub(super) fn finish(mut self) {
        self.contender.finish();
        for guest in &mut self.guests {
            assert!(guest.is_running(), "a guest was ended by {:?}", guest.ending());
            guest.tell("call");
        }
        let mut left = self.guests.pop().expect("there are guests");
        left.tell("leave");
        assert_eq!(left.ending(), Some(15), "a guest that leaves its leases is ended");
        self.guests.iter().for_each(Guest::kill);
        for image in &self.images {
            eventually("a dead guest's lease is free", || is_free(image));
        }
    }
}

/// A guest with leases on `images`, the last one taken by another process's connection.
pub(super) fn start_guest(images: &[String]) -> Guest {
    let socket = main_socket(Program::Virtlockd);
    let (late, own) = images.split_last().expect("there is an image");
    let guest = Guest::start_with_leases(&socket, own);
    let mut client = LockClient::connect(&socket).unwrap();
    client.register(&owner(guest.pid()), 0).unwrap();
    client.acquire("", late, 0).unwrap();
    guest
}

/// A disk image, new if there was none.
pub(super) fn image(guest: usize, number: usize) -> String {
    let path = format!("/srv/disk.{guest}.{number}.img");
    fs::write(&path, "").unwrap();
    path
}

/// Workspaces beside the first that the daemon keeps when jobs have run beside each other, and the fds
/// of each in the store.
const WORKSPACES_MAX: usize = 3;
const PIPE_FDS: usize = 2;

/// Whether virtlogd's store holds what it held with the daemon `idle`, and pipes of workspaces.
pub(super) fn holds_no_log(idle: usize) -> bool {
    let more = stored_count(Program::Virtlogd).checked_sub(idle);
    more.is_some_and(|more| more <= WORKSPACES_MAX * PIPE_FDS && more % PIPE_FDS == 0)
}

/// How many descriptors systemd keeps for a service, once that has not changed for a while.
pub(super) fn settled_store(program: Program) -> usize {
    let mut count = stored_count(program);
    eventually("the store is as it stays", || {
        let earlier = count;
        let changed = || {
            count = stored_count(program);
            count != earlier
        };
        !eventually_within(QUIET, changed)
    });
    count
}
