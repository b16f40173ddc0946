//! The daemon's own log on a disk that hangs, or on a pipe that nobody reads: nobody waits for it. libvirt's
//! daemons wait.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{
    Daemon, Program, Setup, SlowFiles, SlowFilesOfBackground, Subject, Whose, can_hang, eventually,
    expect_file,
};
use tests::wire::{
    ADMIN_PROGRAM, Connection, LockClient, LogClient, OpenLog, Owner, Reader, RpcError, Writer,
};

mod virtlogd {
    use super::*;
    tests::ours! { Virtlogd:
        a_sound_disk_loses_nothing,
        a_file_that_hangs_keeps_nobody_waiting,
        the_default_file_of_the_background_that_hangs_keeps_nobody_waiting,
        stderr_on_a_disk_that_hangs_keeps_nobody_waiting,
        stderr_that_nobody_reads_keeps_nobody_waiting,
        a_stop_does_not_wait_for_it,
        an_upgrade_waits_for_it_and_nobody_else_does,
        a_start_does_not_wait_for_it,
        a_start_into_the_background_does_not_wait_for_it,
        a_start_that_fails_does_not_wait_for_it,
        an_administrator_waits_for_it_and_nobody_else_does,
        an_output_that_is_replaced_loses_nothing,
    }
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        a_sound_disk_loses_nothing,
        a_file_that_hangs_keeps_nobody_waiting,
        the_default_file_of_the_background_that_hangs_keeps_nobody_waiting,
        stderr_on_a_disk_that_hangs_keeps_nobody_waiting,
        stderr_that_nobody_reads_keeps_nobody_waiting,
        a_stop_does_not_wait_for_it,
        an_upgrade_waits_for_it_and_nobody_else_does,
        a_start_does_not_wait_for_it,
        a_start_into_the_background_does_not_wait_for_it,
        a_start_that_fails_does_not_wait_for_it,
        an_administrator_waits_for_it_and_nobody_else_does,
        an_output_that_is_replaced_loses_nothing,
    }
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// Procedure numbers (libvirt's values, on the wire).
const GET_LOGGING_OUTPUTS: i32 = 14;
const SET_LOGGING_OUTPUTS: i32 = 16;

/// Enough that the daemon says more of them than it keeps: 120 bytes each at the least.
const MANY_CALLS: usize = 12_000;

/// Nobody waits for longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// What stands in place of lost messages.
const LOST: &str = " log messages could not be written here and are lost";

/// The one who depends on the daemon, and whose files are on a sound disk.
enum Tenant {
    Log { path: PathBuf, log: OpenLog, client: LogClient, written: String },
    Lease { image: String, client: LockClient, _guest: Guest },
}

/// A process that leases are for.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.kill().expect("ending a guest");
        self.0.wait().expect("waiting for a guest");
    }
}

impl Tenant {
    fn of(daemon: &Daemon) -> Self {
        match daemon.subject().program {
            Program::Virtlogd => {
                let (path, mut client) = (daemon.file("guest.log"), daemon.log_client());
                let log = client.open(&path).unwrap();
                Self::Log { path, log, client, written: String::new() }
            }
            Program::Virtlockd => {
                let path = daemon.file("image");
                fs::write(&path, "").unwrap();
                let guest = Guest(Command::new("sleep").arg("1000").spawn().unwrap());
                let mut client = daemon.lock_client();
                client.register(&Owner::of(guest.0.id()), 0).unwrap();
                let image = path.to_str().unwrap().to_owned();
                Self::Lease { image, client, _guest: guest }
            }
        }
    }

    /// Asks for something, which has to come soon.
    #[track_caller]
    fn is_served(&mut self) {
        let since = Instant::now();
        match self {
            Self::Log { path, log, client, written } => {
                log.pipe.write_all(b"line\n").unwrap();
                written.push_str("line\n");
                assert_eq!(client.position(path).unwrap().offset, written.len() as u64);
            }
            Self::Lease { image, client, .. } => {
                client.acquire("", image, 0).unwrap();
                client.release("", image, 0).unwrap();
            }
        }
        assert!(since.elapsed() < PATIENCE, "it took {:?}", since.elapsed());
    }

    /// Asks for so much that the daemon's log would be full of it.
    #[track_caller]
    fn is_served_at_length(&mut self) {
        (0..MANY_CALLS).for_each(|_| self.is_served());
    }
}

fn a_sound_disk_loses_nothing(subject: Subject) {
    let setup = subject.setup().env("LIBVIRT_DEBUG", "1");
    let host = setup.host();
    let own_log = host.file("own.log");
    let output = format!("1:file:{}", own_log.display());
    let daemon = setup.env("LIBVIRT_LOG_OUTPUTS", output).start();
    let mut tenant = Tenant::of(&daemon);
    tenant.is_served_at_length();
    drop(tenant);
    assert_eq!(daemon.stop().code, Some(0));
    let said = fs::read_to_string(own_log).unwrap();
    assert!(calls(&said) >= MANY_CALLS * calls_of_a_turn(subject) && !said.contains(LOST));
    expect_lines_in_order(&said);
}

fn a_file_that_hangs_keeps_nobody_waiting(subject: Subject) {
    if !can_hang("a log file that hangs") {
        return;
    }
    let setup = setup(subject);
    let output = own_log(&setup, "slow/own.log");
    let daemon = setup.env("LIBVIRT_LOG_OUTPUTS", format!("1:file:{output}")).start();
    keeps_nobody_waiting(&daemon, "own.log");
}

fn the_default_file_of_the_background_that_hangs_keeps_nobody_waiting(subject: Subject) {
    if !can_hang("a log file that hangs") {
        return;
    }
    let (setup, _server) = setup_of_background(subject);
    let daemon = setup.prepare(r#"mount -n --bind "$1/files/slow" /var/log"#).start_detached();
    keeps_nobody_waiting(&daemon, &format!("libvirt/{}.log", subject.program.name()));
}

fn stderr_on_a_disk_that_hangs_keeps_nobody_waiting(subject: Subject) {
    if !can_hang("a disk that hangs under stderr") {
        return;
    }
    let setup = setup(subject);
    let stderr = own_log(&setup, "slow/stderr");
    let redirected = format!(r#"exec "$0" "$@" 2>>'{stderr}'"#);
    let daemon = setup.through(["bash", "-c", &redirected]).start();
    keeps_nobody_waiting(&daemon, "stderr");
}

/// While it hangs and afterwards; and when it answers again everything is there or told of as lost.
fn keeps_nobody_waiting(daemon: &Daemon, own_log: &str) {
    let slow = SlowFiles::of(&daemon.host());
    let mut tenant = Tenant::of(daemon);
    tenant.is_served();
    slow.stop();
    tenant.is_served_at_length();
    assert!(daemon.memory_kib("VmRSS") < 12 << 10, "{} KiB", daemon.memory_kib("VmRSS"));
    let mut newcomer = daemon.connect_admin();
    newcomer.call(ADMIN_PROGRAM, GET_LOGGING_OUTPUTS, &[0; 4]).unwrap();
    slow.go_on();
    let own_log = slow.backing(own_log);
    let said = || fs::read_to_string(&own_log).unwrap_or_default();
    eventually("it is told what was lost", || said().contains(LOST));
    tenant.is_served();
    eventually("it goes on", || said().rsplit(LOST).next().is_some_and(|rest| rest.len() > 100));
    expect_lines_in_order(&said());
}

fn stderr_that_nobody_reads_keeps_nobody_waiting(subject: Subject) {
    let unread = r#"exec "$0" "$@" 2> >(exec setpriv --pdeathsig KILL sleep 1000)"#;
    let setup = subject.setup().replaceable().env("LIBVIRT_DEBUG", "1");
    let host = setup.host();
    let other = host.file("other.log");
    let outputs = format!("1:stderr 3:file:{}", other.display());
    let setup = setup.env("LIBVIRT_LOG_OUTPUTS", outputs);
    let mut daemon = setup.through(["bash", "-c", unread]).start();
    let is_told = |text| fs::read_to_string(&other).is_ok_and(|said| said.contains(text));
    let mut tenant = Tenant::of(&daemon);
    tenant.is_served_at_length();
    // A pipe can be left at any time.
    daemon.change_to(Whose::Ours);
    // A full pipe still has up to a page of room for short lines.
    (0..100).for_each(|_| tenant.is_served());
    eventually("it is told", || is_told(" messages for the log stderr were lost at the upgrade"));
    let since = Instant::now();
    assert_eq!(daemon.stop().code, Some(0));
    assert!(since.elapsed() < 2 * PATIENCE, "{:?}", since.elapsed());
    assert!(is_told(" messages for the log stderr could not be written"));
}

fn a_stop_does_not_wait_for_it(subject: Subject) {
    let Some((mut daemon, slow)) = start(subject) else { return };
    let mut tenant = Tenant::of(&daemon);
    tenant.is_served();
    slow.stop();
    tenant.is_served();
    if let Tenant::Log { log, .. } = &mut tenant {
        log.pipe.write_all(b"last words\n").unwrap();
    }
    let (since, pid_file) = (Instant::now(), daemon.pid_file());
    daemon.signal(Signal::SIGTERM);
    eventually("the pid file is gone", || !pid_file.exists());
    assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
    if let Tenant::Log { path, written, .. } = &tenant {
        expect_file(path, format!("{written}last words\n"));
    }
    slow.go_on();
    assert_eq!(daemon.wait().code, Some(0));
}

fn an_upgrade_waits_for_it_and_nobody_else_does(subject: Subject) {
    let Some((mut daemon, slow)) = start(subject) else { return };
    let mut tenant = Tenant::of(&daemon);
    slow.stop();
    tenant.is_served();
    thread::sleep(Duration::from_millis(400));
    daemon.put(Whose::Ours);
    let status = daemon.upgrade_is_refused();
    assert!(status.contains("slow/own.log does not answer; retrying"), "{status}");
    tenant.is_served_at_length();
    daemon.forget_notifications();
    slow.go_on();
    daemon.wait_until_upgraded();
    tenant.is_served();
}

fn a_start_does_not_wait_for_it(subject: Subject) {
    if !can_hang("a log file that hangs") {
        return;
    }
    let daemon = log_while_it_hangs(setup(subject)).start();
    serves_although_it_hangs(&daemon);
}

fn a_start_into_the_background_does_not_wait_for_it(subject: Subject) {
    if !can_hang("a log file that hangs") {
        return;
    }
    let (setup, _server) = setup_of_background(subject);
    let daemon = log_while_it_hangs(setup).start_detached();
    serves_although_it_hangs(&daemon);
}

fn a_start_that_fails_does_not_wait_for_it(subject: Subject) {
    if !can_hang("a disk that hangs under stderr") {
        return;
    }
    // The file system has to be asked once for what it cannot do: a look at stderr, as Rust's runtime
    // has at every start, and one at whether closing a file takes anything.
    let redirected = r#"exec 9>>"$1/files/slow/stderr"; export SLOW=$(cat "$1/slow.pid")"#;
    let command = r#""$0" --version 2>&9; kill -STOP $SLOW; exec "$0" "$@" 2>&9"#;
    let setup = setup(subject).config("max_clients = 'many'").prepare(redirected);
    let since = Instant::now();
    let exit = setup.through(["bash", "-c", command]).run();
    assert_eq!(exit.code, Some(1));
    assert!(since.elapsed() < 2 * PATIENCE, "{:?}", since.elapsed());
}

fn log_while_it_hangs(setup: Setup) -> Setup {
    let output = own_log(&setup, "slow/own.log");
    let setup = setup.prepare(r#"kill -STOP "$(cat "$1/slow.pid")""#);
    setup.env("LIBVIRT_LOG_OUTPUTS", format!("1:file:{output}"))
}

/// What it has to say is said when the disk answers.
fn serves_although_it_hangs(daemon: &Daemon) {
    let slow = SlowFiles::of(&daemon.host());
    let mut tenant = Tenant::of(daemon);
    tenant.is_served();
    slow.go_on();
    let backing = slow.backing("own.log");
    eventually("it is written", || {
        fs::read_to_string(&backing).is_ok_and(|said| {
            said.contains(": info : libvirt version: ") && said.contains(": debug : ")
        })
    });
    tenant.is_served();
}

fn an_administrator_waits_for_it_and_nobody_else_does(subject: Subject) {
    if !can_hang("a log file that hangs") {
        return;
    }
    let daemon = setup(subject).start();
    let slow = SlowFiles::of(&daemon.host());
    let mut tenant = Tenant::of(&daemon);
    let wanted = format!("1:file:{}", daemon.file("slow/new.log").display());
    slow.stop();
    let setting = {
        let (mut admin, wanted) = (daemon.connect_admin(), wanted.clone());
        thread::spawn(move || set_outputs(&mut admin, &wanted))
    };
    let mut other = daemon.connect_admin();
    (0..100).for_each(|_| tenant.is_served());
    assert_eq!(outputs(&mut other), "1:stderr");
    let third = format!("1:file:{}", daemon.file("third.log").display());
    set_outputs(&mut other, &third).unwrap();
    assert_eq!(outputs(&mut other), third);
    assert!(!setting.is_finished());
    slow.go_on();
    setting.join().unwrap().unwrap();
    assert_eq!(outputs(&mut other), wanted);
    tenant.is_served();
    let backing = slow.backing("new.log");
    eventually("it is used", || fs::read_to_string(&backing).is_ok_and(|said| !said.is_empty()));
}

fn an_output_that_is_replaced_loses_nothing(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    let (mut tenant, mut admin) = (Tenant::of(&daemon), daemon.connect_admin());
    slow.stop();
    (0..100).for_each(|_| tenant.is_served());
    let next = format!("1:file:{}", daemon.file("next.log").display());
    set_outputs(&mut admin, &next).unwrap();
    (0..100).for_each(|_| tenant.is_served());
    slow.go_on();
    let (first, second) = (slow.backing("own.log"), daemon.file("next.log"));
    let said = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let told = || calls(&said(&first)) + calls(&said(&second));
    eventually("every call is told", || told() >= 200 * calls_of_a_turn(subject));
    expect_lines_in_order(&said(&first));
}

/// A daemon that logs everything into `slow/own.log`.
fn start(subject: Subject) -> Option<(Daemon, SlowFiles)> {
    if !can_hang("a log file that hangs") {
        return None;
    }
    let setup = setup(subject);
    let output = own_log(&setup, "slow/own.log");
    let daemon = setup.env("LIBVIRT_LOG_OUTPUTS", format!("1:file:{output}")).start();
    let slow = SlowFiles::of(&daemon.host());
    Some((daemon, slow))
}

fn setup(subject: Subject) -> Setup {
    subject.setup().replaceable().with_slow_files(SERVER).env("LIBVIRT_DEBUG", "1")
}

fn setup_of_background(subject: Subject) -> (Setup, SlowFilesOfBackground) {
    let setup = subject.setup().env("LIBVIRT_DEBUG", "1");
    setup.with_slow_files_of_background(SERVER)
}

fn own_log(setup: &Setup, name: &str) -> String {
    setup.host().file(name).to_str().expect("a scratch directory's name").to_owned()
}

/// What the log tells of calls.
fn calls(said: &str) -> usize {
    said.matches("call ").count()
}

/// How many it is when a tenant is served once.
fn calls_of_a_turn(subject: Subject) -> usize {
    match subject.program {
        Program::Virtlogd => 1,
        Program::Virtlockd => 2,
    }
}

/// Lines begin with their times, and none is cut or mixed with another.
#[track_caller]
fn expect_lines_in_order(said: &str) {
    let mut last = "";
    for line in said.lines() {
        let time = line.get(..28).filter(|time| time.ends_with("+0000") && time.starts_with("20"));
        let time = time.unwrap_or_else(|| panic!("no line: {line}"));
        assert!(time >= last, "{time} after {last}");
        last = time;
    }
}

fn set_outputs(admin: &mut Connection, setting: &str) -> Result<(), RpcError> {
    let arguments = Writer::new().u32(1).string(setting).u32(0).into_bytes();
    admin.call(ADMIN_PROGRAM, SET_LOGGING_OUTPUTS, &arguments).map(drop)
}

fn outputs(admin: &mut Connection) -> String {
    let (payload, _) = admin.call(ADMIN_PROGRAM, GET_LOGGING_OUTPUTS, &[0; 4]).unwrap();
    String::from_utf8(Reader::new(&payload).string().to_vec()).unwrap()
}
