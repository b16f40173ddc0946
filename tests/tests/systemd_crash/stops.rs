//! A stop that empties the fd store, as each does before systemd 254: nobody loses anything in
//! silence. What only looks like one, a restart, leaves everything as it was.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tests::guest::Guest;
use tests::harness::{Program, eventually, eventually_within, expect_file};
use tests::load::is_free;
use tests::machine::{
    drop_in, enable, expect_property, journal, main_pid, main_socket, property, service, systemctl,
    systemd_version,
};
use tests::wire::LogClient;

use super::guests::image;

tests::on_machine! { Ours:
    a_stop_ends_guests_before_their_leases_go,
    a_restart_does_not,
    a_stop_stores_what_guests_wrote,
    the_system_bus_will_do,
    what_cannot_be_asked_counts_as_lost,
}

/// What the daemon says then.
const TOLD: &str = "This stop empties the fd store";

/// Where systemd answers questions.
const PRIVATE: &str = "/run/systemd/private";

/// How often a stop is tried whose answer may come too late.
const STOPS_MAX: usize = 5;

/// What every systemd before 254 does.
fn enable_without_preserving(program: Program) {
    if systemd_version() >= 254 {
        drop_in(&service(program), "[Service]\nFileDescriptorStorePreserve=restart\n");
    }
    enable(program);
}

fn guest_with_leases() -> (Guest, [String; 2]) {
    let images = [image(0, 0), image(0, 1)];
    (Guest::start_with_leases(&main_socket(Program::Virtlockd), &images), images)
}

/// By whatever has stopped it.
fn a_stop_ends_guests_before_their_leases_go() {
    enable_without_preserving(Program::Virtlockd);
    for stop in ["virtlockd.service", "virtlockd.socket"] {
        systemctl(&["start", "virtlockd.socket"]);
        let (mut guest, images) = guest_with_leases();
        systemctl(&["stop", stop]);
        assert_eq!(guest.ending(), Some(15), "{}", journal("virtlockd.service"));
        expect_property("virtlockd.service", "ActiveState", "inactive");
        assert!(images.iter().all(is_free));
    }
    let said = journal("virtlockd.service");
    assert_eq!(said.matches(TOLD).count(), 2, "{said}");
    assert_eq!(said.matches("a crash frees 2 leases").count(), 2, "{said}");
}

fn a_restart_does_not() {
    enable_without_preserving(Program::Virtlockd);
    let (mut guest, images) = guest_with_leases();
    for (verb, unit) in [
        ("restart", "virtlockd.service"),
        ("try-restart", "virtlockd.service"),
        ("reload-or-restart", "virtlockd.service"),
        ("restart", "virtlockd.socket"),
    ] {
        let before = main_pid(Program::Virtlockd);
        systemctl(&[verb, unit]);
        let is_reload = verb == "reload-or-restart";
        eventually("it is another process", || {
            (main_pid(Program::Virtlockd) == before) == is_reload
        });
        assert!(guest.is_running() && images.iter().all(|image| !is_free(image)), "{verb} {unit}");
        guest.tell("call");
    }
    assert!(!journal("virtlockd.service").contains(TOLD), "{}", journal("virtlockd.service"));
}

fn a_stop_stores_what_guests_wrote() {
    enable_without_preserving(Program::Virtlogd);
    let path = Path::new("/srv/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let mut pipe = client.open(path).unwrap().pipe;
    let lines = "a line\n".repeat(4096);
    pipe.write_all(lines.as_bytes()).unwrap();
    systemctl(&["stop", "virtlogd.service"]);
    expect_file(path, &lines);
    let is_said = |said: &str| said.contains(TOLD) && said.contains("a crash loses 1 logs");
    // The journal may be behind.
    let is_told =
        eventually_within(Duration::from_secs(10), || is_said(&journal("virtlogd.service")));
    assert!(is_told, "{}", journal("virtlogd.service"));
}

/// On a busy machine systemd may not answer in time, and the journal may have lost the unit of a process
/// that has ended.
fn the_system_bus_will_do() {
    enable_without_preserving(Program::Virtlockd);
    let is_asked = |_| {
        let before = journal("virtlockd.service").len();
        let said = said_at_a_stop_by_the_system_bus().split_off(before);
        said.contains(TOLD) && !said.contains("No answer from systemd")
    };
    assert!((0..STOPS_MAX).any(is_asked), "{}", journal("virtlockd.service"));
}

/// The service's journal after a stop without the private socket.
fn said_at_a_stop_by_the_system_bus() -> String {
    systemctl(&["start", "virtlockd.socket"]);
    let (mut guest, _images) = guest_with_leases();
    let pid = main_pid(Program::Virtlockd);
    fs::rename(PRIVATE, "/run/systemd/away").unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(guest.ending(), Some(15));
    fs::rename("/run/systemd/away", PRIVATE).unwrap();
    expect_property("virtlockd.service", "ActiveState", "inactive");
    journal("virtlockd.service")
}

/// By a systemd that hangs, say.
fn what_cannot_be_asked_counts_as_lost() {
    enable_without_preserving(Program::Virtlockd);
    let (mut guest, _images) = guest_with_leases();
    let pid = main_pid(Program::Virtlockd);
    fs::rename(PRIVATE, "/run/systemd/away").unwrap();
    let hung = UnixListener::bind(PRIVATE).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    // It serves while it asks.
    guest.tell("call");
    assert_eq!(guest.ending(), Some(15));
    drop(hung);
    fs::rename("/run/systemd/away", PRIVATE).unwrap();
    expect_property("virtlockd.service", "ActiveState", "inactive");
    let said = journal("virtlockd.service");
    assert!(said.contains("No answer from systemd") && said.contains(TOLD), "{said}");
    assert_eq!(property("virtlockd.service", "Result"), "success");
}
