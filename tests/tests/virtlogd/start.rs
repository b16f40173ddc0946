//! How a daemon starts: options, configuration, pid file, sockets, what it hands to systemd.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use tests::harness::{
    GROUP, GROUP_GID, Host, Mode, Subject, eventually, expect_missing, needs_root, write,
};
use tests::wire::{ADMIN_PROGRAM, Connection};

tests::both! { Virtlogd:
    help_ends_with_status_0,
    version_names_the_program_and_libvirt,
    the_first_of_help_and_version_wins,
    unknown_options_end_with_status_1,
    a_timeout_has_its_range,
    options_may_be_shortened_and_joined,
    other_arguments_are_ignored,
    a_configuration_that_was_named_must_exist,
    a_configuration_elsewhere_is_read,
    errors_in_the_configuration_are_named,
    odd_but_valid_configurations_are_accepted,
    the_first_of_two_settings_wins,
    bad_logging_variables_end_with_status_1,
    sockets_are_for_the_owner_only,
    the_pid_file_holds_the_bare_number,
    the_pid_file_may_be_elsewhere,
    a_second_instance_ends_with_status_1_and_disturbs_nothing,
    libvirts_daemon_and_ours_exclude_each_other,
    what_a_killed_instance_left_does_not_matter,
    session_files_are_below_xdg_runtime_dir,
    readiness_is_told_once,
    a_detached_daemon_is_ready_when_the_command_ends,
    a_detached_daemon_that_fails_says_so,
}

tests::ours! { Virtlogd:
    the_soft_limit_of_descriptors_is_raised,
    socket_settings_are_honoured,
    a_living_daemons_sockets_are_not_taken_away,
}

fn help_ends_with_status_0(subject: Subject) {
    for option in ["-h", "--help"] {
        let exit = subject.setup().args([option]).run();
        assert_eq!(exit.code, Some(0));
        let text = exit.stdout + &exit.stderr;
        for name in ["--daemon", "--verbose", "--config", "--timeout", "--pid-file", "--version"] {
            assert!(text.contains(name), "{name} is not in: {text}");
        }
    }
}

fn version_names_the_program_and_libvirt(subject: Subject) {
    for option in ["-V", "--version"] {
        let exit = subject.setup().args([option]).run();
        let beginning = format!("{} (libvirt) ", subject.executable().unwrap().display());
        assert!(exit.stdout.starts_with(&beginning), "{}", exit.stdout);
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    }
}

fn the_first_of_help_and_version_wins(subject: Subject) {
    let exit = subject.setup().args(["-V", "-h"]).run();
    assert!(exit.stdout.contains("(libvirt)"), "{exit:?}");
    let exit = subject.setup().args(["-V", "-t", "x"]).run();
    assert_eq!(exit.code, Some(0));
    let exit = subject.setup().args(["-t", "x", "-V"]).run();
    assert_eq!(exit.code, Some(1));
}

fn unknown_options_end_with_status_1(subject: Subject) {
    for arguments in [["--nonsense"], ["-x"], ["-t"], ["--config"]] {
        let exit = subject.setup().args(arguments).run();
        assert_eq!(exit.code, Some(1), "{arguments:?}");
        assert!(!exit.stderr.is_empty());
    }
}

fn a_timeout_has_its_range(subject: Subject) {
    for value in ["-1", "x", "2147484", ""] {
        let exit = subject.setup().args(["-t", value]).run();
        assert_eq!(exit.code, Some(1), "{value}: {}", exit.stderr);
    }
    for value in ["0", "2147483"] {
        subject.setup().args(["-t", value]).start().stop();
    }
}

fn options_may_be_shortened_and_joined(subject: Subject) {
    for arguments in [&["--time=9"][..], &["--time", "9"], &["-t9"], &["-vt", "9"], &["-vt9"]] {
        let exit = subject.setup().args(arguments.iter().copied()).start().stop();
        assert_eq!(exit.code, Some(0), "{arguments:?}");
    }
}

fn other_arguments_are_ignored(subject: Subject) {
    for arguments in [&["word"][..], &["word", "-t", "9"], &["--", "--nonsense"]] {
        let exit = subject.setup().args(arguments.iter().copied()).start().stop();
        assert_eq!(exit.code, Some(0), "{arguments:?}");
    }
}

fn a_configuration_that_was_named_must_exist(subject: Subject) {
    let exit = subject.setup().args(["-f", "/none.conf"]).run();
    assert_eq!(exit.code, Some(1));
    let text = "Failed to open file '/none.conf': No such file or directory";
    assert!(exit.stderr.contains(text), "{}", exit.stderr);
    let exit = subject.setup().args(["-f", "/etc"]).run();
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("Failed to read file '/etc': Is a directory"), "{exit:?}");
}

fn a_configuration_elsewhere_is_read(subject: Subject) {
    let setup = subject.setup();
    let path = setup.host().file("my.conf");
    write(&path, "max_backups = 33\n");
    let daemon = setup.args(["-f", path.to_str().unwrap()]).start();
    assert_eq!(daemon.log_client().open(&daemon.file("a.log")).unwrap_err().code, 67);
}

fn errors_in_the_configuration_are_named(subject: Subject) {
    let unsigned = "expected an unsigned integer for 'max_size' parameter";
    for (text, detail) in [
        ("\n= 1", "virtlogd.conf:2: expecting a name"),
        ("max_size 1", "virtlogd.conf:1: expecting an assignment"),
        ("max_size =", "virtlogd.conf:1: expecting a value"),
        ("max_size = 1 max_backups = 2", "virtlogd.conf:1: expecting a separator"),
        ("log_filters = \"1:x", "virtlogd.conf:1: unterminated string"),
        ("log_filters = [ 'a' 'b' ]", "virtlogd.conf:1: expecting a separator in list"),
        ("log_filters = [ 'a'", "virtlogd.conf:1: list is not closed with ]"),
        ("max_size = -", "virtlogd.conf:1: unterminated number"),
        ("max_size = -1", unsigned),
        ("max_size = \"1\"", unsigned),
        ("max_size = [ 1 ]", unsigned),
        ("log_filters = 1", "expected a string for 'log_filters' parameter"),
        (
            "max_clients = 4294967296",
            "value for 'max_clients' parameter must be in range 0:4294967295",
        ),
    ] {
        let exit = subject.setup().config(text).run();
        assert_eq!(exit.code, Some(1), "{text}");
        assert!(exit.stderr.contains("Can't load config file: "), "{text}: {}", exit.stderr);
        assert!(exit.stderr.contains(detail), "{text}: {}", exit.stderr);
    }
}

fn odd_but_valid_configurations_are_accepted(subject: Subject) {
    for text in [
        "",
        "# only a comment",
        "max_size = 100; max_backups = 2",
        "max_size = 100 # no newline at the end",
        "\r\nmax_size = +100\r\n",
        "no_such_key = [ 1, [ 'two' ], ]\n",
        "log_filters = \"\"\"1:rpc\n\"\"\"\n",
        "max_clients = 0",
    ] {
        let exit = subject.setup().config(text).start().stop();
        assert_eq!(exit.code, Some(0), "{text}");
    }
}

fn the_first_of_two_settings_wins(subject: Subject) {
    let daemon = subject.start_with("max_backups = 2\nmax_backups = 33\nmax_backups = 'x'\n");
    daemon.log_client().open(&daemon.file("a.log")).unwrap();
}

fn bad_logging_variables_end_with_status_1(subject: Subject) {
    for (name, value, text) in [
        ("LIBVIRT_LOG_FILTERS", "garbage", "Malformed format for filter 'garbage'"),
        ("LIBVIRT_LOG_OUTPUTS", "garbage", "Malformed format for log output 'garbage'"),
        ("LIBVIRT_DEBUG", "garbage", ""),
    ] {
        let exit = subject.setup().env(name, value).run();
        assert_eq!(exit.code, Some(1), "{name}");
        assert!(exit.stderr.contains(text), "{name}: {}", exit.stderr);
    }
}

fn sockets_are_for_the_owner_only(subject: Subject) {
    let daemon = subject.start();
    for socket in [daemon.main_socket(), daemon.admin_socket()] {
        assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o7777, 0o700);
    }
}

fn the_pid_file_holds_the_bare_number(subject: Subject) {
    let daemon = subject.start();
    assert_eq!(fs::read_to_string(daemon.pid_file()).unwrap(), daemon.pid().to_string());
}

fn the_pid_file_may_be_elsewhere(subject: Subject) {
    let setup = subject.setup();
    let path = setup.host().file("pid");
    let daemon = setup.args(["-p", path.to_str().unwrap()]).start();
    assert_eq!(fs::read_to_string(&path).unwrap(), daemon.pid().to_string());
    expect_missing(&daemon.pid_file());
    daemon.stop();
    expect_missing(&path);
    let exit = subject.setup().args(["-p", "/none/pid"]).run();
    assert_eq!(exit.code, Some(1));
    let text = "Failed to open pid file '/none/pid': No such file or directory";
    assert!(exit.stderr.contains(text), "{}", exit.stderr);
}

fn a_second_instance_ends_with_status_1_and_disturbs_nothing(subject: Subject) {
    second_instance_is_refused(subject, subject);
}

fn libvirts_daemon_and_ours_exclude_each_other(subject: Subject) {
    match subject.other().executable() {
        Ok(_) => second_instance_is_refused(subject, subject.other()),
        Err(reason) => tests::harness::left_out("daemons of both makers together", &reason),
    }
}

fn second_instance_is_refused(first: Subject, second: Subject) {
    let host = Host::new();
    let daemon = first.setup_on(&host).start();
    let exit = second.setup_on(&host).run();
    assert_eq!(exit.code, Some(1));
    let text = "Failed to acquire pid file '/run/virtlogd.pid': Resource temporarily unavailable";
    assert!(exit.stderr.contains(text), "{}", exit.stderr);
    daemon.log_client().append(&daemon.file("a.log"), "still served").unwrap();
    daemon.connect_admin();
    assert_eq!(fs::read_to_string(daemon.pid_file()).unwrap(), daemon.pid().to_string());
}

fn what_a_killed_instance_left_does_not_matter(subject: Subject) {
    let host = Host::new();
    let mut daemon = subject.setup_on(&host).start();
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    daemon.wait();
    assert!(daemon.main_socket().exists() && daemon.pid_file().exists());
    let next = subject.setup_on(&host).start();
    next.connect_main();
    assert_eq!(fs::read_to_string(next.pid_file()).unwrap(), next.pid().to_string());
}

fn session_files_are_below_xdg_runtime_dir(subject: Subject) {
    let daemon = subject.setup().mode(Mode::Session).start();
    let directory = daemon.host().path("user/run/libvirt");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["virtlogd-sock", "virtlogd-admin-sock", "virtlogd.pid"] {
        assert!(directory.join(name).exists(), "{name}");
    }
}

fn readiness_is_told_once(subject: Subject) {
    // The start waits for the first time.
    let daemon = subject.start();
    daemon.connect_admin().call(ADMIN_PROGRAM, 3, &[]).unwrap();
    let next = daemon.notification(Duration::from_millis(200)).unwrap_or_default();
    assert!(!next.contains("READY=1"), "{next}");
}

fn a_detached_daemon_is_ready_when_the_command_ends(subject: Subject) {
    let daemon = subject.setup().start_detached();
    daemon.connect_admin().call(ADMIN_PROGRAM, 3, &[]).unwrap();
    assert_eq!(fs::read_link(daemon.proc("cwd")).unwrap().to_str(), Some("/"));
    for number in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(fs::read_link(daemon.proc(number)).unwrap().to_str(), Some("/dev/null"));
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("it has ended", || !daemon.proc("exe").exists());
    expect_missing(&daemon.pid_file());
}

fn a_detached_daemon_that_fails_says_so(subject: Subject) {
    let host = Host::new();
    let _first = subject.setup_on(&host).start();
    let exit = subject.setup_on(&host).args(["-d"]).run();
    let text = format!(
        "{}: error: Unable to obtain pidfile. \
         Check /var/log/messages or run without --daemon for more info.",
        subject.executable().unwrap().display()
    );
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains(&text), "{}", exit.stderr);
}

/// libvirt's 9.0.0 leaves the limit alone.
fn the_soft_limit_of_descriptors_is_raised(subject: Subject) {
    let daemon = subject.setup().limit("--nofile=100:500").start();
    let limits = fs::read_to_string(daemon.proc("limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("500"), "{line}");
}

/// libvirt's documentation has these settings, its daemon ignores them.
fn socket_settings_are_honoured(subject: Subject) {
    if !needs_root("socket_settings_are_honoured") {
        return;
    }
    let setup = subject.setup().config(&format!(
        "unix_sock_dir = '/run/elsewhere'\nunix_sock_rw_perms = '0660'\n\
         unix_sock_admin_perms = '0600'\nunix_sock_group = '{GROUP}'\n"
    ));
    let directory = setup.host().path("run/elsewhere");
    fs::create_dir(&directory).unwrap();
    let daemon = setup.start();
    for (name, mode) in [("virtlogd-sock", 0o660), ("virtlogd-admin-sock", 0o600)] {
        let metadata = fs::metadata(directory.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
        Connection::open(&directory.join(name)).unwrap();
    }
    assert_eq!(fs::metadata(directory.join("virtlogd-sock")).unwrap().gid(), GROUP_GID);
    expect_missing(&daemon.main_socket());
}

/// C unlinks and binds anew whatever is at the path.
fn a_living_daemons_sockets_are_not_taken_away(subject: Subject) {
    let host = Host::new();
    let daemon = subject.setup_on(&host).start();
    let exit = subject.setup_on(&host).args(["-p", "/run/other.pid"]).run();
    assert_eq!(exit.code, Some(6), "{}", exit.stderr);
    daemon.log_client().append(&daemon.file("a.log"), "still served").unwrap();
    daemon.connect_admin().call(ADMIN_PROGRAM, 3, &[]).unwrap();
}
