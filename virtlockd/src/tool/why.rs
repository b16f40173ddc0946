//! `virtlockctl why`: who holds an image.
//!
//! The image is opened only if neither the daemon nor the kernel knows of a lock on it. That is safe: this
//! is another process than the daemon, and closing a file ends no POSIX lock but those of the process that
//! closes it.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use common::query::{Lease, Proof, Reach};
use common::sys::errno::io_text;
use common::sys::file_id::FileId;
use common::sys::lock;
use common::tool::{Connect, Failure, escaped};
use nix::fcntl::OFlag;

use super::kernel::{self, Held};
use super::list::{mode, since};
use super::subject::{DAEMON, SUBJECT};

/// Image to be looked for.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Path of the image, or any other name of the same file or block device
    image: PathBuf,
}

/// Tells who holds an image. If the daemon does not tell, what the kernel knows is told all the same.
pub(crate) fn why(
    connect: &Connect,
    options: &Options,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let path = std::path::absolute(&options.image)?;
    let found = fs::metadata(&path);
    let (leases, failure) = match leases(connect, &path, found.as_ref().ok()) {
        Ok(leases) => (leases, None),
        Err(failure @ (Failure::Client(_) | Failure::Libvirt { .. })) => {
            (Vec::new(), Some(failure))
        }
        Err(failure) => return Err(failure),
    };
    let shown = escaped(&path.to_string_lossy());
    let file = match found {
        Ok(file) => Some(file),
        Err(_) if failure.is_some() => None,
        Err(error) if leases.is_empty() => {
            let text = format!("{shown}: {}, and no lease has that name", io_text(&error));
            return Err(match error.kind() {
                io::ErrorKind::NotFound => Failure::NotFound(text),
                _ => Failure::Other(text),
            });
        }
        Err(_) => None,
    };
    writeln!(out, "{shown}:")?;
    tell(&path, &leases, file.as_ref(), out)?;
    failure.map_or(Ok(()), Err)
}

/// Tells of leases on an image, and of the kernel's locks on it.
fn tell(
    path: &Path,
    leases: &[Lease],
    file: Option<&Metadata>,
    out: &mut impl Write,
) -> io::Result<()> {
    for lease in leases {
        writeln!(out, "  {}", of_lease(lease, path))?;
    }
    let (locks, unseen) = file.map(kernel::locks).unwrap_or_default();
    for held in &locks {
        writeln!(out, "  {}", of_lock(held, !leases.is_empty()))?;
    }
    if unseen.0 > 0 {
        writeln!(out, "  {unseen}")?;
    }
    let is_known = !leases.is_empty() || locks.iter().any(|held| held.lock.is_on_lease_byte());
    match file.filter(|_| !is_known) {
        Some(file) => writeln!(out, "  {}", elsewhere(path, file)),
        None => Ok(()),
    }
}

/// Returns the leases that have this name, or are of this file.
fn leases(connect: &Connect, path: &Path, file: Option<&Metadata>) -> Result<Vec<Lease>, Failure> {
    let id = file.map(FileId::of);
    let mut leases = Vec::new();
    connect.ask(DAEMON, SUBJECT, |daemon| {
        daemon.each(|lease: Lease| {
            let of_lease = FileId { device: lease.device, number: lease.inode };
            let is_meant = id == Some(of_lease) || path_of(&lease) == path;
            leases.extend(is_meant.then_some(lease));
            Ok::<_, Failure>(())
        })
    })?;
    Ok(leases)
}

fn path_of(lease: &Lease) -> &Path {
    Path::new(OsStr::from_bytes(&lease.path.0))
}

fn of_lease(lease: &Lease, path: &Path) -> String {
    let name = match path_of(lease) {
        same if same == path => String::new(),
        other => format!(", as {}", escaped(&other.to_string_lossy())),
    };
    let lacks = lease.lacks.as_ref().map(|lack| format!(", which lacks {}", escaped(lack)));
    format!(
        "{} lease of guest '{}' ({}, process {}) since {}{}{}{name}",
        mode(lease),
        escaped(&lease.domain.text()),
        escaped(&lease.uuid),
        lease.pid_here.unwrap_or(lease.pid),
        since(lease),
        lacks.unwrap_or_default(),
        of_reach(lease),
    )
}

/// Tells how far the lock of a lease on shared storage reaches, and whether it is known to be held.
fn of_reach(lease: &Lease) -> String {
    let Some(kind) = lease.file_system.as_ref().filter(|_| lease.reach == Reach::Shared) else {
        return String::new();
    };
    let proof = match lease.proof {
        Some(Proof::Proved) => "which is proved",
        Some(Proof::Unproved) => "which is not proved, as the server does not answer",
        Some(Proof::Doubtful) => "which may have been lost meanwhile",
        Some(Proof::Lost) => "which is lost",
        Some(Proof::Unknown) | None => "of which nobody tells whether it is lost",
    };
    format!(", shared by {}, {proof}", escaped(kind))
}

fn of_lock(Held { lock, holder }: &Held, has_lease: bool) -> String {
    let whose = match holder {
        Some((process, fd)) => format!("{process}, fd {fd}"),
        None => "a process that cannot be seen here".to_owned(),
    };
    let for_lease = if has_lease && lock.is_on_lease_byte() { ": the lease's" } else { "" };
    format!("{lock}, by {whose}{for_lease}")
}

/// Tells whether a file is locked by one that neither the daemon nor the kernel's lists know, which can
/// only be another host.
fn elsewhere(path: &Path, file: &Metadata) -> String {
    if !file.is_file() && !file.file_type().is_block_device() {
        return "not held; it is neither a file nor a block device".to_owned();
    }
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let opened = File::options().read(true).custom_flags(flags).open(path);
    match opened.and_then(lock::is_free) {
        Ok(true) => "not held, as far as this host can tell".to_owned(),
        Ok(false) => "held by another host, or by a process that cannot be seen here".to_owned(),
        Err(error) => {
            format!(
                "no lock is known here; whether another host has one cannot be told: {}",
                io_text(&error)
            )
        }
    }
}
