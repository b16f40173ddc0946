//! Somebody else who wants the leases.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Tries to lock leased images, without pause, by both kinds of lock.
#[derive(Debug)]
pub struct Contender {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    count: u64,
    won: Vec<String>,
}

impl Contender {
    /// Starts trying for each of `images`, none of which this process may have locks on.
    pub fn start(images: &[String]) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let (told, images) = (Arc::clone(&ending), images.to_vec());
        let thread = std::thread::spawn(move || {
            let mut attempts = Attempts::default();
            while !told.load(Ordering::Relaxed) {
                for image in &images {
                    attempts.count += 2;
                    if is_free(image) {
                        attempts.won.push(image.clone());
                    }
                }
            }
            attempts
        });
        Self { ending, thread }
    }

    /// Ends it, and checks that it has tried but never won.
    #[track_caller]
    pub fn finish(self) {
        self.ending.store(true, Ordering::Relaxed);
        let Attempts { count, won } = self.thread.join().expect("the contender's thread");
        assert!(count > 0, "the contender has not tried");
        assert!(won.is_empty(), "{} of {count} attempts won a lease: {won:?}", won.len());
    }
}

/// Whether the image could be locked by either kind of lock; that is given back at once.
///
/// # Panics
/// When the image cannot be opened.
pub fn is_free(image: &str) -> bool {
    let file = File::options().read(true).write(true).open(image).expect("opening an image");
    let range = libc::flock {
        l_type: libc::F_WRLCK.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    [FcntlArg::F_SETLK(&range), FcntlArg::F_OFD_SETLK(&range)].map(|command| {
        match fcntl(&file, command) {
            Ok(_) => true,
            Err(Errno::EAGAIN | Errno::EACCES) => false,
            Err(error) => panic!("locking {image}: {error}"),
        }
    }) != [false, false]
}
