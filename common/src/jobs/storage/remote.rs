//! Mounts of file systems that other hosts may have mounted as well, by the names of their types.

use std::path::PathBuf;

/// Types of such file systems. `fuse` with a subtype, such as `fuse.glusterfs`, is one as well.
const TYPES: [&str; 18] = [
    "nfs", "nfs4", "ceph", "cifs", "smb3", "gfs2", "ocfs2", "lustre", "9p", "afs", "beegfs",
    "coda", "gpfs", "orangefs", "panfs", "pvfs2", "virtiofs", "fuse",
];

/// A mount of a file system that other hosts may have mounted as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteMount {
    /// Device number of its files.
    pub device: u64,
    /// Mount point.
    pub point: PathBuf,
    /// Type, such as `nfs4` or `fuse.glusterfs`.
    pub kind: Box<str>,
    /// Options of the file system, separated by commas.
    pub options: Box<str>,
}

impl RemoteMount {
    /// Returns the value of an option such as `vers=4.2`, empty for one without a value.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| match option.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (option == name).then_some(""),
        })
    }
}

/// Returns whether a type is of such file systems.
pub(super) fn is_remote(kind: &str) -> bool {
    kind.starts_with("fuse.") || TYPES.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_values_or_none() {
        let mount = RemoteMount {
            device: 1,
            point: PathBuf::new(),
            kind: "nfs4".into(),
            options: "rw,vers=4.2,hard,local_lock=none".into(),
        };
        assert_eq!(mount.option("vers"), Some("4.2"));
        assert_eq!(mount.option("hard"), Some(""));
        assert_eq!(mount.option("ver"), None);
    }

    #[test]
    fn types_of_this_host_alone_are_not_remote() {
        for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "proc", "fusectl"] {
            assert!(!is_remote(kind), "{kind}");
        }
        assert!(["nfs4", "fuse.glusterfs", "gfs2"].into_iter().all(is_remote));
    }
}
