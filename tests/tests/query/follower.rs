//! A run of `virtlogctl follow --all`, and a stand-in for the journal that it writes to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tests::harness::{Daemon, Host, eventually};

use super::tool::uri;

/// Bytes of an entry at most: a line and names, each of them limited.
const ENTRY_BYTES_MAX: usize = 65_536;

/// Who signs guests' lines.
const IDENTIFIER: &[u8] = b"virtlogd-guest";

/// Has the follower see the host's `/run`, where the journal's socket is.
const CONFINE: &str = "mount --bind \"$0\" /run; exec \"$@\"";

/// An entry of the journal.
pub(crate) type Entry = BTreeMap<String, Vec<u8>>;

/// What the journal has got.
pub(crate) struct Journal(Arc<Mutex<Got>>);

#[derive(Default)]
struct Got {
    /// Guests' lines, by the paths of their logs.
    lines: BTreeMap<PathBuf, Vec<Entry>>,
    lines_count: usize,
    /// Remarks that something was missed.
    missed: Vec<Entry>,
}

impl Journal {
    /// One at the address of the journal in the eyes of followers on this host.
    pub(crate) fn start(host: &Host) -> Self {
        let directory = host.path("run/systemd/journal");
        fs::create_dir_all(&directory).unwrap();
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        let got: Arc<Mutex<Got>> = Arc::default();
        let gathered = Arc::clone(&got);
        std::thread::spawn(move || {
            let mut bytes = vec![0; ENTRY_BYTES_MAX];
            while let Ok(len) = socket.recv(&mut bytes) {
                gathered.lock().unwrap().add(parse(&bytes[..len]));
            }
        });
        Self(got)
    }

    /// How many lines there are of all guests.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().lines_count
    }

    /// How many there are of the log at a path.
    pub(crate) fn count_of(&self, path: &Path) -> usize {
        self.0.lock().unwrap().lines.get(path).map_or(0, Vec::len)
    }

    /// Lines of the log at a path, each with its fields.
    pub(crate) fn entries_of(&self, path: &Path) -> Vec<Entry> {
        self.0.lock().unwrap().lines.get(path).cloned().unwrap_or_default()
    }

    /// Lines of the log at a path.
    pub(crate) fn lines_of(&self, path: &Path) -> Vec<Vec<u8>> {
        self.entries_of(path)
            .into_iter()
            .map(|mut entry| entry.remove("MESSAGE").unwrap())
            .collect()
    }

    /// The remarks that tell of something that was missed.
    pub(crate) fn missed(&self) -> Vec<Entry> {
        self.0.lock().unwrap().missed.clone()
    }
}

impl Got {
    fn add(&mut self, entry: Entry) {
        if entry.contains_key("LIBVIRT_MISSED_BYTES") {
            self.missed.push(entry);
        } else if entry.get("SYSLOG_IDENTIFIER").is_some_and(|it| it == IDENTIFIER) {
            // Others are the daemon's own.
            let path = OsStr::from_bytes(&entry["LIBVIRT_LOG_PATH"]).into();
            self.lines.entry(path).or_default().push(entry);
            self.lines_count += 1;
        }
    }
}

/// The fields of an entry, by the description of the protocol. No field comes twice.
fn parse(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|&byte| byte == b'\n').expect("a newline");
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (name, value) = match line.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                bytes = rest;
                (&line[..at], &line[at + 1..])
            }
            None => {
                let (len, rest) = rest.split_at(8);
                let len = u64::from_le_bytes(len.try_into().unwrap());
                let (value, rest) = rest.split_at(usize::try_from(len).unwrap());
                bytes = rest.strip_prefix(b"\n").expect("a newline behind a value");
                (line, value)
            }
        };
        let name = String::from_utf8(name.to_vec()).expect("a name is text");
        assert_eq!(entry.insert(name, value.to_vec()), None, "a field comes twice");
    }
    entry
}

/// A run of `virtlogctl follow --all`.
pub(crate) struct Follower {
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Follower {
    /// Starts one; it follows when this returns.
    pub(crate) fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let host = daemon.host();
        let [stdout, stderr] = ["follower.stdout", "follower.stderr"].map(|name| host.path(name));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-ec", CONFINE]).arg(host.path("run"));
        command.arg(daemon.subject().program.tool()).args(["--connect", &uri(daemon)]);
        command.args(["follow", "--all"]).args(arguments);
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let mut follower =
            Self { process: command.spawn().expect("unshare can be run"), stdout, stderr };
        eventually("it has asked for the logs", || {
            assert_eq!(follower.process.try_wait().unwrap(), None, "{}", follower.stderr());
            follower.waits()
        });
        follower
    }

    /// Whether it waits for the next look.
    fn waits(&self) -> bool {
        let name = fs::read_to_string(self.proc("comm")).unwrap_or_default();
        let call = fs::read_to_string(self.proc("syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        name == "virtlogctl\n"
            && number.is_some_and(|it| [nix::libc::SYS_poll, nix::libc::SYS_ppoll].contains(&it))
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        fs::read(&self.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    pub(crate) fn fd_count(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let field = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        field.and_then(|it| it.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
    }

    fn proc(&self, entry: &str) -> PathBuf {
        Path::new("/proc").join(self.process.id().to_string()).join(entry)
    }

    /// Ends it by a signal, and returns its exit status.
    pub(crate) fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
        self.process.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            let printed = String::from_utf8_lossy(&self.stdout()).into_owned();
            eprintln!("the follower has said:\n{}{printed}", self.stderr());
        }
    }
}
