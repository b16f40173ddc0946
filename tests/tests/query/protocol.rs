//! The program on the wire.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use tests::guest::owner;
use tests::harness::{Daemon, Mode, Subject, eventually, inode, write};
use tests::wire::{
    ACQUIRE_SHARED, ADMIN_PROGRAM, Header, LockClient, LogClient, OpenLog, RpcError, Writer, kind,
};

use super::{LIST, PROGRAM, STATUS, Sleeper, list, query};

mod log {
    use super::*;
    tests::both! { Virtlogd: the_program_is_on_our_admin_socket_only }
}

mod lock {
    use super::*;
    tests::both! { Virtlockd: the_program_is_on_our_admin_socket_only }
}

tests::ours! { Virtlogd:
    bytes_on_the_wire,
    wrong_calls_are_refused,
    an_ordinary_user_may_ask_about_logs_of_its_own,
    logs_are_listed_once_whatever_comes_and_goes,
    a_log_is_described,
    libvirts_program_is_answered_beside_it,
}

tests::ours! { Virtlockd:
    leases_are_described,
    holders_are_listed_once_whatever_comes_and_goes,
}

fn the_program_is_on_our_admin_socket_only(subject: Subject) {
    let daemon = subject.start();
    let unknown = RpcError::rpc("Cannot find program 1903519090 version 1");
    let main = daemon.connect_main().call(PROGRAM, STATUS, &[]);
    assert_eq!(main.expect_err("it is another program's socket"), unknown);
    let admin = query(&mut daemon.connect_admin(), STATUS, "{}");
    if subject.is_ours() {
        assert_eq!(admin.expect("a status")["daemon"], subject.program.name());
    } else {
        assert_eq!(admin.expect_err("libvirt has no such program"), unknown);
    }
    let header = Header { vers: 2, ..Header::call(PROGRAM, STATUS) };
    let mut connection = daemon.connect_admin();
    connection.send(&header.message(&[])).unwrap();
    let refusal = connection.answer().message().into_result();
    let unknown = RpcError::rpc("Cannot find program 1903519090 version 2");
    assert_eq!(refusal.expect_err("there is no version 2"), unknown);
}

/// What others have been written for must not change.
fn bytes_on_the_wire(subject: Subject) {
    let daemon = subject.start();
    let exchange = |request: &[u8]| {
        let mut connection = daemon.connect_admin();
        connection.send(request).unwrap();
        connection.answer().message().bytes
    };
    let request = b"\0\0\0\x44quer\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x07\0\0\0\0\
        \0\0\0\x21{\"after\":\"3.4\",\"limit_bytes\":100}\0\0\0";
    let answer = b"\0\0\0\x2cquer\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\x07\0\0\0\0\
        \0\0\0\x0c{\"items\":[]}";
    assert_eq!(exchange(request), answer);
    let request = b"\0\0\0\x24quer\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02{}\0\0";
    assert_eq!(exchange(request), answer);
}

fn wrong_calls_are_refused(subject: Subject) {
    let daemon = subject.start();
    let mut connection = daemon.connect_admin();
    for procedure in [0, 4, -1, i32::MAX] {
        let error = query(&mut connection, procedure, "{}").unwrap_err();
        assert_eq!(error, RpcError::rpc(&format!("unknown procedure: {procedure}")));
    }
    for arguments in ["", "{", "[]]", "\"", "{\"limit_bytes\":-1}", "{\"after\":7}"] {
        let error = query(&mut connection, LIST, arguments).unwrap_err();
        let text = "invalid argument: the arguments are no JSON of this call: ";
        let message = error.message.unwrap_or_default();
        assert!(message.starts_with(text), "{arguments}: {message}");
    }
    let error = query(&mut connection, LIST, "{\"after\":\"7 \"}").unwrap_err();
    let text = "invalid argument: '7 ' is no place in the list";
    assert_eq!(error.message.as_deref(), Some(text));
    let undecodable = RpcError::rpc("Unable to decode message payload");
    for payload in [&b""[..], b"\0\0\0\x09{}", b"\xff\xff\xff\xff{}\0\0"] {
        assert_eq!(connection.call(PROGRAM, LIST, payload).unwrap_err(), undecodable);
    }
    let error = query(&mut connection, LIST, " ".repeat(65_537)).unwrap_err();
    assert_eq!(error, undecodable);
    let message = Header { kind: kind::MESSAGE, ..Header::call(PROGRAM, LIST) }.message(&[]);
    connection.send(&message).unwrap();
    assert!(query(&mut connection, LIST, "{}").is_ok(), "the connection goes on");
}

fn an_ordinary_user_may_ask_about_logs_of_its_own(subject: Subject) {
    let daemon = subject.setup().mode(Mode::Session).start();
    assert_eq!(query(&mut daemon.connect_admin(), STATUS, "{}").unwrap()["logs"], 0);
}

fn libvirts_program_is_answered_beside_it(subject: Subject) {
    let daemon = subject.start();
    let mut connection = daemon.connect_admin();
    let version = [0, 0, 0, 0, 0, 0x89, 0x54, 0x40];
    for _ in 0..3 {
        assert_eq!(query(&mut connection, STATUS, "{}").unwrap()["pid"], inner_pid(&daemon));
        let (payload, _) = connection.call(ADMIN_PROGRAM, 3, &[]).unwrap();
        assert_eq!(payload, version);
    }
    // Both in one piece.
    let status = Writer::new().string("{}").into_bytes();
    let both = [
        Header::call(PROGRAM, STATUS).message(&status),
        Header::call(ADMIN_PROGRAM, 3).message(&[]),
    ];
    connection.send(&both.concat()).unwrap();
    assert_eq!(connection.answer().message().header.prog, PROGRAM);
    assert_eq!(connection.answer().message().payload, version);
}

fn inner_pid(daemon: &Daemon) -> u32 {
    let pids = daemon.status_field("NSpid");
    pids.split_whitespace().last().and_then(|pid| pid.parse().ok()).expect("a pid")
}

fn open(client: &mut LogClient, daemon: &Daemon, number: usize) -> OpenLog {
    client.open(&daemon.file(&format!("guest{number}.log"))).unwrap()
}

fn logs_are_listed_once_whatever_comes_and_goes(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.log_client();
    let mut logs: BTreeMap<_, _> =
        (0..100).map(|number| (number, open(&mut client, &daemon, number))).collect();
    let mut connection = daemon.connect_admin();
    let (mut ending, mut coming) = (0..100, 1000..);
    let found = list(&mut connection, 4000, || {
        let number = ending.by_ref().find(|number| number % 3 == 0).expect("few pages");
        logs.remove(&number);
        let path = daemon.file(&format!("guest{number}.log"));
        eventually("the log has ended", || client.position(&path).is_err());
        open(&mut client, &daemon, number);
        let number = coming.next().expect("there is no end of numbers");
        logs.insert(number, open(&mut client, &daemon, number));
    });
    let distinct: HashSet<_> = found.iter().map(|item| item["place"].to_string()).collect();
    assert_eq!(distinct.len(), found.len());
    for number in (0..100).filter(|number| number % 3 != 0) {
        let path = json!(daemon.file(&format!("guest{number}.log")));
        assert_eq!(found.iter().filter(|item| item["path"] == path).count(), 1, "{path}");
    }
}

fn a_log_is_described(subject: Subject) {
    let daemon = subject.start_with("max_size = 1024\nmax_backups = 2\n");
    let path = daemon.file("guest.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    for line in ["a".repeat(99) + "\n", "b".repeat(1023) + "\n"] {
        log.pipe.write_all(line.as_bytes()).unwrap();
        client.position(&path).unwrap();
    }
    let link = fs::read_link(format!("/proc/self/fd/{}", log.pipe.as_raw_fd())).unwrap();
    let items = list(&mut daemon.connect_admin(), 0, || panic!("there is one page"));
    let [Value::Object(item)] = &items[..] else { panic!("{items:?}") };
    let mut item = item.clone();
    let inode = item.remove("pipe_inode").unwrap();
    assert_eq!(link.to_str().unwrap(), format!("pipe:[{inode}]"));
    item.remove("place").unwrap();
    let uuid = item.remove("uuid").unwrap();
    assert_eq!(uuid.as_str().unwrap().len(), 36);
    let expected = json!({
        "domain": "guest", "driver": "qemu", "path": path,
        "size_bytes": 100, "size_bytes_max": 1024, "backups_max": 2, "last_minute_bytes": 1124,
        "rotations": 1, "lost_bytes": 0, "state": "ok", "in_fd_store": false,
    });
    assert_eq!(Value::Object(item), expected);
}

fn leases_are_described(subject: Subject) {
    let daemon = subject.start();
    let image = daemon.file("image");
    write(&image, "");
    let guest = Sleeper::start();
    let mut client = holder(&daemon, guest.pid());
    client.acquire("", image.to_str().unwrap(), 0).unwrap();
    let mut items = list(&mut daemon.connect_admin(), 0, || panic!("there is one page"));
    let item = items[0].as_object_mut().unwrap();
    assert!(item.remove("since_unix_s").unwrap().as_u64() > Some(1_000_000_000));
    let expected = json!({
        "place": "1.1", "path": image, "lockspace": "", "resource": image, "shared": false,
        "shares": 1, "lock": "ofd", "device": device(&image), "inode": inode(&image),
        "reach": "host", "domain": "guest", "uuid": "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a",
        "pid": guest.pid(), "pid_here": guest.pid(), "held_before": false,
        "in_fd_store": false,
    });
    assert_eq!(items, [expected]);
}

fn device(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().dev()
}

fn holders_are_listed_once_whatever_comes_and_goes(subject: Subject) {
    let daemon = subject.start();
    let images: Vec<_> = (0..3).map(|number| daemon.file(&format!("image{number}"))).collect();
    images.iter().for_each(|image| write(image, ""));
    let image = |number: usize| images[number].to_str().unwrap();
    let guests = [(); 6].map(|()| Sleeper::start());
    let mut sharing = guests.each_ref().map(|guest| holder(&daemon, guest.pid()));
    // The first holder is not the first owner.
    for number in [2, 0, 1, 3, 4, 5] {
        sharing[number].acquire("", image(0), ACQUIRE_SHARED).unwrap();
    }
    sharing[0].acquire("", image(1), 0).unwrap();
    let mut page = 0;
    let found = list(&mut daemon.connect_admin(), 1, || {
        page += 1;
        match page {
            1 => sharing[0].release("", image(0), 0).unwrap(),
            2 => sharing[0].acquire("", image(2), 0).unwrap(),
            3 => sharing[5].release("", image(0), 0).unwrap(),
            _ => {}
        }
    });
    let held = |number: usize| {
        let held = found.iter().filter(|item| item["path"] == json!(images[number]));
        held.map(|item| item["pid"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let pids = guests.each_ref().map(|guest| u64::from(guest.pid()));
    assert_eq!(held(0), pids[..5], "in the order in which they were registered");
    assert_eq!((held(1), held(2)), (vec![pids[0]], vec![pids[0]]));
}

/// A connection for another process.
fn holder(daemon: &Daemon, pid: u32) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(pid), 0).unwrap();
    client
}
