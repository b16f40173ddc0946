//! virtlogd while guests write more than a rule lets them: it takes what they write, drops what is too
//! much, and says in the log how much that was.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::harness::{
    Daemon, Subject, Whose, eventually, expect_file, expect_losses, guest_writes,
};
use tests::wire::OpenLog;

tests::ours! { Virtlogd:
    a_flood_is_cut_to_its_rate_and_told_of,
    a_guest_within_its_rate_loses_nothing,
    a_burst_is_taken_whole,
    others_lose_nothing,
    a_guest_that_ends_in_a_flood_is_told_of,
    a_guest_that_floods_is_read_and_answered,
    a_stop_tells_of_a_flood,
    an_upgrade_tells_of_a_flood,
    libvirts_daemon_gets_a_log_that_tells_of_a_flood,
    values_that_make_no_sense_end_the_start,
}

/// 64 KiB a second, twice that at once.
const RULE: &str =
    "[[rule]]\npath = '**/capped*'\nmax_size = 0\nrate = '64 KiB'\nburst = '128 KiB'\n";

const BURST_BYTES: usize = 131_072;

const RATE_BYTES: usize = 65_536;

/// Several times what may come at once.
const FLOOD_BYTES: usize = 8 << 20;

const REASON: &str = "more than the 65536 bytes a second of its rule";

fn a_flood_is_cut_to_its_rate_and_told_of(subject: Subject) {
    let scene = Scene::begin(subject);
    let begin = Instant::now();
    let mut sent = flood(&scene.log, FLOOD_BYTES);
    for _ in 0..30 {
        sent.extend(flood(&scene.log, 100_000));
        sleep(Duration::from_millis(100));
    }
    let elapsed = begin.elapsed();
    let losses = scene.expect_all_told(&sent);
    let found = fs::read(&scene.path).unwrap();
    assert!(String::from_utf8_lossy(&found).contains(REASON));
    let seconds = usize::try_from(elapsed.as_secs()).unwrap() + 1;
    // The last piece is taken after the others were written.
    let most = BURST_BYTES + (seconds + 3) * RATE_BYTES;
    assert!((BURST_BYTES..most).contains(&found.len()), "{} bytes in {elapsed:?}", found.len());
    assert!(losses <= seconds, "{losses} losses in {elapsed:?}");
    scene.daemon.expect_said(&format!("is being dropped: {REASON}"));
}

fn a_guest_within_its_rate_loses_nothing(subject: Subject) {
    let scene = Scene::begin(subject);
    let mut sent = flood(&scene.log, BURST_BYTES / 2);
    for _ in 0..20 {
        sent.extend(flood(&scene.log, 5000));
        sleep(Duration::from_millis(100));
    }
    expect_file(&scene.path, sent);
}

fn a_burst_is_taken_whole(subject: Subject) {
    let scene = Scene::begin(subject);
    let sent = flood(&scene.log, BURST_BYTES);
    expect_file(&scene.path, sent);
}

fn others_lose_nothing(subject: Subject) {
    let scene = Scene::begin(subject);
    let path = scene.daemon.file("other.log");
    let other = scene.daemon.log_client().open(&path).unwrap();
    let sent = flood(&scene.log, FLOOD_BYTES);
    let others = flood(&other, 2_000_000);
    expect_file(&path, others);
    assert!(scene.expect_all_told(&sent) > 0);
}

fn a_guest_that_ends_in_a_flood_is_told_of(subject: Subject) {
    let Scene { daemon, path, log } = Scene::begin(subject);
    let sent = flood(&log, FLOOD_BYTES);
    drop(log);
    eventually("the log has ended", || daemon.log_client().position(&path).is_err());
    assert!(expect_losses(&fs::read(&path).unwrap(), &sent) > 0);
    // And the next guest begins with a full bucket.
    let log = daemon.log_client().open(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let sent = flood(&log, BURST_BYTES / 2);
    expect_file(&path, [before, sent].concat());
}

fn a_guest_that_floods_is_read_and_answered(subject: Subject) {
    let scene = Scene::begin(subject);
    let mut client = scene.daemon.log_client();
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.extend(flood(&scene.log, BURST_BYTES));
        let begin = Instant::now();
        let end = client.position(&scene.path).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        assert!(usize::try_from(end.offset).unwrap() <= sent.len());
    }
    client.append(&scene.path, "a message\n").unwrap();
    assert!(fs::read_to_string(&scene.path).unwrap().contains("a message\n"));
}

fn a_stop_tells_of_a_flood(subject: Subject) {
    let Scene { daemon, path, log } = Scene::begin(subject);
    let sent = flood(&log, FLOOD_BYTES);
    let _host = daemon.host();
    daemon.stop();
    assert!(expect_losses(&fs::read(&path).unwrap(), &sent) > 0);
}

fn an_upgrade_tells_of_a_flood(subject: Subject) {
    let mut scene = Scene::begin(subject);
    let mut sent = flood(&scene.log, FLOOD_BYTES);
    scene.daemon.change_to(Whose::Ours);
    sent.extend(flood(&scene.log, FLOOD_BYTES));
    assert!(scene.expect_all_told(&sent) > 0);
}

fn libvirts_daemon_gets_a_log_that_tells_of_a_flood(subject: Subject) {
    let mut scene = Scene::begin(subject);
    let mut sent = flood(&scene.log, FLOOD_BYTES);
    scene.daemon.change_to(Whose::Theirs);
    sent.extend(flood(&scene.log, FLOOD_BYTES));
    assert!(scene.expect_all_told(&sent) > 0);
}

fn values_that_make_no_sense_end_the_start(subject: Subject) {
    for (keys, what) in [
        ("burst = 5000", ":3:9: 'burst' needs 'rate'"),
        ("rate = 4095", ":3:8: 'rate' has to be in range 4096:1099511627776 bytes"),
        ("rate = 5000\nburst = 4999", ":4:9: 'burst' has to be in range 5000:1099511627776 bytes"),
    ] {
        let exit = subject.setup().toml(&format!("[[rule]]\npath = '*'\n{keys}\n")).run();
        assert!(exit.stderr.contains(what), "{}", exit.stderr);
        assert_eq!(exit.code, Some(1), "{keys}");
    }
}

/// A guest with a cap.
struct Scene {
    daemon: Daemon,
    path: PathBuf,
    log: OpenLog,
}

impl Scene {
    fn begin(subject: Subject) -> Self {
        // libvirt's daemon knows no rules, and is not to rotate the log either.
        let daemon = subject.setup().config("max_size = 0\n").toml(RULE).replaceable().start();
        let path = daemon.file("capped.log");
        let log = daemon.log_client().open(&path).unwrap();
        Self { daemon, path, log }
    }

    /// Waits until the log has, or tells of, everything that was sent. Gives how many losses it
    /// tells of.
    #[track_caller]
    fn expect_all_told(&self, sent: &[u8]) -> usize {
        let found = || fs::read(&self.path).unwrap();
        eventually("all is told of", || accounted(&found()) >= sent.len());
        expect_losses(&found(), sent)
    }
}

/// At least as many bytes as a log has and tells of are accounted for.
fn accounted(log: &[u8]) -> usize {
    let text = String::from_utf8_lossy(log);
    let lost = text.lines().filter_map(|line| {
        let (before, _) = line.split_once(" bytes of this log were lost")?;
        before.rsplit(' ').next()?.parse::<usize>().ok()
    });
    let own = text.lines().filter(|line| line.contains(": virtlogd: "));
    let own: usize = own.map(|line| line.len() + 1).sum();
    lost.sum::<usize>() + text.len() - own
}

/// Lines of a guest that must never wait for long, so many bytes of them.
#[track_caller]
fn flood(log: &OpenLog, bytes: usize) -> Vec<u8> {
    let mut sent = Vec::with_capacity(bytes + 100);
    while sent.len() < bytes {
        writeln!(sent, "{:099}", sent.len()).unwrap();
    }
    sent.truncate(bytes);
    guest_writes(&log.pipe, sent.clone());
    sent
}
