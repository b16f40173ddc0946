//! Journeys of daemons that run in a special way.

use std::os::unix::net::UnixListener;

use tests::harness::{Daemon, Host, Mode, Program, Route, Setup};

use super::{leases, logs};

mod virtlogd {
    use super::*;
    tests::routes! { Virtlogd:
        with_a_log_of_its_own,
        with_sockets_from_systemd,
        in_a_session,
        with_many_options,
    }
}

mod virtlockd {
    use super::*;
    tests::routes! { Virtlockd:
        with_a_log_of_its_own,
        with_sockets_from_systemd,
        in_a_session,
        with_many_options,
    }
}

fn with_a_log_of_its_own(route: Route) {
    let outputs = "1:file:/var/log/libvirt/own.log";
    travel(setup(route).env("LIBVIRT_LOG_OUTPUTS", outputs).start(), route);
}

fn with_sockets_from_systemd(route: Route) {
    let name = route.program.name();
    let setup = setup(route);
    let host = setup.host();
    std::fs::create_dir_all(host.path("run/libvirt")).unwrap();
    let bind = |kind: &str| UnixListener::bind(socket(&host, name, kind)).unwrap().into();
    let names = format!("{name}-admin.socket:{name}.socket");
    let setup = setup.listen([bind("-admin"), bind("")]).env("LISTEN_FDNAMES", names);
    travel(setup.start(), route);
    // Those who pass sockets keep them: they are there after the daemon's end.
    assert!(socket(&host, name, "").exists() && socket(&host, name, "-admin").exists());
}

fn in_a_session(route: Route) {
    travel(setup_in(route, Mode::Session).start(), route);
}

fn with_many_options(route: Route) {
    let setup = setup(route);
    let host = setup.host();
    let config = host.file("own.conf");
    std::fs::rename(config_path(&host, route), &config).unwrap();
    let pid_file = format!("/run/{}.pid", route.program.name());
    let setup = setup.args(["-v", "-t", "300", "-p", &pid_file, "-f"]).args([config]);
    travel(setup.start(), route);
}

fn setup(route: Route) -> Setup {
    setup_in(route, Mode::System)
}

fn setup_in(route: Route, mode: Mode) -> Setup {
    let setup = route.start().setup().mode(mode).replaceable();
    match route.program {
        Program::Virtlogd => setup.config(&logs::config(route)),
        Program::Virtlockd => setup.config(""),
    }
}

fn travel(daemon: Daemon, route: Route) {
    match route.program {
        Program::Virtlogd => logs::journey(daemon, route),
        Program::Virtlockd => leases::journey(daemon, route),
    }
}

fn config_path(host: &Host, route: Route) -> std::path::PathBuf {
    host.path(&format!("etc/libvirt/{}.conf", route.program.name()))
}

fn socket(host: &Host, name: &str, kind: &str) -> std::path::PathBuf {
    host.path(&format!("run/libvirt/{name}{kind}-sock"))
}
