use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_is_put_in_a_sockets_place_is_given_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (path, keys) = (dir.path().join("socket"), dir.path().join("keys"));
    fs::write(&keys, "root's").unwrap();
    fs::set_permissions(&keys, Permissions::from_mode(0o600)).unwrap();
    let listener = Listener::bind(&path, 0o666, Some(nix::unistd::getegid().as_raw())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
    let file = listener.file.as_ref().unwrap();
    fs::rename(&path, dir.path().join("aside")).unwrap();
    let ways: [fn(&Path, &Path) -> io::Result<()>; 2] =
        [|to, at| symlink(to, at), |to, at| fs::hard_link(to, at)];
    for put in ways {
        put(&keys, &path).unwrap();
        file.open_to(0, 0o666).unwrap_err();
        assert_eq!(fs::metadata(&keys).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    drop(UnixListener::bind(&path).unwrap());
    let living = Listener::bind(&path, 0o700, None).unwrap();
    let error = Listener::bind(&path, 0o700, None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(living);
    assert!(!path.exists());
}

#[test]
fn a_file_at_the_path_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&path, 0o700, None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_that_took_our_path_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let ours = Listener::bind(&path, 0o700, None).unwrap();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}
