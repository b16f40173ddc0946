//! Leases on Gluster over FUSE, with its own server and clients: what the locks do, and what a host
//! that is cut off knows.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use tests::blocks::{Block, SECOND_HOST, boot_time_ms, judge};
use tests::harness::{Daemon, Program, Setup, Subject, Whose, can_hang, eventually, left_out};
use tests::wire::LockClient;

use super::pair::listed;
use super::{Kind, client_of, open, text, try_lock};

const PROGRAMS: [&str; 2] = ["/usr/sbin/glusterfsd", "/usr/sbin/glusterfs"];

/// Program of the guest that writes blocks.
const GUEST: &str = env!("CARGO_BIN_EXE_leasing_fs");

/// Time after which the server drops a client that it does not hear, and its locks.
const LEASE_MS: u64 = 10_000;

/// Time that the cut link and the second client may take beyond that.
const PATIENCE: Duration = Duration::from_secs(40);

/// A server and two clients with caches for metadata, as volumes have them by default. The first client
/// has a link of its own to the server.
const MOUNT: &str = r#"
d=$1/files; mkdir -p $d/brick $d/first $d/second $d/logs; echo content > $d/brick/image
alone() { setpriv --pdeathsig KILL "$@" </dev/null >/dev/null 2>&1 & }
mount -n -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/glusterd
ip link set lo up
alone unshare -n sleep infinity; host=$!
until [ "$(readlink /proc/$host/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add server type veth peer name client netns $host
ip address add 10.9.0.1/24 dev server; ip link set server up
nsenter -t $host -n sh -c 'ip address add 10.9.0.2/24 dev client; ip link set client up'
cat > $d/server.vol <<END
volume disk
 type storage/posix
 option directory $d/brick
end-volume
volume locks
 type features/locks
 subvolumes disk
end-volume
volume server
 type protocol/server
 option transport-type tcp
 option transport.socket.listen-port 24100
 option transport.tcp-user-timeout $lease_s
 option transport.socket.keepalive-time 2
 option transport.socket.keepalive-interval 1
 option transport.socket.keepalive-count 3
 option auth.addr.locks.allow *
 subvolumes locks
end-volume
END
cat > $d/client.vol <<END
volume client
 type protocol/client
 option remote-host 10.9.0.1
 option remote-port 24100
 option transport-type tcp
 option remote-subvolume locks
 option ping-timeout 5
end-volume
volume cache
 type performance/md-cache
 option md-cache-timeout 60
 subvolumes client
end-volume
END
alone glusterfsd -N -f $d/server.vol -l $d/logs/server
until (exec 3<>/dev/tcp/10.9.0.1/24100) 2>&-; do sleep 0.1; done
alone nsenter -t $host -n glusterfs -N -f $d/client.vol -l $d/logs/first $d/first
alone glusterfs -N -f $d/client.vol -l $d/logs/second $d/second
for n in first second; do
    until [ -e $d/$n/image ]; do sleep 0.1; done
done
"#;

/// Starts a daemon on the first host; the test is the second.
fn start(subject: Subject, toml: &str) -> Option<Daemon> {
    if let Some(absent) = PROGRAMS.into_iter().find(|program| !Path::new(program).exists()) {
        left_out("leases on GlusterFS", &format!("there is no {absent}"));
        return None;
    }
    if !can_hang("leases on GlusterFS") {
        return None;
    }
    let setup: Setup = subject.setup();
    let first = setup.host().file("first");
    let toml = toml.replace("FIRST", &text(&first));
    Some(setup.toml(&toml).prepare(&format!("lease_s={}\n{MOUNT}", LEASE_MS / 1000)).start())
}

fn set_link(daemon: &Daemon, state: &str) {
    let pid = daemon.pid().to_string();
    let words = ["-t", &pid, "-n", "ip", "link", "set", "server", state];
    assert!(Command::new("nsenter").args(words).status().expect("setting a link").success());
}

/// Guest of the first host that writes blocks, with its lease.
fn start_guest(daemon: &Daemon) -> (Child, LockClient) {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "env", "--ignore-signal=TERM", GUEST, "guest"]);
    let guest = command.arg(daemon.file("trace")).spawn().expect("starting a guest");
    let mut client = client_of(daemon, guest.id());
    client.acquire("", &text(&daemon.file("first/image")), 0).expect("a lease");
    (guest, client)
}

/// The image as a host has it, which the test opens in the daemon's mount namespace.
fn image_of(daemon: &Daemon, host: &str) -> File {
    let path = daemon.file(&format!("{host}/image"));
    open(&text(&daemon.inside(path.to_str().expect("text"))))
}

/// Takes the second host's lock as soon as it can be had, and writes its block.
fn take_over(daemon: &Daemon) -> File {
    let second = image_of(daemon, "second");
    let begin = Instant::now();
    while !try_lock(&second, Kind::Ofd, libc::F_WRLCK, 0) {
        assert!(begin.elapsed() < PATIENCE, "the server has not given the lock away");
        thread::sleep(Duration::from_millis(5));
    }
    let mut trace = File::options().append(true).open(daemon.file("trace")).expect("a trace");
    trace.write_all(&Block::now(SECOND_HOST).bytes()).expect("writing");
    second
}

const SUBJECT: Subject = Subject { whose: Whose::Ours, program: Program::Virtlockd };

#[test]
#[ignore = "takes 20 s; needs the package glusterfs-client"]
fn a_host_that_is_cut_off_ends_its_guest_and_the_other_gets_the_lock() {
    let toml =
        "[[rule]]\npath = '**'\non_lost_lease = 'end'\n[[mount]]\npath = 'FIRST'\nlease_s = 10\n";
    let Some(daemon) = start(SUBJECT, toml) else { return };
    let (mut guest, _client) = start_guest(&daemon);
    eventually("the lease is proved", || listed(&daemon).contains(" yes "));
    let listed = listed(&daemon);
    assert!(listed.contains(" fuse.glusterfs "), "{listed}");
    // Both mounts have one lock.
    assert!(!try_lock(&image_of(&daemon, "second"), Kind::Ofd, libc::F_WRLCK, 0));
    thread::sleep(Duration::from_secs(4));
    assert!(guest.try_wait().expect("looking").is_none(), "{}", daemon.stderr());
    let (cut_ms, begin) = (boot_time_ms(), Instant::now());
    set_link(&daemon, "down");
    let _lock = take_over(&daemon);
    let given = begin.elapsed();
    thread::sleep(Duration::from_millis(50));
    let trace = fs::read(daemon.file("trace")).expect("a trace");
    set_link(&daemon, "up");
    // The last question before the cut may have been a period before it.
    let early_ms = judge(&trace, cut_ms + LEASE_MS - LEASE_MS / 6).expect("no overlap");
    println!("the other host got the lock after {given:?}, the guest was {early_ms} ms early");
    assert!(guest.wait().expect("waiting").code().is_none());
    daemon.expect_said("is ended, as it has a lease on shared storage");
}

#[test]
#[ignore = "takes 30 s; needs the package glusterfs-client"]
fn without_a_lease_time_nothing_is_known_and_a_lost_lock_keeps_nobody_from_writing() {
    let toml = "[[rule]]\npath = '**'\non_lost_lease = 'end'\n";
    let Some(daemon) = start(SUBJECT, toml) else { return };
    let (mut guest, _client) = start_guest(&daemon);
    daemon.expect_said("whether a lease there is lost cannot be known (fuse.glusterfs)");
    assert!(listed(&daemon).contains(" unknown "), "{}", listed(&daemon));
    // QEMU's own lock, on another byte.
    let mut disk = image_of(&daemon, "first");
    assert!(try_lock(&disk, Kind::Ofd, libc::F_WRLCK, 100));
    set_link(&daemon, "down");
    let second = take_over(&daemon);
    assert!(try_lock(&second, Kind::Ofd, libc::F_WRLCK, 100), "it is lost as well");
    set_link(&daemon, "up");
    let begin = Instant::now();
    while disk.write_all(b"x").is_err() {
        assert!(begin.elapsed() < PATIENCE, "the client does not come back");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(guest.try_wait().expect("looking").is_none(), "nothing ends it");
    guest.kill().expect("killing");
    guest.wait().expect("waiting");
}
