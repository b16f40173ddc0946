use std::fs::File;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use std::os::fd::{AsFd, OwnedFd};

use super::*;
use crate::sys::pipe::{self, State};
use crate::sys::socket::receive_datagram;

/// A supervisor of our own.
struct Supervisor {
    socket: UnixDatagram,
    path: tempfile::TempPath,
}

impl Supervisor {
    fn new() -> (Self, Notify) {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::remove_file(&path).unwrap();
        let socket = bind(&path);
        let notify = Notify::new(Some(path.as_os_str().to_owned()));
        (Self { socket, path }, notify)
    }

    /// The next message and how many fds came with it; `None` when there is none.
    fn next(&self) -> Option<(String, Vec<OwnedFd>)> {
        let (bytes, fds) = receive_datagram(&self.socket, 4096).ok()?;
        Some((String::from_utf8(bytes).unwrap(), fds))
    }

    fn next_text(&self) -> String {
        self.next().expect("a message").0
    }
}

fn bind(path: &std::path::Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn readiness_arrives_at_a_path_and_at_an_abstract_name() {
    let (supervisor, mut notify) = Supervisor::new();
    notify.ready();
    assert_eq!(supervisor.next_text(), "READY=1");

    let name = format!("notify-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    Notify::new(Some(format!("@{name}").into())).ready();
    assert_eq!(receive_datagram(&socket, 64).unwrap().0, b"READY=1");
}

#[test]
fn without_a_supervisor_nothing_happens() {
    for target in [None, Some("".into()), Some("/dev/null/notify".into())] {
        let mut notify = Notify::new(target);
        notify.ready();
        assert!(notify.flush() && !notify.has_supervisor());
        let stored = notify.store("a", &[null().as_fd()]);
        assert!(matches!(stored, Err(StoreError::NoSupervisor)));
        assert!(notify.barrier(null().as_fd()).is_err());
    }
}

#[test]
fn every_state_has_its_words() {
    let (supervisor, mut notify) = Supervisor::new();
    notify.reloading();
    let text = supervisor.next_text();
    let number = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(number.parse::<u64>().unwrap() > 0);
    notify.stopping();
    notify.alive();
    notify.watchdog_off();
    let texts = [supervisor.next_text(), supervisor.next_text(), supervisor.next_text()];
    assert_eq!(texts, ["STOPPING=1", "WATCHDOG=1", "WATCHDOG_USEC=0"]);
}

#[test]
fn a_status_is_one_line_and_not_too_long() {
    let (supervisor, mut notify) = Supervisor::new();
    notify.status("3 logs\nREADY=1");
    assert_eq!(supervisor.next_text(), "STATUS=3 logs READY=1");
    notify.status(&"\u{e4}".repeat(STATUS_CHARS_MAX + 1));
    assert_eq!(supervisor.next_text().chars().count(), "STATUS=".len() + STATUS_CHARS_MAX);
}

#[test]
fn fds_go_into_the_store_and_out_again() {
    let (supervisor, mut notify) = Supervisor::new();
    let (one, two) = (null(), null());
    notify.store("a1", &[one.as_fd(), two.as_fd()]).unwrap();
    let (text, fds) = supervisor.next().unwrap();
    assert_eq!((text.as_str(), fds.len()), ("FDSTORE=1\nFDPOLL=0\nFDNAME=a1", 2));
    notify.withdraw("unknown");
    assert!(notify.has("a1"));
    notify.remove("a1");
    assert!(!notify.has("a1"));
    assert_eq!(supervisor.next_text(), "FDSTOREREMOVE=1\nFDNAME=a1");
    notify.adopt_stored("b");
    notify.remove("b");
    assert_eq!(supervisor.next_text(), "FDSTOREREMOVE=1\nFDNAME=b");
}

#[test]
fn what_systemd_would_misunderstand_is_not_sent() {
    let (supervisor, mut notify) = Supervisor::new();
    let file = null();
    assert!(matches!(notify.store("a:b", &[file.as_fd()]), Err(StoreError::Name(_))));
    assert!(matches!(notify.store("a", &[]), Err(StoreError::Count(0))));
    let many = vec![file.as_fd(); MESSAGE_FDS_MAX + 1];
    assert!(matches!(notify.store("a", &many), Err(StoreError::Count(_))));
    notify.store("a", &many[1..]).unwrap();
    assert_eq!(supervisor.next().unwrap().1.len(), MESSAGE_FDS_MAX);
    assert!(supervisor.next().is_none());
}

#[test]
fn names_that_no_process_could_be_started_with_are_refused() {
    let (_supervisor, mut notify) = Supervisor::new();
    for _ in 0..Names::BYTES_MAX / 256 {
        notify.adopt_stored(&"n".repeat(255));
    }
    assert!(matches!(notify.store(&"n".repeat(255), &[null().as_fd()]), Err(StoreError::Full)));
}

#[test]
fn a_barrier_ends_when_the_supervisor_closes_it() {
    let (supervisor, mut notify) = Supervisor::new();
    let (reader, writer) = pipe::pipe().unwrap();
    notify.barrier(writer.as_fd()).unwrap();
    drop(writer);
    let (text, fds) = supervisor.next().unwrap();
    assert_eq!((text.as_str(), fds.len()), ("BARRIER=1", 1));
    assert_eq!(pipe::state(&reader).unwrap(), State::Empty);
    drop(fds);
    assert_eq!(pipe::state(&reader).unwrap(), State::AtEnd);
}

#[test]
fn a_busy_supervisor_gets_everything_later_in_order() {
    let (supervisor, mut notify) = Supervisor::new();
    let file = null();
    let mut names = Vec::new();
    while notify.flush() {
        names.push(format!("f{}", names.len()));
        notify.store(names.last().unwrap(), &[file.as_fd()]).unwrap();
    }
    notify.ready();
    drop(file);
    assert!(!notify.drain(Duration::ZERO));
    assert_eq!(notify.waiting(), 2);
    for name in names {
        let (text, fds) = supervisor.next().unwrap();
        assert!(text.ends_with(&format!("FDNAME={name}")), "{text}");
        assert_eq!(fds.len(), 1);
        notify.flush();
    }
    assert_eq!(supervisor.next_text(), "READY=1");
    assert!(notify.drain(Duration::ZERO));
}

#[test]
fn copies_that_wait_make_way_and_what_has_none_does_not() {
    const PERIOD: Duration = Duration::from_millis(50);
    let (supervisor, mut notify) = Supervisor::new();
    let (reader, writer) = pipe::pipe().unwrap();
    while notify.flush() {
        notify.ready();
    }
    notify.store("a", &[writer.as_fd()]).unwrap();
    notify.barrier(writer.as_fd()).unwrap();
    drop(writer);
    let (losses, waiting) = (notify.losses(), notify.waiting());
    notify.free_descriptors(PERIOD);
    assert_eq!((notify.losses(), notify.waiting()), (losses + 1, waiting - 2));
    assert_eq!(pipe::state(&reader).unwrap(), State::AtEnd);
    assert!(notify.store("b", &[reader.as_fd()]).is_err() && !notify.has("b"));
    notify.free_descriptors(PERIOD);
    assert_eq!(notify.losses(), losses + 1, "nothing was lost");
    std::thread::sleep(PERIOD);
    notify.store("b", &[reader.as_fd()]).unwrap();
    assert_eq!(notify.waiting(), waiting - 1);
    assert_eq!(supervisor.next_text(), "READY=1");
}

#[test]
fn a_supervisor_that_is_away_at_the_start_is_found_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let mut notify = Notify::new(Some(path.clone().into()));
    notify.ready();
    notify.store("a", &[null().as_fd()]).unwrap();
    assert_eq!(notify.waiting(), 2);
    let socket = bind(&path);
    assert!(notify.drain(Duration::ZERO));
    assert_eq!(receive_datagram(&socket, 64).unwrap().0, b"READY=1");
    assert_eq!(receive_datagram(&socket, 64).unwrap().1.len(), 1);
}

#[test]
fn a_supervisor_that_was_started_anew_is_found_again() {
    let (supervisor, mut notify) = Supervisor::new();
    let Supervisor { socket, path } = supervisor;
    drop(socket);
    notify.ready();
    std::fs::remove_file(&path).unwrap();
    let supervisor = Supervisor { socket: bind(&path), path };
    notify.ready();
    assert_eq!(supervisor.next_text(), "READY=1");
}

#[test]
fn what_clients_have_stored_goes_at_a_pace_that_nothing_else_waits_for() {
    const KEPT: usize = 100;
    let (supervisor, mut notify) = Supervisor::new();
    let reader = std::thread::spawn(move || {
        let mut texts = Vec::new();
        loop {
            match supervisor.next() {
                Some((text, _)) if text == "STOPPING=1" => return (texts, supervisor),
                Some((text, _)) => texts.push(text),
                None => std::thread::yield_now(),
            }
        }
    });
    let (file, mut stored) = (null(), 0);
    // The supervisor may be behind for a moment.
    let catch_up = |notify: &mut Notify| {
        while notify.is_blocked() {
            notify.flush();
        }
    };
    while notify.waiting() < KEPT {
        notify.store_paced(&format!("f{stored}"), &[file.as_fd()]).unwrap();
        stored += 1;
        catch_up(&mut notify);
    }
    notify.ready();
    catch_up(&mut notify);
    assert!(notify.stored_up_to() < notify.last_number());
    notify.remove("f0");
    assert!(notify.drain(Duration::from_secs(10)));
    assert_eq!(notify.stored_up_to(), notify.last_number());
    notify.stopping();
    notify.drain(Duration::from_secs(10));
    let (texts, _supervisor) = reader.join().unwrap();
    let [.., kept, removal] = &*texts else { panic!("{texts:?}") };
    assert!(kept.ends_with(&format!("FDNAME=f{}", stored - 1)), "{kept}");
    assert_eq!(texts.iter().filter(|text| *text == "READY=1").count(), 1);
    assert_eq!(texts.len(), stored + 2);
    assert_eq!(removal, "FDSTOREREMOVE=1\nFDNAME=f0");
}
