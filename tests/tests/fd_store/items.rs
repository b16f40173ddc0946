//! What either daemon keeps for others: logs and leases, as far as they are alike.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{Host, Subject, eventually, expect_file, inode};
use tests::load::is_free;
use tests::supervisor::{Origin, Service, claims};
use tests::wire::{ACQUIRE_SHARED, LockClient, Owner};

/// More than any of these tests needs.
pub(crate) const LARGE: usize = 400;

/// What is passed to one process must not go to another.
static TURN: Mutex<()> = Mutex::new(());

/// A service, and nobody else's processes beside it.
///
/// The supervisor is a thread of this process: a process that is started while it refuses an fd has a
/// copy of that for a moment, as if it were stored. So all managers' leases are for one guest, who is
/// there before anything is stored.
pub(crate) struct Scene {
    service: Service,
    pub(crate) guest: Child,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    /// A service whose store is said to take `told` fds.
    pub(crate) fn begin(subject: Subject, told: usize) -> Self {
        Self::begin_from(Origin::default(), subject, told)
    }

    pub(crate) fn begin_from(origin: Origin, subject: Subject, told: usize) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let guest = Command::new("sleep").arg("600").spawn().expect("starting a guest");
        let service = Service::start_from(origin, subject.program, &Host::new(), told);
        Self { service, guest, _turn: turn }
    }

    /// So many items.
    pub(crate) fn items<T: Item>(&self, count: usize) -> Vec<T> {
        (0..count).map(|number| T::begin(self, &format!("i{number}"))).collect()
    }

    /// Waits until all of these are in the store.
    #[track_caller]
    pub(crate) fn expect_stored<T: Item>(&self, items: &[T]) {
        eventually("everything is in the store", || items.iter().all(|item| item.is_stored(self)));
    }

    /// Has the process killed and another one started.
    pub(crate) fn kill_and_start(&mut self) {
        self.service.restart(Signal::SIGKILL);
    }

    /// Has the process stopped and another one started.
    pub(crate) fn stop_and_start(&mut self) {
        self.service.restart(Signal::SIGTERM);
    }

    /// The inodes of what is in the store under names with one of these letters.
    pub(crate) fn inodes(&self, letters: &str) -> BTreeSet<u64> {
        let stored = self.supervisor.stored().into_iter();
        let stored = stored.filter(|stored| letters.contains(&stored.name[..1]));
        let file = |fd: &OwnedFd| File::from(fd.try_clone().expect("a copy"));
        stored.map(|stored| file(&stored.fd).metadata().expect("its inode").ino()).collect()
    }

    /// The names in the store that begin with one of these letters.
    pub(crate) fn names(&self, letters: &str) -> Vec<String> {
        let names = self.supervisor.names().into_iter();
        names.filter(|name| letters.contains(&name[..1])).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Whatever has become of it.
        self.guest.kill().ok();
        self.guest.wait().ok();
    }
}

impl Deref for Scene {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// A log or a lease.
pub(crate) trait Item: Sized + Send {
    /// A new one.
    fn begin(scene: &Scene, name: &str) -> Self;

    /// Whether the store has it, and the journal says so.
    fn is_stored(&self, service: &Service) -> bool;

    /// Whoever depends on it can go on.
    fn expect_going_on(&mut self);

    /// Whether it has ended as it does without a store, all that was owed being done.
    fn has_ended(&mut self) -> bool;

    /// Whoever depends on it needs it no more.
    fn leave(self, scene: &Scene);
}

/// All of these go on.
#[track_caller]
pub(crate) fn expect_all_going_on<T: Item>(items: &mut [T]) {
    items.iter_mut().for_each(Item::expect_going_on);
}

/// How long nothing changes in a store that has settled.
const SETTLED_PERIOD: Duration = Duration::from_millis(500);

/// Waits until nothing changes in the store. What did not fit at first is offered again as places come
/// free.
pub(crate) fn settle(service: &Service) {
    let mut names = service.supervisor.names();
    let mut since = Instant::now();
    while since.elapsed() < SETTLED_PERIOD {
        thread::sleep(Duration::from_millis(10));
        let now = service.supervisor.names();
        if now != names {
            (names, since) = (now, Instant::now());
        }
    }
}

/// Those that are in the store, and those that are not.
pub(crate) fn parted<T: Item>(service: &Service, items: Vec<T>) -> (Vec<T>, Vec<T>) {
    settle(service);
    let (stored, others): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| item.is_stored(service));
    assert!(!stored.is_empty() && !others.is_empty(), "{} fit, not some", stored.len());
    (stored, others)
}

/// Whether the store has an fd of this inode, and the journal says of what it is.
pub(crate) fn is_stored_as(service: &Service, letter: char, inode: u64, path: &Path) -> bool {
    let name = service.stored_name(letter, inode);
    let claims = claims(&service.supervisor.stored()).unwrap_or_default();
    name.is_some_and(|name| claims.has_log(&name, path))
}

/// A guest's log.
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    pub(crate) pipe: File,
    pub(crate) sent: String,
}

impl Log {
    /// Writes a line; whether the guest can.
    pub(crate) fn write_line(&mut self) -> bool {
        let line = format!("line {}\n", self.sent.len());
        let is_written = self.pipe.write_all(line.as_bytes()).is_ok();
        if is_written {
            self.sent.push_str(&line);
        }
        is_written
    }
}

impl Item for Log {
    fn begin(scene: &Scene, name: &str) -> Self {
        let path = scene.daemon().file(name);
        let pipe = scene.daemon().log_client().open(&path).expect("opening a log").pipe;
        Self { path, pipe, sent: String::new() }
    }

    fn is_stored(&self, service: &Service) -> bool {
        let inode = self.pipe.metadata().expect("the pipe's metadata").ino();
        is_stored_as(service, 'l', inode, &self.path)
    }

    #[track_caller]
    fn expect_going_on(&mut self) {
        assert!(self.write_line(), "the pipe of {} is broken", self.path.display());
        expect_file(&self.path, &self.sent);
    }

    #[track_caller]
    fn has_ended(&mut self) -> bool {
        expect_file(&self.path, &self.sent);
        !self.write_line()
    }

    fn leave(self, scene: &Scene) {
        let path = self.path;
        drop(self.pipe);
        eventually("the log is closed", || scene.daemon().log_client().position(&path).is_err());
    }
}

/// A lease that a manager has taken for a guest.
pub(crate) struct Lease {
    pub(crate) image: String,
}

impl Item for Lease {
    fn begin(scene: &Scene, name: &str) -> Self {
        let image = image(scene, name);
        let acquired = client_for(scene, scene.guest.id()).acquire("", &image, ACQUIRE_SHARED);
        acquired.expect("acquiring a lease");
        Self { image }
    }

    fn is_stored(&self, service: &Service) -> bool {
        let path = self.image.as_ref();
        is_stored_as(service, 'r', inode(path), path)
    }

    #[track_caller]
    fn expect_going_on(&mut self) {
        assert!(!is_free(&self.image), "{} is free", self.image);
    }

    fn has_ended(&mut self) -> bool {
        is_free(&self.image)
    }

    fn leave(self, scene: &Scene) {
        let released = client_for(scene, scene.guest.id()).release("", &self.image, 0);
        released.expect("releasing a lease");
    }
}

/// A connection registered for this process.
pub(crate) fn client_for(service: &Service, pid: u32) -> LockClient {
    let mut client = service.daemon().lock_client();
    client.register(&Owner::of(pid), 0).expect("registering");
    client
}

/// A file to take leases on.
pub(crate) fn image(service: &Service, name: &str) -> String {
    let path = service.daemon().file(name);
    fs::write(&path, "").expect("making an image");
    path.into_os_string().into_string().expect("a path of ASCII")
}
