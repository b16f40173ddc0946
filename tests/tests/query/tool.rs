//! What both tools have in common: whom they ask, and how they fail.

use std::ffi::OsStr;
use std::process::Command;

use tests::harness::{Daemon, Mode, Subject};

mod log {
    use super::*;
    tests::both! { Virtlogd: a_daemon_is_asked_by_its_uri }
    tests::ours! { Virtlogd: a_daemon_that_is_not_there_is_told_of, a_user_asks_its_own_daemon }
}

mod lock {
    use super::*;
    tests::both! { Virtlockd: a_daemon_is_asked_by_its_uri }
    tests::ours! { Virtlockd: a_daemon_that_is_not_there_is_told_of, a_user_asks_its_own_daemon }
}

/// Bytes of a time as the tools print it.
const TIME_BYTES: usize = 20;

/// What a tool has printed, with TIME for each time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

impl Printed {
    /// The words of each line.
    pub(crate) fn rows(&self) -> Vec<Vec<&str>> {
        assert_eq!((self.status, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout.lines().map(|line| line.split_whitespace().collect()).collect()
    }
}

/// Has the daemon's tool do something.
pub(crate) fn tool<A: AsRef<OsStr>>(
    daemon: &Daemon,
    arguments: impl IntoIterator<Item = A>,
) -> Printed {
    let uri = uri(daemon);
    run(daemon.subject(), |command| command.args(["--connect", &uri]).args(arguments))
}

/// The URI of a daemon's own admin socket.
pub(crate) fn uri(daemon: &Daemon) -> String {
    let name = daemon.subject().program.name();
    format!("{name}:///system?socket={}", daemon.admin_socket().display())
}

fn run(subject: Subject, adjust: impl FnOnce(&mut Command) -> &mut Command) -> Printed {
    let mut command = Command::new(subject.program.tool());
    command.env_remove("LIBVIRT_ADMIN_DEFAULT_URI");
    let output = adjust(&mut command).output().expect("the tool can be run");
    let text = |bytes: &[u8]| without_times(&String::from_utf8_lossy(bytes));
    Printed {
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        status: output.status.code(),
    }
}

fn without_times(text: &str) -> String {
    let is_time = |text: &str| {
        text.bytes().zip("0000-00-00 00:00:00Z".bytes()).all(|(byte, pattern)| match pattern {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        })
    };
    let (mut rest, mut masked) = (text, String::new());
    while let Some(letter) = rest.chars().next() {
        let is_next = rest.get(..TIME_BYTES).is_some_and(is_time);
        masked += &if is_next { "TIME".to_owned() } else { letter.to_string() };
        rest = &rest[if is_next { TIME_BYTES } else { letter.len_utf8() }..];
    }
    masked
}

fn a_daemon_is_asked_by_its_uri(subject: Subject) {
    let daemon = subject.start();
    let name = subject.program.name();
    let tool_name = subject.program.tool();
    let tool_name = tool_name.file_name().unwrap().to_str().unwrap();
    let asked = tool(&daemon, ["list"]);
    let by_environment =
        run(subject, |command| command.env("LIBVIRT_ADMIN_DEFAULT_URI", uri(&daemon)).arg("list"));
    assert_eq!(asked, by_environment);
    if subject.is_ours() {
        assert_eq!(asked.rows().len(), 1, "a line of titles");
        return;
    }
    let (socket, uri) = (daemon.admin_socket(), uri(&daemon));
    let what = if name == "virtlogd" { "logs" } else { "leases" };
    let expected = Printed {
        stdout: String::new(),
        stderr: format!(
            "{tool_name}: {}: this is libvirt's daemon, which tells nothing of {what}; virt-admin -c {uri} \
             tells its clients and settings\n",
            socket.display()
        ),
        status: Some(1),
    };
    assert_eq!(asked, expected);
    assert_eq!(tool(&daemon, ["status", "--json"]), expected);
}

fn a_daemon_that_is_not_there_is_told_of(subject: Subject) {
    let daemon = subject.setup().args(["--no-admin-srv"]).start();
    let asked = tool(&daemon, ["list"]);
    let text = "No such file or directory; is the daemon running? With --no-admin-srv it has no such socket\n";
    assert!(asked.stderr.ends_with(text), "{asked:?}");
    assert_eq!((asked.status, &*asked.stdout), (Some(1), ""));
    for arguments in [&["--connect", "other:///system", "list"][..], &["-c", "x", "list"]] {
        let asked = run(subject, |command| command.args(arguments));
        assert!(asked.stderr.contains("is no URI of"), "{asked:?}");
        assert_eq!(asked.status, Some(1));
    }
    for arguments in [&["lits"][..], &[], &["list", "--jsno"]] {
        assert_eq!(run(subject, |command| command.args(arguments)).status, Some(2));
    }
    assert_eq!(run(subject, |command| command.arg("--help")).status, Some(0));
}

fn a_user_asks_its_own_daemon(subject: Subject) {
    let daemon = subject.setup().mode(Mode::Session).start();
    let name = subject.program.name();
    let asked = run(subject, |command| {
        command.env("XDG_RUNTIME_DIR", daemon.host().path("user/run"));
        command.args(["-c", &format!("{name}:///session"), "status"])
    });
    assert!(asked.stdout.starts_with("  Daemon: ") || asked.stdout.contains(name), "{asked:?}");
    assert_eq!((asked.status, &*asked.stderr), (Some(0), ""));
}
