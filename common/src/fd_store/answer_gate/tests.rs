use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::thread;

use super::*;
use crate::sys::socket::receive_datagram;

/// Items that wait for the pace.
const PACED: usize = 50;

#[test]
fn a_deaf_supervisor_is_waited_for_once_it_takes_messages_though_others_wait_for_the_pace() {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::remove_file(&path).unwrap();
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_nonblocking(true).unwrap();
    let mut notify = Notify::new(Some(path.as_os_str().to_owned()));
    let (mut gate, file) = (AnswerGate::default(), File::open("/dev/null").unwrap());
    let take = || while receive_datagram(&supervisor, 4096).is_ok() {};
    let fill = |notify: &mut Notify| {
        while notify.waiting() < PACED || notify.is_blocked() {
            take();
            let name = format!("f{}", notify.last_number());
            notify.store_paced(&name, &[file.as_fd()]).unwrap();
        }
    };
    fill(&mut notify);
    assert!(gate.must_wait(&notify));
    gate.push((1, Ok(Reply::default())), &notify);
    assert!(gate.next(&notify).is_none());
    while !notify.is_blocked() {
        notify.ready();
    }
    thread::sleep(TIMEOUT);
    assert!(gate.next(&notify).is_some() && !gate.must_wait(&notify));
    fill(&mut notify);
    assert!(gate.must_wait(&notify));
}
