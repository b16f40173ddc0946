//! The holder's protocol, by a client of the tests' own.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, listen, send, socket,
};
use tests::harness::{Host, Subject, eventually, needs_root, ours};
use tests::holder::{Client, Holder, set_directory};
use tests::supervisor::Supervisor;

use crate::load::turn;

tests::ours! { Virtlogd:
    fds_come_back_in_systemds_order,
    a_full_set_refuses_in_silence,
    everything_is_in_the_hosts_store_behind_a_barrier,
    a_set_belongs_to_one_process_until_its_end,
    a_process_that_stays_is_not_driven_out,
    a_set_is_not_for_other_users,
    a_refusal_is_read_by_a_process_that_was_not_heard,
    a_start_that_waits_says_for_what,
    clients_wait_at_sockets_of_a_daemon_that_is_away,
    two_holders_do_not_share_a_directory,
    of_many_holders_at_once_one_serves,
    four_thousand_fds_take_little_memory,
}

/// Fds of which the holder has to be able to hold this many.
const MANY: usize = 4000;

/// KiB of memory of its own that it may need for them.
const MANY_KIB_MAX: u64 = 1536;

/// Holders that are started at once, and how often.
const AT_ONCE: usize = 8;
const ROUNDS: usize = 5;

/// A holder of one set.
fn holder(host: &Arc<Host>, options: &str) -> (Holder, Client) {
    let arguments = vec![format!("--set=a{options}")];
    let holder = Holder::start_with(host, None, arguments);
    let client = Client::of(&set_directory(host, "a"));
    (holder, client)
}

/// Another process, which takes the set and then does this.
fn other(host: &Host, through: &[&str], shell: &str) -> Child {
    let set = set_directory(host, "a");
    let holder = ours("virtfdhold").display().to_string();
    let words = [through, &[&holder, "exec", set.to_str().unwrap(), "--", "sh", "-c", shell]];
    let words = words.concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("starting a client")
}

fn end(mut process: Child) -> Output {
    process.kill().expect("killing a client");
    process.wait_with_output().expect("its output")
}

/// The next line that it prints.
fn line(process: &mut Child) -> String {
    next_line(process.stdout.as_mut().expect("its output is a pipe"))
}

/// The next line that it prints as an error.
fn error_line(process: &mut Child) -> String {
    next_line(process.stderr.as_mut().expect("its errors are a pipe"))
}

fn next_line(mut stream: impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("reading its output") == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    String::from_utf8(line).expect("text")
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

fn fds_come_back_in_systemds_order(_: Subject) {
    let host = Host::new();
    let (_holder, client) = holder(&host, "");
    let (one, two, three) = (null(), null(), null());
    client.store("a", &one);
    client.store("b", &two);
    client.store("a", &three);
    // The same open file under another name, and a name that systemd does not take.
    client.store("c", one.try_clone().unwrap());
    client.store("d:e", null());
    assert_eq!(client.names(), ["stored", "a", "b", "a"]);
    client.send("FDSTOREREMOVE=1\nFDNAME=a", &[]);
    client.send("READY=1\nSTATUS=fine\nWATCHDOG=1", &[]);
    assert_eq!(client.names(), ["stored", "b"]);
    // What is watched goes with its other end, also if that has gone already.
    let ((watched, end), (kept, kept_end)) = (pipe().unwrap(), pipe().unwrap());
    client.send("FDSTORE=1\nFDNAME=watched", &[watched.as_fd()]);
    client.store("kept", &kept);
    assert_eq!(client.names(), ["kept", "watched", "stored", "b"]);
    (&kept_end).write_all(b"last words").unwrap();
    drop((end, watched, kept, kept_end));
    eventually("the watched one goes", || client.names() == ["kept", "stored", "b"]);
    let given = client.claim().unwrap();
    let mut said = String::new();
    File::from(given.fds.into_iter().next().unwrap().1).read_to_string(&mut said).unwrap();
    assert_eq!(said, "last words");
}

fn a_full_set_refuses_in_silence(_: Subject) {
    let host = Host::new();
    let (holder, client) = holder(&host, ",fds=3");
    for name in ["a", "b", "c", "d"] {
        client.store(name, null());
    }
    assert_eq!(client.names(), ["c", "b", "a"]);
    assert_eq!(client.claim().unwrap().fds_max, 3);
    holder.process().expect_said("a: there is no room for 'd'");
    client.send("FDSTOREREMOVE=1\nFDNAME=a", &[]);
    client.store("d", null());
    assert_eq!(client.names(), ["d", "c", "b"]);
}

fn everything_is_in_the_hosts_store_behind_a_barrier(_: Subject) {
    let _turn = turn();
    let host = Host::new();
    let supervisor = Supervisor::new(&host.path("supervisor"), 2000);
    let mut holder = Holder::start_with(&host, Some(supervisor), vec!["--set=a".into()]);
    let client = Client::of(&set_directory(&host, "a"));
    let names = |holder: &Holder| {
        let names = holder.supervisor.as_ref().unwrap().names().into_iter();
        names.filter(|name| name.starts_with("a/")).collect::<Vec<_>>()
    };
    for number in 0..20 {
        client.store(&format!("f{number:02}"), null());
    }
    client.settle();
    assert_eq!(names(&holder).len(), 20);
    client.send("FDSTOREREMOVE=1\nFDNAME=f00", &[]);
    client.settle();
    assert_eq!(names(&holder)[0], "a/f01");
    // A message that a killed holder has not read is read by the next one.
    holder.kill();
    client.store("later", null());
    holder.spawn();
    let all = client.names();
    assert_eq!((all.len(), &*all[0], &*all[19]), (20, "later", "f01"));
}

fn a_set_belongs_to_one_process_until_its_end(_: Subject) {
    let host = Host::new();
    let (_holder, client) = holder(&host, "");
    let says = "echo $LISTEN_FDS:$LISTEN_FDNAMES:$FDSTORE:${NOTIFY_SOCKET##*/}; exec sleep 60";
    let mut first = other(&host, &[], says);
    assert_eq!(line(&mut first), "0::8192:messages");
    // Nobody else can store anything, or remove it.
    client.store("stranger", null());
    client.settle();
    let mut second = other(&host, &[], says);
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.try_wait().unwrap().is_none(), "the second does not wait");
    end(first);
    assert_eq!(line(&mut second), "0::8192:messages");
    end(second);
    assert_eq!(client.names(), Vec::<String>::new());
}

fn a_process_that_stays_is_not_driven_out(_: Subject) {
    let host = Host::new();
    let (_holder, client) = holder(&host, "");
    client.store("mine", null());
    client.settle();
    let start = Instant::now();
    let refused = other(&host, &[], "echo started").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let wanted = format!("the holder refuses: process {} has this set", std::process::id());
    assert!(said.contains(&wanted) && refused.stdout.is_empty(), "{said}");
    assert!((8..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(client.names(), ["mine"]);
}

fn a_set_is_not_for_other_users(subject: Subject) {
    if !needs_root(&format!("{subject:?}: a set of another user")) {
        return;
    }
    let host = Host::new();
    let (_holder, _client) = holder(&host, ",uid=4711");
    let own = other(&host, &[], "echo started").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&own.stderr).into_owned();
    assert!(said.contains("of user 0 may not have this set: it is that of user 4711"), "{said}");
    let set = set_directory(&host, "a");
    let mode = |name: &str| std::fs::metadata(set.join(name)).unwrap().permissions().mode();
    assert_eq!([mode("claims") & 0o777, mode("messages") & 0o777], [0o600; 2]);
}

/// A holder that refuses a process for who it is hangs up without reading what that asks.
fn a_refusal_is_read_by_a_process_that_was_not_heard(_: Subject) {
    let host = Host::new();
    let set = set_directory(&host, "a");
    std::fs::create_dir_all(&set).unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let claims = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(claims.as_raw_fd(), &UnixAddr::new(&set.join("claims")).unwrap()).unwrap();
    listen(&claims, Backlog::new(1).unwrap()).unwrap();
    let process = other(&host, &[], "echo started");
    let (stream, _) = UnixListener::from(claims).accept().unwrap();
    let mut asked = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut asked, PollTimeout::MAX), Ok(1));
    send(stream.as_raw_fd(), b"ERROR=not you", MsgFlags::empty()).unwrap();
    drop(stream);
    let refused = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the holder refuses: not you"), "{said}");
}

fn a_start_that_waits_says_for_what(_: Subject) {
    let host = Host::new();
    let mut first = other(&host, &[], "echo started; exec sleep 60");
    let set = set_directory(&host, "a");
    let absent = format!("virtfdhold: waiting for {}: No such file", set.display());
    assert!(error_line(&mut first).starts_with(&absent));
    let (_holder, _client) = holder(&host, "");
    assert_eq!(line(&mut first), "started");
    let mut second = other(&host, &[], "echo started; exec sleep 60");
    let taken = format!("virtfdhold: waiting for {}: another process has it", set.display());
    assert_eq!(error_line(&mut second), taken);
    end(first);
    assert_eq!(line(&mut second), "started");
    end(second);
}

fn clients_wait_at_sockets_of_a_daemon_that_is_away(_: Subject) {
    let host = Host::new();
    let path = host.path("files/sock");
    let listen = format!("--listen=a:x.socket={},mode=0640", path.display());
    let _holder = Holder::start_with(&host, None, vec!["--set=a".into(), listen]);
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(b"hello").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let mut given = Client::of(&set_directory(&host, "a")).claim().unwrap();
    let (name, socket) = given.fds.remove(0);
    assert_eq!(name, "x.socket");
    let (mut served, _) = UnixListener::from(socket).accept().unwrap();
    let mut said = [0; 5];
    served.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
}

fn two_holders_do_not_share_a_directory(_: Subject) {
    let host = Host::new();
    let (_holder, client) = holder(&host, "");
    let refused = another_holder(&host).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is in use by another holder"), "{said}");
    assert_eq!(client.names(), Vec::<String>::new());
}

fn of_many_holders_at_once_one_serves(_: Subject) {
    let host = Host::new();
    for _ in 0..ROUNDS {
        let mut all: Vec<_> = (0..AT_ONCE).map(|_| another_holder(&host)).collect();
        let mut others = 0;
        eventually("all others have ended", || {
            let is_there = |it: &mut Child| it.try_wait().unwrap().is_none();
            all = std::mem::take(&mut all)
                .into_iter()
                .filter_map(|mut it| is_there(&mut it).then_some(it))
                .collect();
            others = AT_ONCE - all.len();
            others >= AT_ONCE - 1
        });
        assert_eq!(others, AT_ONCE - 1);
        let messages = set_directory(&host, "a").join("messages");
        eventually("the one serves", || {
            UnixDatagram::unbound().unwrap().connect(&messages).is_ok()
        });
        assert_eq!(Client::of(&set_directory(&host, "a")).claim().unwrap().fds_max, 8192);
        all.into_iter().for_each(|it| drop(end(it)));
    }
}

fn another_holder(host: &Host) -> Child {
    let mut holder = Command::new(ours("virtfdhold"));
    holder.arg("serve").arg(host.path("run/virtfdhold")).arg("--set=a");
    holder.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn four_thousand_fds_take_little_memory(_: Subject) {
    let host = Host::new();
    let (holder, client) = holder(&host, "");
    let (reader, _writer) = pipe().unwrap();
    for number in 0..MANY {
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let again = File::open(path).unwrap();
        client.store(&format!("l{number:x}"), again);
    }
    let names = client.names();
    assert_eq!((names.len(), &*names[0]), (MANY, &*format!("l{:x}", MANY - 1)));
    let own_kib = holder.process().memory_kib("RssAnon");
    assert!(own_kib < MANY_KIB_MAX, "{own_kib} KiB");
    eprintln!("{own_kib} KiB of its own, {} KiB in all", holder.process().memory_kib("VmRSS"));
}
