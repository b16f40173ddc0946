//! Memory: bounds on what the C library retains, and mapped memfds.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;

use super::fd;

/// Bytes of free memory that the process retains, to save page faults. Larger blocks come from the
/// kernel and are returned to it. An answer of 1 MiB fits, which is a longer read of a log than
/// libvirt ever makes.
pub const RETAINED_BYTES_MAX: usize = 1_310_720;

/// Bounds the retained memory. By default the C library retains twice the largest block ever used,
/// and an arena for each thread. Without effect where that cannot be set.
pub fn bound_free_memory() {
    #[cfg(target_env = "gnu")]
    let retained_max = libc::c_int::try_from(RETAINED_BYTES_MAX).unwrap_or(libc::c_int::MAX);
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, retained_max),
        (libc::M_TRIM_THRESHOLD, retained_max),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: it takes numbers, and only remembers them.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Returns free memory to the kernel, also what lies between memory in use. Without effect where that
/// cannot be done.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches no memory in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Content of a file that was handed over: mapped if it is a sealed memfd, which cannot change or
/// shrink, else a copy.
#[derive(Debug)]
pub enum Content {
    /// Mapped in place.
    Mapped(Mapped),
    /// A copy.
    Copied(Vec<u8>),
}

impl Content {
    /// Returns the whole content, up to `bytes_max`.
    ///
    /// # Errors
    /// `EINVAL` for anything but a file, `EFBIG` for a larger one; as `mmap(2)` and `read(2)`.
    pub fn of(file: OwnedFd, bytes_max: u64) -> io::Result<Self> {
        if !fd::is_regular_file(&file) {
            return Err(Errno::EINVAL.into());
        }
        if u64::try_from(fstat(&file)?.st_size).map_or(true, |len| len > bytes_max) {
            return Err(Errno::EFBIG.into());
        }
        match Mapped::sealed(&file) {
            Ok(mapped) => Ok(Self::Mapped(mapped)),
            Err(_) => copy(file.into(), bytes_max).map(Self::Copied),
        }
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Copied(bytes) => bytes,
        }
    }
}

fn copy(mut file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Mapped content of a sealed memfd, which cannot change or shrink.
#[derive(Debug)]
pub struct Mapped {
    /// `None` for no bytes.
    start: Option<NonNull<libc::c_void>>,
    len: usize,
}

impl Mapped {
    /// Maps the whole content.
    ///
    /// # Errors
    /// `EPERM` for a memfd that may change, `EINVAL` for any other file; as `mmap(2)`.
    fn sealed(memfd: impl AsFd) -> io::Result<Self> {
        let seals = SealFlag::from_bits_retain(fcntl(memfd.as_fd(), FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK) {
            return Err(Errno::EPERM.into());
        }
        let len = usize::try_from(fstat(memfd.as_fd())?.st_size).map_err(|_| Errno::EFBIG)?;
        let Some(length) = NonZeroUsize::new(len) else { return Ok(Self { start: None, len }) };
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice changes nothing that is there.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, memfd, 0) };
        Ok(Self { start: Some(start?), len })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(start) = self.start else { return &[] };
        // SAFETY: `len` bytes are mapped there for as long as `self` lives, and the seals guarantee
        // that they stay and do not change.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(start) = self.start {
            // SAFETY: it was mapped by us, and no borrow of it can be left.
            let unmapped = unsafe { munmap(start, self.len) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}

#[cfg(test)]
mod tests;
