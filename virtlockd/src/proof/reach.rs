//! How far a lock reaches, by the mount that its file is on. No file system is asked.

use common::server::RemoteMount;

use crate::proof::message::POINT_BYTES_MAX;
use crate::proof::rule::Ms;

/// Reach of the locks on a file system that other hosts may have mounted as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This host alone: by the options of the mount no other is told of a lock.
    Host,
    /// All hosts that have it mounted.
    Shared(Source),
}

/// Source of the lease time of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The kernel's NFS client.
    Kernel,
    /// Our settings.
    Setting(Ms),
    /// Nobody, so nothing can be proved.
    None,
}

/// Returns the reach of locks on a mount; `setting` is its lease time by our settings.
pub(crate) fn reach(mount: &RemoteMount, setting: Option<Ms>) -> Reach {
    if is_local(mount) {
        return Reach::Host;
    }
    Reach::Shared(match (is_nfs(mount), setting) {
        _ if mount.point.as_os_str().len() > POINT_BYTES_MAX => Source::None,
        // A question of an earlier version renews nothing.
        (true, _) if is_renewed_by_questions(mount) => Source::Kernel,
        (true, _) | (false, None) => Source::None,
        (false, Some(lease_ms)) => Source::Setting(lease_ms),
    })
}

fn is_nfs(mount: &RemoteMount) -> bool {
    matches!(&*mount.kind, "nfs" | "nfs4")
}

fn is_renewed_by_questions(mount: &RemoteMount) -> bool {
    let minor = mount.option("vers").and_then(|version| version.strip_prefix("4."));
    minor.and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor >= 1)
}

fn is_local(mount: &RemoteMount) -> bool {
    let has = |option| mount.option(option).is_some();
    match &*mount.kind {
        "nfs" | "nfs4" => {
            has("nolock") || matches!(mount.option("local_lock"), Some("all" | "posix"))
        }
        "cifs" | "smb3" => has("nobrl"),
        "gfs2" => has("localflocks") || mount.option("lockproto") == Some("lock_nolock"),
        "lustre" => has("localflock"),
        // The cluster stack in the kernel has no such locks.
        "ocfs2" => matches!(mount.option("cluster_stack"), None | Some("o2cb")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn of(kind: &str, options: &str, setting: Option<Ms>) -> Reach {
        let point = PathBuf::from("/m");
        reach(
            &RemoteMount { device: 1, point, kind: kind.into(), options: options.into() },
            setting,
        )
    }

    #[test]
    fn what_can_be_known_depends_on_type_and_version() {
        for (kind, options, setting, expected) in [
            ("nfs4", "rw,vers=4.2,local_lock=none", None, Source::Kernel),
            ("nfs4", "rw,vers=4.1,local_lock=flock", Some(5), Source::Kernel),
            ("nfs4", "rw,vers=4.0,local_lock=none", Some(5), Source::None),
            ("nfs", "rw,vers=3,local_lock=none", Some(5), Source::None),
            ("fuse.glusterfs", "rw", None, Source::None),
            ("fuse.glusterfs", "rw", Some(5), Source::Setting(5)),
            ("ceph", "rw", Some(5), Source::Setting(5)),
            ("ocfs2", "rw,cluster_stack=pcmk", None, Source::None),
        ] {
            assert_eq!(of(kind, options, setting), Reach::Shared(expected), "{kind} {options}");
        }
    }

    #[test]
    fn options_can_keep_locks_on_this_host() {
        for (kind, options) in [
            ("nfs4", "rw,vers=4.2,local_lock=all"),
            ("nfs", "rw,vers=3,local_lock=posix"),
            ("nfs", "rw,vers=3,nolock"),
            ("cifs", "rw,nobrl"),
            ("gfs2", "rw,localflocks"),
            ("lustre", "rw,localflock"),
            ("ocfs2", "rw,heartbeat=local"),
        ] {
            assert_eq!(of(kind, options, Some(5)), Reach::Host, "{kind} {options}");
        }
    }
}
