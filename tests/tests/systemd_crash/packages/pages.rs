//! The commands of the pages, verbatim and in their order, on a new host with libvirt and guests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::harness::Whose;
use tests::interop::{Guest, Host};
use tests::machine::{Equipment, main_pid, property, service, succeed};

use super::{LIBVIRTS, be_libvirts_host, debian_root, packaged, target_directory};
use crate::libvirt::{BOTH, host, kill_both, launch_guests};
use crate::real_moves::{Store, expect_well};

const README: &str = include_str!("../../../../README.md");
const OPERATION: &str = include_str!("../../../../systemd/README.md");

/// This workspace, to read from, and its copy on the machine, in which somebody works.
const WORKSPACE: &str = "/opt/workspace";
const SOURCE: &str = "/root/virt";

/// The toolchain, and the crates, without a network.
const TOOLCHAIN: &str = "/opt/toolchain";
const CRATES: &str = "/root/.cargo/registry";

/// Everything is built there, and more than once.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// Has programs built without optimisation, and takes cargo-deb from this machine.
const QUICK: &str = "VIRT_TESTS_QUICK_BUILD";

/// Settings of such a build.
const QUICK_SETTINGS: [&str; 3] = [
    "CARGO_PROFILE_RELEASE_OPT_LEVEL=0",
    "CARGO_PROFILE_RELEASE_LTO=off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16",
];

/// Versions of the first and of the next source.
const FIRST: &str = env!("CARGO_PKG_VERSION");
const NEXT: &str = "0.1.1";

#[test]
#[ignore = "makes a root directory of Debian 12 and builds everything there, in half an hour"]
fn new_debian_12() {
    let name = concat!(module_path!(), "::new_debian_12");
    super::run(|| equipment("bookworm", "debian-12"), name, from_installation_to_removal);
}

#[test]
#[ignore = "makes a root directory of Debian 13 and builds everything there, in half an hour"]
fn new_debian_13() {
    let name = concat!(module_path!(), "::new_debian_13");
    super::run(|| equipment("trixie", "debian-13"), name, from_installation_to_removal);
}

fn equipment(suite: &str, directory: &str) -> Result<Equipment, String> {
    // The crates are there, those of cargo-deb too, once it was done here.
    super::BUILT.clone()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let crates = crates.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let crates = crates.ok_or("there is no home directory")?.join("registry");
    let mut files = vec![(workspace, WORKSPACE), (toolchain()?, TOOLCHAIN), (crates, CRATES)];
    if std::env::var_os(QUICK).is_some() {
        files.push((target_directory()?.join("tools/bin/cargo-deb"), "/usr/bin/cargo-deb"));
    }
    let files = files.into_iter().map(|(file, path)| (file, path.to_owned())).collect();
    Ok(Equipment { root: Some(debian_root(suite, directory)?), files, timeout: Some(TIMEOUT) })
}

fn toolchain() -> Result<PathBuf, String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("rustc cannot be run: {error}"))?;
    let path = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    Ok(PathBuf::from(path.trim_end()))
}

fn from_installation_to_removal() {
    be_libvirts_host();
    fs::write("/etc/apt/apt.conf.d/tests", "APT::Get::Assume-Yes \"true\";\n").unwrap();
    succeed("sh", &["-c", "rm /usr/bin/virtlo*ctl /usr/sbin/virtfdhold"]);
    copy_source();
    let host = host();
    let guests = launch_guests(&host);
    let journey = Journey { host, guests, pids: BOTH.map(main_pid) };
    journey.expect("libvirt's daemons", Whose::Theirs);
    let journey = journey.with_packages();
    let journey = journey.with_script();
    let journey = journey.by_hand();
    journey.host.system().run(&["destroy", "alfa"]);
    journey.host.system().run_eventually(&["start", "next"]);
}

/// A host whose guests run throughout.
struct Journey {
    host: Host,
    guests: [Guest; 2],
    pids: [nix::unistd::Pid; 2],
}

impl Journey {
    fn with_packages(self) -> Self {
        let said = run(&block(README, "Install: move over from libvirt's daemons", 0));
        assert!(said.contains("virtlogd_0.1.0") && said.contains("needs libc6"), "{said}");
        self.expect("installed", Whose::Ours);
        let journey = self.after_kills("kill -9");
        succeed("virtlogctl", &["list"]);
        become_version(FIRST, NEXT);
        run(&block(README, "Install: move over from libvirt's daemons", 0));
        let said = run(&block(README, "Upgrade", 0));
        assert!(said.contains(&format!("virtlogd-rs {NEXT}")), "{said}");
        journey.expect("upgraded", Whose::Ours);
        packaged("sh", &["-c", &format!("dpkg --force-confold -i {LIBVIRTS}/*.deb")]);
        journey.expect("libvirt's packages installed again", Whose::Ours);
        let journey = journey.after_kills("kill -9");
        run(&block(README, "And back", 0));
        journey.expect("removed", Whose::Theirs);
        run(&block(README, "Install: move over from libvirt's daemons", 0));
        journey.expect("installed again", Whose::Ours);
        run(&block(README, "And back", 1));
        journey.expect("purged", Whose::Theirs);
        expect_nothing_left();
        journey
    }

    fn with_script(self) -> Self {
        run(&block(README, "Install: move over from libvirt's daemons", 1));
        self.expect("installed by the script", Whose::Ours);
        let journey = self.after_kills("kill -9");
        run(&block(README, "Upgrade", 0));
        run(&block(README, "And back", 2));
        journey.expect("uninstalled", Whose::Theirs);
        expect_nothing_left();
        journey
    }

    fn by_hand(self) -> Self {
        let moving = "Move from libvirt's daemons by hand";
        run(&block(OPERATION, moving, 0));
        self.expect("moved by hand", Whose::Ours);
        let stores = run(&block(OPERATION, moving, 1));
        assert!(!stores.contains("=0"), "{stores}");
        let journey = self.after_kills("kill -9");
        run(&block(OPERATION, "Upgrade", 0));
        run(&block(OPERATION, "Upgrade", 1));
        journey.expect("upgraded by hand", Whose::Ours);
        let journey = journey.after_kills("kill -9");
        run(&block(OPERATION, "Back to libvirt's daemons", 0));
        journey.expect("back", Whose::Theirs);
        journey
    }

    /// Both daemons die, one after the other.
    fn after_kills(mut self, step: &str) -> Self {
        kill_both(0);
        self.pids = BOTH.map(main_pid);
        self.expect(step, Whose::Ours);
        self
    }

    /// Guests are well, the same processes run, and nothing has failed.
    #[track_caller]
    fn expect(&self, step: &str, whose: Whose) {
        let store = if whose == Whose::Ours { Store::Items } else { Store::Nothing };
        expect_well(step, store, &self.host, &self.guests);
        assert_eq!(BOTH.map(main_pid), self.pids, "{step}");
        let is_libvirts = BOTH.map(tests::machine::is_libvirts);
        assert_eq!(is_libvirts, [whose == Whose::Theirs; 2], "{step}");
        let failed = succeed("systemctl", &["list-units", "--failed", "--plain", "--no-legend"]);
        assert!(!failed.contains("virt"), "{step}: {failed}");
    }
}

/// What is in the source tree, without what was built of it.
fn copy_source() {
    let copy = format!(
        "mkdir {SOURCE}; cd {WORKSPACE}; \
         tar --create --exclude=./.git --exclude=target . | tar --extract --directory={SOURCE}"
    );
    succeed("sh", &["-ec", &copy]);
}

/// The newer source.
fn become_version(before: &str, version: &str) {
    for file in ["Cargo.toml", "Cargo.lock"] {
        let path = Path::new(SOURCE).join(file);
        let text = fs::read_to_string(&path).unwrap();
        let mut text = text.replace(
            &format!("[workspace.package]\nversion = \"{before}\""),
            &format!("[workspace.package]\nversion = \"{version}\""),
        );
        for name in ["common", "tests", "virtfdhold", "virtlockd", "virtlogd"] {
            let entry = |version| format!("name = \"{name}\"\nversion = \"{version}\"");
            text = text.replace(&entry(before), &entry(version));
        }
        fs::write(path, text).unwrap();
    }
}

/// The commands of a section's block: indented lines with no others between them.
fn block(page: &str, section: &str, number: usize) -> Vec<String> {
    let title = format!("\n## {section}\n");
    let (_, text) = page.split_once(&title).unwrap_or_else(|| panic!("no section {section}"));
    let text = text.split("\n## ").next().unwrap_or_default();
    let mut blocks = vec![Vec::new()];
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(command) => blocks.last_mut().expect("a block").push(command.to_owned()),
            None => blocks.push(Vec::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks.get(number).unwrap_or_else(|| panic!("no block {number} in {section}")).clone()
}

/// Runs commands as root in the source tree, each of which must succeed; what they said.
#[track_caller]
fn run(commands: &[String]) -> String {
    let path = format!("PATH={TOOLCHAIN}/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let run_one = |command: &String| {
        println!("# {command}");
        let mut arguments = vec!["--chdir", SOURCE, &path, "CARGO_NET_OFFLINE=true"];
        if std::env::var_os(QUICK).is_some() {
            arguments.extend(QUICK_SETTINGS);
        }
        arguments.extend(["bash", "-c", command]);
        packaged("env", &arguments)
    };
    commands.iter().map(run_one).collect()
}

fn expect_nothing_left() {
    let left = "find / -xdev \\( -name 'virt*ctl' -o -name 'virtlo*.libvirt*' -o -name 'virt-rs.conf' -o -name 'virtlo*-metrics.*' \\) \
                -not -path '/root/*' -not -path '/opt/*' -not -path '/run/*'";
    let left = succeed("sh", &["-c", left]);
    assert!(left.is_empty(), "{left}");
    for program in BOTH {
        assert_eq!(property(&service(program), "DropInPaths"), "");
    }
}
