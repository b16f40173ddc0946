use super::super::Level;
use super::*;
use std::time::SystemTime;

fn record(text: String) -> Record<'static> {
    Record {
        level: Level::Warning,
        time: SystemTime::now(),
        process: 1,
        category: "util.conf",
        place: Some(Place { file: "src/a.rs", line: 7, module: "virtlogd::config" }),
        text,
        fields: Vec::new(),
    }
}

const FIELDS_AFTER_MESSAGE: &str = "PRIORITY=4\nSYSLOG_FACILITY=3\nLIBVIRT_SOURCE=util.conf\n\
    CODE_FILE=src/a.rs\nCODE_LINE=7\nCODE_FUNC=virtlogd::config\n";

#[test]
fn an_entry_is_one_datagram() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    send(&UnixDatagram::unbound().unwrap(), &path, &record("text".into())).unwrap();
    let mut bytes = [0; 1000];
    let length = journal.recv(&mut bytes).unwrap();
    let expected = format!("MESSAGE=text\n{FIELDS_AFTER_MESSAGE}");
    assert_eq!(str::from_utf8(&bytes[..length]).unwrap(), expected);
}

#[test]
fn the_first_lines_come_from_no_place() {
    let entry = entry(&record(String::new()).beside(Level::Info, "hostname: h".into()));
    let expected = "MESSAGE=hostname: h\nPRIORITY=6\nSYSLOG_FACILITY=3\nLIBVIRT_SOURCE=util.conf\n";
    assert_eq!(entry.as_bytes(), expected.as_bytes());
}

#[test]
fn a_missing_journal_is_an_error() {
    let socket = UnixDatagram::unbound().unwrap();
    assert!(send(&socket, Path::new("/nonexistent/socket"), &record("x".into())).is_err());
}
