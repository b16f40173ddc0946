//! What the C library keeps of memory that was given back.

use nix::libc;

/// Bytes that stay with the process for the next who needs some, so that their pages need not be
/// made anew, and at once. What is larger is had from the kernel and given back to it. An answer
/// of 1 MiB fits, which is a longer read of a log than libvirt ever makes.
const KEPT_BYTES_MAX: libc::c_int = 1_310_720;

/// Bounds what is kept. Left to itself the C library keeps twice the largest piece that was ever
/// used, and a region for each thread. Where it cannot be told, it stays so.
pub fn bound_kept() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, KEPT_BYTES_MAX),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: it takes numbers, and only remembers them.
        unsafe { libc::mallopt(parameter, value) };
    }
}
