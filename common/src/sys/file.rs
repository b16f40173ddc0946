//! Files: access by offset, and files without a name.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memfd::MemfdOptions;
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, FcntlArg, OFlag, OpenHow, PosixFadviseAdvice, ResolveFlag, SealFlag, fcntl, openat2,
    posix_fadvise,
};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, lseek, write};

use super::calls;

/// Permission bits of a file that has, or had for a moment, a name.
const MODE: u32 = 0o600;

/// Directories that are usually in memory, where `memfd_create(2)` is missing.
const IN_MEMORY: [&str; 2] = ["/dev/shm", "/run"];

/// Writes up to all of `bytes` at `offset`, and returns the number written. The open file
/// description must not be used for other writes meanwhile.
///
/// # Errors
/// As `pwrite(2)`.
pub fn write_at(fd: impl AsFd, bytes: &[u8], offset: u64) -> io::Result<usize> {
    let fd = fd.as_fd();
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    calls::or_else(pwrite(fd, bytes, offset).map_err(io::Error::from), || {
        lseek(fd, offset, Whence::SeekSet)?;
        Ok(write(fd, bytes)?)
    })
}

/// Reads the first byte of a file from where it is stored, not from memory. Returns the number of bytes
/// read, 0 for an empty file.
///
/// # Errors
/// As `pread(2)`.
pub fn read_byte_anew(fd: impl AsFd) -> io::Result<usize> {
    let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    // Without it the byte may come from memory, as if nothing were.
    posix_fadvise(&fd, 0, 0, advice)?;
    Ok(pread(fd, &mut [0], 0)?)
}

/// Writes all of `bytes` at `offset`, like [`write_at`].
///
/// # Errors
/// As `pwrite(2)`; a part may be written then.
pub fn write_all_at(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_at(&fd, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens an existing file for reading and writing, unless a symbolic link leads to it. The fd is
/// close-on-exec; opening does not block, and a terminal does not become the controlling one.
///
/// # Errors
/// As `openat2(2)`.
pub fn open_without_links(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(AT_FDCWD, path, how)?.into())
}

/// Makes a file without a name, close-on-exec: a memfd with this label, or, without memfds, an
/// unlinked file.
///
/// # Errors
/// As `memfd_create(2)` and `open(2)`.
pub fn nameless(name: &str) -> io::Result<File> {
    let memfd = MemfdOptions::new().allow_sealing(true).close_on_exec(true).create(name);
    let made = match memfd {
        Ok(memfd) => Ok(memfd.into_file()),
        Err(memfd::Error::Create(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    };
    calls::or_else(made, || nameless_on_disk(name))
}

/// Seals a file without a name against all changes. Returns whether it is sealed: only a memfd can
/// be, and not in every environment.
pub fn seal(file: &File) -> bool {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL)).is_ok()
}

fn nameless_on_disk(name: &str) -> io::Result<File> {
    let mut result = Err(Errno::ENOENT.into());
    for directory in IN_MEMORY.map(Path::new).into_iter().chain([&*env::temp_dir()]) {
        result = unlinked_in(directory, name);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Makes an unlinked file where a file system lacks unnamed ones.
fn unlinked_in(directory: &Path, name: &str) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(MODE);
    let flags = OFlag::O_TMPFILE | OFlag::O_EXCL;
    if let Ok(file) = options.clone().custom_flags(flags.bits()).open(directory) {
        return Ok(file);
    }
    let path = directory.join(format!(".{name}.{}", std::process::id()));
    // A process with our pid may have been killed between these calls.
    fs::remove_file(&path).ok();
    let file = options.create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
