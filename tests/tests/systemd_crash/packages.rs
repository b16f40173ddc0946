//! The Debian packages, on hosts whose guests run: installation, upgrade, an update of libvirt's
//! packages, removal, and each of these when it must not come about.

mod life;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tests::harness::Program;
use tests::machine::{Equipment, use_libvirts_units};

/// Where the packages are on the machine: ours, and libvirt's.
const OURS: &str = "/opt/packages";
const LIBVIRTS: &str = "/opt/libvirt-packages";

/// Packages of libvirt with both daemons and their units, in Debian 12 and since Debian 13.
const LIBVIRTS_NAMES: [[&str; 2]; 2] =
    [["libvirt-daemon", "libvirt-daemon-system"], ["libvirt-daemon-log", "libvirt-daemon-lock"]];

/// The version that ours are upgraded to.
const NEXT_VERSION: &str = "0.1.1";

/// Our packages, built once.
static BUILT: LazyLock<Result<Vec<PathBuf>, String>> = LazyLock::new(build);

/// Makes tests on machines with the packages, on which libvirt's daemons are installed.
macro_rules! with_packages {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            $(#[$attribute])*
            fn on_machine() {
                let whose = tests::harness::Whose::Theirs;
                let name = concat!(module_path!(), "::on_machine");
                tests::machine::run_with($crate::packages::equipment, whose, name, super::$name);
            }
        }
    )+};
}
pub(crate) use with_packages;

/// What is put into a machine: packages of ours and of libvirt's.
fn equipment() -> Result<Equipment, String> {
    let root = std::env::var_os("MACHINE_ROOT").map(PathBuf::from);
    let ours = BUILT.clone()?;
    let theirs = libvirts_packages(root.as_deref())?;
    let placed = |package: &PathBuf, directory: &str| {
        let name = package.file_name().expect("a package has a name").to_string_lossy();
        (package.clone(), format!("{directory}/{name}"))
    };
    let ours = ours.iter().map(|package| placed(package, OURS));
    let files = ours.chain(theirs.iter().map(|package| placed(package, LIBVIRTS))).collect();
    Ok(Equipment { root, files })
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
fn libvirts_packages(root: Option<&Path>) -> Result<Vec<PathBuf>, String> {
    let names = LIBVIRTS_NAMES[usize::from(root.is_some())];
    let directory = scratch_directory(&format!("libvirt-packages/{}", names[0]))?;
    let found = packages_in(&directory)?;
    if found.len() == names.len() {
        return Ok(found);
    }
    let mut command = match root {
        Some(root) => {
            let mut command = Command::new("chroot");
            command.arg(root).args(["apt-get", "-o", "Dir::Cache::archives=/tmp"]);
            command
        }
        None => Command::new("apt-get"),
    };
    let downloaded = command.arg("download").args(names).current_dir(&directory).output();
    let downloaded = downloaded.map_err(|error| format!("apt-get cannot be run: {error}"))?;
    if !downloaded.status.success() {
        let reason = String::from_utf8_lossy(&downloaded.stderr);
        return Err(format!("libvirt's packages cannot be downloaded: {reason}"));
    }
    if let Some(root) = root {
        // Downloaded into the root directory, where chroot leads.
        for package in packages_in(root)? {
            let target = directory.join(package.file_name().expect("a package has a name"));
            fs::rename(&package, target).map_err(|error| error.to_string())?;
        }
    }
    packages_in(&directory)
}

/// A directory beside the test's own.
fn scratch_directory(name: &str) -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = executable.ancestors().nth(3).ok_or("the test executable has no directory")?;
    let directory = target.join("tests").join(name);
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    Ok(directory)
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
