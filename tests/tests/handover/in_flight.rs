//! What is under way when our daemon is upgraded: half a request, an answer nobody has read,
//! requests and connections that wait. libvirt's daemon loses the first two.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tests::guest::{Guest, owner};
use tests::harness::{Daemon, Route, Subject, Whose, expect_file, write};
use tests::load::is_free;
use tests::wire::{
    Answer, Connection, Header, LOCK_PROGRAM, LOG_PROGRAM, LogClient, Position, Reader, Writer,
};

use super::leases::{image, text};

tests::ours! { Virtlogd:
    a_request_cut_anywhere_is_answered,
    a_request_may_take_many_upgrades,
    an_answer_nobody_has_read_arrives_whole,
    an_answer_half_read_arrives_whole,
    requests_behind_an_unread_answer_are_answered,
    a_pipe_behind_an_unread_answer_arrives,
    a_connection_that_waits_for_its_turn_gets_it,
}

tests::mixed! { Virtlogd: half_a_request_does_no_harm_to_libvirts_daemon }

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        a_request_for_a_lease_cut_anywhere_is_carried_out_once,
    }
    tests::mixed! { Virtlockd: a_connection_that_was_not_registered_can_be }
}

const OPEN: i32 = 1;
const POSITION: i32 = 2;
const READ: i32 = 3;
const REGISTER: i32 = 1;
const ACQUIRE: i32 = 6;

/// More than a socket takes.
const ANSWER_BYTES: usize = 1 << 20;

fn a_request_cut_anywhere_is_answered(subject: Subject) {
    let mut daemon = start(subject);
    let path = daemon.file("a.log");
    let _log = daemon.log_client().open(&path).unwrap();
    let request = message(LOG_PROGRAM, POSITION, &position_arguments(&path));
    let halves = cut_everywhere(&daemon, &request);
    let_it_read(&daemon);
    daemon.change_to(Whose::Ours);
    for (mut connection, rest) in halves {
        connection.send(&rest).unwrap();
        assert_eq!(offset(&mut connection), 0);
    }
}

fn a_request_may_take_many_upgrades(subject: Subject) {
    let mut daemon = start(subject);
    let path = daemon.file("a.log");
    let _log = daemon.log_client().open(&path).unwrap();
    let mut connection = daemon.connect_main();
    let request = message(LOG_PROGRAM, POSITION, &position_arguments(&path));
    // A length word in two parts, a header in several, a payload likewise.
    for part in request.chunks(7) {
        connection.send(part).unwrap();
        let_it_read(&daemon);
        daemon.change_to(Whose::Ours);
    }
    assert_eq!(offset(&mut connection), 0);
}

fn an_answer_nobody_has_read_arrives_whole(subject: Subject) {
    let mut daemon = start(subject);
    let (content, request) = large(&daemon);
    let mut connections = [(); 4].map(|()| daemon.connect_main());
    connections.iter_mut().for_each(|connection| connection.send(&request).unwrap());
    let_it_read(&daemon);
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
    }
    for mut connection in connections {
        expect_content(&mut connection, &content);
    }
}

fn an_answer_half_read_arrives_whole(subject: Subject) {
    let mut daemon = start(subject);
    let (content, request) = large(&daemon);
    let mut stream = UnixStream::connect(daemon.main_socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Connection::from(stream.try_clone().unwrap()).send(&request).unwrap();
    let mut answer = vec![0; ANSWER_BYTES / 2];
    stream.read_exact(&mut answer).unwrap();
    daemon.change_to(Whose::Ours);
    let length = usize::try_from(Reader::new(&answer[..4]).u32()).unwrap();
    let mut rest = vec![0; length - answer.len()];
    stream.read_exact(&mut rest).unwrap();
    answer.extend(rest);
    assert!(answer[28 + 4..] == content, "the answer's content");
    let mut connection = Connection::from(stream);
    connection.send(&request).unwrap();
    expect_content(&mut connection, &content);
}

fn requests_behind_an_unread_answer_are_answered(subject: Subject) {
    let mut daemon = start(subject);
    let (content, request) = large(&daemon);
    let mut connection = daemon.connect_main();
    // The last one is cut.
    let [first, second, mut third] = [(); 3].map(|()| request.clone());
    let rest = third.split_off(9);
    connection.send(&[first, second, third].concat()).unwrap();
    let_it_read(&daemon);
    daemon.change_to(Whose::Ours);
    expect_content(&mut connection, &content);
    daemon.change_to(Whose::Ours);
    connection.send(&rest).unwrap();
    expect_content(&mut connection, &content);
    expect_content(&mut connection, &content);
}

fn a_pipe_behind_an_unread_answer_arrives(subject: Subject) {
    let mut daemon = start(subject);
    let (content, request) = large(&daemon);
    let path = daemon.file("a.log");
    let arguments = LogClient::open_arguments(path.as_os_str().as_bytes(), 0);
    let mut connection = daemon.connect_main();
    connection.send(&[request, message(LOG_PROGRAM, OPEN, &arguments)].concat()).unwrap();
    let_it_read(&daemon);
    daemon.change_to(Whose::Ours);
    expect_content(&mut connection, &content);
    let mut fds = connection.answer().message().fds;
    let mut pipe = fs::File::from(fds.remove(0));
    std::io::Write::write_all(&mut pipe, b"through the new pipe\n").unwrap();
    expect_file(&path, "through the new pipe\n");
}

fn a_connection_that_waits_for_its_turn_gets_it(subject: Subject) {
    let mut daemon = subject.setup().config("max_clients = 1").replaceable().start();
    let request = message(LOG_PROGRAM, 99, &[]);
    let mut first = daemon.connect_main();
    first.send(&request).unwrap();
    first.answer().message();
    let mut waiting = daemon.connect_main();
    waiting.send(&request).unwrap();
    daemon.change_to(Whose::Ours);
    let answer = waiting.answer_within(Duration::from_millis(200));
    assert!(matches!(answer, Answer::Silence), "{answer:?}");
    first.send(&request).unwrap();
    first.answer().message();
    drop(first);
    waiting.answer().message();
}

/// That cannot be given half a request: its client is told by the end of the connection, if it has
/// not completed it in time.
fn half_a_request_does_no_harm_to_libvirts_daemon(route: Route) {
    let mut daemon = start(route.start().other());
    let path = daemon.file("a.log");
    let log = daemon.log_client().open(&path).unwrap();
    let mut other = daemon.log_client();
    let request = message(LOG_PROGRAM, POSITION, &position_arguments(&path));
    let mut connection = daemon.connect_main();
    connection.send(&request[..30]).unwrap();
    let_it_read(&daemon);
    daemon.change_to(Whose::Theirs);
    assert_eq!(other.position(&path).unwrap().offset, 0);
    // It may be closed by now.
    connection.send(&request[30..]).ok();
    match connection.answer() {
        Answer::Closed => {}
        Answer::Message(frame) => assert_eq!(frame.header.status, 0),
        Answer::Silence => panic!("the client would wait for ever"),
    }
    drop(log);
}

fn a_request_for_a_lease_cut_anywhere_is_carried_out_once(subject: Subject) {
    let mut daemon = start(subject);
    let guest = Guest::start(&daemon);
    let images = text(&daemon.file("image"));
    // All requests have one length, so that all have the same places to cut.
    let image_at = |cut: usize| format!("{images}.{cut:03}");
    let request = |cut| {
        let arguments = Writer::new().string("").string(image_at(cut)).u32(0).into_bytes();
        message(LOCK_PROGRAM, ACQUIRE, &arguments)
    };
    let cuts: Vec<_> = (1..request(0).len()).collect();
    let mut halves: Vec<_> = cuts.iter().map(|_| registered(&daemon, &guest)).collect();
    for (connection, &cut) in halves.iter_mut().zip(&cuts) {
        write(image_at(cut).as_ref(), "");
        connection.send(&request(cut)[..cut]).unwrap();
    }
    let_it_read(&daemon);
    daemon.change_to(Whose::Ours);
    for (connection, &cut) in halves.iter_mut().zip(&cuts) {
        assert!(is_free(image_at(cut)), "nobody has asked for it yet");
        connection.send(&request(cut)[cut..]).unwrap();
        assert_eq!(connection.answer().message().header.status, 0, "cut at {cut}");
        assert!(!is_free(image_at(cut)));
    }
}

/// libvirt's daemon ends when it is upgraded at such a moment.
fn a_connection_that_was_not_registered_can_be(route: Route) {
    let mut daemon = start(route.start().other());
    let image = image(&daemon, "image");
    let guest = Guest::start(&daemon);
    let mut client = daemon.lock_client();
    daemon.change_to(Whose::Ours);
    assert_eq!(client.acquire("", &image, 0).unwrap_err().code, 55);
    client.register(&owner(guest.pid()), 0).unwrap();
    client.acquire("", &image, 0).unwrap();
    let mut another = daemon.lock_client();
    daemon.change_to(Whose::Theirs);
    another.register(&owner(guest.pid()), 0).unwrap();
    another.release("", &image, 0).unwrap();
}

fn start(subject: Subject) -> Daemon {
    subject.setup().replaceable().start()
}

fn message(program: u32, procedure: i32, arguments: &[u8]) -> Vec<u8> {
    Header { serial: 7, ..Header::call(program, procedure) }.message(arguments)
}

fn position_arguments(path: &Path) -> Vec<u8> {
    Writer::new().string(path.as_os_str().as_bytes()).u32(0).into_bytes()
}

/// A connection for each place where a request can be cut, its first part sent; with the rest.
fn cut_everywhere(daemon: &Daemon, request: &[u8]) -> Vec<(Connection, Vec<u8>)> {
    (1..request.len())
        .map(|cut| {
            let mut connection = daemon.connect_main();
            connection.send(&request[..cut]).unwrap();
            (connection, request[cut..].to_vec())
        })
        .collect()
}

/// A connection that acts for a guest.
fn registered(daemon: &Daemon, guest: &Guest) -> Connection {
    let mut connection = daemon.connect_main();
    let pid = guest.pid();
    let arguments = Writer::new().fixed(&[0x5a; 16]).string("guest").u32(1).u32(pid).u32(0);
    connection.call(LOCK_PROGRAM, REGISTER, &arguments.into_bytes()).unwrap();
    connection
}

/// Gives the daemon the time to read what was sent.
fn let_it_read(daemon: &Daemon) {
    std::thread::sleep(Duration::from_millis(50));
    let mut connection = daemon.connect_main();
    connection.call(daemon.subject().program.number(), 99, &[]).unwrap_err();
}

/// A file, and a request for all of it.
fn large(daemon: &Daemon) -> (Vec<u8>, Vec<u8>) {
    let path = daemon.file("large");
    let numbers = (0..u32::try_from(ANSWER_BYTES / 8).unwrap())
        .flat_map(|n| format!("{n:07}\n").into_bytes());
    let content: Vec<u8> = numbers.collect();
    write(&path, &content);
    let start = Position { inode: tests::harness::inode(&path), offset: 0 };
    let arguments = Writer::new()
        .string(path.as_os_str().as_bytes())
        .u64(start.inode)
        .u64(start.offset)
        .u64(ANSWER_BYTES as u64)
        .u32(0);
    (content, message(LOG_PROGRAM, READ, &arguments.into_bytes()))
}

#[track_caller]
fn expect_content(connection: &mut Connection, content: &[u8]) {
    let frame = connection.answer().message();
    assert_eq!((frame.header.serial, frame.header.status), (7, 0));
    assert!(Reader::new(&frame.payload).string() == content, "the answer's content");
}

#[track_caller]
fn offset(connection: &mut Connection) -> u64 {
    let frame = connection.answer().message();
    assert_eq!((frame.header.serial, frame.header.status), (7, 0));
    Reader::new(&frame.payload[8..]).u64()
}
