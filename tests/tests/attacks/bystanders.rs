//! Those who have nothing to do with an attack: a guest with a log or with a lease, and its clients.

use std::fs;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tests::harness::{Daemon, Program, Subject, eventually, eventually_within};
use tests::wire::{LockClient, LogClient, Owner};

/// How long one of a hundred lines or calls of others may take at most: no attack stops others. On an
/// idle machine with two processors it is a tenth of this; fuzzing runs beside the suite.
const P99_MAX: Duration = Duration::from_secs(2);

/// Memory that may stay behind.
const GROWTH_MAX_KIB: u64 = 4096;

/// Descriptors of pipes that are kept for jobs which run beside others.
const SPARE_FDS_MAX: usize = 12;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a daemon is attacked at least.
const ATTACK_PERIOD: Duration = Duration::from_secs(2);

/// Time between two lines or calls.
const PERIOD: Duration = Duration::from_millis(4);

/// Calls before anything is measured, so that memory and threads are there.
const WARM_UP: usize = 20;

/// Attacks take turns, as others are to notice one at a time.
static ONE_ATTACK: Mutex<()> = Mutex::new(());

/// Starts a daemon that can write nowhere but in its scratch directory. It refuses to start otherwise.
pub(crate) fn start(subject: Subject) -> Daemon {
    start_with(subject, "")
}

/// Starts one with this configuration.
pub(crate) fn start_with(subject: Subject, config: &str) -> Daemon {
    subject.setup().confined().config(config).start()
}

/// Attacks the daemon, and expects that others are served in time all the while, and that afterwards
/// nothing is left of it.
#[track_caller]
pub(crate) fn expect_unharmed(daemon: &mut Daemon, attack: impl Fn(&Daemon)) {
    let _alone = ONE_ATTACK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bystander = Bystander::new(daemon);
    for _ in 0..WARM_UP {
        bystander.act().expect("it is served");
    }
    let (fds, memory_kib) = (daemon.fd_count(), daemon.memory_kib("VmRSS"));
    let is_over = AtomicBool::new(false);
    let periods = thread::scope(|scope| {
        let measuring = scope.spawn(|| bystander.act_until(&is_over));
        let attacked = panic::catch_unwind(AssertUnwindSafe(|| attack_for_a_while(daemon, attack)));
        is_over.store(true, Ordering::Relaxed);
        let periods = measuring.join().expect("others are served");
        attacked.unwrap_or_else(|panic| panic::resume_unwind(panic));
        periods
    });
    let p99 = percentile_99(periods);
    println!("one of a hundred waited {p99:?}");
    assert!(p99 < P99_MAX, "one of a hundred waited {p99:?}: {}", daemon.stderr());
    assert!(daemon.is_running(), "it has ended: {}", daemon.stderr());
    eventually("descriptors are closed", || daemon.fd_count() <= fds + SPARE_FDS_MAX);
    let after_kib = || daemon.memory_kib("VmRSS");
    let is_given_back = eventually_within(PATIENCE, || after_kib() <= memory_kib + GROWTH_MAX_KIB);
    assert!(is_given_back, "{memory_kib} KiB before, {} after", after_kib());
    let said = daemon.stderr();
    assert!(!said.contains("panicked"), "{said}");
}

/// Again and again, so that there are enough lines and calls of others.
fn attack_for_a_while(daemon: &Daemon, attack: impl Fn(&Daemon)) {
    let begun = Instant::now();
    while begun.elapsed() < ATTACK_PERIOD {
        attack(daemon);
    }
}

enum Bystander {
    /// A guest with a log, and a client that asks for its position.
    Log { path: PathBuf, pipe: fs::File, lines: usize, client: LogClient },
    /// A guest that takes and gives back a lease.
    Lease { image: String, client: LockClient, guest: Child },
}

impl Bystander {
    fn new(daemon: &Daemon) -> Self {
        match daemon.subject().program {
            Program::Virtlogd => {
                let (path, mut client) = (daemon.file("bystander.log"), daemon.log_client());
                let pipe = client.open(&path).unwrap().pipe;
                Self::Log { path, pipe, lines: 0, client }
            }
            Program::Virtlockd => {
                let image = daemon.file("bystander.img");
                fs::write(&image, "").unwrap();
                let mut client = daemon.lock_client();
                let guest = Command::new("sleep").arg("1000").spawn().unwrap();
                client.register(&Owner::of(guest.id()), 0).unwrap();
                Self::Lease { image: image.to_str().unwrap().to_owned(), client, guest }
            }
        }
    }

    /// Returns how long each line or call took.
    fn act_until(&mut self, is_over: &AtomicBool) -> Vec<Duration> {
        let mut periods = Vec::new();
        // Attacks are over soon on some machines.
        while !is_over.load(Ordering::Relaxed) || periods.len() < WARM_UP {
            periods.push(self.act().expect("others are served"));
            thread::sleep(PERIOD);
        }
        periods
    }

    fn act(&mut self) -> io::Result<Duration> {
        let begun = Instant::now();
        match self {
            Self::Log { path, pipe, lines, client } => {
                pipe.write_all(b"line\n")?;
                *lines += 1;
                let written = *lines as u64 * 5;
                wait_for_size(path, written);
                assert_eq!(client.position(path).unwrap().offset, written);
            }
            Self::Lease { image, client, .. } => {
                client.acquire("", image, 0).unwrap();
                client.release("", image, 0).unwrap();
            }
        }
        Ok(begun.elapsed())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        if let Self::Lease { guest, .. } = self {
            guest.kill().expect("the guest is ours");
            guest.wait().expect("it is a child");
        }
    }
}

fn wait_for_size(path: &Path, bytes: u64) {
    const PAUSE: Duration = Duration::from_micros(200);
    const PATIENCE: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    while fs::metadata(path).map_or(0, |found| found.len()) < bytes {
        assert!(begun.elapsed() < PATIENCE, "no line for {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
}

fn percentile_99(mut periods: Vec<Duration>) -> Duration {
    periods.sort_unstable();
    periods[(periods.len() * 99 / 100).min(periods.len() - 1)]
}
