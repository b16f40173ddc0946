//! Containers as far as a daemon can see: a root directory of its own, over which nothing is mounted
//! but what a recipe names.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::Origin;
use crate::harness::{Host, Program, Subject, Whose, ours};

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

/// A container of this recipe for a daemon. `host` is the host's `/run`; its directory of files
/// stands for those of logs and images.
pub fn container(recipe: &Recipe, program: Program, host: &Host) -> Origin {
    let name = program.name();
    let root = host.path(&format!("box.{name}/root"));
    let mut preparation = format!(
        r#"
box=$1/box.{name}
mkdir -p "$box"
mount -n -t tmpfs tmpfs "$box"
mkdir "$box/upper" "$box/work" "$box/root"
mount -n -t overlay -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" overlay "$box/root"
volume() {{ mkdir -p "$box/root$1"; mount -n --rbind "$1" "$box/root$1"; }}
file() {{ touch "$box/root$2"; mount -n --bind "$1" "$box/root$2"; }}
volume /proc
volume /dev
volume "$1/files"
"#
    );
    let daemon = Subject { whose: Whose::Ours, program }.executable().expect("our daemon");
    for (file, path) in [(daemon, name), (ours("virtfdhold"), "virtfdhold")] {
        writeln!(preparation, "file '{}' /usr/sbin/{path}", file.display()).expect("a string");
    }
    for volume in &recipe.volumes {
        // What a host without guests does not have is nothing to a test.
        writeln!(preparation, "if [ -d '{volume}' ]; then volume '{volume}'; fi")
            .expect("a string");
    }
    let through = ["chroot".to_owned(), root.display().to_string()];
    Origin { preparation, through: through.into(), command: recipe.command.clone() }
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
