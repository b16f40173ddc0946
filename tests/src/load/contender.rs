//! Somebody else who wants the leases.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How long it tries without a pause, and how long that is: else nobody else would get on.
const SPELL: Duration = Duration::from_millis(2);

/// Tries to lock leased images by both kinds of lock.
#[derive(Debug)]
pub struct Contender {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    count: u64,
    won_count: u64,
    /// Each of them once.
    won: BTreeSet<String>,
}

impl Contender {
    /// Starts trying for each of `images`, none of which this process may have locks on.
    pub fn start(images: &[String]) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let (told, images) = (Arc::clone(&ending), images.to_vec());
        let thread = std::thread::spawn(move || {
            let mut attempts = Attempts::default();
            // Once at the least, however late the thread comes to it.
            loop {
                let start = Instant::now();
                while start.elapsed() < SPELL {
                    images.iter().for_each(|image| attempts.attempt(image));
                }
                if told.load(Ordering::Relaxed) {
                    return attempts;
                }
                std::thread::sleep(SPELL);
            }
        });
        Self { ending, thread }
    }

    /// Ends it, and checks that it has tried but never won.
    #[track_caller]
    pub fn finish(self) {
        self.ending.store(true, Ordering::Relaxed);
        let Attempts { count, won_count, won } =
            self.thread.join().expect("the contender's thread");
        assert!(count > 0, "the contender has not tried");
        assert!(won.is_empty(), "{won_count} of {count} attempts won a lease: {won:?}");
    }
}

impl Attempts {
    fn attempt(&mut self, image: &str) {
        self.count += 2;
        if is_free(image) {
            self.won_count += 1;
            self.won.insert(image.to_owned());
        }
    }
}

/// The bytes of an image that a lease locks, to be locked exclusively.
///
/// # Panics
/// Never: the lock's type fits.
pub fn lease_range() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

/// Whether the image could be locked by either kind of lock; that is given back at once.
///
/// # Panics
/// When the image cannot be opened.
pub fn is_free(image: impl AsRef<Path>) -> bool {
    let file = File::options().read(true).write(true).open(&image).expect("opening an image");
    let range = lease_range();
    [FcntlArg::F_SETLK(&range), FcntlArg::F_OFD_SETLK(&range)].map(|command| {
        match fcntl(&file, command) {
            Ok(_) => true,
            Err(Errno::EAGAIN | Errno::EACCES) => false,
            Err(error) => panic!("locking {}: {error}", image.as_ref().display()),
        }
    }) != [false, false]
}
