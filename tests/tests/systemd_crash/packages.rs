//! The Debian packages, on hosts whose guests run: installation, upgrade, an update of libvirt's
//! packages, removal, and each of these when it must not come about.

mod life;
mod midst;
mod pages;
mod policy;
mod refusals;
mod reproducible;
mod script;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tests::harness::{Program, Whose};
use tests::machine::{Equipment, use_libvirts_units};

/// Where the packages are on the machine: ours, and libvirt's.
const OURS: &str = "/opt/packages";
const LIBVIRTS: &str = "/opt/libvirt-packages";

/// Packages of libvirt with both daemons and their units, in Debian 12.
const LIBVIRTS_NAMES: [&str; 2] = ["libvirt-daemon", "libvirt-daemon-system"];

/// The version that ours are upgraded to.
const NEXT_VERSION: &str = "0.1.1";

/// Our packages, built once.
static BUILT: LazyLock<Result<Vec<PathBuf>, String>> = LazyLock::new(build);

/// Makes tests on machines with the packages, on which libvirt's daemons are installed.
macro_rules! with_packages {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn on_machine() {
                let equipment = $crate::packages::equipment;
                $crate::packages::run(equipment, concat!(module_path!(), "::on_machine"), super::$name);
            }

            #[test]
            #[ignore = "makes a root directory of Debian 13 in some minutes"]
            fn on_debian_13() {
                let equipment = $crate::packages::equipment_of_debian_13;
                let name = concat!(module_path!(), "::on_debian_13");
                $crate::packages::run(equipment, name, super::$name);
            }
        }
    )+};
}
pub(crate) use with_packages;

/// Runs a test on a machine with libvirt's daemons.
fn run(equipment: fn() -> Result<Equipment, String>, name: &str, test: fn()) {
    tests::machine::run_with(equipment, Whose::Theirs, name, test);
}

/// What is put into a machine like this one, or with `MACHINE_ROOT`: our packages, and libvirt's
/// unless that has them.
fn equipment() -> Result<Equipment, String> {
    match std::env::var_os("MACHINE_ROOT") {
        Some(root) => our_equipment(Some(root.into())),
        None => {
            let mut equipment = our_equipment(None)?;
            let theirs = libvirts_packages()?;
            equipment.files.extend(theirs.into_iter().map(|package| placed(package, LIBVIRTS)));
            Ok(equipment)
        }
    }
}

/// The root directory is kept between runs.
fn equipment_of_debian_13() -> Result<Equipment, String> {
    static ROOT: LazyLock<Result<PathBuf, String>> =
        LazyLock::new(|| debian_root("trixie", "debian-13"));
    our_equipment(Some(ROOT.clone()?))
}

/// The root directory of a new Debian, made unless it is there.
fn debian_root(suite: &str, name: &str) -> Result<PathBuf, String> {
    let root = scratch_directory("")?.join(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/debian-root.sh");
    let made = Command::new(script).arg(suite).arg(&root).output();
    let made = made.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&made.stderr);
    if made.status.success() { Ok(root) } else { Err(format!("no {name}: {said}")) }
}

fn our_equipment(root: Option<PathBuf>) -> Result<Equipment, String> {
    let files = BUILT.clone()?.into_iter().map(|package| placed(package, OURS)).collect();
    Ok(Equipment { root, files, ..Equipment::default() })
}

fn placed(package: PathBuf, directory: &str) -> (PathBuf, String) {
    let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (package, format!("{directory}/{name}"))
}

/// By the command of the README.
fn build() -> Result<Vec<PathBuf>, String> {
    let directory = scratch_directory("packages")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/build-deb.sh");
    let output = Command::new(script).arg(&directory).output().map_err(|it| it.to_string())?;
    if !output.status.success() {
        return Err(format!("no packages: {}", String::from_utf8_lossy(&output.stderr)));
    }
    packages_in(&directory)
}

/// Downloads libvirt's packages, unless that was done before.
fn libvirts_packages() -> Result<Vec<PathBuf>, String> {
    let directory = scratch_directory("libvirt-packages")?;
    let found = packages_in(&directory)?;
    if found.len() == LIBVIRTS_NAMES.len() {
        return Ok(found);
    }
    let mut command = Command::new("apt-get");
    let downloaded = command.arg("download").args(LIBVIRTS_NAMES).current_dir(&directory).output();
    let downloaded = downloaded.map_err(|error| format!("apt-get cannot be run: {error}"))?;
    if !downloaded.status.success() {
        let reason = String::from_utf8_lossy(&downloaded.stderr);
        return Err(format!("libvirt's packages cannot be downloaded: {reason}"));
    }
    packages_in(&directory)
}

/// A directory that is kept between runs.
fn scratch_directory(name: &str) -> Result<PathBuf, String> {
    let directory = target_directory()?.join("tests").join(name);
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    Ok(directory)
}

fn target_directory() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = executable.ancestors().nth(3).ok_or("the test executable has no directory")?;
    Ok(target.to_owned())
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|it| it == "deb")).collect())
}

/// The machine is a host with libvirt alone, on which packages may start services.
fn be_libvirts_host() {
    use_libvirts_units();
    fs::remove_file("/usr/sbin/policy-rc.d").ok();
    // No manual pages are looked for.
    fs::remove_file("/var/lib/man-db/auto-update").ok();
}

/// The package of a daemon.
fn package(program: Program) -> String {
    let found = packages_in(Path::new(OURS)).unwrap();
    let prefix = format!("{}_", program.name());
    let is_its = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&prefix);
    let package = found.iter().find(is_its).expect("its package");
    package.to_str().unwrap().to_owned()
}

/// Makes another package of a daemon's, with what a shell command has changed in the directory `x`.
fn changed_package(program: Program, version: &str, change: &str) -> String {
    let path = format!("/opt/changed/{}_{version}.deb", program.name());
    let script = format!(
        "mkdir -p /opt/changed; cd /opt/changed; rm -rf x; dpkg-deb --raw-extract {} x; \
         sed -i 's/^Version: .*/Version: {version}/' x/DEBIAN/control; {change}; \
         dpkg-deb -Znone --build x {path}",
        package(program)
    );
    tests::machine::succeed("sh", &["-ec", &script]);
    path
}

/// Runs a command for packages; whether it succeeded, and all that it said.
fn packaging(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .expect("starting a command");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Runs one that must succeed; what it said.
#[track_caller]
fn packaged(program: &str, arguments: &[&str]) -> String {
    let (is_done, said) = packaging(program, arguments);
    println!("{said}");
    assert!(is_done, "{program} {arguments:?}: {said}");
    said
}

/// Runs one that must fail, and say why.
#[track_caller]
fn packaging_fails(program: &str, arguments: &[&str], why: &str) {
    let (is_done, said) = packaging(program, arguments);
    println!("{said}");
    assert!(!is_done && said.contains(why), "{program} {arguments:?}: no {why:?} in {said}");
}
