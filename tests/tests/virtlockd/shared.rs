//! Leases on shared storage: a host is cut off from the server, which gives its locks away when the
//! lease time is over. The judge is the trace of what guests have written meanwhile, past that file
//! system.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;
use tests::blocks::{Block, SECOND_HOST, judge};
use tests::harness::{Daemon, Setup, Subject, Whose, can_hang, eventually};
use tests::wire::LockClient;

use super::{Kind, client_of, open, text, try_lock};

tests::ours! { Virtlockd:
    a_guest_that_is_cut_off_ends_before_its_lease,
    without_the_margin_guests_of_two_hosts_write_at_once,
    an_upgrade_meanwhile_keeps_the_times,
    a_lease_that_is_not_proved_is_told_of,
    without_shared_storage_there_is_no_prober,
    wrong_settings_are_refused_at_a_start_and_before_an_upgrade,
}

const SERVER: &str = env!("CARGO_BIN_EXE_leasing_fs");

/// Lease time of the server, the shortest with which guests can be ended.
const LEASE_MS: u64 = 7000;

/// Number of pairs of hosts that are partitioned at the same time, and how often each.
const PAIRS: usize = 8;
const ROUNDS_VARIABLE: &str = "VIRT_TESTS_PARTITIONS";

/// Makes the file systems: `$pairs` of them, for a server with a lease time of `$lease_ms`.
const MOUNT: &str = r#"
for n in $(seq 0 $((pairs - 1))); do
    d=$1/files/pair$n; mkdir -p $d/backing $d/first $d/second; : > $d/backing/image
    setpriv --pdeathsig KILL "$server" $d/backing $d/first $d/second $d/cut $lease_ms </dev/null >/dev/null &
done
for n in $(seq 0 $((pairs - 1))); do
    until mountpoint -q $1/files/pair$n/second; do sleep 0.01; done
done
"#;

/// A pair of hosts. The daemon is the first one's; the second is the test itself.
struct Pair {
    directory: PathBuf,
    /// The same, as the daemon's mount namespace has it.
    inside: PathBuf,
}

/// Guest of the first host, with its lease.
struct Guest {
    process: Child,
    _client: LockClient,
}

impl Pair {
    fn of(daemon: &Daemon, number: usize) -> Self {
        let directory = daemon.file(&format!("pair{number}"));
        let inside = daemon.inside(directory.to_str().expect("text"));
        Self { directory, inside }
    }

    fn image(&self) -> String {
        text(&self.directory.join("first/image"))
    }

    fn trace(&self) -> PathBuf {
        self.directory.join("trace")
    }

    /// Starts a guest that has a lease and writes, and takes no notice of `SIGTERM`.
    fn start_guest(&self, daemon: &Daemon) -> Guest {
        let mut command = Command::new("setpriv");
        let words = ["--pdeathsig", "KILL", "env", "--ignore-signal=TERM", SERVER, "guest"];
        command.args(words).arg(self.trace());
        let process = command.spawn().expect("starting a guest");
        let mut client = client_of(daemon, process.id());
        eventually("the lease is free", || client.acquire("", &self.image(), 0).is_ok());
        Guest { process, _client: client }
    }

    /// Cuts the first host off.
    fn cut(&self) {
        fs::write(self.directory.join("cut"), "").expect("cutting");
    }

    fn heal(&self) {
        fs::remove_file(self.directory.join("cut")).expect("healing");
    }

    /// Takes the lock for the second host as soon as it can be had, and writes the first block there.
    /// Returns the lock, and when the lease of the first host has run out.
    fn take_over(&self) -> (File, u64) {
        let lock = open(&text(&self.inside.join("second/image")));
        let end = Instant::now() + Duration::from_millis(3 * LEASE_MS);
        while !try_lock(&lock, Kind::Ofd, libc::F_WRLCK, 0) {
            assert!(Instant::now() < end, "the server has not given the lock away");
            thread::sleep(Duration::from_millis(1));
        }
        let mut trace = File::options().append(true).open(self.trace()).expect("a trace");
        trace.write_all(&Block::now(SECOND_HOST).bytes()).expect("writing");
        let heard =
            fs::read_to_string(self.directory.join("cut.heard")).expect("when it was heard");
        (lock, heard.parse::<u64>().expect("a time") + LEASE_MS)
    }

    /// A partition from its beginning to its end. Returns by how much the guest was early, or what is
    /// wrong.
    fn partition(&self, daemon: &Daemon, pause: Duration) -> Result<u64, String> {
        let mut guest = self.start_guest(daemon);
        thread::sleep(pause);
        assert!(is_alive(guest.process.id()), "it was ended without a reason: {}", daemon.stderr());
        self.cut();
        let (lock, end_ms) = self.take_over();
        // A guest that is still there goes on for a moment.
        thread::sleep(Duration::from_millis(50));
        let trace = fs::read(self.trace()).expect("a trace");
        drop(lock);
        self.heal();
        guest.process.kill().expect("killing");
        guest.process.wait().expect("waiting");
        fs::remove_file(self.trace()).expect("removing the trace");
        judge(&trace, end_ms)
    }
}

/// Starts a daemon with pairs of hosts, which takes the server's lease time for `lease_s`.
fn start(subject: Subject, pairs: usize, lease_s: u64, on_lost_lease: &str) -> Option<Daemon> {
    Some(setup(subject, pairs, lease_s, on_lost_lease)?.start())
}

fn setup(subject: Subject, pairs: usize, lease_s: u64, on_lost_lease: &str) -> Option<Setup> {
    if !can_hang("leases on shared storage") {
        return None;
    }
    let setup = subject.setup();
    let host = setup.host();
    let mounts = (0..pairs).map(|number| {
        let point = host.file(&format!("pair{number}/first"));
        format!("[[mount]]\npath = '{}'\nlease_s = {lease_s}\n", point.display())
    });
    let rule = format!("[[rule]]\npath = '**/first/*'\non_lost_lease = '{on_lost_lease}'\n");
    let prepare = format!("server='{SERVER}' pairs={pairs} lease_ms={LEASE_MS}\n{MOUNT}");
    Some(setup.toml(&(rule + &mounts.collect::<String>())).prepare(&prepare))
}

/// Number of the processes that the daemon has started and that ask servers.
fn probers(daemon: &Daemon) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_child = status.lines().any(|line| {
            line.strip_prefix("PPid:").is_some_and(|pid| pid.trim() == daemon.pid().to_string())
        });
        count += usize::from(is_child && line.ends_with(b"--probe-mounts\0"));
    }
    count
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Pauses before partitions, spread over the times between questions, and long enough for a guest to
/// be ended if they were not answered.
fn pause(number: usize) -> Duration {
    Duration::from_millis(50 + u64::try_from(number).expect("small") * 1389 % 5300)
}

fn a_guest_that_is_cut_off_ends_before_its_lease(subject: Subject) {
    let partitions = std::env::var(ROUNDS_VARIABLE).ok().and_then(|text| text.parse().ok());
    let partitions: usize = partitions.unwrap_or(PAIRS);
    let pairs = if partitions > PAIRS { 4 * PAIRS } else { PAIRS };
    let Some(daemon) = start(subject, pairs, LEASE_MS / 1000, "end") else { return };
    let of_pair = |number: usize| {
        let pair = Pair::of(&daemon, number);
        let mut early = Vec::new();
        for partition in (number..partitions).step_by(pairs) {
            let done = pair.partition(&daemon, pause(partition));
            early.push(done.unwrap_or_else(|wrong| panic!("partition {partition}: {wrong}")));
        }
        early
    };
    let early: Vec<u64> = thread::scope(|scope| {
        let pairs: Vec<_> = (0..pairs).map(|number| scope.spawn(move || of_pair(number))).collect();
        pairs.into_iter().flat_map(|pair| pair.join().expect("a partition")).collect()
    });
    assert_eq!(early.len(), partitions);
    println!("{partitions} partitions; the latest guest was {:?} ms early", early.iter().min());
}

/// The same with a daemon that takes the lease time for longer by all that it plans for a guest's end:
/// the judge finds what it has to find.
fn without_the_margin_guests_of_two_hosts_write_at_once(subject: Subject) {
    let Some(daemon) = start(subject, 1, LEASE_MS / 1000 + 5, "end") else { return };
    let wrong = Pair::of(&daemon, 0).partition(&daemon, pause(0)).unwrap_err();
    assert!(wrong.contains("is behind"), "{wrong}");
}

fn an_upgrade_meanwhile_keeps_the_times(subject: Subject) {
    let Some(setup) = setup(subject, 1, LEASE_MS / 1000, "end") else { return };
    let mut daemon = setup.replaceable().start();
    let pair = Pair::of(&daemon, 0);
    let guest = pair.start_guest(&daemon);
    eventually("a prober runs", || probers(&daemon) == 1);
    thread::sleep(Duration::from_millis(2500));
    pair.cut();
    // Its question of this time hangs.
    thread::sleep(Duration::from_millis(1300));
    assert!(is_alive(guest.process.id()));
    daemon.put(Whose::Ours);
    daemon.upgrade();
    let (_lock, end_ms) = pair.take_over();
    let trace = fs::read(pair.trace()).expect("a trace");
    pair.heal();
    // Without the time of the last answer it would have been later.
    let early_ms = judge(&trace, end_ms).expect("no overlap");
    assert!(early_ms > 2500, "{early_ms}");
    eventually("nothing is left of the prober before", || probers(&daemon) <= 1);
    assert!(daemon.is_running());
}

fn a_lease_that_is_not_proved_is_told_of(subject: Subject) {
    let Some(daemon) = start(subject, 1, LEASE_MS / 1000, "log") else { return };
    let pair = Pair::of(&daemon, 0);
    let mut guest = pair.start_guest(&daemon);
    let proof = |daemon: &Daemon| {
        let text = list(daemon);
        let line = text.lines().find(|line| line.contains("first/image")).map(str::to_owned);
        line.unwrap_or_default().split_whitespace().nth(6).unwrap_or_default().to_owned()
    };
    eventually("the lease is proved", || proof(&daemon) == "yes");
    pair.cut();
    thread::sleep(Duration::from_millis(LEASE_MS - 2000));
    assert_eq!(proof(&daemon), "yes");
    eventually("it is not proved any more", || proof(&daemon) == "no");
    daemon.expect_said("are not proved any more: its server does not answer");
    pair.heal();
    eventually("there was a gap", || proof(&daemon) == "doubtful");
    daemon.expect_said("another host may have had leases of this one meanwhile");
    assert!(is_alive(guest.process.id()), "nothing ends it");
    guest.process.kill().expect("killing");
    guest.process.wait().expect("waiting");
    eventually("with the last lease the prober goes", || probers(&daemon) == 0);
    drop(pair.start_guest(&daemon).process.kill());
}

fn without_shared_storage_there_is_no_prober(subject: Subject) {
    let Some(daemon) = start(subject, 1, LEASE_MS / 1000, "end") else { return };
    let image = super::image(&daemon, "image");
    let mut client = client_of(&daemon, super::NOBODY);
    client.acquire("", &image, 0).unwrap();
    assert_eq!(probers(&daemon), 0);
    let shared = Pair::of(&daemon, 0).image();
    client.acquire("", &shared, 0).unwrap();
    eventually("a prober runs", || probers(&daemon) == 1);
    client.release("", &shared, 0).unwrap();
    eventually("it goes with the last lease", || probers(&daemon) == 0);
    client.acquire("", &shared, 0).unwrap();
    daemon.signal(Signal::SIGTERM);
    eventually("it goes with the daemon", || probers(&daemon) == 0 && !is_alive(daemon.pid()));
}

fn wrong_settings_are_refused_at_a_start_and_before_an_upgrade(subject: Subject) {
    let wrong = "[[rule]]\npath = '/a'\non_lost_lease = 'kill'\n";
    let refusal = "virtlockd.toml:3:17: 'on_lost_lease' has to be \"log\" or \"end\"";
    let exit = subject.setup().toml(wrong).run();
    assert!(exit.code != Some(0) && exit.stderr.contains(refusal), "{}", exit.stderr);
    let setup = subject.setup().toml("[[mount]]\npath = '/a'\nlease_s = 7\n").replaceable();
    let path = setup.host().path("etc/libvirt/virtlockd.toml");
    let mut daemon = setup.start();
    fs::write(&path, wrong).expect("writing our own settings");
    let status = daemon.upgrade_is_refused();
    assert!(status.contains(refusal), "{status}");
    fs::remove_file(path).expect("removing our own settings");
    daemon.put(Whose::Ours);
    daemon.upgrade();
}

fn list(daemon: &Daemon) -> String {
    let program = daemon.subject().program.tool();
    let socket = daemon.admin_socket();
    let uri = format!("virtlockd:///system?socket={}", text(Path::new(&socket)));
    let output = Command::new(program).args(["--connect", &uri, "list"]).output().expect("asking");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
