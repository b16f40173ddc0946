use super::super::Level;
use super::*;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use std::io::{IoSliceMut, Read, Seek};
use std::os::fd::AsRawFd;
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
    assert!(entry.starts_with("MESSAGE=hostname: h\nPRIORITY=6\n"), "{entry}");
    assert!(!entry.contains("CODE_"), "{entry}");
}

#[test]
fn an_entry_too_large_for_a_datagram_is_a_sealed_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    setsockopt(&socket, sockopt::SndBuf, &4096).unwrap();
    let text = "x".repeat(100_000);
    send(&socket, &path, &record(text.clone())).unwrap();

    let mut byte = [0];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!(i32);
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(journal.as_raw_fd(), &mut iov, Some(&mut control), flags).unwrap();
    assert_eq!(message.bytes, 0);
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no fd");
    };
    #[expect(unsafe_code, reason = "a number has to get an owner")]
    // SAFETY: it has just been received, and nothing else knows its number.
    let file = unsafe { crate::sys::fd::adopt(fds[0]) };
    let mut file = File::from(file.unwrap());
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
    let sealed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    assert!(SealFlag::from_bits_retain(seals).contains(sealed));
    file.rewind().unwrap();
    let mut entry = String::new();
    file.read_to_string(&mut entry).unwrap();
    assert_eq!(entry, format!("MESSAGE={text}\n{FIELDS_AFTER_MESSAGE}"));
}

#[test]
fn a_missing_journal_is_an_error() {
    let socket = UnixDatagram::unbound().unwrap();
    assert!(send(&socket, Path::new("/nonexistent/socket"), &record("x".into())).is_err());
}
