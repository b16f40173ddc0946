//! What the kernel's NFS client tells of its leases, in `/proc/self/mountstats`. Reading that waits
//! for no server.

use std::path::Path;
use std::{fs, io};

use crate::proof::rule::Ms;

/// Statistics of all mounts of this process.
const STATISTICS: &str = "/proc/self/mountstats";

/// Lease of the NFS client with the server of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NfsLease {
    /// Lease time of the server.
    pub(crate) lease_ms: Ms,
    /// Time since which the lease has run out by the client's account, in whole seconds; 0 if it has
    /// not.
    pub(crate) expired_s: u64,
}

/// Returns the lease of the mount at a mount point, `None` if the kernel does not tell.
///
/// # Errors
/// As `read(2)`.
pub(crate) fn lease(point: &Path) -> io::Result<Option<NfsLease>> {
    Ok(parse(&String::from_utf8_lossy(&fs::read(STATISTICS)?), point))
}

fn parse(statistics: &str, point: &Path) -> Option<NfsLease> {
    let place = format!(" mounted on {} with fstype nfs4", escape(&point.to_string_lossy()));
    // The last mount at a mount point hides the others.
    let (_, of_mount) = statistics.rsplit_once(&place)?;
    let mut lines = of_mount.lines().take_while(|line| !line.starts_with("device "));
    let values = lines.find_map(|line| line.trim_start().strip_prefix("nfsv4:"))?;
    let number = |key: &str| {
        let mut values = values.split(',').map(str::trim);
        values.find_map(|value| value.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let lease_ms = number("lease_time").filter(|&seconds| seconds > 0)?.saturating_mul(1000);
    Some(NfsLease { lease_ms, expired_s: number("lease_expired").unwrap_or(0) })
}

/// Escapes a mount point as the kernel does.
fn escape(point: &str) -> String {
    let escapes = [('\\', "\\134"), (' ', "\\040"), ('\t', "\\011"), ('\n', "\\012")];
    escapes.iter().fold(point.to_owned(), |point, (sign, code)| point.replace(*sign, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.1 writes it, shortened.
    const TEXT: &str = "device proc mounted on /proc with fstype proc\n\
        device 10.0.1.1:/srv/x mounted on /run/nfs1 with fstype nfs4 statvers=1.1\n\
        \topts:\trw,vers=4.2,rsize=131072\n\tage:\t12\n\
        \tnfsv4:\tbm0=0xfdffbfff,bm1=0xf9be3e,acl=0x3,sessions,pnfs=not configured,lease_time=10,lease_expired=0\n\
        \tsec:\tflavor=1,pseudoflavor=1\n\
        device a:/b mounted on /run/a\\040b with fstype nfs4 statvers=1.1\n\
        \tnfsv4:\tbm0=0x1,lease_time=90,lease_expired=3\n\
        device a:/old mounted on /run/v3 with fstype nfs statvers=1.1\n\tage:\t1\n";

    #[test]
    fn the_lease_of_a_mount_is_found() {
        let lease = |point: &str| parse(TEXT, Path::new(point));
        assert_eq!(lease("/run/nfs1"), Some(NfsLease { lease_ms: 10_000, expired_s: 0 }));
        assert_eq!(lease("/run/a b"), Some(NfsLease { lease_ms: 90_000, expired_s: 3 }));
        for point in ["/run/v3", "/proc", "/run", "/absent"] {
            assert_eq!(lease(point), None, "{point}");
        }
    }
}
