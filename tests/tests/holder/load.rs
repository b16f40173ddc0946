//! Guests that would notice a loss: numbered lines on pipes, and leases that others want.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::guest::Guest;
use tests::harness::{Daemon, Host, eventually, eventually_within};
use tests::load::{Contender, Pace, Writer, is_free};
use tests::wire::LogClient;

/// Leases of a guest that holds some.
pub(crate) const LEASES_EACH: usize = 50;

/// Variable with the number of rounds, in which everything is as large as it may be.
const ROUNDS: &str = "VIRT_TESTS_RESTARTS";

/// How much there is to lose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Pipes that guests write to.
    pub(crate) logs: usize,
    /// Guests that hold leases.
    pub(crate) tenants: usize,
}

impl Size {
    /// Full load, for runs by hand.
    pub(crate) const FULL: Self = Self { logs: 50, tenants: 4 };

    /// This one in a test of ordinary length, and the full one if rounds are asked for.
    pub(crate) fn or_full(self) -> Self {
        if std::env::var_os(ROUNDS).is_some() { Self::FULL } else { self }
    }
}

/// Times that everything is killed, stopped and upgraded.
pub(crate) fn rounds() -> usize {
    let rounds = std::env::var(ROUNDS).ok();
    rounds.map_or(1, |text| text.parse().expect("a number of rounds"))
}

/// What is passed to one process must not go to another.
static TURN: Mutex<()> = Mutex::new(());

/// Has this test's processes alone: see [`tests::harness::Setup::pass`].
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processes of this executable in the mount namespace of another process, with their memory in KiB.
pub(crate) fn in_box(name: &str, other: &Daemon) -> Vec<(i32, u64)> {
    let namespace = fs::read_link(other.proc("ns/mnt")).expect("a mount namespace");
    let entries = fs::read_dir("/proc").expect("reading /proc").flatten();
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let link = |name: &str| fs::read_link(entry.path().join(name)).ok();
        let is_it = link("ns/mnt")? == namespace && link("exe")?.file_name()? == name;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib = kib.trim().trim_end_matches(" kB").parse().ok()?;
        is_it.then_some((pid, kib))
    });
    found.collect()
}

/// Kills the holder beside another process, and waits until the daemons have stored everything with
/// the next one: more than `fds_min` fds, and no more for a while.
pub(crate) fn kill_holder(other: &Daemon, fds_min: usize) {
    /// A daemon tries again once a second.
    const QUIET: Duration = Duration::from_secs(2);
    const PATIENCE: Duration = Duration::from_secs(30);
    let holder = || in_box("virtfdhold", other).first().map_or(0, |found| found.0);
    let before = holder();
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("killing a holder");
    let fds = || match holder() {
        0 => 0,
        pid if pid == before => 0,
        pid => fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
    };
    let mut found = 0;
    let has_them = eventually_within(PATIENCE, || {
        found = fds();
        found > fds_min && {
            sleep(QUIET);
            fds() == found
        }
    });
    let others = in_box("virtfdhold", other);
    let said = other.stderr();
    assert!(has_them, "no holder has more than {fds_min} fds, but {found}; {others:?}\n{said}");
}

/// Guests that write.
pub(crate) struct Logs(Vec<Writer>);

impl Logs {
    /// Opens all logs of the daemon at this socket.
    pub(crate) fn begin(host: &Host, socket: &Path) -> Self {
        Self::begin_at(&host.path("files"), socket, Size::FULL.logs)
    }

    /// Opens so many logs in this directory.
    pub(crate) fn begin_at(directory: &Path, socket: &Path, count: usize) -> Self {
        let mut client = LogClient::connect(socket).expect("connecting");
        // Slowly enough that nothing is rotated away meanwhile.
        let pace = if rounds() > 1 { Pace::Slow } else { Pace::Steady };
        let begin = |number: usize| {
            let path = directory.join(format!("{number}.log"));
            let pipe = client.open(&path).expect("opening a log").pipe;
            Writer::start(&path, pipe, pace)
        };
        Self((0..count).map(begin).collect())
    }

    /// Ends the guests; each log has all of its lines.
    #[track_caller]
    pub(crate) fn finish(self) {
        self.0.into_iter().for_each(Writer::finish);
    }
}

/// Guests that hold leases, and somebody who wants these.
pub(crate) struct Leases {
    tenants: Vec<(Guest, Vec<String>)>,
    contender: Contender,
}

impl Leases {
    /// Takes all leases of the daemon at this socket.
    pub(crate) fn begin(host: &Host, socket: &Path) -> Self {
        Self::begin_at(&host.path("files"), socket, Size::FULL.tenants)
    }

    /// Takes leases on images in this directory, by so many guests.
    pub(crate) fn begin_at(directory: &Path, socket: &Path, tenants: usize) -> Self {
        let image = |name: String| {
            let path = directory.join(name);
            fs::write(&path, "image").expect("an image");
            path.to_str().expect("a plain path").to_owned()
        };
        let begin = |tenant: usize| {
            let images = (0..LEASES_EACH).map(|lease| image(format!("{tenant}.{lease}.img")));
            let images: Vec<_> = images.collect();
            (Guest::start_with_leases(socket, &images), images)
        };
        let tenants: Vec<_> = (0..tenants).map(begin).collect();
        let all: Vec<_> = tenants.iter().flat_map(|(_, images)| images.clone()).collect();
        Self { tenants, contender: Contender::start(&all) }
    }

    /// Nobody else ever had one of the leases. They are free once their guests have ended.
    #[track_caller]
    pub(crate) fn finish(self) {
        self.contender.finish();
        for (mut guest, images) in self.tenants {
            assert!(guest.is_running(), "a guest with leases was ended");
            assert!(images.iter().all(|image| !is_free(image)), "a lease is free");
            guest.kill();
            let all_free = || images.iter().all(is_free);
            eventually("the leases of an ended guest are free", all_free);
        }
    }
}
