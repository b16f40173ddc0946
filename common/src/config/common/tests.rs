use super::*;
use std::path::Path;

fn read(text: &str) -> Result<Common, Error> {
    Common::read(&Document::parse(Path::new("/d.conf"), text.as_bytes()).unwrap())
}

#[test]
fn an_empty_file_gives_libvirts_defaults() {
    let common = read("").unwrap();
    assert_eq!((common.log_level, common.max_clients), (0, 1024));
    assert_eq!(common.admin_max_clients, 5000);
    assert_eq!(common.log_filters + &common.log_outputs, "");
    assert_eq!(common.sockets, ServerSockets::default());
}

#[test]
fn every_key_is_read_and_known() {
    let text = "log_level=1; log_filters='1:rpc'; log_outputs='1:stderr'; max_clients=2
        admin_max_clients=3; unix_sock_dir='/s'; unix_sock_group='g'
        unix_sock_ro_perms='0777'; unix_sock_rw_perms='0770'; unix_sock_admin_perms='700'";
    let common = read(text).unwrap();
    assert_eq!(common.log_level, 1);
    assert_eq!(common.log_filters, "1:rpc");
    assert_eq!(common.log_outputs, "1:stderr");
    assert_eq!((common.max_clients, common.admin_max_clients), (2, 3));
    let sockets = common.sockets;
    assert_eq!(sockets.dir.as_deref(), Some(Path::new("/s")));
    assert_eq!(sockets.group.as_deref(), Some("g"));
    assert_eq!((sockets.perms, sockets.admin_perms), (Some(0o770), Some(0o700)));

    let document = Document::parse(Path::new("d"), text.as_bytes()).unwrap();
    assert_eq!(document.unknown(&Common::KEYS).count(), 0);
}

#[test]
fn empty_strings_stand_for_unset() {
    let text = "unix_sock_dir=''; unix_sock_group=''; unix_sock_rw_perms=''";
    assert_eq!(read(text).unwrap().sockets, ServerSockets::default());
}

#[test]
fn bad_permissions_name_file_and_line() {
    for bad in ["0790", "rw", "01777", "-1", "0o770"] {
        let error = read(&format!("\n\nunix_sock_rw_perms = '{bad}'")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "/d.conf:3: invalid value '{bad}' for 'unix_sock_rw_perms' parameter: \
                 expected octal permission bits such as \"0770\""
            )
        );
    }
    assert!(matches!(read("unix_sock_rw_perms = 770"), Err(Error::Type { .. })));
}
