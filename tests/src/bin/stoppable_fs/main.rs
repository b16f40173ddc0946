//! A file system that hangs when it is told to: a directory shown through FUSE by a process that
//! can be stopped (`SIGSTOP`) and continued.
//!
//! `stoppable_fs BACKING MOUNTPOINT [CONTROL]` mounts and serves until it is killed or unmounted. It speaks
//! to `/dev/fuse` itself, so that nothing needs to be installed, and it knows no more than logs and
//! leases need: files, directories, renaming, removing. Nothing is cached by the kernel, so that
//! every call on the file system comes here. What else may be wrong with it stands in the file
//! `CONTROL`.

mod faults;
mod server;
mod wire;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (backing, mountpoint, control) = match arguments.as_slice() {
        [backing, mountpoint] => (backing, mountpoint, None),
        [backing, mountpoint, control] => (backing, mountpoint, Some(PathBuf::from(control))),
        _ => {
            eprintln!("usage: stoppable_fs BACKING MOUNTPOINT [CONTROL]");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(backing), Path::new(mountpoint), control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stoppable_fs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(backing: &Path, mountpoint: &Path, control: Option<PathBuf>) -> std::io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(
        Some("stoppable"),
        mountpoint,
        Some("fuse.stoppable"),
        MsFlags::empty(),
        Some(&*options),
    )?;
    let faults = faults::Faults::new(control);
    server::Server::new(backing, faults).serve(&device, |_| None)
}
