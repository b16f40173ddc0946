//! Leases on shared storage: a host is cut off from the server, which gives its locks away when the
//! lease time is over. The judge is the trace of what guests have written meanwhile, past that file
//! system.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::blocks::{Block, boot_time_ms, judge};
use tests::harness::{Daemon, Program, Route, Setup, Subject, Whose, can_hang, eventually};

use super::pair::{LEASE_MS, Pair, is_alive, listed, mounted, probers};
use super::{NOBODY, client_of};

tests::mixed! { Virtlockd: a_hand_over_to_libvirts_daemon_says_that_the_policy_ends }

tests::ours! { Virtlockd:
    a_guest_that_is_cut_off_ends_before_its_lease,
    without_the_margin_guests_of_two_hosts_write_at_once,
    an_upgrade_meanwhile_keeps_the_times,
    a_lease_that_is_not_proved_is_told_of,
    a_guest_that_cannot_end_is_told_of,
    a_lease_for_the_daemons_own_pid_does_not_end_the_daemon,
    a_daemon_that_is_late_gives_a_guest_no_more_time,
    a_stop_says_that_the_policy_ends,
    without_shared_storage_there_is_no_prober,
    wrong_settings_are_refused_at_a_start_and_before_an_upgrade,
}

/// Number of pairs of hosts that are partitioned at the same time, and how often each.
const PAIRS: usize = 8;
const ROUNDS_VARIABLE: &str = "VIRT_TESTS_PARTITIONS";

/// A partition from its beginning to its end. Returns by how much the guest was early, or what is
/// wrong.
fn partition(pair: &Pair, daemon: &Daemon, pause: Duration) -> Result<u64, String> {
    let mut guest = pair.start_guest(daemon);
    thread::sleep(pause);
    assert!(is_alive(guest.process.id()), "it was ended without a reason: {}", daemon.stderr());
    pair.cut();
    let (lock, end_ms) = pair.take_over();
    // A guest that is still there goes on for a moment.
    thread::sleep(Duration::from_millis(50));
    let trace = fs::read(pair.trace()).expect("a trace");
    drop(lock);
    pair.heal();
    guest.process.kill().expect("killing");
    guest.process.wait().expect("waiting");
    fs::remove_file(pair.trace()).expect("removing the trace");
    judge(&trace, end_ms)
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
    Some(setup.toml(&(rule + &mounts.collect::<String>())).prepare(&mounted(pairs)))
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
            let done = self::partition(&pair, &daemon, pause(partition));
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
    let wrong = partition(&Pair::of(&daemon, 0), &daemon, pause(0)).unwrap_err();
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
        let text = listed(daemon);
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

fn a_lease_for_the_daemons_own_pid_does_not_end_the_daemon(subject: Subject) {
    let Some(mut daemon) = start(subject, 1, LEASE_MS / 1000, "end") else { return };
    let pair = Pair::of(&daemon, 0);
    let mut client = client_of(&daemon, daemon.pid());
    client.acquire("", &pair.image(), 0).expect("a lease");
    pair.cut();
    daemon.expect_said("its pid is this daemon's own");
    pair.heal();
    assert!(daemon.is_running());
    client_of(&daemon, NOBODY);
}

/// A guest that waits for its disk: the kernel does not end it before that answers.
fn a_guest_that_cannot_end_is_told_of(subject: Subject) {
    const ATTEMPTS: usize = 4;
    assert!((0..ATTEMPTS).any(|_| is_told_of_a_guest_that_cannot_end(subject)));
}

/// `false` if the guest did not wait for its disk when it was told to end: that takes a moment.
fn is_told_of_a_guest_that_cannot_end(subject: Subject) -> bool {
    let Some(daemon) = start(subject, 1, LEASE_MS / 1000, "end") else { return true };
    let pair = Pair::of(&daemon, 0);
    let reading = "while true; do read -r _ < \"$0\"; done";
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "bash", "-c", reading]).arg(daemon.inside(&pair.image()));
    let mut process = command.spawn().expect("starting a guest");
    let mut client = client_of(&daemon, process.id());
    client.acquire("", &pair.image(), 0).expect("a lease");
    eventually("a prober runs", || probers(&daemon) == 1);
    pair.cut();
    let text = "was told to end, and has not ended while its lease was proved. Its disk is at risk";
    let is_told = || daemon.stderr().contains(text);
    let mut has_ended = || process.try_wait().expect("its state").is_some();
    eventually("it is told, or the guest has ended", || is_told() || has_ended());
    if has_ended() {
        return false;
    }
    daemon.expect_said("has not ended; sent SIGKILL");
    assert!(is_alive(process.id()), "it waits for its disk");
    pair.heal();
    process.wait().expect("it ends when the disk answers");
    true
}

/// What a daemon that was held up has yet to do is done at once: its guest has had its time.
fn a_daemon_that_is_late_gives_a_guest_no_more_time(subject: Subject) {
    let Some(daemon) = start(subject, 1, LEASE_MS / 1000, "end") else { return };
    let pair = Pair::of(&daemon, 0);
    let mut guest = pair.start_guest(&daemon);
    eventually("a prober runs", || probers(&daemon) == 1);
    pair.cut();
    daemon.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(LEASE_MS - 1500));
    assert!(is_alive(guest.process.id()), "nobody has ended it");
    let goes_on_ms = boot_time_ms();
    daemon.signal(Signal::SIGCONT);
    guest.process.wait().expect("waiting");
    let trace = fs::read(pair.trace()).expect("a trace");
    let last = trace.rchunks_exact(Block::BYTES).next().map(Block::parse).expect("a block");
    let took_ms = last.boot_ms.saturating_sub(goes_on_ms);
    // SIGKILL comes 1.6 s after SIGTERM where there is time.
    assert!(took_ms < 1500, "{took_ms}");
    pair.heal();
}

const POLICY_ENDS: &str = "on_lost_lease = \"end\" of 1 leases on shared storage ends with it";

fn a_stop_says_that_the_policy_ends(subject: Subject) {
    let Some(mut daemon) = start(subject, 1, LEASE_MS / 1000, "end") else { return };
    let pair = Pair::of(&daemon, 0);
    let guest = pair.start_guest(&daemon);
    daemon.signal(Signal::SIGTERM);
    let said = daemon.wait().stderr;
    assert!(said.contains(&format!("This daemon stops: {POLICY_ENDS}")), "{said}");
    drop(guest);
}

fn a_hand_over_to_libvirts_daemon_says_that_the_policy_ends(_: Route) {
    let subject = Subject { whose: Whose::Ours, program: Program::Virtlockd };
    let Some(setup) = setup(subject, 1, LEASE_MS / 1000, "end") else { return };
    let mut daemon = setup.replaceable().start();
    let pair = Pair::of(&daemon, 0);
    let _guest = pair.start_guest(&daemon);
    daemon.put(Whose::Theirs);
    daemon.upgrade();
    let said = daemon.stderr();
    let text = format!("gives way to libvirt's daemon, which knows no such policy: {POLICY_ENDS}");
    assert!(said.contains(&text), "{said}");
    eventually("nobody asks any more", || probers(&daemon) == 0);
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
