use std::os::unix::fs::PermissionsExt;

use super::*;

fn find(name: &Path, search: Option<&Path>) -> Result<PathBuf, Error> {
    find_or(name, search, None)
}

fn find_or(name: &Path, search: Option<&Path>, executed: Option<&Path>) -> Result<PathBuf, Error> {
    let search = search.map(Path::as_os_str);
    Target::find(vec![name.into()], search, executed).map(|target| target.path)
}

fn program(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_name_is_looked_for_in_path_and_a_path_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daemon");
    assert!(matches!(find(&path, None), Err(Error::Unusable { .. })));
    program(&path, b"#!/bin/sh\n", 0o755);
    assert_eq!(find(&path, None).unwrap(), path);
    assert_eq!(find(Path::new("daemon"), Some(dir.path())).unwrap(), path);
    assert!(matches!(find(Path::new("daemon"), None), Err(Error::NotInPath(_))));
    assert!(matches!(find(Path::new(""), None), Err(Error::Nameless)));
}

#[test]
fn a_relative_name_that_leads_nowhere_stands_for_what_was_executed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("daemon"), dir.path().join("other"));
    program(&path, b"#!/bin/sh\n", 0o755);
    let found = |name: &str, search: &Path| {
        find_or(Path::new(name), Some(search), Some(&other)).map_err(|error| error.to_string())
    };
    let missing = format!("{}: No such file or directory", other.display());
    assert_eq!(found("daemon", Path::new("/none")), Err(missing));
    program(&other, b"#!/bin/sh\n", 0o755);
    for name in ["daemon", "./no/such/daemon", ""] {
        assert_eq!(found(name, Path::new("/none")).as_ref(), Ok(&other), "{name:?}");
    }
    assert_eq!(found("daemon", dir.path()), Ok(path), "the name goes first");
    assert!(found("/no/such/daemon", dir.path()).is_err(), "there is no doubt about this one");
}

#[test]
fn what_was_executed_is_this_program() {
    let executed = executed().unwrap();
    let (own, found) = (fs::metadata("/proc/self/exe"), fs::metadata(&executed));
    assert!(executed.is_absolute());
    assert_eq!(found.unwrap().ino(), own.unwrap().ino());
}

#[test]
fn what_cannot_be_executed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daemon");
    program(&path, b"#!/bin/sh\n", 0o644);
    assert!(matches!(find(&path, None), Err(Error::Unusable { .. })));
    program(&path, b"\x7fELF\x01\x01\x01 of another machine", 0o755);
    assert!(matches!(find(&path, None), Err(Error::WrongMachine(_))));
    assert!(matches!(find(dir.path(), None), Err(Error::Unusable { .. })));
}

#[test]
fn a_program_that_was_replaced_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daemon");
    program(&path, b"#!/bin/sh\n", 0o755);
    let target = Target::find(vec![path.clone().into()], None, None).unwrap();
    target.check_unchanged().unwrap();
    program(&dir.path().join("new"), b"#!/bin/sh\n", 0o755);
    fs::rename(dir.path().join("new"), &path).unwrap();
    assert!(matches!(target.check_unchanged(), Err(Error::Replaced(_))));
}
