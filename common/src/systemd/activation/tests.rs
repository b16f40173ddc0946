use std::fs::File;
use std::os::fd::IntoRawFd;

use super::*;

fn activation(pid: &str, fds: &str, names: Option<&str>) -> Activation {
    Activation { pid: Some(pid.into()), fds: Some(fds.into()), names: names.map(Into::into) }
}

/// Passes an fd of any number.
fn passed(name: Option<&str>, fd: impl IntoRawFd) -> Result<Passed, Error> {
    let mut passed = Passed::default();
    passed.add(fd.into_raw_fd(), name.map(str::to_owned)).map(|()| passed)
}

fn listener() -> UnixListener {
    let dir = tempfile::tempdir().unwrap();
    UnixListener::bind(dir.path().join("sock")).unwrap()
}

#[test]
fn what_is_meant_for_another_process_is_not_taken() {
    assert_eq!(activation("7", "2", None).count(8), 0);
    assert_eq!(activation("x", "2", None).count(8), 0);
    assert_eq!(activation("8", "-2", None).count(8), 0);
    assert_eq!(Activation::default().count(8), 0);
    assert_eq!(activation("8", "2", None).count(8), 2);
}

#[test]
fn names_count_only_when_there_is_one_for_each() {
    let two = activation("8", "2", Some("a.socket:b.socket"));
    assert_eq!(two.names_of(2), [Some("a.socket".to_owned()), Some("b.socket".to_owned())]);
    assert_eq!(two.names_of(3), [None, None, None]);
    assert_eq!(activation("8", "1", None).names_of(1), [None]);
}

#[test]
fn a_count_that_no_process_can_have_is_cut() {
    assert_eq!(activation("8", "2147483647", None).count(8), PASSED_MAX);
}

#[test]
fn what_listens_is_a_socket_whatever_its_name() {
    for name in [Some("virtlogd.socket"), Some("other"), None] {
        let passed = passed(name, listener()).unwrap();
        assert_eq!(passed.sockets.len(), 1, "{name:?}");
        assert_eq!(passed.sockets[0].name.as_deref(), name);
    }
}

#[test]
fn a_stored_fd_may_be_of_any_kind() {
    let (reader, writer) = crate::sys::pipe::pipe().unwrap();
    let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let fds = [
        reader,
        writer,
        stream.into(),
        File::open("/").unwrap().into(),
        File::open("/dev/null").unwrap().into(),
        crate::sys::pidfd::open(std::process::id().cast_signed()).unwrap(),
    ];
    for fd in fds {
        let passed = passed(Some("a1"), fd).unwrap();
        assert_eq!(passed.stored[0].name, "a1");
    }
    assert_eq!(passed(None, File::open("/").unwrap()).unwrap().stored[0].name, NAMELESS);
}

#[test]
fn what_is_no_socket_but_named_as_one_is_an_error() {
    let file = File::open("/dev/null").unwrap();
    assert!(matches!(passed(Some("a.socket"), file), Err(Error::Unusable { .. })));
}

#[test]
fn what_is_not_open_is_nothing() {
    let mut passed = Passed::default();
    passed.add(PASSED_MAX, Some("a1".to_owned())).unwrap();
    assert!(passed.stored.is_empty());
    assert!(passed.add(PASSED_MAX, Some("a.socket".to_owned())).is_err());
}
