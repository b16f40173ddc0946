use super::*;

fn session(variables: &[(&str, &str)]) -> Result<Paths, HomeUnknown> {
    Paths::new("virtlogd", false, |wanted| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.into())
    })
}

#[test]
fn roots_daemon_looks_at_no_variable() {
    let paths = Paths::new("virtlockd", true, |_| Some("/x".into())).unwrap();
    let expected = Paths {
        privileged: true,
        run_dir: "/run/libvirt".into(),
        socket: "/run/libvirt/virtlockd-sock".into(),
        admin_socket: "/run/libvirt/virtlockd-admin-sock".into(),
        pid_file: "/run/virtlockd.pid".into(),
        state_file: "/run/virtlockd-restart-exec.json".into(),
        config_file: "/etc/libvirt/virtlockd.conf".into(),
        log_file: "/var/log/libvirt/virtlockd.log".into(),
    };
    assert_eq!(paths, expected);
    assert_eq!(paths.run_dir_mode(), 0o755);
}

#[test]
fn a_users_daemon_follows_the_xdg_variables() {
    let paths =
        session(&[("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c"), ("XDG_CACHE_HOME", "/k")])
            .unwrap();
    let expected = Paths {
        privileged: false,
        run_dir: "/r/libvirt".into(),
        socket: "/r/libvirt/virtlogd-sock".into(),
        admin_socket: "/r/libvirt/virtlogd-admin-sock".into(),
        pid_file: "/r/libvirt/virtlogd.pid".into(),
        state_file: "/r/libvirt/virtlogd-restart-exec.json".into(),
        config_file: "/c/libvirt/virtlogd.conf".into(),
        log_file: "/k/libvirt/virtlogd.log".into(),
    };
    assert_eq!(paths, expected);
    assert_eq!(paths.run_dir_mode(), 0o700);
}

#[test]
fn without_the_variables_all_is_below_home() {
    let paths = session(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "")]).unwrap();
    assert_eq!(paths.run_dir, Path::new("/h/.cache/libvirt"));
    assert_eq!(paths.socket, Path::new("/h/.cache/libvirt/virtlogd-sock"));
    assert_eq!(paths.config_file, Path::new("/h/.config/libvirt/virtlogd.conf"));
    assert_eq!(paths.log_file, Path::new("/h/.cache/libvirt/virtlogd.log"));
    let cache = session(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/k")]).unwrap();
    assert_eq!(cache.run_dir, Path::new("/k/libvirt"));
}

#[test]
fn a_user_without_home_is_an_error() {
    assert_eq!(session(&[]), Err(HomeUnknown));
    assert_eq!(session(&[("XDG_RUNTIME_DIR", "/r")]), Err(HomeUnknown));
}

#[test]
fn a_socket_directory_moves_the_sockets_alone() {
    let paths = Paths::new("virtlogd", true, |_| None).unwrap();
    let moved = paths.clone().with_socket_dir(Path::new("/s"));
    assert_eq!(moved.socket, Path::new("/s/virtlogd-sock"));
    assert_eq!(moved.admin_socket, Path::new("/s/virtlogd-admin-sock"));
    let socket_dir = Path::new("/run/libvirt");
    assert_eq!(moved.with_socket_dir(socket_dir), paths);
}
