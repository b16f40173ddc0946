//! The prober: a process that asks the servers of mounts, so that no thread of the daemon waits for
//! them.
//!
//! It has no lease and no file of a mount, only two pipes to the daemon. It ends with these. While a
//! server does not answer it may be that nothing can end it; nobody waits for it, and whatever it has
//! is of no use to others.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::sys::{mount, pipe, process};

use crate::proof::message::{LINE_BYTES_MAX, Order, Report, WatchedMount};
use crate::proof::nfs;
use crate::proof::rule::{Ms, period};

/// Bytes of a thread's stack.
const STACK_BYTES: usize = 128 * 1024;

/// Time between two looks for a lease time that the kernel does not tell.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// Runs the prober until the daemon closes its pipe.
pub(super) fn run() -> ExitCode {
    let mut orders = io::stdin().lock();
    let mut watched: HashMap<u64, Arc<AtomicBool>> = HashMap::new();
    loop {
        let mut line = String::new();
        match (&mut orders).take(LINE_BYTES_MAX as u64).read_line(&mut line) {
            Ok(0) | Err(_) => return ExitCode::SUCCESS,
            Ok(_) => {}
        }
        match Order::parse(&line) {
            Some(Order::Watch { number, mount }) => {
                let is_left = Arc::new(AtomicBool::new(false));
                let copy = Arc::clone(&is_left);
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                // Without a thread nothing is proved, and the daemon acts on that.
                if thread.spawn(move || ask_again_and_again(number, &mount, &copy)).is_ok() {
                    watched.insert(number, is_left);
                }
            }
            Some(Order::Leave { number }) => {
                let left = watched.remove(&number).into_iter();
                left.for_each(|is_left| is_left.store(true, Ordering::Relaxed));
            }
            None => return ExitCode::FAILURE,
        }
    }
}

/// Asks until the mount is left, or nobody listens any more.
fn ask_again_and_again(number: u64, mount: &WatchedMount, is_left: &AtomicBool) {
    while !is_left.load(Ordering::Relaxed) {
        let lease = lease(mount);
        let pause = match lease {
            Some((_, expired_s)) if expired_s > 0 && !tell(Report::Expired { number }) => return,
            Some((lease_ms, _)) => {
                let asked = process::boot_time_ms();
                let is_answered =
                    mount::ask_server(&mount.point).is_ok_and(|it| it == mount.device);
                let answered = process::boot_time_ms();
                let report = Report::Answered { number, asked, answered, lease_ms };
                if is_answered && !tell(report) {
                    return;
                }
                let taken = Duration::from_millis(answered.saturating_sub(asked));
                period(lease_ms).saturating_sub(taken)
            }
            None => RETRY_PERIOD,
        };
        process::pause(pause);
    }
}

/// Returns the lease time, and the seconds since which the kernel says that it has run out.
fn lease(mount: &WatchedMount) -> Option<(Ms, u64)> {
    if let Some(lease_ms) = mount.lease_ms {
        return Some((lease_ms, 0));
    }
    let lease = nfs::lease(&mount.point).ok().flatten()?;
    Some((lease.lease_ms, lease.expired_s))
}

/// Writes a report, in one piece. Returns whether somebody reads it.
fn tell(report: Report) -> bool {
    match pipe::write(io::stdout(), report.line().as_bytes()) {
        // The daemon is behind, and the next report says as much.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(()) => true,
    }
}
