use std::os::fd::{AsRawFd, IntoRawFd};

use super::*;
use crate::handover::document::{
    Items, Lockspace, Log, LogHandler, PrivateDaemon, PrivateLockspace, PrivateLog,
};

fn document(generation: Option<u64>) -> Document<'static> {
    let private = PrivateDaemon { generation, ..PrivateDaemon::default() };
    Document {
        magic: Some(std::process::id().to_string()),
        private: generation.map(|_| private),
        ..Document::default()
    }
}

fn write_to(path: &Path, document: &Document<'_>) {
    fs::write(path, serde_json::to_vec(document).unwrap()).unwrap();
}

/// Finds with `passed` in a memfd, and gives the generation of what was found.
fn found(path: &Path, passed: Option<&Document<'_>>) -> Option<Option<u64>> {
    let memfd = passed.map(|document| Memfd::of(document).unwrap().seal());
    let variable = memfd.as_ref().map(|memfd| memfd.as_raw_fd().to_string());
    let mut inherited = InheritedFds::of(memfd.map(IntoRawFd::into_raw_fd));
    let found = find(path, variable.as_deref().map(OsStr::new), &mut inherited)?;
    found.is_ours.then(|| found.document.private.and_then(|own| own.generation))
}

#[test]
fn the_newer_of_two_documents_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    assert_eq!(found(&path, None), None);
    assert_eq!(found(&path, Some(&document(Some(4)))), Some(Some(4)));
    write_to(&path, &document(Some(5)));
    assert_eq!(found(&path, None), Some(Some(5)));
    assert_eq!(found(&path, Some(&document(Some(4)))), Some(Some(5)));
    assert_eq!(found(&path, Some(&document(Some(6)))), Some(Some(6)));
}

#[test]
fn libvirts_document_is_newer_unless_it_is_known_to_be_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_to(&path, &document(None));
    let mut passed = document(Some(4));
    assert_eq!(found(&path, Some(&passed)), Some(None));
    passed.private.as_mut().unwrap().stale_file = identity(&path);
    assert_eq!(found(&path, Some(&passed)), Some(Some(4)));
    fs::remove_file(&path).unwrap();
    write_to(&path, &document(None));
    assert_eq!(found(&path, Some(&passed)), Some(None));
}

#[test]
fn a_strangers_document_is_known_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    write_to(&path, &Document { magic: Some("1".into()), ..Document::default() });
    assert!(!find(&path, None, &mut InheritedFds::default()).unwrap().is_ours);
    assert_eq!(found(&path, Some(&document(Some(4)))), Some(Some(4)));
    fs::write(&path, "{").unwrap();
    let broken = find(&path, None, &mut InheritedFds::default()).unwrap();
    assert!(!broken.is_ours && broken.broken.is_some());
}

#[test]
fn our_successor_does_without_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/state");
    let fd_set = FdSet::default();
    let written = write(document(Some(1)), Successor::Ours, &path, &fd_set).unwrap();
    assert!(written.memfd.is_some());
    write(document(Some(1)), Successor::Libvirt, &path, &fd_set).unwrap_err();
}

#[test]
fn a_document_that_was_not_needed_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let written = write(document(None), Successor::Libvirt, &path, &FdSet::default()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, FILE_MODE);
    drop(written);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_file_of_ours_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let [file, link, fifo] = ["file", "link", "fifo"].map(|name| dir.path().join(name));
    fs::write(&file, "abc").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(read_file(&file, None).as_deref(), Some(&b"abc"[..]));
    for other in [&link, &fifo, &dir.path().to_owned()] {
        assert!(read_file(other, None).is_none(), "{}", other.display());
    }
}

#[test]
fn a_file_that_is_known_already_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "abc").unwrap();
    assert!(read_file(&path, Some(b"abc")).is_none());
    for known in [&b"abd"[..], b"ab", b"abcd", b""] {
        assert_eq!(read_file(&path, Some(known)).as_deref(), Some(&b"abc"[..]), "{known:?}");
    }
}

/// Returns the document as it is written for libvirt's daemon.
fn text_for_libvirt(mut document: Document<'_>) -> Result<String, WriteError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for_libvirt(&mut document)?.copy_to(file.as_file_mut()).unwrap();
    Ok(fs::read_to_string(file.path()).unwrap())
}

#[test]
fn private_keys_that_make_a_document_too_large_for_libvirt_are_left_out() {
    assert!(text_for_libvirt(document(Some(4))).unwrap().contains("virt-rs"));
    let long = || Some("ab".repeat(usize::try_from(LIBVIRT_BYTES_MAX).unwrap() / 2));
    let of_daemon = PrivateDaemon { configuration_hex: long(), ..PrivateDaemon::default() };
    let of_log = PrivateLog { unfinished_line: long(), ..PrivateLog::default() };
    let of_space = PrivateLockspace { directory: long(), ..PrivateLockspace::default() };
    let log = Log { path: Some("/log".into()), private: Some(of_log), ..Log::default() };
    let space = Lockspace { private: Some(of_space), ..Lockspace::default() };
    let files = Some(Items::Read(vec![log]));
    for (document, kept) in [
        (Document { private: Some(of_daemon), ..document(None) }, "magic"),
        (Document { handler: Some(LogHandler { files }), ..document(None) }, "/log"),
        (Document { default_lockspace: Some(space), ..document(None) }, "defaultLockspace"),
    ] {
        let text = text_for_libvirt(document).unwrap();
        assert!(text.contains(kept) && !text.contains("virt-rs"), "{kept}");
    }
    let magic = long();
    let too_large = text_for_libvirt(Document { magic, ..Document::default() });
    assert!(matches!(too_large, Err(WriteError::TooLarge(_))));
}
