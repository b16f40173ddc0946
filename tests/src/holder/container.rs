//! Containers as far as a daemon can see: a root directory of its own, over which nothing is mounted
//! but what a recipe names.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Origin;
use crate::harness::{Host, Program, Subject, Whose, ours, refusing};

/// What a recipe says about one container.
#[derive(Debug)]
pub struct Recipe {
    /// What is executed in it.
    pub command: Vec<String>,
    /// Directories of the host that it has under the same paths.
    pub volumes: Vec<String>,
}

impl Recipe {
    /// Reads a container of a compose file.
    ///
    /// # Panics
    /// When there is none with this name.
    pub fn of_compose(file: &str, name: &str) -> Self {
        let text = recipe(file);
        let lines = text.lines().skip_while(|line| line.trim() != format!("{name}:")).skip(1);
        let lines: Vec<_> = lines.take_while(|line| line.starts_with("    ")).collect();
        let command = lines.iter().find_map(|line| line.trim().strip_prefix("command: "));
        let command = serde_json::from_str(command.expect("a command")).expect("a list of words");
        let volumes = lines.iter().filter_map(|line| line.trim().strip_prefix("- "));
        Self { command, volumes: volumes.filter_map(same_path).collect() }
    }

    /// Reads a quadlet.
    ///
    /// # Panics
    /// When it executes nothing.
    pub fn of_quadlet(file: &str) -> Self {
        let text = recipe(file);
        let values = |key: &'static str| {
            let values = text.lines().filter_map(move |line| line.split_once('='));
            values.filter(move |(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        let command = values("Exec").next().expect("a command");
        let command = command.split(' ').map(str::to_owned).collect();
        Self { command, volumes: values("Volume").filter_map(|it| same_path(&it)).collect() }
    }
}

/// A container of this recipe for a daemon. The host's directory of files stands for those of logs
/// and images.
pub fn container(recipe: &Recipe, program: Program, host: &Host) -> Origin {
    let name = program.name();
    let daemon = Subject { whose: Whose::Ours, program }.executable().expect("our daemon");
    let files = [
        (daemon, format!("/usr/sbin/{name}")),
        (ours("virtfdhold"), "/usr/sbin/virtfdhold".to_owned()),
    ];
    let preparation = root_directory(name, &files, &recipe.volumes);
    let root = host.path(&format!("box.{name}/root"));
    let through = ["chroot".to_owned(), root.display().to_string()];
    Origin { preparation, through: through.into(), command: recipe.command.clone() }
}

/// A pod as that of a `KubeVirt` guest: an ordinary user, a process 1 that starts virtlogd in the
/// foreground and again a second after its end, a root directory that is read-only, no `/proc/sys`,
/// and none of the calls that a container engine refuses.
pub fn pod(host: &Host) -> Origin {
    let program = Program::Virtlogd;
    let daemon = Subject { whose: Whose::Ours, program }.executable().expect("our daemon");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/kubevirt/virtlogd");
    let files = [
        (daemon, "/usr/libexec/virtlogd".to_owned()),
        (ours("virtfdhold"), "/usr/libexec/virtfdhold".to_owned()),
        (script, "/usr/sbin/virtlogd".to_owned()),
    ];
    let mut preparation = root_directory("pod", &files, &[]);
    let refusing = refusing(Errno::EPERM, REFUSED);
    let build = Path::new(&refusing[0]).parent().expect("a directory");
    writeln!(preparation, "volume '{}'; volume \"$1/user\"", build.display()).expect("a string");
    preparation.push_str("mkdir \"$box/root/nothing\" \"$box/root/outside\"; touch \"$box/root/etc/virtlogd.conf\"\n");
    let root = host.path("box.pod/root").display().to_string();
    let mut words: Vec<String> =
        ["unshare", "--pid", "--fork", "--kill-child", "sh", "-ec", SEAL, "sh"]
            .map(str::to_owned)
            .into();
    words.push(root);
    words.extend(["unshare", "--user", "--map-user=107", "--map-group=107"].map(str::to_owned));
    words.extend(refusing);
    words.extend(self::refusing(Errno::ENOSYS, "clone3"));
    let command = ["/bin/sh", "-c", LAUNCHER].map(str::to_owned);
    Origin { preparation, through: words, command: command.into() }
}

/// A root directory with both daemons, the holder, and the service directories of a supervisor
/// (`runit` or `s6`) in `/etc/service`, in which this command is executed. It has the host's `/run`.
pub fn services(supervisor: &str, command: &[&str], host: &Host) -> Origin {
    let daemon = |program| {
        let daemon = Subject { whose: Whose::Ours, program }.executable().expect("our daemon");
        (daemon, format!("/usr/sbin/{}", program.name()))
    };
    let files = [
        daemon(Program::Virtlogd),
        daemon(Program::Virtlockd),
        (ours("virtfdhold"), "/usr/sbin/virtfdhold".to_owned()),
    ];
    let mut preparation = root_directory(supervisor, &files, &["/run".to_owned()]);
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(supervisor);
    let copy = format!("cp -r '{}' \"$box/root/etc/service\"", services.display());
    writeln!(preparation, "rm -rf \"$box/root/etc/service\"; {copy}").expect("a string");
    let root = host.path(&format!("box.{supervisor}/root")).display().to_string();
    let command = command.iter().map(|&word| word.to_owned()).collect();
    Origin { preparation, through: vec!["chroot".to_owned(), root], command }
}

/// Calls that Docker's default profile refuses to a process without privileges.
const REFUSED: &str = "kcmp,mount,umount2,setns,unshare,bpf,perf_event_open,pivot_root,userfaultfd,\
    keyctl,add_key,open_by_handle_at,acct,reboot,swapon,swapoff,syslog";

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

/// What virt-launcher does.
const LAUNCHER: &str =
    "while :; do /usr/sbin/virtlogd -f /etc/virtlogd.conf & wait $!; sleep 1; done";

/// Shell commands that make a root directory at `$1/box.NAME/root` from the host's, with these files
/// and directories over it.
fn root_directory(name: &str, files: &[(PathBuf, String)], volumes: &[String]) -> String {
    let mut commands = format!(
        r#"
box=$1/box.{name}
mkdir -p "$box"
mount -n -t tmpfs tmpfs "$box"
mkdir "$box/upper" "$box/work" "$box/root"
mount -n -t overlay -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" overlay "$box/root"
volume() {{ mkdir -p "$box/root$1"; mount -n --rbind "$1" "$box/root$1"; }}
file() {{ rm -f "$box/root$2"; touch "$box/root$2"; mount -n --bind "$1" "$box/root$2"; }}
volume /proc
volume /dev
volume "$1/files"
"#
    );
    for (file, path) in files {
        writeln!(commands, "file '{}' '{path}'", file.display()).expect("a string");
    }
    for volume in volumes {
        // What a host without guests does not have is nothing to a test.
        writeln!(commands, "if [ -d '{volume}' ]; then volume '{volume}'; fi").expect("a string");
    }
    commands
}

fn recipe(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path of a volume that is the same on both sides.
fn same_path(volume: &str) -> Option<String> {
    let (host, container) = volume.split_once(':')?;
    (host == container && host.starts_with('/')).then(|| host.to_owned())
}
