//! virtlogd between libvirtd and real guests. The same scenarios run with libvirt's virtlogd and
//! with ours.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use tests::harness::{Whose, can_hang};
use tests::interop::{
    BootSector, Guest, Host, Setup, Virsh, complete, consecutive, on_host, wait_for,
};
use tests::scenario;

const SERIAL_LOG: &str = "/var/log/libvirt/qemu/serial.log";

/// A log that is rotated every 64 KiB, three old files kept.
const SMALL_LOGS: Setup<'_> = Setup {
    virtlogd_conf: "max_size = 65536\nmax_backups = 3\n",
    locking: false,
    qemu_lockd_conf: "",
};
const MAX_SIZE_BYTES: usize = 65536;

/// A guest called `name`, writing to a serial log of its own.
fn guest(name: &str, boot: BootSector) -> Guest {
    Guest::new(name, boot).serial_to_file(&serial_log(name))
}

fn serial_log(name: &str) -> String {
    format!("/var/log/libvirt/qemu/{name}-serial.log")
}

/// Waits until the guest has printed a line after `line` and returns the last one there is.
fn line_after(line: u32, host: &Host, guest: &Guest) -> u32 {
    let log = serial_log(guest.name());
    wait_for("a further line of the guest", || {
        // Before its first line is whole, a log has nothing to be judged.
        let log = host.read(&log);
        let last = if log.contains(&b'\n') { *consecutive(guest.boot(), &log).end() } else { 0 };
        (last > line).then_some(last)
    })
}

/// Length of `lines` printed lines.
fn bytes(lines: usize) -> usize {
    lines * BootSector::LINE_BYTES
}

/// The log at `path` once it has grown to `bytes`: a guest may have ended before virtlogd has
/// written its last words.
fn log_of(host: &Host, path: &str, bytes: usize) -> Vec<u8> {
    wait_for("the end of a log", || Some(host.read(path)).filter(|log| log.len() >= bytes))
}

/// The error of a guest that cannot start. libvirt's READ does not wait for what is still in QEMU's
/// pipe, so with libvirt's daemon it may lack QEMU's own words now and then.
fn refused_start(host: &Host, name: &str, words: &str) -> String {
    const ATTEMPTS_OF_LIBVIRTS: usize = 10;
    let attempts = if host.is_ours() { 1 } else { ATTEMPTS_OF_LIBVIRTS };
    let mut errors = (0..attempts).map(|_| host.system().refused(&["start", name]));
    errors.find(|error| error.contains(words)).unwrap_or_else(|| {
        panic!(
            "no {words:?} in {attempts} errors; now: {}",
            host.system().refused(&["start", name])
        )
    })
}

fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "no {part:?} in:\n{text}");
}

scenario!(console_of_a_guest_that_powers_off_is_complete, Setup::default(), |host| {
    let boot = BootSector::finite(*b"alfa", 20_000);
    host.system().launch(&guest("alfa", boot));
    host.system().wait_until_off("alfa");
    complete(&boot, 20_000, &log_of(host, &serial_log("alfa"), bytes(20_000)));
});

scenario!(qemu_log_tells_the_life_of_a_guest, Setup::default(), |host| {
    let guest = guest("alfa", BootSector::ticking(*b"alfa"));
    host.system().launch(&guest);
    line_after(0, host, &guest);
    host.system().run(&["destroy", "alfa"]);

    let log = host.read_text(&guest.qemu_log());
    assert_contains(log.lines().next().expect("a line"), ": starting up libvirt version: ");
    assert_contains(&log, "\n-name guest=alfa,");
    assert_contains(&log, "terminating on signal 15");
    assert_contains(&log, ": shutting down, reason=destroyed\n");
});

scenario!(terminal_log_is_replaced_or_continued_as_asked, Setup::default(), |host| {
    let boot = BootSector::finite(*b"alfa", 500);
    let replaced = Guest::new("replaced", boot).terminal_logged_to(SERIAL_LOG, false);
    let other = "/var/log/libvirt/qemu/continued-serial.log";
    let continued = Guest::new("continued", boot).terminal_logged_to(other, true);
    let printed = bytes(500);
    for (guest, path, kept) in [(&replaced, SERIAL_LOG, 0), (&continued, other, printed)] {
        host.system().launch(guest);
        complete(&boot, 500, &log_of(host, path, printed));
        host.system().wait_until_off(guest.name());
        host.system().run(&["start", guest.name()]);
        host.system().wait_until_off(guest.name());
        let log = log_of(host, path, kept + printed);
        complete(&boot, 500, &log[kept..]);
        complete(&boot, 500, &log[..printed]);
    }
});

scenario!(rotated_files_are_a_gapless_end_of_what_was_printed, SMALL_LOGS, |host| {
    let boot = BootSector::finite(*b"alfa", 30_000);
    host.system().launch(&guest("alfa", boot));
    host.system().wait_until_off("alfa");

    let path = serial_log("alfa");
    wait_for("the last line", || host.read(&path).ends_with(b" 00030000\n").then_some(()));
    let files = [format!("{path}.2"), format!("{path}.1"), format!("{path}.0"), path.clone()];
    let contents = files.map(|file| host.read(&file));
    for file in &contents {
        assert!(file.len() <= MAX_SIZE_BYTES, "{} bytes in a file", file.len());
    }
    let all = contents.concat();
    let lines = consecutive(&boot, &all);
    assert_eq!(*lines.end(), 30_000);
    assert!(all.len() > 3 * (MAX_SIZE_BYTES - 80), "{} bytes kept", all.len());
    assert!(!host.exists(&format!("{path}.3")));
});

scenario!(qemu_s_own_message_says_why_a_guest_does_not_start, Setup::default(), |host| {
    let bad_option =
        Guest::new("option", BootSector::ticking(*b"alfa")).qemu_arg("-nonexistent-option");
    host.system().define(&bad_option);
    refused_start(host, "option", "-nonexistent-option: invalid option");

    // The message is looked for after what earlier starts left in the log.
    let again = refused_start(host, "option", "invalid option");
    assert_eq!(again.matches("invalid option").count(), 1, "{again}");

    let bad_device =
        Guest::new("device", BootSector::ticking(*b"alfa")).qemu_arg("-device").qemu_arg("warp");
    host.system().define(&bad_device);
    refused_start(host, "device", "'warp' is not a valid device model name");
    assert_contains(&host.read_text(&bad_device.qemu_log()), "reason=failed");
});

scenario!(two_guests_at_once_each_get_their_own_lines, Setup::default(), |host| {
    let (alfa, beta) = (BootSector::finite(*b"alfa", 20_000), BootSector::finite(*b"beta", 20_000));
    host.system().launch(&guest("alfa", alfa));
    host.system().launch(&guest("beta", beta));
    for (name, boot) in [("alfa", alfa), ("beta", beta)] {
        host.system().wait_until_off(name);
        complete(&boot, 20_000, &log_of(host, &serial_log(name), bytes(20_000)));
    }
});

scenario!(guest_starts_again_at_once_ten_times, Setup::default(), |host| {
    let guest = guest("alfa", BootSector::flooding(*b"alfa"));
    host.system().launch(&guest);
    for _ in 0..10 {
        line_after(0, host, &guest);
        host.system().run(&["destroy", "alfa"]);
        host.system().run(&["start", "alfa"]);
    }
    let log = host.read_text(&guest.qemu_log());
    assert_eq!(log.matches(": starting up ").count(), 11);
    assert_eq!(log.matches("reason=destroyed").count(), 10);
});

scenario!(log_goes_on_while_libvirtd_is_restarted, Setup::default(), |host| {
    let guest = guest("alfa", BootSector::ticking(*b"alfa"));
    host.system().launch(&guest);
    let before = line_after(0, host, &guest);
    host.restart_libvirtd();
    assert_eq!(host.system().qemu_status("alfa"), "VM status: running");
    let after = line_after(before, host, &guest);
    line_after(after, host, &guest);

    host.system().run(&["destroy", "alfa"]);
    assert_contains(&host.read_text(&guest.qemu_log()), ": shutting down, reason=destroyed");
});

scenario!(guests_outlive_virtlogd_s_stop, Setup::default(), |host| {
    outlive(host, "TERM");
});

scenario!(guests_outlive_virtlogd_s_violent_death, Setup::default(), |host| {
    outlive(host, "KILL");
});

/// Ends virtlogd by `signal` under two guests, which must run on and be stopped as usual later.
fn outlive(host: &Host, signal: &str) {
    let quiet = guest("alfa", BootSector::ticking(*b"alfa"));
    let loud = guest("beta", BootSector::flooding(*b"beta"));
    for guest in [&quiet, &loud] {
        host.system().launch(guest);
        line_after(0, host, guest);
    }
    host.end(signal, "/run/virtlogd.pid");

    for guest in [&quiet, &loud] {
        assert_eq!(host.system().qemu_status(guest.name()), "VM status: running");
        consecutive(guest.boot(), &host.read(&serial_log(guest.name())));
    }

    host.run("virtlogd", &["-d"]);
    for guest in [&quiet, &loud] {
        host.system().run(&["destroy", guest.name()]);
        assert_contains(&host.read_text(&guest.qemu_log()), ": shutting down, reason=destroyed");
    }
}

scenario!(session_of_an_unprivileged_user_starts_its_own_virtlogd, Setup::default(), |host| {
    let home = Virsh::SESSION_HOME;
    let session = host.session();
    let boot = BootSector::finite(*b"alfa", 5_000);
    let console = format!("{home}/console.log");
    session.launch(&Guest::new("alfa", boot).stored_in(home).serial_to_file(&console));
    let virtlogd = host.pid(&format!("{}/libvirt/virtlogd.pid", Virsh::SESSION_RUN));
    let arguments = host.read_text(&format!("/proc/{virtlogd}/cmdline"));
    assert_eq!(arguments, "/usr/sbin/virtlogd\0--timeout=120\0");

    session.wait_until_off("alfa");
    complete(&boot, 5_000, &log_of(host, &console, bytes(5_000)));
    let log = host.read_text(&format!("{home}/.cache/libvirt/qemu/log/alfa.log"));
    assert_contains(&log, ": starting up libvirt version: ");
    assert_contains(&log, ": shutting down, reason=shutdown");
});

/// A guest's monitor, by way of libvirtd.
struct Monitor {
    virsh: Child,
    said: Lines<BufReader<ChildStdout>>,
    query: String,
}

impl Monitor {
    fn of(host: &Host, guest: &str) -> Self {
        let mut virsh = host.command("virsh");
        let virsh = virsh
            .args(["--connect", "qemu:///system"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut virsh = virsh.spawn().expect("starting virsh");
        let said = BufReader::new(virsh.stdout.take().expect("a pipe")).lines();
        let query = format!("qemu-monitor-command {guest} '{{\"execute\":\"query-status\"}}'\n");
        Self { virsh, said, query }
    }

    /// How long it takes until it says that the guest runs.
    fn ask(&mut self) -> Duration {
        let begin = Instant::now();
        let mut to_virsh = self.virsh.stdin.as_ref().expect("a pipe");
        to_virsh.write_all(self.query.as_bytes()).expect("virsh reads");
        let found = self.said.by_ref().map_while(Result::ok).any(|line| line.contains("running"));
        assert!(found, "the guest does not run");
        begin.elapsed()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.virsh.kill().ok();
        self.virsh.wait().ok();
    }
}

/// How long the file system hangs. `HANG_S` makes it another number of seconds.
const HANG: Duration = Duration::from_secs(5);

/// libvirt's virtlogd hangs along, and with it every guest's monitor.
#[test]
fn monitor_answers_while_the_log_directory_hangs() {
    if !can_hang("guests on a log directory that hangs") {
        return;
    }
    on_host(Whose::Ours, module_path!(), &Setup::default(), |host| {
        let directory = "/var/log/libvirt/slow";
        let server = env!("CARGO_BIN_EXE_stoppable_fs");
        host.run("mkdir", &[directory, "/var/log/libvirt/backing"]);
        let mount = format!(
            "{server} /var/log/libvirt/backing {directory} >/dev/null 2>&1 & echo $!
             until mountpoint -q {directory}; do sleep 0.05; done"
        );
        let pid: u32 = host.run("sh", &["-c", &mount]).trim().parse().expect("a process id");
        let log = format!("{directory}/alfa-serial.log");
        let (flood, other) = (BootSector::flooding(*b"alfa"), BootSector::ticking(*b"beta"));
        let (alfa, beta) = (Guest::new("alfa", flood).serial_to_file(&log), guest("beta", other));
        host.system().launch(&alfa);
        host.system().launch(&beta);
        let backing = "/var/log/libvirt/backing/alfa-serial.log";
        wait_for("output", || (host.read(backing).len() > 100_000).then_some(()));
        let mut monitor = Monitor::of(host, "alfa");
        let before: Vec<_> = (0..20).map(|_| monitor.ask()).collect();
        host.signal("STOP", pid);
        let seconds = std::env::var("HANG_S").ok().and_then(|text| text.parse().ok());
        let end = Instant::now() + seconds.map_or(HANG, Duration::from_secs);
        let mut meanwhile = Vec::new();
        while Instant::now() < end {
            meanwhile.push(monitor.ask());
            line_after(line_after(0, host, &beta), host, &beta);
        }
        host.signal("CONT", pid);
        for (when, mut times) in [("before", before), ("meanwhile", meanwhile)] {
            times.sort();
            let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
            eprintln!("query-status, {when}, {} times: {median:?}, {max:?} at most", times.len());
        }
        // A fast guest fills more than one file, and would go on until the line is in none of them.
        let parts = ["2", "1", "0"].map(|part| format!("{backing}.{part}")).join(" ");
        let losses = || {
            let text = host.run("sh", &["-c", &format!("cat {parts} {backing} 2>&1; true")]);
            text.matches(" bytes of this log were lost").count()
        };
        wait_for("the line about the loss", || (losses() > 0).then_some(()));
        host.system().run(&["destroy", "alfa"]);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(losses(), 1);
    });
}
