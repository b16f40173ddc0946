//! The page by symptom: each command on it does what it is there for.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use tests::harness::{Program, eventually, guest_writes};
use tests::machine::{
    enable, install, main_pid, main_socket, service, stored_count, systemctl_fails,
};
use tests::wire::{LockClient, LogClient, Owner};

tests::on_machine! { Ours: the_commands_for_symptoms_work }

const PAGE: &str = include_str!("../../../systemd/TROUBLESHOOTING.md");

/// Programs of packages that change how a machine deals with crashes or keeps its log. A machine for
/// tests need not have them.
const OPTIONAL: [&str; 2] = ["coredumpctl", "ausearch"];

/// Commands on the page.
const COMMANDS: usize = 30;

/// What searches of the journal have to find, as it happens here. Others find nothing.
const FOUND: [(&str, &str); 4] = [
    ("Refused to", "Lockspace resource '/var/lib/libvirt/images/guest.qcow2' is locked"),
    ("lost|dropped", "bytes were lost between 20"),
    ("Upgrade failed", "Upgrade failed, going on as before: "),
    ("Went on after", "Went on after a crash or a stop, nothing is missing: 1 logs, 0 clients"),
];

fn the_commands_for_symptoms_work() {
    let (log, image) = ("/var/log/libvirt/qemu/guest.log", "/var/lib/libvirt/images/guest.qcow2");
    for path in [log, image] {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    }
    fs::write(image, "").unwrap();
    [Program::Virtlogd, Program::Virtlockd].into_iter().for_each(enable);
    let pipe = LogClient::connect(&main_socket(Program::Virtlogd))
        .and_then(|mut client| client.try_open(Path::new(log)))
        .unwrap()
        .unwrap()
        .pipe;
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    // Not this process: it would be ended when it leaves with its lease.
    client.register(&Owner::of(1), 0).unwrap();
    client.acquire("", image, 0).unwrap();
    client.acquire("", image, 0).unwrap_err();
    lose_output();
    crash_and_fail_to_upgrade();
    let commands = commands();
    assert_eq!(commands.len(), COMMANDS);
    commands.iter().for_each(|command| expect_success(command));
    drop((pipe, client));
}

/// A log loses something, and can be written again.
fn lose_output() {
    let directory = Path::new("/mnt/small");
    fs::create_dir(directory).unwrap();
    tests::machine::succeed("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt/small"]);
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let path = directory.join("other.log");
    let log = logs.open(&path).unwrap();
    guest_writes(&log.pipe, vec![b'\n'; 400_000]);
    eventually("its end is told", || {
        fs::File::options().write(true).truncate(true).open(&path).unwrap();
        searched("can be written again").contains("bytes were lost")
    });
}

fn crash_and_fail_to_upgrade() {
    for program in [Program::Virtlogd, Program::Virtlockd] {
        eventually("something is in the store", || stored_count(program) > 0);
        let before = main_pid(program);
        kill(before, Signal::SIGKILL).unwrap();
        eventually("the next process serves", || {
            searched("Went on after").matches("Went on").count()
                > usize::from(program == Program::Virtlockd)
        });
        fs::rename(format!("/usr/sbin/{}", program.name()), "/opt/away").unwrap();
        systemctl_fails(&["reload", &service(program)]);
        install(tests::harness::Whose::Ours, program);
    }
}

/// The commands on the page, about the guest and the files of this test.
fn commands() -> Vec<String> {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("    "));
    let commands = lines.filter(|line| !line.starts_with("error: "));
    commands.map(|line| line.replace("web1", "guest")).collect()
}

fn expect_success(command: &str) {
    let program = command.split(' ').next().unwrap();
    let is_there = ["/usr/bin", "/usr/sbin"].map(Path::new).map(|path| path.join(program).exists());
    if OPTIONAL.contains(&program) && !is_there.contains(&true) {
        return println!("{program} is not installed");
    }
    let output = Command::new("sh").args(["-c", command]).output().expect("sh can be run");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found = FOUND.iter().find(|(searched, _)| command.contains(searched));
    // A search that finds nothing.
    let may_fail = command.contains(" --grep ") && found.is_none();
    assert!(
        stderr.is_empty() && (output.status.success() || may_fail),
        "{command}: {}\n{stdout}{stderr}",
        output.status
    );
    if let Some((_, text)) = found {
        assert!(stdout.contains(text), "{command}: {stdout}");
    }
}

/// Messages of both daemons in the journal.
fn searched(pattern: &str) -> String {
    let arguments = ["-q", "-o", "cat", "-u", "virtlogd", "-u", "virtlockd", "--grep", pattern];
    let output = Command::new("journalctl").args(arguments).output().expect("journalctl is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
