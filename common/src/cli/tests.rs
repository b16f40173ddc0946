use super::*;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

const PROGRAM: Program = Program { name: "virtlogd", about: "Keeps logs", version: "0.1.0" };

fn parsed(arguments: &[&str]) -> Parsed {
    let name = std::iter::once("/usr/sbin/virtlogd");
    parse(&PROGRAM, name.chain(arguments.iter().copied()).map(OsString::from))
}

fn run(arguments: &[&str]) -> Options {
    match parsed(arguments) {
        Parsed::Run(options) => options,
        exit @ Parsed::Exit { .. } => panic!("{arguments:?}: {exit:?}"),
    }
}

fn stopped(arguments: &[&str]) -> (u8, String, String) {
    match parsed(arguments) {
        Parsed::Exit { status, stdout, stderr } => (status, stdout, stderr),
        Parsed::Run(options) => panic!("{arguments:?}: {options:?}"),
    }
}

fn seconds(arguments: &[&str]) -> Option<u64> {
    run(arguments).timeout.map(|timeout| timeout.as_secs())
}

#[test]
fn the_command_is_sound() {
    command(&PROGRAM).debug_assert();
}

#[test]
fn no_arguments_ask_for_nothing() {
    assert_eq!(run(&[]), Options::default());
    assert_eq!(parse(&PROGRAM, []), Parsed::Run(Options::default()));
}

#[test]
fn every_option_is_understood_in_every_spelling() {
    let expected = Options {
        verbose: true,
        daemonize: true,
        timeout: Some(Duration::from_secs(7)),
        config_file: Some("/c".into()),
        pid_file: Some("/p".into()),
        no_admin_server: true,
    };
    let spellings: [&[&str]; 5] = [
        &["-v", "-d", "-t", "7", "-f", "/c", "-p", "/p", "--no-admin-srv"],
        &["-vdt7", "-f/c", "-p/p", "--no-admin-srv"],
        &["-vdt", "7", "-f", "/c", "-p", "/p", "--no"],
        &["--verb", "--daem", "--time=7", "--conf=/c", "--pid", "/p", "--no-admin-srv"],
        &["x", "--verbose", "--daemon", "-", "--t", "7", "--c", "/c", "--p=/p", "", "--n"],
    ];
    for spelling in spellings {
        assert_eq!(run(spelling), expected, "{spelling:?}");
    }
}

#[test]
fn the_last_of_a_repeated_option_counts() {
    let options = run(&["-v", "-v", "-f", "/a", "-t1", "-f", "/b", "-t", "2"]);
    assert_eq!(options.config_file.as_deref(), Some(Path::new("/b")));
    assert_eq!(options.timeout, Some(Duration::from_secs(2)));
}

#[test]
fn what_follows_two_dashes_is_no_option() {
    assert_eq!(run(&["--", "-V", "--bogus"]), Options::default());
}

#[test]
fn timeouts_are_read_as_strtol_does() {
    for never in ["0", "-0", "+0", "00"] {
        assert_eq!(seconds(&["-t", never]), None, "{never}");
    }
    for five in ["5", "+5", "05", "0x5", " 5", "5 ", "0X5"] {
        assert_eq!(seconds(&["-t", five]), Some(5), "{five:?}");
    }
    assert_eq!(seconds(&["--timeout=120"]), Some(120));
    assert_eq!(seconds(&["-t", "2147483"]), Some(2_147_483));
    for bad in ["x", "", " ", "-1", "2147484", "5x", "08", "0x", "+-5", "99999999999999999999"] {
        let expected = "/usr/sbin/virtlogd: Invalid value for timeout\n".to_owned();
        assert_eq!(stopped(&["-t", bad]), (1, String::new(), expected), "{bad:?}");
    }
}

#[test]
fn version_goes_to_stdout_under_the_called_name() {
    let expected = "/usr/sbin/virtlogd (libvirt) 9.0.0\nvirtlogd-rs 0.1.0\n";
    for arguments in [&["-V"][..], &["--vers"], &["foo", "-V"], &["-Vh"], &["-vV"]] {
        assert_eq!(stopped(arguments), (0, expected.to_owned(), String::new()), "{arguments:?}");
    }
}

#[test]
fn help_goes_to_stderr_and_names_every_option() {
    for arguments in [&["-h"][..], &["--help"], &["-hV"], &["--pid=x", "--he"]] {
        let (status, stdout, stderr) = stopped(arguments);
        assert_eq!((status, stdout.as_str()), (0, ""), "{arguments:?}");
        for option in ["--version", "--timeout <SECONDS>", "--no-admin-srv", "USR1"] {
            assert!(stderr.contains(option), "{option} in {stderr}");
        }
        assert!(stderr.contains("/etc/libvirt/virtlogd.conf"), "{stderr}");
    }
}

#[test]
fn options_take_effect_from_left_to_right() {
    assert_eq!(stopped(&["-V", "-t", "x"]).0, 0);
    assert_eq!(stopped(&["-V", "--bogus"]).0, 0);
    assert_eq!(stopped(&["-t", "5", "--help", "--bogus"]).0, 0);
    assert_eq!(stopped(&["-t", "x", "-V"]).0, 1);
    assert_eq!(stopped(&["--bogus", "-V"]).0, 1);
}

#[test]
fn wrong_options_are_named_with_the_usage() {
    let wrong: [(&[&str], &str); 9] = [
        (&["--bogus"], "--bogus"),
        (&["--bogus=1"], "--bogus"),
        (&["-x"], "-x"),
        (&["-vx"], "-x"),
        (&["-t"], "--timeout"),
        (&["--config"], "--config"),
        (&["--verbose=3"], "--verbose"),
        (&["--v"], "--v"),
        (&["--ver"], "--ver"),
    ];
    for (arguments, named) in wrong {
        let (status, stdout, stderr) = stopped(arguments);
        assert_eq!((status, stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(stderr.starts_with("/usr/sbin/virtlogd: "), "{stderr}");
        assert!(stderr.contains(named), "{named} in {stderr}");
        assert!(stderr.contains("Usage: "), "{arguments:?}: {stderr}");
    }
}

#[test]
fn paths_need_not_be_utf8_nor_start_without_a_dash() {
    let path = OsString::from_vec(b"/\xff".to_vec());
    let arguments = ["d".into(), "-f".into(), path.clone(), "-p".into(), "-x".into()];
    let Parsed::Run(options) = parse(&PROGRAM, arguments) else { panic!("not run") };
    assert_eq!(options.config_file, Some(path.into()));
    assert_eq!(options.pid_file, Some("-x".into()));
}
