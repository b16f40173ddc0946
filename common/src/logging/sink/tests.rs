use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::super::{Destination, Error, Opening, Services};
use super::*;

fn record(level: Level, text: &str) -> Record<'static> {
    Record {
        level,
        time: SystemTime::now(),
        process: 1,
        category: "daemon",
        place: None,
        text: text.to_owned(),
        fields: Vec::new(),
    }
}

fn greeting() -> Greeting {
    Greeting { version: "9.0.0".to_owned(), hostname: "host".to_owned() }
}

fn sink(level: Level, destination: Destination, services: &Services) -> Result<Sink, Error> {
    let outputs = Output { level, destination }.into();
    let opening = Opening { outputs, is_default: false, services: services.clone() };
    Ok(opening.open()?.0.remove(0))
}

impl Sink {
    fn say(&mut self, level: Level, text: &str) {
        self.write(&record(level, text), &greeting(), Hands::Callers);
    }
}

/// Returns the lines of a log file without time and thread.
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
    one.say(Level::Info, "unseen");
    assert_eq!(path.metadata().unwrap().len(), 0);
    one.say(Level::Warning, "first");
    one.say(Level::Error, "second");
    open().unwrap().say(Level::Error, "third");
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
    let open =
        |path: &Path| sink(Level::Debug, Destination::File(path.to_owned()), &Services::default());
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
    sink.say(Level::Error, "text");
    sink.say(Level::Warning, &long);
    assert_eq!(sink.pending(), 0);
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
    sink.say(Level::Error, "a");
    assert_eq!(sink.pending(), 3);
    sink.say(Level::Error, "b");
    assert_eq!(sink.pending(), 4);

    let syslog = UnixDatagram::bind(&services.syslog).unwrap();
    sink.say(Level::Error, "c");
    assert_eq!(sink.pending(), 0);
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
    for _ in 0..5000 {
        sink.say(Level::Error, "x");
    }
    assert!(sink.pending() > 0);
}
