//! Documents that say what is not so, or more than anybody can read. What they name as one thing may be
//! another: a listener, a lock that somebody depends on.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::guest::Guest;
use tests::harness::{Daemon, Program, Route, Subject, Whose, expect_file, guest_writes};
use tests::wire::{LOG_PROGRAM, Writer};

use super::edited_state::EditedState;
use super::leases::{client_of, image};

mod virtlogd {
    use super::*;
    tests::mixed! { Virtlogd:
        a_listener_stays_whatever_it_is_taken_for,
        a_guests_pipe_stays_whatever_it_is_taken_for,
        a_guest_without_a_log_keeps_the_daemon,
    }
    tests::ours! { Virtlogd:
        the_sockets_go_on_without_a_document,
        names_of_any_length_can_be_handed_over,
    }
}

mod virtlockd {
    use super::*;
    tests::mixed! { Virtlockd:
        a_listener_stays_whatever_it_is_taken_for,
        a_client_of_whom_nothing_is_said_is_restricted,
    }
    tests::ours! { Virtlockd: the_sockets_go_on_without_a_document }
}

/// After which a daemon ends that serves nobody.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The number of OPEN.
const OPEN: i32 = 1;

/// Gives way to a successor that says nothing, and finds nothing of what was handed over.
const FORGETFUL: &str = r#"#!/bin/sh
case "$1" in --check*) exec "${0%/*}/real" "$@" ;; esac
rm -f /run/*-restart-exec.json
VIRT_RS_STATE=9999 exec "${0%/*}/real" "$@"
"#;

fn a_listener_stays_whatever_it_is_taken_for(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    expect_service(&daemon);
    let mut state = EditedState::take(&daemon);
    let name = daemon.subject().program.name();
    let listener = format!("/daemon/servers/{name}/services/0/socks/0/fd");
    let listener = state.document.pointer(&listener).expect("its listener").clone();
    lie(&mut state.document, &listener);
    let document = state.document.clone();
    state.give(&daemon, &document, Whose::Ours);
    daemon.wait_until_upgraded();
    expect_service(&daemon);
    daemon.change_to(Whose::Ours);
    expect_service(&daemon);
}

fn lie(document: &mut Value, listener: &Value) {
    document["virt-rs"] =
        json!({ "pid_file": listener, "configuration": listener, "generation": 1 });
    if let Some(files) = document.pointer_mut("/handler/files").and_then(Value::as_array_mut) {
        files.push(json!({
            "path": "/var/log/lie.log", "pipefd": listener, "driver": "qemu",
            "domname": "lie", "domuuid": "00000000-0000-0000-0000-000000000001",
        }));
    }
    let resource = json!({
        "name": "lie", "path": "/var/log/lie", "fd": listener, "lockHeld": true, "flags": 0,
        "owners": [1],
    });
    let resources = document.pointer_mut("/defaultLockspace/resources");
    if let Some(resources) = resources.and_then(Value::as_array_mut) {
        resources.push(resource);
    }
}

/// As both ends of a pipe with bytes of another guest's.
fn a_guests_pipe_stays_whatever_it_is_taken_for(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let paths = [daemon.file("first.log"), daemon.file("second.log")];
    let mut logs = paths.each_ref().map(|path| daemon.log_client().open(path).unwrap());
    let mut state = EditedState::take(&daemon);
    let files = state.document.pointer_mut("/handler/files").and_then(Value::as_array_mut);
    let files = files.expect("its logs");
    let number = |path: &Path| {
        let is_it = |file: &&Value| file["path"] == path.to_str().unwrap();
        files.iter().find(is_it).expect("a log")["pipefd"].clone()
    };
    let [first, second] = paths.each_ref().map(|path| number(path));
    for (file, staged) in files.iter_mut().zip([[&second, &second], [&second, &first]]) {
        file["virt-rs"]["staged"] = json!([staged, [-1, &second]]);
    }
    let document = state.document.clone();
    state.give(&daemon, &document, Whose::Ours);
    daemon.wait_until_upgraded();
    daemon.expect_said("Unable to adopt bytes of guest");
    for lines in 1..=2 {
        for (path, log) in paths.iter().zip(&mut logs) {
            log.pipe.write_all(b"line\n").unwrap();
            expect_file(path, "line\n".repeat(lines));
        }
        daemon.change_to(Whose::Ours);
    }
}

/// Its output has no place, but nobody would empty its pipe without a daemon.
fn a_guest_without_a_log_keeps_the_daemon(route: Route) {
    let timeout_s = TIMEOUT.as_secs().to_string();
    let setup = route.start().setup().args(["-t", &timeout_s]);
    let mut daemon = setup.replaceable().start();
    let log = daemon.log_client().open(&daemon.file("guest.log")).unwrap();
    let mut state = EditedState::take(&daemon);
    let files = state.document.pointer_mut("/handler/files").and_then(Value::as_array_mut);
    let file = files.and_then(|files| files[0].as_object_mut()).expect("a log");
    assert!(file.remove("path").is_some());
    let document = state.document.clone();
    state.give(&daemon, &document, Whose::Ours);
    daemon.wait_until_upgraded();
    std::thread::sleep(2 * TIMEOUT);
    daemon.expect_alive();
    guest_writes(&log.pipe, vec![b'x'; 1 << 20]);
    drop(log);
    assert_eq!(daemon.wait().code, Some(0));
}

/// Fail closed: nobody knows what it was allowed to do.
fn a_client_of_whom_nothing_is_said_is_restricted(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let (guest, image) = (Guest::start(&daemon), image(&daemon, "image"));
    let mut client = client_of(&daemon, &guest);
    let mut state = EditedState::take(&daemon);
    let clients = state.document.pointer_mut("/daemon/servers/virtlockd/clients");
    for client in clients.and_then(Value::as_array_mut).expect("clients") {
        let private = client["privateData"].as_object_mut().expect("private data");
        assert!(private.remove("restricted").is_some());
    }
    let document = state.document.clone();
    state.give(&daemon, &document, Whose::Ours);
    daemon.wait_until_upgraded();
    assert_eq!(client.acquire("", &image, 0).unwrap_err().code, 29);
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
}

fn the_sockets_go_on_without_a_document(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    expect_service(&daemon);
    let host = daemon.host();
    let executable = host.put(subject);
    let script = host.path("bin/script");
    fs::write(&script, FORGETFUL).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(executable, host.path("bin/real")).unwrap();
    host.put_file(subject.program, &script);
    daemon.forget_notifications();
    daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    daemon.wait_for_notification("it is ready again", "READY=1");
    daemon.expect_said("cannot be read: there is none");
    expect_service(&daemon);
}

/// What nobody shows in full is cut: seventy names of 4 MiB were more than a successor reads, and all
/// logs were lost.
fn names_of_any_length_can_be_handed_over(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let name = "n".repeat(4 << 20);
    let mut logs: Vec<_> = (0..70)
        .map(|number| {
            let path = daemon.file(&format!("{number}.log"));
            let arguments = Writer::new().string("qemu").fixed(&[7; 16]).string(&name);
            let arguments = arguments.string(path.as_os_str().as_bytes()).u32(0).into_bytes();
            let mut client = daemon.connect_main();
            let (_, mut fds) = client.call(LOG_PROGRAM, OPEN, &arguments).unwrap();
            (path, fs::File::from(fds.pop().expect("a pipe")))
        })
        .collect();
    daemon.change_to(Whose::Ours);
    for (path, pipe) in &mut logs {
        pipe.write_all(b"line\n").unwrap();
        expect_file(path, "line\n");
    }
}

fn expect_service(daemon: &Daemon) {
    match daemon.subject().program {
        Program::Virtlogd => {
            daemon.log_client().append(&daemon.file("served.log"), "x").unwrap();
        }
        Program::Virtlockd => {
            let guest = Guest::start(daemon);
            let image = image(daemon, "served");
            let mut client = client_of(daemon, &guest);
            client.acquire("", &image, 0).unwrap();
            client.release("", &image, 0).unwrap();
        }
    }
}
