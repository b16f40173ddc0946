//! Containers as far as a daemon can see: a root directory of its own, over which nothing is mounted
//! but what a recipe names, a control group, and an engine's default capabilities and seccomp profile.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sandbox::{profile_directory, with_capabilities, with_profile};
use super::{Cgroup, Origin};
use crate::harness::{Host, Program, Subject, Whose, ours};

/// What a recipe says about one container.
#[derive(Debug)]
pub struct Recipe {
    /// What is executed in it.
    pub command: Vec<String>,
    /// Directories of the host that it has under the same paths.
    pub volumes: Vec<String>,
    /// Capabilities that it has beside those of each container.
    pub capabilities: Vec<String>,
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
        let value = |key: &str| lines.iter().find_map(|line| line.trim().strip_prefix(key));
        let command = value("command: ").expect("a command");
        let command = serde_json::from_str(command).expect("a list of words");
        let capabilities = value("cap_add: ").unwrap_or("[]").trim_matches(['[', ']']);
        let capabilities = capabilities.split(", ").filter(|name| !name.is_empty());
        let volumes = lines.iter().filter_map(|line| line.trim().strip_prefix("- "));
        Self {
            command,
            volumes: volumes.filter_map(same_path).collect(),
            capabilities: capabilities.map(str::to_owned).collect(),
        }
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
        let capabilities: Vec<_> = values("AddCapability").collect();
        let capabilities = capabilities.iter().flat_map(|names| names.split(' '));
        Self {
            command,
            volumes: values("Volume").filter_map(|it| same_path(&it)).collect(),
            capabilities: capabilities.map(str::to_owned).collect(),
        }
    }
}

/// A container of this recipe for a daemon, whose executable is the [current](Host::put) one. The
/// host's directory of files stands for those of logs and images.
pub fn container(
    recipe: &Recipe,
    program: Program,
    host: &Host,
    cgroup: Option<Arc<Cgroup>>,
) -> Origin {
    let name = program.name();
    let daemon = host.put(Subject { whose: Whose::Ours, program });
    let files = [
        (daemon, format!("/usr/sbin/{name}")),
        (ours("virtfdhold"), "/usr/sbin/virtfdhold".to_owned()),
    ];
    let mut preparation = root_directory(name, &files, &recipe.volumes);
    writeln!(preparation, "volume '{}'", profile_directory()).expect("a string");
    let root = host.path(&format!("box.{name}/root"));
    let mut through = vec!["chroot".to_owned(), root.display().to_string()];
    through.extend(with_capabilities(&recipe.capabilities));
    through.extend(with_profile());
    Origin { preparation, through, command: recipe.command.clone(), cgroup }
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
    Origin { preparation, through: vec!["chroot".to_owned(), root], command, cgroup: None }
}

/// Shell commands that make a root directory at `$1/box.NAME/root` from the host's, with these files
/// and directories over it.
pub(super) fn root_directory(
    name: &str,
    files: &[(PathBuf, String)],
    volumes: &[String],
) -> String {
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
