//! An output that is open.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::libc;

use super::journal::{self, FACILITY_DAEMON};
use super::output::{Destination, Output};
use super::record::Record;
use super::{Error, Level, stderr};

/// Bytes of one datagram to the system log, what common daemons take at the most (rsyslog's
/// default). The rest of a longer message is cut.
const SYSLOG_BYTES_MAX: usize = 8192;

/// Where the system's two log services listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// The system log, by the classic protocol.
    pub syslog: PathBuf,
    /// The journal, by its native protocol.
    pub journal: PathBuf,
}

impl Default for Services {
    fn default() -> Self {
        Self { syslog: "/dev/log".into(), journal: journal::SOCKET.into() }
    }
}

/// The two lines that every output begins with.
#[derive(Debug, Clone)]
pub(super) struct Greeting {
    pub(super) version: String,
    pub(super) hostname: String,
}

/// An open output. Writing neither fails nor waits: what cannot be written now is lost, counted,
/// and told of once writing works again.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) output: Output,
    channel: Channel,
    greeted: bool,
    lost: u64,
}

#[derive(Debug)]
enum Channel {
    Stderr,
    File(File),
    Syslog { socket: UnixDatagram, address: PathBuf, ident: String },
    Journal { socket: UnixDatagram, address: PathBuf },
}

impl Sink {
    /// Opens `output`. The services may be absent; a file must be there or be creatable.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub(super) fn open(output: &Output, services: &Services) -> Result<Self, Error> {
        let (path, channel) = match &output.destination {
            Destination::Stderr => (Path::new(""), Ok(Channel::Stderr)),
            Destination::File(path) => (path.as_path(), open_file(path).map(Channel::File)),
            Destination::Syslog(ident) => {
                let (address, ident) = (services.syslog.clone(), ident.clone());
                let syslog = |socket| Channel::Syslog { socket, address, ident };
                (services.syslog.as_path(), open_socket().map(syslog))
            }
            Destination::Journald => {
                let address = services.journal.clone();
                let journal = |socket| Channel::Journal { socket, address };
                (services.journal.as_path(), open_socket().map(journal))
            }
        };
        let channel = channel.map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Ok(Self { output: output.clone(), channel, greeted: false, lost: 0 })
    }

    /// Writes `record` if its level is high enough. Gives the number of messages lost by it.
    pub(super) fn write(&mut self, record: &Record<'_>, greeting: &Greeting) -> u64 {
        if record.level < self.output.level {
            return 0;
        }
        let before = self.lost;
        if !self.greeted {
            self.greeted = true;
            let Greeting { version, hostname } = greeting;
            self.send(&record.beside(Level::Info, format!("libvirt version: {version}")));
            self.send(&record.beside(Level::Info, format!("hostname: {hostname}")));
        }
        self.tell_of_lost(record);
        self.send(record);
        self.lost.saturating_sub(before)
    }

    fn tell_of_lost(&mut self, record: &Record<'_>) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let text = format!("{lost} log messages could not be written here and are lost");
            if self.channel.send(&record.beside(Level::Warning, text)).is_err() {
                self.lost = lost;
            }
        }
    }

    fn send(&mut self, record: &Record<'_>) {
        if self.channel.send(record).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }
}

impl Channel {
    fn send(&mut self, record: &Record<'_>) -> io::Result<()> {
        match self {
            Self::Stderr => stderr::write(io::stderr().as_fd(), record.line().as_bytes()),
            Self::File(file) => file.write_all(record.line().as_bytes()),
            Self::Syslog { socket, address, ident } => {
                let message = syslog_message(record, ident);
                socket.send_to(&message, address).map(drop)
            }
            Self::Journal { socket, address } => journal::send(socket, address, record),
        }
    }
}

/// Without a time of its own: the system log then adds the time at which the message came.
fn syslog_message(record: &Record<'_>, ident: &str) -> Vec<u8> {
    let priority = FACILITY_DAEMON * 8 + record.level.syslog_priority();
    let pid = std::process::id();
    let mut message = format!("<{priority}>{ident}[{pid}]: {}", record.body()).into_bytes();
    message.truncate(SYSLOG_BYTES_MAX);
    message
}

/// A FIFO without a reader is refused at once instead of waited for.
fn open_file(path: &Path) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn open_socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Makes the directory of a default log file, which nobody but the daemon can be expected to.
///
/// # Errors
/// [`Error::Open`].
pub(super) fn make_parent(output: &Output) -> Result<(), Error> {
    let Destination::File(path) = &output.destination else {
        return Ok(());
    };
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|source| Error::Open { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    fn record(level: Level, text: &str) -> Record<'static> {
        Record {
            level,
            time: SystemTime::now(),
            process: 1,
            category: "daemon",
            place: None,
            text: text.to_owned(),
        }
    }

    fn greeting() -> Greeting {
        Greeting { version: "9.0.0".to_owned(), hostname: "host".to_owned() }
    }

    fn sink(level: Level, destination: Destination, services: &Services) -> Result<Sink, Error> {
        Sink::open(&Output { level, destination }, services)
    }

    /// What the lines of a log file say behind their time and thread.
    fn texts(path: &Path) -> Vec<String> {
        let content = std::fs::read_to_string(path).unwrap();
        content.lines().map(|line| line.splitn(5, ':').last().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_file_is_private_greeted_once_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open = || sink(Level::Warning, Destination::File(path.clone()), &Services::default());
        let mut one = open().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(one.write(&record(Level::Info, "unseen"), &greeting()), 0);
        assert_eq!(path.metadata().unwrap().len(), 0);
        one.write(&record(Level::Warning, "first"), &greeting());
        one.write(&record(Level::Error, "second"), &greeting());
        open().unwrap().write(&record(Level::Error, "third"), &greeting());
        let lines = texts(&path);
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert!(lines[0].ends_with(" libvirt version: 9.0.0"), "{lines:?}");
        assert!(lines[1].ends_with(" hostname: host"), "{lines:?}");
        assert!(lines[2].ends_with(" first") && lines[3].ends_with(" second"), "{lines:?}");
        assert!(lines[6].ends_with(" third"), "{lines:?}");
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no/such");
        let open = |path: &Path| {
            sink(Level::Debug, Destination::File(path.to_owned()), &Services::default())
        };
        let error = open(&path).unwrap_err();
        let expected = format!("failed to open {}: No such file or directory", path.display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.to_rpc().message(), expected);

        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&fifo).unwrap_err().to_string().ends_with("No such device or address"));
    }

    #[test]
    fn the_system_log_gets_priority_name_and_body() {
        let dir = tempfile::tempdir().unwrap();
        let services = Services { syslog: dir.path().join("log"), ..Services::default() };
        let syslog = UnixDatagram::bind(&services.syslog).unwrap();
        let destination = Destination::Syslog("virtlogd".to_owned());
        let mut sink = sink(Level::Debug, destination, &services).unwrap();
        let long = "x".repeat(SYSLOG_BYTES_MAX);
        assert_eq!(sink.write(&record(Level::Error, "text"), &greeting()), 0);
        assert_eq!(sink.write(&record(Level::Warning, &long), &greeting()), 0);
        let receive = || {
            let mut bytes = vec![0; 2 * SYSLOG_BYTES_MAX];
            let length = syslog.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let pid = std::process::id();
        let name = format!("virtlogd[{pid}]: 1");
        assert_eq!(receive(), format!("<30>{name}: info : libvirt version: 9.0.0"));
        assert_eq!(receive(), format!("<30>{name}: info : hostname: host"));
        assert_eq!(receive(), format!("<27>{name}: error : text"));
        let cut = receive();
        assert!(cut.starts_with(&format!("<28>{name}: warning : xxx")), "{cut}");
        assert_eq!(cut.len(), SYSLOG_BYTES_MAX);
    }

    #[test]
    fn what_is_lost_is_counted_and_told_of_later() {
        let dir = tempfile::tempdir().unwrap();
        let services = Services { syslog: dir.path().join("log"), ..Services::default() };
        let mut sink = sink(Level::Debug, Destination::Syslog(String::new()), &services).unwrap();
        assert_eq!(sink.write(&record(Level::Error, "a"), &greeting()), 3);
        assert_eq!(sink.write(&record(Level::Error, "b"), &greeting()), 1);

        let syslog = UnixDatagram::bind(&services.syslog).unwrap();
        assert_eq!(sink.write(&record(Level::Error, "c"), &greeting()), 0);
        let mut bytes = [0; 500];
        let length = syslog.recv(&mut bytes).unwrap();
        let told = str::from_utf8(&bytes[..length]).unwrap();
        let text = "warning : 4 log messages could not be written here and are lost";
        assert!(told.ends_with(text), "{told}");
        let length = syslog.recv(&mut bytes).unwrap();
        assert!(bytes[..length].ends_with(b"error : c"));
    }

    #[test]
    fn a_log_service_that_is_behind_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let services = Services { syslog: dir.path().join("log"), ..Services::default() };
        let _never_read = UnixDatagram::bind(&services.syslog).unwrap();
        let mut sink = sink(Level::Debug, Destination::Syslog(String::new()), &services).unwrap();
        let mut lost = 0;
        for _ in 0..5000 {
            lost += sink.write(&record(Level::Error, "x"), &greeting());
        }
        assert!(lost > 0);
        assert_eq!(sink.lost, lost);
    }
}
