//! The holder under a real systemd, with daemons in services that have no fd store, as containers
//! are.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Program, eventually};
use tests::load::{Contender, Pace, Writer};
use tests::machine::{
    expect_property, journal, main_socket, property, succeed, systemctl, systemctl_fails,
    systemd_version,
};
use tests::wire::{LockClient, LogClient, Owner};

tests::on_machine! { Ours:
    nothing_is_wrong_with_its_unit,
    nothing_is_lost_when_it_is_killed_restarted_and_stopped,
}

const HOLDER: &str = "virtfdhold.service";

/// Its settings, which there are none of.
const SETTINGS: &str = "/etc/default/virtfdhold";

/// A daemon's service, started as in a container.
const CONTAINER: &str = "
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/sbin/virtfdhold exec /run/virtfdhold/NAME -- /usr/sbin/NAME
Restart=always
RestartSec=50ms
StandardError=journal
";

fn nothing_is_wrong_with_its_unit() {
    systemctl(&["start", HOLDER]);
    let verdict = succeed("sh", &["-c", "systemd-analyze verify --man=no virtfdhold.service 2>&1"]);
    let is_expected = |line: &str| line.contains("Unknown key 'FileDescriptorStorePreserve'");
    assert!(verdict.lines().all(is_expected), "{verdict}");
    let table = succeed("systemd-analyze", &["security", "--no-pager", HOLDER]);
    let exposure = table.lines().last().and_then(|line| line.split_once("service: "));
    let exposure: f64 = exposure.unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= 2.0, "{table}");
    assert_eq!(property(HOLDER, "NFileDescriptorStore"), "8");
    // One that cannot be started loses nothing.
    std::fs::create_dir_all("/etc/default").unwrap();
    std::fs::write(SETTINGS, "VIRTFDHOLD_ARGS=--nonsense").unwrap();
    systemctl_fails(&["restart", HOLDER]);
    assert_eq!(property(HOLDER, "NFileDescriptorStore"), "8");
    std::fs::remove_file(SETTINGS).unwrap();
    expect_property(HOLDER, "ActiveState", "active");
    assert_eq!(property(HOLDER, "NFileDescriptorStore"), "8");
}

fn nothing_is_lost_when_it_is_killed_restarted_and_stopped() {
    // As it is installed: systemd forgets a unit that is stopped and that nobody refers to.
    systemctl(&["enable", "--now", HOLDER]);
    for name in ["virtlogd", "virtlockd"] {
        let unit = format!("/run/systemd/system/container-{name}.service");
        std::fs::write(unit, CONTAINER.replace("NAME", name)).unwrap();
    }
    systemctl(&["daemon-reload"]);
    let containers = ["container-virtlogd.service", "container-virtlockd.service"];
    containers.iter().for_each(|unit| drop(systemctl(&["start", unit])));
    let path = Path::new("/srv/guest.log");
    let pipe =
        LogClient::connect(&main_socket(Program::Virtlogd)).unwrap().open(path).unwrap().pipe;
    let writer = Writer::start(path, pipe, Pace::Steady);
    let image = "/srv/disk.img".to_owned();
    std::fs::write(&image, "").unwrap();
    let mut locks = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    locks.register(&Owner::of(1), 0).unwrap();
    locks.acquire("", &image, 0).unwrap();
    let contender = Contender::start(std::slice::from_ref(&image));
    kill_all(&[HOLDER]);
    kill_all(&containers);
    kill_all(&[containers[0], HOLDER, containers[1]]);
    systemctl(&["restart", HOLDER, containers[0], containers[1]]);
    kill_all(&containers);
    if systemd_version() >= 254 {
        systemctl(&["stop", HOLDER]);
        systemctl(&["start", HOLDER]);
        kill_all(&containers);
    }
    assert!(!journal(HOLDER).contains("there is no room"), "{}", journal(HOLDER));
    writer.finish();
    contender.finish();
}

/// Kills the processes of these services at once, and waits for the next ones, which serve.
fn kill_all(units: &[&str]) {
    // Of what came a moment ago, and not yet to the host's store, a kill of the holder leaves nothing.
    let stored = || property(HOLDER, "NFileDescriptorStore");
    eventually("the host has everything", || {
        let before = stored();
        std::thread::sleep(std::time::Duration::from_millis(300));
        stored() == before
    });
    let pid = |unit: &str| property(unit, "MainPID").parse::<i32>().expect("a number");
    let before: Vec<_> = units.iter().map(|unit| pid(unit)).collect();
    for &pid in &before {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    for (unit, before) in units.iter().zip(before) {
        eventually(&format!("{unit} runs again"), || ![0, before].contains(&pid(unit)));
    }
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    if let Err(error) = logs.position(Path::new("/srv/guest.log")) {
        let said = [HOLDER, "container-virtlogd.service"].map(journal);
        panic!("virtlogd has lost its log after {units:?}: {error:?}\n{}", said.join("\n"));
    }
    let mut locks = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    locks.register(&Owner::of(1), 0).expect("virtlockd serves");
    if tests::load::is_free("/srv/disk.img") {
        let said = [HOLDER, "container-virtlockd.service"].map(journal);
        panic!("virtlockd has lost its lease after {units:?}: {}", said.join("\n"));
    }
}
