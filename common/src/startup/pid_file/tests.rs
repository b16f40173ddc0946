use super::*;

#[test]
fn it_holds_our_number_without_a_newline_and_goes_with_us() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.pid");
    fs::write(&path, "4711 and more").unwrap();
    let pid_file = PidFile::acquire(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
    drop(pid_file);
    assert!(!path.exists());
}

#[test]
fn one_that_cannot_be_opened_says_why() {
    let error = PidFile::acquire(Path::new("/nonexistent/d.pid")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Failed to open pid file '/nonexistent/d.pid': No such file or directory"
    );
}

#[test]
fn a_file_that_somebody_else_put_there_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.pid");
    let pid_file = PidFile::acquire(&path).unwrap();
    fs::rename(&path, dir.path().join("old")).unwrap();
    fs::write(&path, "1").unwrap();
    drop(pid_file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1");
}
