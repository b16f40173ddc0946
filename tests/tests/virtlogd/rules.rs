//! virtlogd's own settings, in a file beside libvirt's, for which libvirt's daemon has nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tests::harness::{Daemon, Mode, Subject, Whose, backup, eventually, size, write};

tests::ours! { Virtlogd:
    a_rule_holds_for_logs_that_match_it_and_no_others,
    a_rule_finds_guests_by_their_names,
    a_rule_holds_for_messages,
    a_rule_holds_for_reads,
    a_file_beside_another_configuration_is_read,
    a_session_daemon_has_a_file_of_its_own,
    a_file_that_is_not_understood_ends_the_start,
    a_file_that_cannot_be_read_ends_the_start,
    the_next_process_applies_its_own_rules,
    rules_hold_for_logs_of_libvirts_daemon,
    a_broken_file_does_not_keep_logs_of_libvirts_daemon,
    libvirts_daemon_ends_the_rules,
}

/// What the tests' client calls its guest.
const RULE_OF_GUEST: &str = "[[rule]]\ndomain = 'g?est'\nmax_size = 100\nmax_backups = 1\n";

/// For logs whose names begin with `small`.
const RULE: &str = "[[rule]]\npath = '**/small*'\nmax_size = '100 B'\nmax_backups = 1\n";

fn a_rule_holds_for_logs_that_match_it_and_no_others(subject: Subject) {
    let daemon = subject.setup().config("max_size = 200\nmax_backups = 2\n").toml(RULE).start();
    let (small, other) = (daemon.file("small.log"), daemon.file("other.log"));
    let mut client = daemon.log_client();
    for path in [&small, &other] {
        client.open(path).unwrap().pipe.write_all(&[b'x'; 450]).unwrap();
    }
    expect_sizes(&small, [50, 100]);
    expect_sizes(&other, [50, 200, 200]);
}

fn a_rule_finds_guests_by_their_names(subject: Subject) {
    let daemon = subject.setup().toml(RULE_OF_GUEST).start();
    let path = daemon.file("a.log");
    daemon.log_client().open(&path).unwrap().pipe.write_all(&[b'x'; 250]).unwrap();
    expect_sizes(&path, [50, 100]);
    let rule = RULE_OF_GUEST.replace("g?est", "g*s");
    let daemon = subject.setup().toml(&rule).start();
    let path = daemon.file("a.log");
    daemon.log_client().open(&path).unwrap().pipe.write_all(&[b'x'; 250]).unwrap();
    expect_sizes(&path, [250]);
}

/// Whether the log is open or not.
fn a_rule_holds_for_messages(subject: Subject) {
    for rule in [RULE, RULE_OF_GUEST] {
        let daemon = subject.setup().toml(rule).start();
        let path = daemon.file("small.log");
        let mut client = daemon.log_client();
        client.append(&path, [b'x'; 150]).unwrap();
        expect_sizes(&path, [50, 100]);
        let _log = client.open(&path).unwrap();
        client.append(&path, [b'y'; 80]).unwrap();
        expect_sizes(&path, [30, 100]);
    }
}

/// Older parts that a rule allows are read, whether the log is open or not.
fn a_rule_holds_for_reads(subject: Subject) {
    for key in ["path = '**/*'", "domain = '*'"] {
        let rule = format!("[[rule]]\n{key}\nmax_size = 100\nmax_backups = 6\n");
        let daemon = subject.setup().toml(&rule).start();
        let path = daemon.file("a.log");
        let mut client = daemon.log_client();
        let mut log = client.open(&path).unwrap();
        let content: Vec<_> = (b'a'..=b'g').flat_map(|byte| [byte; 100]).collect();
        log.pipe.write_all(&content).unwrap();
        assert_eq!(client.read(&path, log.position, 1000).unwrap(), content);
        expect_sizes(&path, [100; 7]);
        drop(log.pipe);
        eventually("the log has ended", || client.position(&path).is_err());
        assert_eq!(client.read(&path, log.position, 1000).unwrap(), content);
    }
}

fn a_file_beside_another_configuration_is_read(subject: Subject) {
    let setup = subject.setup();
    let path = setup.host().file("my.conf");
    write(&path, "");
    write(&path.with_extension("toml"), RULE);
    // Not this one.
    let setup = setup.toml("nonsense");
    expect_rule(&setup.args(["-f", path.to_str().unwrap()]).start());
}

fn a_session_daemon_has_a_file_of_its_own(subject: Subject) {
    expect_rule(&subject.setup().mode(Mode::Session).toml(RULE).start());
}

fn a_file_that_is_not_understood_ends_the_start(subject: Subject) {
    for (text, what) in [
        ("[[rule]\n", ":1:"),
        ("[[rule]]\npath = '*'\nmax_sice = 5\n", ":3:1: unknown field `max_sice`"),
        ("[[rule]]\nmax_size = 5\n", ":1:1: a rule needs 'domain', 'path', or both"),
        (
            "[[rule]]\npath = '*'\nmax_backups = 33\n",
            ":3:15: 'max_backups' has to be an integer in range 0:32",
        ),
    ] {
        let exit = subject.setup().toml(text).run();
        let error = format!("Can't load config file: /etc/libvirt/virtlogd.toml{what}");
        assert!(exit.stderr.contains(&error), "{error}: {}", exit.stderr);
        assert_eq!(exit.code, Some(1), "{text}");
    }
}

fn a_file_that_cannot_be_read_ends_the_start(subject: Subject) {
    let setup = subject.setup();
    fs::create_dir_all(setup.host().path("etc/libvirt/virtlogd.toml")).unwrap();
    let exit = setup.run();
    let error = "Failed to read file '/etc/libvirt/virtlogd.toml': Is a directory";
    assert!(exit.stderr.contains(error), "{}", exit.stderr);
    assert_eq!(exit.code, Some(1));
}

fn the_next_process_applies_its_own_rules(subject: Subject) {
    let mut daemon = subject.setup().toml(RULE).replaceable().start();
    let path = daemon.file("small.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    log.pipe.write_all(&[b'x'; 150]).unwrap();
    expect_sizes(&path, [50, 100]);
    write(&rules_of(&daemon), RULE.replace("100", "70"));
    daemon.change_to(Whose::Ours);
    log.pipe.write_all(&[b'y'; 30]).unwrap();
    expect_sizes(&path, [10, 70]);
    fs::remove_file(rules_of(&daemon)).unwrap();
    daemon.change_to(Whose::Ours);
    log.pipe.write_all(&[b'z'; 300]).unwrap();
    expect_sizes(&path, [310, 70]);
}

fn rules_hold_for_logs_of_libvirts_daemon(subject: Subject) {
    for rule in [RULE, RULE_OF_GUEST] {
        let theirs = Subject { whose: Whose::Theirs, ..subject };
        let mut daemon = theirs.setup().toml(rule).replaceable().start();
        let path = daemon.file("small.log");
        let mut log = daemon.log_client().open(&path).unwrap();
        log.pipe.write_all(&[b'x'; 90]).unwrap();
        daemon.change_to(Whose::Ours);
        log.pipe.write_all(&[b'y'; 60]).unwrap();
        expect_sizes(&path, [50, 100]);
    }
}

/// libvirt's daemon asks nobody before it gives up everything.
fn a_broken_file_does_not_keep_logs_of_libvirts_daemon(subject: Subject) {
    let theirs = Subject { whose: Whose::Theirs, ..subject };
    let setup = theirs.setup().config("max_size = 100\n").toml("[[rule]]\n").replaceable();
    let mut daemon = setup.start();
    let path = daemon.file("small.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    daemon.change_to(Whose::Ours);
    daemon.expect_said("virtlogd.toml:1:1: a rule needs 'domain', 'path', or both");
    log.pipe.write_all(&[b'x'; 150]).unwrap();
    expect_sizes(&path, [50, 100]);
}

fn libvirts_daemon_ends_the_rules(subject: Subject) {
    let rules = format!("{RULE_OF_GUEST}{RULE}");
    let mut daemon = subject.setup().toml(&rules).replaceable().start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    let line = "knows no rules, these end: domain 'g?est', path '**/small*'\n";
    daemon.change_to(Whose::Ours);
    assert!(!daemon.stderr().contains(line));
    daemon.change_to(Whose::Theirs);
    daemon.expect_said(line);
    assert_eq!(daemon.stderr().matches(line).count(), 1);
    log.pipe.write_all(&[b'x'; 150]).unwrap();
    expect_sizes(&path, [150]);
}

#[track_caller]
fn expect_rule(daemon: &Daemon) {
    let path = daemon.file("small.log");
    daemon.log_client().open(&path).unwrap().pipe.write_all(&[b'x'; 150]).unwrap();
    expect_sizes(&path, [50, 100]);
}

fn rules_of(daemon: &Daemon) -> PathBuf {
    daemon.host().path("etc/libvirt/virtlogd.toml")
}

/// The sizes of a log and its older parts, of which there are no more.
#[track_caller]
fn expect_sizes<const COUNT: usize>(path: &Path, sizes: [u64; COUNT]) {
    let part = |index: usize| match u32::try_from(index).unwrap() {
        0 => path.to_path_buf(),
        index => backup(path, index - 1),
    };
    let found = || (0..=COUNT).map(|index| size(&part(index))).collect::<Vec<_>>();
    let expected: Vec<_> = sizes.into_iter().map(Some).chain([None]).collect();
    eventually(&format!("sizes are {sizes:?}"), || found() == expected);
}
