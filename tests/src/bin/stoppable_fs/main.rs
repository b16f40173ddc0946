//! A file system that hangs when it is told to: a directory shown through FUSE by a process that
//! can be stopped (`SIGSTOP`) and continued.
//!
//! `stoppable_fs BACKING MOUNTPOINT` mounts and serves until it is killed or unmounted. It speaks
//! to `/dev/fuse` itself, so that nothing needs to be installed, and it knows no more than logs and
//! leases need: files, directories, renaming, removing. Nothing is cached by the kernel, so that
//! every call on the file system comes here.

mod server;
mod wire;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [backing, mountpoint] = arguments.as_slice() else {
        eprintln!("usage: stoppable_fs BACKING MOUNTPOINT");
        return ExitCode::from(2);
    };
    match run(Path::new(backing), Path::new(mountpoint)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stoppable_fs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(backing: &Path, mountpoint: &Path) -> std::io::Result<()> {
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
    server::Server::new(backing).serve(&device)
}
