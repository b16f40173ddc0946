//! `systemctl reload`: it ends when the new image serves, or fails when there is none.

use std::path::Path;

use tests::harness::{Program, Whose, expect_file, guest_writes};
use tests::machine::{
    enable, install, journal, main_process, main_socket, property, service, systemctl,
    systemctl_fails,
};
use tests::wire::LogClient;

tests::on_machine! { Ours:
    a_reload_ends_when_the_new_image_serves,
    a_reload_hands_over_to_libvirts_daemon_and_back,
    a_reload_that_is_refused_fails,
}

fn a_reload_ends_when_the_new_image_serves() {
    enable(Program::Virtlogd);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let pipe = client.open(Path::new("/home/guest.log")).unwrap().pipe;
    for count in 1..=5 {
        let (pid, image) = (property("virtlogd.service", "MainPID"), image(Program::Virtlogd));
        systemctl(&["reload", "virtlogd.service"]);
        assert_ne!(self::image(Program::Virtlogd), image);
        assert_eq!(property("virtlogd.service", "MainPID"), pid);
        assert_eq!(property("virtlogd.service", "SubState"), "running");
        guest_writes(&pipe, "a line\n");
        expect_file(Path::new("/home/guest.log"), "a line\n".repeat(count));
    }
    assert_eq!(property("virtlogd.service", "NRestarts"), "0");
}

fn a_reload_hands_over_to_libvirts_daemon_and_back() {
    enable(Program::Virtlogd);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let pipe = client.open(Path::new("/home/guest.log")).unwrap().pipe;
    for (count, whose) in [(1, Whose::Theirs), (2, Whose::Ours), (3, Whose::Theirs)] {
        install(whose, Program::Virtlogd);
        systemctl(&["reload", "virtlogd.service"]);
        guest_writes(&pipe, "a line\n");
        expect_file(Path::new("/home/guest.log"), "a line\n".repeat(count));
        let is_libvirts = main_process(Program::Virtlogd, "maps").contains("libvirt.so");
        assert_eq!(is_libvirts, whose == Whose::Theirs, "{}", journal("virtlogd.service"));
    }
}

fn a_reload_that_is_refused_fails() {
    enable(Program::Virtlogd);
    let unit = service(Program::Virtlogd);
    systemctl(&["start", &unit]);
    let image = image(Program::Virtlogd);
    std::fs::create_dir_all("/etc/libvirt").unwrap();
    std::fs::write("/etc/libvirt/virtlogd.conf", "max_clients = \"x\"\n").unwrap();
    for _ in 0..2 {
        systemctl_fails(&["reload", &unit]);
        assert!(journal(&unit).contains("'max_clients' parameter"), "{}", journal(&unit));
    }
    assert_eq!(property(&unit, "SubState"), "running");
    assert_eq!(self::image(Program::Virtlogd), image);
}

/// Another after each exec: where the kernel has put the stack.
fn image(program: Program) -> String {
    let stat = main_process(program, "stat");
    stat.split(' ').nth(27).expect("start of the stack").to_owned()
}
