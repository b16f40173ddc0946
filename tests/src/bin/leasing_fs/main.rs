//! A file system of two hosts, whose server gives a lock away when its lease has run out, to the
//! millisecond: a directory that is mounted twice, once for each host.
//!
//! `leasing_fs BACKING FIRST SECOND CUT LEASE_MS` mounts it at `FIRST` and `SECOND`. While a file `CUT`
//! is there the first host is cut off: the server neither hears nor answers it. The lease of the
//! first host runs out when the server has not heard of it for `LEASE_MS`; a lock of it is then given
//! to the second host as soon as that asks. The time at which it was heard last goes into the file
//! `CUT.heard`, in milliseconds since boot.
//!
//! `leasing_fs guest TRACE` is a guest: it appends numbered blocks with the time to a file, a block a
//! millisecond.

// What a directory is shown by.
#[path = "../stoppable_fs/faults.rs"]
mod faults;
mod guest;
mod locks;
#[path = "../stoppable_fs/server.rs"]
mod server;
#[path = "../stoppable_fs/wire.rs"]
mod wire;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::locks::{Host, Locks};

/// Time between two looks whether the first host is cut off.
const LOOK_PERIOD: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match arguments.as_slice() {
        [word, trace] if word == "guest" => guest::run(Path::new(trace)),
        [backing, first, second, cut, lease_ms] => serve(backing, [first, second], cut, lease_ms),
        _ => Err(io::Error::other("usage: leasing_fs BACKING FIRST SECOND CUT LEASE_MS")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leasing_fs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(
    backing: &OsString,
    [first, second]: [&OsString; 2],
    cut: &OsString,
    lease_ms: &OsString,
) -> io::Result<()> {
    let lease_ms = lease_ms.to_str().and_then(|text| text.parse().ok());
    let lease_ms = lease_ms.ok_or_else(|| io::Error::other("a lease time in milliseconds"))?;
    let locks = Arc::new(Mutex::new(Locks::new(lease_ms)));
    let backing = PathBuf::from(backing);
    let (first, second) = (mounted(first)?, mounted(second)?);
    let (of_first, of_second) = (Arc::clone(&locks), locks);
    let (cut, backing_of_first) = (PathBuf::from(cut), backing.clone());
    let heard = cut.with_extension("heard");
    std::thread::spawn(move || {
        let serving = server(&backing_of_first).serve(&first, |request| {
            // What is sent while the link is cut has not been heard.
            while cut.exists() {
                std::thread::sleep(LOOK_PERIOD);
            }
            of_first.lock().expect("sound").answer(Host::First, request)
        });
        eprintln!("leasing_fs: {serving:?}");
    });
    server(&backing).serve(&second, |request| {
        let mut locks = of_second.lock().expect("sound");
        let answer = locks.answer(Host::Second, request);
        if let Some(at) = locks.take_given_away() {
            // Read by the test once the second host has the lock.
            fs::write(&heard, at.to_string()).expect("telling when the host was heard");
        }
        answer
    })
}

fn server(backing: &Path) -> server::Server {
    server::Server::new(backing, faults::Faults::new(None))
}

fn mounted(mountpoint: &OsString) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let kind = Some("fuse.leasing");
    mount(Some("leasing"), Path::new(mountpoint), kind, MsFlags::empty(), Some(&*options))?;
    Ok(device)
}
