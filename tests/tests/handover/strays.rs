//! Descriptors that a process was started with, or that nobody makes sense of: closing one takes the
//! POSIX lock of its file along, whoever has that.

use std::fs;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tests::guest::Guest;
use tests::harness::{Daemon, Host, Route, Whose, left_out};
use tests::load::{Contender, is_free};
use tests::wire::ACQUIRE_AUTOCREATE;

use super::edited_state::EditedState;
use super::leases::{client_of, text};

tests::mixed! { Virtlockd:
    a_stray_descriptor_takes_no_lock_along,
    a_lease_on_a_device_outlives_a_state_without_it,
    a_lease_that_is_taken_for_a_client_stays,
    a_name_that_was_released_takes_no_lock_along,
    a_link_that_leads_nowhere_is_followed,
}

fn a_stray_descriptor_takes_no_lock_along(route: Route) {
    for opened in ["9>>", "9<"] {
        let host = Host::new();
        let image = text(&host.file("image"));
        fs::write(&image, "").unwrap();
        let setup = route.start().setup_on(&host).replaceable();
        let mut daemon = setup.prepare(&format!("exec {opened}'{image}'")).start();
        let guest = Guest::start(&daemon);
        client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
        assert!(!is_free(&image));
        daemon.change_to(Whose::Ours);
        daemon.change_to(Whose::Ours);
        assert!(!is_free(&image), "{opened}");
        client_of(&daemon, &guest).release("", &image, 0).unwrap();
        assert!(is_free(&image), "{opened}");
    }
}

fn a_lease_on_a_device_outlives_a_state_without_it(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let device = daemon.file("device");
    let made = mknod(&device, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(1, 3));
    if made.is_err() || fs::File::options().write(true).open(&device).is_err() {
        return left_out("a lease on a device", "none can be made here");
    }
    let image = text(&device);
    let _guest = leased(&daemon, &image);
    let state = EditedState::take(&daemon);
    let mut document = state.document.clone();
    document.as_object_mut().unwrap().remove("defaultLockspace");
    state.give(&daemon, &document, Whose::Ours);
    daemon.wait_until_upgraded();
    assert!(!is_free(&image));
    daemon.change_to(Whose::Ours);
    assert!(!is_free(&image));
}

fn a_lease_that_is_taken_for_a_client_stays(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let image = text(&daemon.file("image"));
    fs::write(&image, "").unwrap();
    let _guest = leased(&daemon, &image);
    let state = EditedState::take(&daemon);
    let mut document = state.document.clone();
    let number = document["defaultLockspace"]["resources"][0]["fd"].clone();
    document["daemon"]["servers"]["virtlockd"]["clients"][0]["sock"]["fd"] = number;
    state.give(&daemon, &document, Whose::Ours);
    daemon.wait_until_upgraded();
    assert!(!is_free(&image));
}

/// Its descriptor is kept for the sake of the other name, by whoever comes next as well.
fn a_name_that_was_released_takes_no_lock_along(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let (image, alias) = (text(&daemon.file("image")), text(&daemon.file("alias")));
    fs::write(&image, "").unwrap();
    fs::hard_link(&image, &alias).unwrap();
    let guest = Guest::start(&daemon);
    let mut client = client_of(&daemon, &guest);
    client.acquire("", &image, 0).unwrap();
    client.acquire("", &alias, 0).unwrap();
    daemon.change_to(Whose::Ours);
    let contender = Contender::start(std::slice::from_ref(&image));
    client_of(&daemon, &guest).release("", &alias, 0).unwrap();
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Theirs);
    contender.finish();
    client_of(&daemon, &guest).release("", &image, 0).unwrap();
    assert!(is_free(&image));
}

/// While there are files that must not be opened, others are looked at first.
fn a_link_that_leads_nowhere_is_followed(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let image = text(&daemon.file("image"));
    fs::write(&image, "").unwrap();
    let guest = leased(&daemon, &image);
    daemon.change_to(Whose::Ours);
    let (link, target) = (text(&daemon.file("link")), text(&daemon.file("target")));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let mut client = client_of(&daemon, &guest);
    client.create("", &link, 0).unwrap();
    fs::remove_file(&target).unwrap();
    client.acquire("", &link, ACQUIRE_AUTOCREATE).unwrap();
    assert!(!is_free(&target) && !is_free(&image));
    client.release("", &link, 0).unwrap();
    assert!(is_free(&target) && !is_free(&image));
}

fn leased(daemon: &Daemon, image: &str) -> Guest {
    let guest = Guest::start(daemon);
    client_of(daemon, &guest).acquire("", image, 0).unwrap();
    assert!(!is_free(image));
    guest
}
