use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_millis(300);

/// Makes a listener that handles one connection.
pub(in super::super) fn listen(
    serve: impl FnOnce(UnixStream) + Send + 'static,
) -> (tempfile::TempDir, JoinHandle<()>) {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    (directory, thread)
}

fn connect(directory: &tempfile::TempDir, kind: Kind) -> Result<Bus, Error> {
    Bus::connect(&directory.path().join("socket"), kind, Instant::now() + PATIENCE)
}

/// Takes the greeting, up to and with `BEGIN`.
pub(in super::super) fn greet(stream: &mut UnixStream) {
    let uid: String =
        process::effective_uid().to_string().bytes().map(|d| format!("{d:02x}")).collect();
    let mut greeting = vec![0; format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").len()];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").into_bytes());
    stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
}

/// Reads one call; its serial and bytes.
pub(in super::super) fn call(stream: &mut UnixStream) -> Vec<u8> {
    let mut start = [0; START_BYTES];
    stream.read_exact(&mut start).unwrap();
    let mut bytes = vec![0; message::total_length(&start).unwrap()];
    bytes[..START_BYTES].copy_from_slice(&start);
    stream.read_exact(&mut bytes[START_BYTES..]).unwrap();
    bytes
}

/// A number in a variant, in answer to call `serial`.
fn number(serial: u8, number: u8) -> Vec<u8> {
    let mut bytes = b"l\x02\0\x01\x08\0\0\0\x01\0\0\0\x0f\0\0\0\
        \x05\x01u\0\x00\0\0\0\x08\x01g\0\x01v\0\0\x01u\0\0\x00\0\0\0"
        .to_vec();
    (bytes[20], bytes[36]) = (serial, number);
    bytes
}

/// An error in answer to call `serial`.
pub(in super::super) fn error(serial: u8, name: &str) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0, serial, 0, 0, 0, 4, 1, b's', 0];
    fields.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
    fields.extend(name.as_bytes());
    fields.push(0);
    let mut bytes = b"l\x03\0\x01\0\0\0\0\x01\0\0\0".to_vec();
    bytes.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

#[test]
fn a_property_is_asked_for_and_understood() {
    let (directory, thread) = listen(|mut stream| {
        greet(&mut stream);
        let asked = call(&mut stream);
        let text = String::from_utf8_lossy(&asked).into_owned();
        assert!(text.contains("org.freedesktop.systemd1.Service") && text.contains("MainPID"));
        // Signals and answers to others may come before, and all of it in pieces.
        let bytes = [number(9, 1), number(1, 7)].concat();
        let (first, second) = bytes.split_at(50);
        stream.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(second).unwrap();
    });
    let mut bus = connect(&directory, Kind::Direct).unwrap();
    assert_eq!(bus.property("/unit", "Service", "MainPID").unwrap(), Value::Number(7));
    thread.join().unwrap();
}

#[test]
fn a_bus_is_greeted() {
    let (directory, thread) = listen(|mut stream| {
        greet(&mut stream);
        assert!(String::from_utf8_lossy(&call(&mut stream)).contains("Hello"));
        stream.write_all(&number(1, 1)).unwrap();
    });
    connect(&directory, Kind::Bus).unwrap();
    thread.join().unwrap();
}

#[test]
fn nobody_is_waited_for_longer_than_was_said() {
    type Serve = fn(UnixStream);
    let silent: Serve = |_stream| std::thread::sleep(PATIENCE * 2);
    let mute: Serve = |mut stream| {
        greet(&mut stream);
        std::thread::sleep(PATIENCE * 2);
    };
    // Each byte comes in time, but not all of them.
    let slow: Serve = |mut stream| {
        greet(&mut stream);
        for byte in number(1, 7) {
            drop(stream.write_all(&[byte]));
            std::thread::sleep(PATIENCE / 10);
        }
    };
    for serve in [silent, mute, slow] {
        let (directory, thread) = listen(serve);
        let began = Instant::now();
        let result = connect(&directory, Kind::Direct)
            .and_then(|mut bus| bus.property("/unit", "Service", "MainPID"));
        assert!(matches!(result, Err(Error::Io(_))), "{result:?}");
        assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
        thread.join().unwrap();
    }
}

#[test]
fn whoever_does_not_accept_has_not_answered() {
    type Serve = fn(UnixStream);
    let refusing: Serve = |mut stream| stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    let endless: Serve = |mut stream| drop(stream.write_all(&[b'x'; 4 * LINE_BYTES_MAX]));
    let gone: Serve = drop;
    for serve in [refusing, endless, gone] {
        let (directory, thread) = listen(serve);
        connect(&directory, Kind::Direct).unwrap_err();
        thread.join().unwrap();
    }
    let nobody = tempfile::tempdir().unwrap();
    connect(&nobody, Kind::Direct).unwrap_err();
}

#[test]
fn a_message_that_is_too_long_is_not_read() {
    let (directory, thread) = listen(|mut stream| {
        greet(&mut stream);
        call(&mut stream);
        stream.write_all(b"l\x02\0\x01\xff\xff\xff\x7f\x01\0\0\0\0\0\0\0").unwrap();
    });
    let mut bus = connect(&directory, Kind::Direct).unwrap();
    let result = bus.property("/unit", "Service", "MainPID");
    assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    thread.join().unwrap();
}
