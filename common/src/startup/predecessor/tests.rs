use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixListener;

use super::*;
use crate::handover::document::{Lockspace, PrivateLockspace};
use crate::sys::{file, pipe};

const NAME: &str = "virtlogd";

/// Paths of a user whose runtime directory this is.
fn paths(directory: &Path) -> Paths {
    let paths = Paths::new(NAME, false, |_| Some(directory.as_os_str().to_owned())).unwrap();
    std::fs::create_dir_all(&paths.run_dir).unwrap();
    paths
}

#[test]
fn a_document_that_is_no_use_is_a_predecessors_beside_a_listener() {
    let directory = tempfile::tempdir().unwrap();
    let paths = paths(directory.path());
    for document in ["no document", r#"{"magic": "of another process"}"#] {
        std::fs::write(&paths.state_file, document).unwrap();
        let file = tempfile::tempfile().unwrap().into_raw_fd();
        let found = Predecessor::find_by(None, &paths, InheritedFds::of([file]));
        assert!(!found.is_there() && found.complaint().is_some());
        for path in [&paths.socket, &paths.admin_socket] {
            let listener = UnixListener::bind(path).unwrap();
            let inherited = InheritedFds::of([file, listener.as_raw_fd()]);
            assert!(Predecessor::find_by(None, &paths, inherited).is_there(), "{}", path.display());
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn the_pid_file_is_adopted_or_taken_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let text = || std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "handed over").unwrap();
    let own = File::options().write(true).open(&path).unwrap().into_raw_fd();
    let other = tempfile::tempfile().unwrap().into_raw_fd();
    let mut found =
        Predecessor { inherited: InheritedFds::of([own, other]), ..Predecessor::default() };
    for (pid_file, expected) in
        [(Some(own), "handed over"), (Some(other), &*std::process::id().to_string())]
    {
        let private = PrivateDaemon { pid_file, ..PrivateDaemon::default() };
        let pid_file = found.pid_file(&path, &private).unwrap();
        assert_eq!(text(), expected);
        drop(pid_file);
        assert!(!path.exists());
    }
    assert!(found.inherited.take(Some(other)).is_ok(), "it is another file");
}

#[test]
fn essentials_are_passed_on_or_stored() {
    let numbers = [(); 3].map(|()| file::nameless("essential").unwrap().into_raw_fd());
    let [passed, stored, gone] = numbers;
    let mut found =
        Predecessor { inherited: InheritedFds::of([passed, stored]), ..Predecessor::default() };
    found.stored = Some(Stored {
        names: Vec::new(),
        is_known: true,
        missing: Vec::new(),
        essentials: vec![("stored".into(), stored)],
    });
    let essentials = found.essentials(vec![("passed".into(), passed), ("gone".into(), gone)]);
    let essentials = essentials.iter().map(|(name, fd)| (&**name, fd.as_raw_fd()));
    assert_eq!(essentials.collect::<Vec<_>>(), [("passed", passed), ("stored", stored)]);
}

#[test]
fn what_may_have_a_lock_stays_open() {
    let ((parked, wanted), (useless, _)) = (pipe::pipe().unwrap(), pipe::pipe().unwrap());
    let [parked, wanted, useless] = [parked, wanted, useless].map(IntoRawFd::into_raw_fd);
    let locked = tempfile::tempfile().unwrap().into_raw_fd();
    let inherited = InheritedFds::of([parked, wanted, useless, locked]);
    let mut found = Predecessor { inherited, ..Predecessor::default() };
    let private = PrivateDaemon { parked: Some(vec![parked]), ..PrivateDaemon::default() };
    let kept = found.unclaimed_fds(&private, |fd| fd.as_raw_fd() == wanted);
    let mut kept: Vec<_> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let mut expected = vec![parked, wanted, locked];
    kept.sort_unstable();
    expected.sort_unstable();
    assert_eq!(kept, expected);
}

#[test]
fn an_item_an_ending_and_a_setting_are_something() {
    let endings = PrivateLockspace { endings: Some(Vec::new()), ..PrivateLockspace::default() };
    let endings = Lockspace { private: Some(endings), ..Lockspace::default() };
    let settings = PrivateDaemon { timeout_s: Some(5), ..PrivateDaemon::default() };
    assert!(!is_something(&Document::default(), NAME));
    for document in [
        Document { default_lockspace: Some(endings), ..Document::default() },
        Document { private: Some(settings), ..Document::default() },
    ] {
        assert!(is_something(&document, NAME));
    }
}
