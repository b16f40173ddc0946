//! A pod as that of a `KubeVirt` guest.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use super::container::root_directory;
use super::sandbox::{profile_directory, with_profile};
use super::{Cgroup, Origin};
use crate::harness::{Host, Program, Subject, Whose, ours};

/// A pod as that of a `KubeVirt` guest: an ordinary user, a process 1 that starts virtlogd in the
/// foreground and again a second after its end, a root directory that is read-only, no `/proc/sys`,
/// the calls that a container engine allows, and a limit of memory.
pub fn pod(host: &Host, cgroup: Option<Arc<Cgroup>>) -> Origin {
    let program = Program::Virtlogd;
    let daemon = Subject { whose: Whose::Ours, program }.executable().expect("our daemon");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/kubevirt/virtlogd");
    let files = [
        (daemon, "/usr/libexec/virtlogd".to_owned()),
        (ours("virtfdhold"), "/usr/libexec/virtfdhold".to_owned()),
        (script, "/usr/sbin/virtlogd".to_owned()),
    ];
    let mut preparation = root_directory("pod", &files, &[]);
    let build = profile_directory();
    writeln!(preparation, "volume '{build}'; volume \"$1/user\"").expect("a string");
    preparation.push_str("mkdir \"$box/root/nothing\" \"$box/root/outside\"; touch \"$box/root/etc/virtlogd.conf\"\n");
    let root = host.path("box.pod/root").display().to_string();
    let mut words: Vec<String> =
        ["unshare", "--pid", "--fork", "--kill-child", "sh", "-ec", SEAL, "sh"]
            .map(str::to_owned)
            .into();
    words.push(root);
    words.extend(["unshare", "--user", "--map-user=107", "--map-group=107"].map(str::to_owned));
    words.extend(with_profile());
    let command = ["/bin/sh", "-c", LAUNCHER].map(str::to_owned);
    Origin { preparation, through: words, command: command.into(), cgroup }
}

/// Makes the root directory `$1` read-only, with a `/proc` for this pid namespace that has no `sys`.
const SEAL: &str = r#"
root=$1; shift
mount -n -t proc proc "$root/proc"
mount -n --bind "$root/nothing" "$root/proc/sys"
mount -n -o remount,bind,ro "$root"
cd "$root"
pivot_root . outside
cd /
umount -n -l /outside
exec "$@"
"#;

/// Stand-in for virt-launcher: starts virtlogd, and again a second after its end.
const LAUNCHER: &str =
    "while :; do /usr/sbin/virtlogd -f /etc/virtlogd.conf & wait $!; sleep 1; done";
