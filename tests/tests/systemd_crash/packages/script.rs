//! `systemd/install.sh`, for hosts without Debian's packages.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tests::harness::{Program, Whose, eventually, expect_file, guest_writes};
use tests::machine::{
    Equipment, install, is_libvirts, main_pid, main_socket, property, service, stored_count,
    succeed, systemctl,
};
use tests::wire::LogClient;

use super::{be_libvirts_host, packaged, packaging_fails, placed};
use crate::guests::Guests;
use crate::kills::kill_by;
use crate::libvirt::BOTH;

/// The source tree on the machine, as far as it is needed.
const SOURCE: &str = "/opt/source";

/// Makes tests on machines with the source tree.
macro_rules! with_source {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn on_machine() {
                let name = concat!(module_path!(), "::on_machine");
                crate::packages::run(super::equipment, name, super::$name);
            }
        }
    )+};
}

with_source! {
    from_installation_to_removal,
    without_libvirts_daemons,
}

fn equipment() -> Result<Equipment, String> {
    let root = std::env::var_os("MACHINE_ROOT").map(PathBuf::from);
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    let entries = units.read_dir().map_err(|error| error.to_string())?;
    let sources =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
    let mut files: Vec<_> =
        sources.map(|path| placed(path, &format!("{SOURCE}/systemd"))).collect();
    for program in BOTH {
        let tool = program.tool();
        let directory = format!("{SOURCE}/target/release");
        files.push(placed(tool.with_file_name(program.name()), &directory));
        files.push(placed(tool, &directory));
    }
    Ok(Equipment { root, files, ..Equipment::default() })
}

fn from_installation_to_removal() {
    be_libvirts_host();
    let guests = BOTH.map(Guests::start);
    let pids = BOTH.map(main_pid);
    let said = script(&[]);
    assert_eq!(said.matches("has taken over from libvirt's").count(), 2, "{said}");
    expect(pids, Whose::Ours);
    kill_both();
    let pids = BOTH.map(main_pid);
    let said = script(&[]);
    assert_eq!(said.matches("has taken over from virtlo").count(), 2, "{said}");
    expect(pids, Whose::Ours);
    // As an update of libvirt's package does.
    BOTH.into_iter().for_each(|program| install(Whose::Theirs, program));
    script(&[]);
    expect(pids, Whose::Ours);
    kill_both();
    let pids = BOTH.map(main_pid);
    let said = script(&["--uninstall"]);
    assert_eq!(said.matches("libvirt's program has taken over").count(), 2, "{said}");
    expect(pids, Whose::Theirs);
    expect_nothing_left();
    for program in BOTH {
        assert_eq!(property(&service(program), "DropInPaths"), "");
        let version = succeed(&format!("/usr/sbin/{}", program.name()), &["--version"]);
        assert!(!version.contains("-rs "), "{version}");
    }
    guests.into_iter().for_each(Guests::finish);
}

fn without_libvirts_daemons() {
    be_libvirts_host();
    succeed("sh", &["-c", "rm -f /usr/sbin/virtlo* /usr/lib/systemd/system/virtlo*"]);
    systemctl(&["daemon-reload"]);
    script(&["--prefix", "/opt/virt"]);
    let path = Path::new("/srv/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let guest = client.open(path).unwrap().pipe;
    guest_writes(&guest, "one\n");
    kill_by(Program::Virtlogd, Signal::SIGKILL);
    guest_writes(&guest, "two\n");
    expect_file(path, "one\ntwo\n");
    succeed("/opt/virt/bin/virtlogctl", &["list"]);
    let uninstall = ["--prefix", "/opt/virt", "--uninstall"];
    let installer = format!("{SOURCE}/systemd/install.sh");
    packaging_fails(&installer, &uninstall, "there is no program of libvirt's");
    kill_by(Program::Virtlogd, Signal::SIGKILL);
    guest_writes(&guest, "three\n");
    expect_file(path, "one\ntwo\nthree\n");
    drop(guest);
    eventually("no log is open", || {
        property(&service(Program::Virtlogd), "StatusText").starts_with("0 logs")
    });
    script(&uninstall);
    expect_nothing_left();
    assert_eq!(property("virtlogd.service", "LoadState"), "not-found");
}

fn script(arguments: &[&str]) -> String {
    packaged(&format!("{SOURCE}/systemd/install.sh"), arguments)
}

fn kill_both() {
    BOTH.into_iter().for_each(|program| kill_by(program, Signal::SIGKILL));
}

#[track_caller]
fn expect(pids: [nix::unistd::Pid; 2], whose: Whose) {
    assert_eq!(BOTH.map(main_pid), pids);
    for program in BOTH {
        assert_eq!(is_libvirts(program), whose == Whose::Theirs);
        assert_eq!(stored_count(program) > 0, whose == Whose::Ours);
    }
}

fn expect_nothing_left() {
    let find = "find /usr/local /opt/virt /usr/sbin /etc/systemd \\( -name 'virt*ctl' -o -name 'virtlo*.libvirt' \
                -o -name 'virtlo*.new' -o -name 'virtlo*.before' -o -name exchange -o -name 'virtlo*.catalog' -o -name 'virtlo*.d' \
                -o -name 'virtlo*-metrics.*' \\) 2>/dev/null; true";
    let left = succeed("sh", &["-c", find]);
    assert!(left.is_empty(), "{left}");
}
