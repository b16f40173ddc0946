//! virtlogd with more guests that flood than it enlarges pipes for. libvirt's never does.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::fcntl::{FcntlArg, fcntl};
use tests::harness::{Daemon, SetAtEnd, Subject, eventually};

tests::ours! { Virtlogd:
    enlarged_pipes_share_a_limit_and_none_stays_large,
    pipes_that_were_enlarged_before_an_upgrade_count,
}

/// So many that their pipes would hold more than is allowed if all of them were enlarged.
const GUESTS: usize = 100;

/// Files so small that those of all guests take little space.
const CONFIG: &str = "max_size = 65536\nmax_backups = 1\n";

/// What a new pipe holds, the kernel's value.
const PIPE_BYTES: usize = 65_536;

/// What all enlarged pipes together may hold.
const ENLARGED_BYTES_MAX: usize = 32 << 20;

/// More than a pipe holds, however large.
const MUCH: usize = 2 << 20;

/// A guest that floods.
struct Guest {
    pipe: File,
    sent: AtomicUsize,
}

fn enlarged_pipes_share_a_limit_and_none_stays_large(subject: Subject) {
    let daemon = subject.setup().config(CONFIG).start();
    let guests = open(&daemon);
    while_flooding(&guests, || expect_large_pipes_within_the_limit(&guests));
    eventually("all pipes are small", || guests.iter().all(|it| it.pipe_bytes() == PIPE_BYTES));
}

fn pipes_that_were_enlarged_before_an_upgrade_count(subject: Subject) {
    let mut daemon = subject.setup().config(CONFIG).replaceable().start();
    let guests = open(&daemon);
    while_flooding(&guests, || {
        expect_large_pipes_within_the_limit(&guests);
        daemon.change_to(subject.whose);
        expect_large_pipes_within_the_limit(&guests);
    });
    eventually("all pipes are small", || guests.iter().all(|it| it.pipe_bytes() == PIPE_BYTES));
}

fn open(daemon: &Daemon) -> Vec<Guest> {
    let mut client = daemon.log_client();
    let open = |number| {
        let pipe = client.open(&daemon.file(&format!("{number}.log"))).unwrap().pipe;
        Guest { pipe, sent: AtomicUsize::new(0) }
    };
    (0..GUESTS).map(open).collect()
}

fn while_flooding(guests: &[Guest], test: impl FnOnce()) {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for guest in guests {
            scope.spawn(|| guest.flood(&ends));
        }
        let _end = SetAtEnd(&ends);
        test();
    });
}

/// Looks now and then, until every guest has written much more.
#[track_caller]
fn expect_large_pipes_within_the_limit(guests: &[Guest]) {
    let before: Vec<usize> = guests.iter().map(Guest::sent).collect();
    let mut most = 0;
    eventually("every guest gets on", || {
        most = most.max(enlarged_bytes(guests));
        guests.iter().zip(&before).all(|(guest, before)| guest.sent() > before + MUCH)
    });
    assert!(most > 0, "no pipe was enlarged");
    assert!(most <= ENLARGED_BYTES_MAX, "enlarged pipes hold {} MiB", most >> 20);
}

/// What those pipes hold that are large at two looks, and so all of them were in between.
fn enlarged_bytes(guests: &[Guest]) -> usize {
    let look = || guests.iter().map(Guest::pipe_bytes).collect::<Vec<_>>();
    let (first, second) = (look(), look());
    let both = first.into_iter().zip(second).map(|(first, second)| first.min(second));
    both.filter(|&bytes| bytes > PIPE_BYTES).sum()
}

impl Guest {
    fn flood(&self, ends: &AtomicBool) {
        let piece = "a line of a flood\n".repeat(400);
        while !ends.load(Ordering::Relaxed) {
            (&self.pipe).write_all(piece.as_bytes()).expect("the guest gets no error");
            self.sent.fetch_add(piece.len(), Ordering::Relaxed);
        }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn pipe_bytes(&self) -> usize {
        fcntl(&self.pipe, FcntlArg::F_GETPIPE_SZ).unwrap().try_into().unwrap()
    }
}
